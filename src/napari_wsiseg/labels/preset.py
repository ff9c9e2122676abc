"""Presets: a decision rule as a small JSON file, for the model it was made for.

Numbers stand in the file as people see them: probabilities, or optical densities.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_wsiseg.documents import UnreadableError, read_bounded
from napari_wsiseg.errors import JobError
from napari_wsiseg.labels.rule import DecisionRule, Unit, threshold_scale, threshold_unit
from napari_wsiseg.notice import RESEARCH_USE
from napari_wsiseg.spec import ModelSpec
from napari_wsiseg.validation import sentence

# A preset is a few lines; a file far beyond that is something else.
_LARGEST = 10**6


class _Preset(BaseModel):
    """The file. Thresholds are checked by the rule that is made of them."""

    model_config = ConfigDict(extra="forbid")

    napari_wsiseg_preset: Annotated[int, Field(ge=1, le=1)] = 1
    notice: str = RESEARCH_USE
    model: str
    classes: tuple[str, ...]
    unit: Unit
    thresholds: dict[str, float]
    default: float | None = None
    clip_to_tissue: bool = True


def save_preset(rule: DecisionRule, spec: ModelSpec, path: str | os.PathLike[str]) -> None:
    """Write a rule as a preset; a file that is there is replaced.

    Parameters
    ----------
    rule
        The rule.
    spec
        Of the model that it is for.
    path
        The file to write.

    Raises
    ------
    JobError
        If the rule names a class that the model does not have, or the disk refuses.
    """
    rule.thresholds_for(spec)
    scale = threshold_scale(spec)
    preset = _Preset(
        model=spec.name,
        classes=spec.classes,
        unit=threshold_unit(spec),
        thresholds={name: value * scale for name, value in rule.thresholds.items()},
        default=None if rule.default is None else rule.default * scale,
        clip_to_tissue=rule.clip_to_tissue,
    )
    target = Path(path)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        partial.write_text(preset.model_dump_json(indent=2) + "\n", encoding="utf-8")
        partial.replace(target)
    except OSError as error:
        raise JobError(
            f"The preset {target} cannot be written ({error.strerror}); choose another folder."
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def load_preset(path: str | os.PathLike[str], spec: ModelSpec) -> DecisionRule:
    """Read a preset for a model.

    Parameters
    ----------
    path
        The file.
    spec
        Of the model that it is to be used with.

    Raises
    ------
    JobError
        If the file cannot be read, is no preset, or is for other classes.
    """
    file = Path(path)
    try:
        preset = _Preset.model_validate_json(read_bounded(file, _LARGEST), strict=True)
    except OSError as error:
        raise JobError(
            f"The preset {file} cannot be read ({error.strerror}); check the name."
        ) from error
    except UnreadableError as error:
        raise JobError(f"{file} is no preset: {error}; choose another file.") from error
    except ValidationError as error:
        is_json = error.errors()[0]["type"] != "json_invalid"
        why = sentence(error, "a preset") if is_json else "it is not JSON; choose another file."
        raise JobError(f"{file} is no preset: {why}") from error
    if preset.classes != spec.classes or preset.unit != threshold_unit(spec):
        classes = " ".join(", ".join(preset.classes).split())
        raise JobError(
            f"{file} is a preset for model {preset.model!r} with the classes "
            f"{classes} ({preset.unit}); model {spec.name!r} has "
            f"{', '.join(spec.classes)} ({threshold_unit(spec)}): choose a preset that was made "
            "for it."
        )
    scale = threshold_scale(spec)
    rule = DecisionRule(
        thresholds={name: value / scale for name, value in preset.thresholds.items()},
        default=None if preset.default is None else preset.default / scale,
        clip_to_tissue=preset.clip_to_tissue,
    )
    rule.thresholds_for(spec)
    return rule

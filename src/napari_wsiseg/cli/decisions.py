"""Reads thresholds, presets and other names as people type them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from napari_wsiseg.errors import JobError
from napari_wsiseg.labels import (
    MODELS_OWN,
    DecisionRule,
    label_of,
    load_preset,
    threshold_scale,
)
from napari_wsiseg.spec import ModelSpec


@dataclass(frozen=True)
class Thresholds:
    """What was asked for; a rule only where a result, and so a model, is at hand.

    Parameters
    ----------
    single
        "CLASS=NUMBER" each.
    default
        For the other classes; None: the preset's or the model's own.
    preset
        A preset file; thresholds given beside it win.
    decided
        Whether labels are there already (those that were corrected): nothing may be given.

    Raises
    ------
    JobError
        If something is given to labels that are there already.
    """

    single: Sequence[str] = ()
    default: float | None = None
    preset: Path | None = None
    decided: bool = False

    def __post_init__(self) -> None:
        is_given = bool(self.single) or self.default is not None or self.preset is not None
        if self.decided and is_given:
            raise JobError(
                "--corrected takes labels that are there, made with the thresholds of then; leave "
                "out --threshold, --default-threshold and --preset, or --corrected."
            )

    def rule_for(self, spec: ModelSpec) -> DecisionRule:
        """The rule for results of this model.

        Raises
        ------
        JobError
            If a class or a number is not the model's, or the preset is not for it.
        """
        rule = MODELS_OWN if self.preset is None else load_preset(self.preset, spec)
        given = {}
        for text in self.single:
            name, number = _pair("--threshold", text)
            label_of(name, spec)
            given[name] = _threshold(f"--threshold {text}", number, spec)
        if self.default is not None:
            number = str(self.default)
            default = _threshold(f"--default-threshold {number}", number, spec)
            rule = replace(rule, default=default)
        return replace(rule, thresholds={**rule.thresholds, **given})


def aliases_of(texts: Sequence[str]) -> dict[str, str]:
    """Read each "CLASS=NAME".

    Raises
    ------
    JobError
        If a text is not of that form.
    """
    return dict(_pair("--alias", text) for text in texts)


def export_aliases(texts: Sequence[str]) -> Mapping[str, str] | str | None:
    """The same for an export, where the one word "qupath" stands for QuPath's names."""
    if list(texts) == ["qupath"]:
        return "qupath"
    return aliases_of(texts) or None


def _pair(option: str, text: str) -> tuple[str, str]:
    # A class's name may hold the sign itself, a number may not.
    name, sign, value = (part.strip() for part in text.rpartition("="))
    if not (name and sign and value):
        raise JobError(f"{option} cannot be {text!r}; write it as CLASS=VALUE.")
    return name, value


def _threshold(option: str, number: str, spec: ModelSpec) -> float:
    """A threshold as the rule takes it, from one as people see it."""
    most = threshold_scale(spec)
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not 0 <= value <= most:
        unit = "optical density" if spec.activation == "stain" else "a probability"
        raise JobError(f"{option} is out of range; give 0 to {most:g} ({unit}).")
    return value / most

"""`models [NAME]`: which models there are, and all that is known of one."""

from __future__ import annotations

import json
from typing import Any

from napari_wsiseg.cli.terminal import out, print_table
from napari_wsiseg.models import models, weights_ready
from napari_wsiseg.spec import FULL_DENSITY, ModelSpec


def show_models(*, as_json: bool) -> None:
    """Print a table of all models."""
    specs = models()
    if as_json:
        out(json.dumps([model_values(spec) for spec in specs.values()], indent=2))
        return
    print_table(
        ("Model", "Classes", "Runs at", "Licence", "Weights"),
        (
            (
                spec.name,
                ", ".join(spec.classes),
                str(spec.resolution),
                spec.license or "unknown",
                _weights(spec),
            )
            for spec in specs.values()
        ),
    )
    out("`napari-wsiseg models NAME` tells all about one.")


def show_model(name: str, *, as_json: bool) -> None:
    """Print all that is known of a model.

    Raises
    ------
    ModelError
        If there is none of this name; says which are near.
    """
    weights_ready(name)
    spec = models()[name]
    if as_json:
        out(json.dumps(model_values(spec), indent=2))
        return
    print_table(("", ""), _facts(spec).items())


def model_values(spec: ModelSpec) -> dict[str, Any]:
    """A model's facts as plain JSON."""
    return {
        "name": spec.name,
        "classes": list(spec.classes),
        "background": spec.background,
        "activation": spec.activation,
        "resolution": str(spec.resolution),
        "patch_input_shape": list(spec.patch_input_shape),
        "patch_output_shape": list(spec.patch_output_shape),
        "stride_shape": None if spec.stride_shape is None else list(spec.stride_shape),
        "thresholds": dict(spec.thresholds),
        "colors": list(spec.class_colors),
        "license": spec.license,
        "citation": spec.citation,
        "description": spec.description,
        "intended_use": spec.intended_use,
        "weights": _weights(spec),
    }


def _facts(spec: ModelSpec) -> dict[str, str]:
    (height, width), (out_height, out_width) = spec.patch_input_shape, spec.patch_output_shape
    background = None if spec.background is None else spec.classes[spec.background]
    classes = (name for name in spec.classes if name != background)
    facts = {
        "Model": spec.name,
        "Classes": ", ".join(classes),
        "Background": background,
        "A pixel has": "one class at most"
        if spec.exclusive
        else "any of the classes, each by itself",
        "Thresholds": ", ".join(_threshold(spec, name) for name in spec.thresholds) or None,
        "Runs at": str(spec.resolution),
        "Patches": f"{width} x {height} px in, {out_width} x {out_height} px out",
        "Weights": _weights(spec),
        "Licence": spec.license,
        "Description": spec.description,
        "Intended use": spec.intended_use,
        "Citation": spec.citation,
    }
    return {title: value for title, value in facts.items() if value is not None}


def _threshold(spec: ModelSpec, name: str) -> str:
    value = spec.thresholds[name]
    # People think in optical density.
    shown = f"OD {value * FULL_DENSITY:g}" if spec.activation == "stain" else f"{value:g}"
    return f"{name} ≥ {shown}"


def _weights(spec: ModelSpec) -> str:
    if spec.activation == "stain":
        return "none needed"
    return "on this machine" if weights_ready(spec.name) else "to download"

"""What QuPath calls the classes of annotations; knows no shape."""

from __future__ import annotations

QUPATH_CLASSES = {
    "Tumour": "Tumor",
    "Inflammatory": "Immune cells",
    "Others": "Other",
}
"""What QuPath calls classes of models that it knows by another name."""

REGION, EXCLUDE = "Region*", "Exclude"
"""Classes of annotations that are no tissue: where all was annotated, and what is left out."""


def is_class(kind: str | None, name: str) -> bool:
    """Whether an annotation's class is that of this name, in any case."""
    return kind is not None and kind.casefold() == name.casefold()

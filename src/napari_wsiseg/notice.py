"""The sentence that stands at the head of every output that can hold a text."""

from __future__ import annotations

RESEARCH_USE = (
    "For research use only. Not a medical device; not validated for diagnosis, grading or "
    "treatment decisions. Class names are model predictions and need review by a qualified person."
)

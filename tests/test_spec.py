"""What a spec refuses, and colours for models that bring none."""

from __future__ import annotations

import itertools

import pytest

from models.test_zoo import ON_THE_SLIDE, SIGHT, _difference
from napari_wsiseg import spec as spec_module
from napari_wsiseg.errors import ModelError
from napari_wsiseg.spec import ModelSpec

GLASS = "#FFFFFF"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"classes": ()}, "give each a name of its own"),
        ({"classes": ("A", "A")}, "give each a name of its own"),
        ({"classes": [str(i) for i in range(255)]}, "at most 254"),
        ({"classes": "AB"}, "classes cannot be 'AB'"),
        ({"background": 2}, "names class 2 as background"),
        ({"background": -1}, "names class -1 as background"),
        ({"colors": ("#FF0000",)}, "2 classes and 1 colours"),
        ({"colors": ("red", "green")}, "colors cannot be 'red'"),
        ({"thresholds": {"C": 0.5}}, "thresholds for"),
        ({"thresholds": {"A": 1.5}}, "cannot be 1.5"),
        ({"patch_input_shape": 10**30}, "less than or equal to 4194304"),
        ({"shift_period": 10**20}, "less than or equal to 4194304"),
        ({"patch_output_shape": 2000}, "larger than its patch_input_shape"),
        ({"patch_output_shape": (512, 1025)}, "larger than its patch_input_shape"),
        ({"stride_shape": 0}, "stride_shape cannot be 0"),
        ({"shift_period": 0}, "shift_period cannot be 0"),
        ({"resolution": "half"}, "'half' is not a resolution"),
        ({"activation": "relu"}, "activation cannot be 'relu'"),
        ({"classses": ("A",)}, "has no field 'classses'"),
    ],
    ids=str,
)
def test_what_a_spec_refuses(values: dict[str, object], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        ModelSpec(**{"name": "m", "classes": ("A", "B")} | values)  # type: ignore[arg-type]


def test_a_whole_number_is_a_square() -> None:
    spec = ModelSpec("m", classes=("A",), patch_input_shape=300, patch_output_shape=(20, 30))
    assert spec.patch_input_shape == (300, 300)
    assert spec.patch_output_shape == (20, 30)


def test_only_softmax_classes_exclude_each_other() -> None:
    exclusive = {a: ModelSpec("m", ("A",), activation=a).exclusive for a in ("softmax", "sigmoid")}
    assert exclusive == {"softmax": True, "sigmoid": False}


def test_every_class_has_a_colour() -> None:
    names = tuple(f"class {i}" for i in range(20))
    assert len(ModelSpec("m", names).class_colors) == 20
    assert ModelSpec("m", ("A",), colors=("#123456",)).class_colors == ("#123456",)


@pytest.mark.parametrize("sight", SIGHT)
def test_colours_stand_apart_from_each_other_the_stains_and_glass(sight: str) -> None:
    colors = spec_module._PALETTE
    for one, other in itertools.combinations(colors, 2):
        assert _difference(one, other, sight) > 15, (one, other)
    for color, ground in itertools.product(
        colors, [GLASS, *itertools.chain(*ON_THE_SLIDE.values())]
    ):
        assert _difference(color, ground, sight) > 15, (color, ground)

"""Options of a field: which make sense together and with the field, and what every mistake says."""

from __future__ import annotations

from typing import Any

import pytest

from coralord_lightning.errors import DescriptorValueError
from coralord_lightning.spec.compiler.refinements import refined, refinement_of
from coralord_lightning.spec.descriptor import SubsetDescriptor, parse_descriptor
from coralord_lightning.spec.selection import Refinement, SelectedField


def field(dtype: Any = "bytes", shape: tuple[int, ...] = (), name: str = "x") -> SelectedField:
    return SelectedField(name=name, column=name, dtype=dtype, shape=shape)


def described(options: str, names: str = "") -> SubsetDescriptor:
    text = f"name: a\ncroissant: c.json\nfields:\n  y: {{}}\n  x: {options}\n{names}"
    return parse_descriptor(text, origin="a.yaml", base_dir=".")


def made(options: str, item: SelectedField) -> Refinement | None:
    return refined(described(options), item).refine


IMAGE = {"decode": "image", "dtype": "uint8"}


@pytest.mark.parametrize(
    ("options", "item", "expected"),
    [
        ("{}", field("text"), None),
        ("{decode: image}", field(), IMAGE | {"layout": "HWC"}),
        ("{decode: image, dtype: uint8, layout: HWC}", field(), IMAGE | {"layout": "HWC"}),
        ("{decode: image, shape: [28, 28]}", field(), IMAGE | {"shape": (28, 28)}),
        ("{decode: image, shape: [28, 28], layout: HWC}", field(), IMAGE | {"shape": (28, 28)}),
        ("{decode: image, shape: [3, 8, 8], layout: CHW}", field(), IMAGE | {"shape": (3, 8, 8), "layout": "CHW"}),
        ("{decode: image, shape: [-1, -1, 4]}", field(), IMAGE | {"shape": (-1, -1, 4), "layout": "HWC"}),
        ("{decode: audio}", field(), {"decode": "audio", "shape": (-1,)}),
        ("{decode: audio, dtype: float32, shape: [2, 9]}", field(), {"decode": "audio", "shape": (2, 9)}),
        ("{decode: audio, sample_rate: 16000}", field(), {"decode": "audio", "shape": (-1,), "sample_rate": 16000}),
        ("{encode: category}", field("text"), {"encode": "category"}),
        ("{encode: {category: [b, a]}}", field("text"), {"encode": "category", "classes": ("b", "a")}),
        ("{encode: category, classes: [b, a]}", field("text"), {"encode": "category", "classes": ("b", "a")}),
        ("{nulls: error}", field("text"), {"nulls": "error"}),
        ("{nulls: mask}", field("bool"), {"nulls": "mask"}),
        ("{nulls: fill, fill: 0}", field("float32", (2,)), {"nulls": "fill", "fill": 0.0}),
        ("{nulls: fill, fill: -128}", field("int8"), {"nulls": "fill", "fill": -128}),
        ("{nulls: fill, fill: true}", field("bool"), {"nulls": "fill", "fill": True}),
        (
            "{decode: image, shape: [2, 2], nulls: fill, fill: 255}",
            field(),
            IMAGE | {"shape": (2, 2), "nulls": "fill", "fill": 255},
        ),
        (
            "{encode: category, nulls: fill, fill: none}",
            field("text"),
            {"encode": "category", "nulls": "fill", "fill": "none"},
        ),
    ],
)
def test_options_become_a_refinement(options: str, item: SelectedField, expected: dict[str, Any] | None) -> None:
    found = made(options, item)

    assert found == (None if expected is None else Refinement(**expected))
    assert found is None or expected is None or repr(found.fill) == repr(expected.get("fill"))


@pytest.mark.parametrize(
    ("options", "item", "key", "message"),
    [
        ("{shape: [28, 28]}", field(), "shape", "goes with decode"),
        ("{dtype: uint8}", field("int8"), "dtype", "goes with decode"),
        ("{layout: CHW}", field(), "layout", "goes with decode: image"),
        ("{decode: image, sample_rate: 8000}", field(), "sample_rate", "goes with decode: audio"),
        ("{decode: audio, layout: HWC}", field(), "layout", "goes with decode: image"),
        ("{classes: [a]}", field("text"), "classes", "goes with encode"),
        ("{fill: 0}", field("int8"), "fill", "goes with nulls: fill"),
        ("{nulls: mask, fill: 0}", field("int8"), "fill", "goes with nulls: fill"),
        ("{decode: image, encode: category}", field(), "encode", "cannot both"),
        ("{decode: image}", field("text"), "decode", "needs the bytes of one encoded image"),
        ("{decode: audio}", field("uint8", (3,)), "decode", "needs the bytes of one encoded audio"),
        ("{decode: image}", field("bytes", (-1,)), "decode", "needs the bytes of one"),
        ("{decode: image, shape: [28]}", field(), "shape", "too many or too few"),
        ("{decode: image, shape: [0, 28]}", field(), "shape", "has a size that no tensor can have"),
        ("{decode: image, shape: [-2, 28]}", field(), "shape", "has a size that no tensor can have"),
        ("{decode: image, shape: [65536, 65536]}", field(), "shape", "has a size that no tensor can have"),
        ("{decode: image, shape: [28, 28, 2]}", field(), "shape", "no number of channels"),
        ("{decode: image, shape: [3, 28, 28]}", field(), "shape", "no number of channels where layout HWC"),
        ("{decode: image, shape: [28, 28, -1]}", field(), "shape", "no number of channels"),
        ("{decode: audio, dtype: uint8}", field(), "dtype", "is not what sound is decoded to"),
        ("{decode: audio, shape: [-1, 2]}", field(), "shape", "is none of sound"),
        ("{decode: audio, shape: [1, 2, 3]}", field(), "shape", "is none of sound"),
        ("{encode: category}", field("int8"), "encode", "gives numbers to texts"),
        ("{encode: category}", field("text", (-1,)), "encode", "gives numbers to texts"),
        ("{nulls: mask}", field("text"), "nulls", "in fields of numbers and fixed shapes only"),
        ("{nulls: fill, fill: a}", field("text"), "nulls", "in fields of numbers and fixed shapes only"),
        ("{nulls: mask}", field("date"), "nulls", "in fields of numbers and fixed shapes only"),
        ("{nulls: mask}", field("int8", (-1,)), "nulls", "in fields of numbers and fixed shapes only"),
        ("{decode: audio, nulls: mask}", field(), "nulls", "in fields of numbers and fixed shapes only"),
        ("{nulls: fill}", field("int8"), "fill", "is missing"),
        ("{nulls: fill, fill: 128}", field("int8"), "fill", "no value that the field can have"),
        ("{nulls: fill, fill: -1}", field("uint64"), "fill", "no value that the field can have"),
        ("{nulls: fill, fill: 0.5}", field("integer"), "fill", "no value that the field can have"),
        ("{nulls: fill, fill: true}", field("int8"), "fill", "no value that the field can have"),
        ("{nulls: fill, fill: '0'}", field("int8"), "fill", "no value that the field can have"),
        ("{nulls: fill, fill: 0}", field("bool"), "fill", "no value that the field can have"),
        ("{nulls: fill, fill: 1e39}", field("float32"), "fill", "no value that the field can have"),
        ("{nulls: fill, fill: 65505}", field("float16"), "fill", "no value that the field can have"),
        ("{decode: image, nulls: fill, fill: 256}", field(), "fill", "no value that the field can have"),
        ("{encode: category, nulls: fill, fill: 0}", field("text"), "fill", "no value that the field can have"),
        ("{encode: {category: [a]}, nulls: fill, fill: b}", field("text"), "fill", "no value that the field can have"),
    ],
)
def test_a_mistake_names_key_line_and_remedy(options: str, item: SelectedField, key: str, message: str) -> None:
    with pytest.raises(DescriptorValueError, match=message) as caught:
        made(options, item)

    assert caught.value.subject == f"fields.x.{key}"
    assert caught.value.facts["at"] == "a.yaml:5"
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("options", "item"),
    [
        ("{decode: image, shape: [3, 28, 28]}", field()),
        ("{decode: image, shape: [28]}", field()),
        ("{decode: audio, shape: [-1, 2]}", field()),
        ("{encode: category}", field("int8")),
        ("{nulls: fill}", field("int8")),
        ("{nulls: fill, fill: 128}", field("int8")),
        ("{encode: {category: [a]}, nulls: fill, fill: b}", field("text")),
    ],
)
def test_the_remedy_is_taken(options: str, item: SelectedField) -> None:
    with pytest.raises(DescriptorValueError) as caught:
        made(options, item)
    key, _, value = caught.value.remedy.partition(": ")
    if key == "fields":
        assert made("{}", item) is None
        return
    inside = options[1:-1]
    if key == "shape":
        inside = inside.partition(", shape")[0]
    elif key == "layout":
        inside = inside.replace(", layout: HWC", "")
    elif key == "fill":
        inside = inside.partition(", fill")[0]
    assert made(f"{{{inside}, {key}: {value}}}", item) is not None


def test_a_mask_whose_column_is_there_already_is_refused() -> None:
    text = "name: a\ncroissant: c.json\nfields:\n  x: {nulls: mask}\n  r/x_is_null: {}\n"
    descriptor = parse_descriptor(text, origin="a.yaml", base_dir=".")

    with pytest.raises(DescriptorValueError, match="there is one of that name") as caught:
        refined(descriptor, field("int8"))
    assert caught.value.facts["at"] == "a.yaml:4"


def test_a_field_may_be_named_by_its_id() -> None:
    text = "name: a\ncroissant: c.json\nfields:\n  rows/x: {nulls: fill, fill: 300}\n"
    descriptor = parse_descriptor(text, origin="a.yaml", base_dir=".")

    assert refined(descriptor, field("int16"), "rows/x").refine == Refinement(nulls="fill", fill=300)
    with pytest.raises(DescriptorValueError) as caught:
        refined(descriptor, field("int8"), "rows/x")
    assert caught.value.subject == "fields.rows/x.fill"


def test_nothing_asked_is_nothing_made() -> None:
    descriptor = parse_descriptor("name: a\ncroissant: c.json\nfields: [x]\n", origin="a.yaml", base_dir=".")

    assert refined(descriptor, field("int8")) == field("int8")
    assert refinement_of(described("{}").fields.options["x"], field("int8")) is None

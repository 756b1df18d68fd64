"""Splits that keep groups together or draw within strata: what is compiled, and what cannot be meant."""

from __future__ import annotations

import pytest

from coralord_lightning.errors import DescriptorValueError, SplitError, UnknownFieldError
from coralord_lightning.spec.compiler import compile_selection
from coralord_lightning.spec.croissant import parse_croissant
from coralord_lightning.spec.descriptor import parse_descriptor
from coralord_lightning.spec.selection import Selection
from projects import croissant

WHOLE = 2**64


def compiled(train: str, val: str, more: str = "") -> Selection:
    text = f"name: points\ncroissant: croissant.json\nfields: [x]\nsplits:\n  train: {train}\n  val: {val}\n{more}"
    dataset = parse_croissant(croissant(), origin="croissant.json")
    return compile_selection(parse_descriptor(text, origin="a.yaml", base_dir="."), dataset)


def test_groups_and_strata_are_read_with_the_rows_and_not_handed_out() -> None:
    found = compiled("{from: rest, fraction: 0.75, group_by: part}", "{from: rest, fraction: 0.25, group_by: [part]}")

    assert [(rule.name, rule.group_by) for rule in found.splits] == [("train", ("part",)), ("val", ("part",))]
    assert [item.name for item in found.fields] == ["x"]
    assert [item.name for item in found.helpers] == ["part"]
    within = compiled(
        "{from: rest, fraction: 0.5, stratify_by: [part, x]}", "{from: rest, fraction: 0.5, stratify_by: [part, x]}"
    )
    assert [rule.stratify_by for rule in within.splits] == [("part", "x")] * 2


def test_a_key_that_nothing_is_hashed_by_is_not_part_of_the_selection() -> None:
    grouped = "{from: rest, fraction: 0.5, group_by: part}"

    assert compiled(grouped, grouped, "split_key: [x]\n").split_key == ()
    assert compiled("{from: rest, group_by: part}", "{where: \"part = 'v'\"}").splits[0].group_by == ()
    assert compiled("{from: rest, fraction: 0.5}", "{from: rest, fraction: 0.5}", "split_key: [x]\n").split_key == (
        "x",
    )


@pytest.mark.parametrize("option", ["group_by", "stratify_by"])
@pytest.mark.parametrize("other", ["", "x", "[part, x]"])
def test_splits_of_one_group_have_to_divide_it_alike(option: str, other: str) -> None:
    said = f", {option}: {other}" if other else ""
    with pytest.raises(SplitError, match="divides the same rows as split 'train' in another way") as caught:
        compiled(f"{{from: rest, fraction: 0.5, {option}: part}}", f"{{from: rest, fraction: 0.5{said}}}")
    remedy = caught.value.remedy.partition("     #")[0]

    assert caught.value.facts["at"] == "a.yaml:6"
    assert compiled(f"{{from: rest, fraction: 0.5, {remedy}}}", f"{{from: rest, fraction: 0.5, {remedy}}}")


def test_a_group_of_no_field_is_no_group() -> None:
    with pytest.raises(UnknownFieldError) as caught:
        compiled("{from: rest, fraction: 0.5, group_by: parts}", "{from: rest, fraction: 0.5, group_by: parts}")

    assert caught.value.subject == "splits.train.group_by"
    assert caught.value.facts["at"] == "a.yaml:5"


def test_a_fraction_has_no_exact_groups_of_floats() -> None:
    with pytest.raises(SplitError, match="cannot key splits: it is float32") as caught:
        compiled("{from: rest, fraction: 0.5, stratify_by: y}", "{from: rest, fraction: 0.5, stratify_by: y}")

    assert caught.value.remedy.startswith("stratify_by: [")


@pytest.mark.parametrize(
    "split", ["{where: \"part = 'a'\", group_by: x}", "{stratify_by: x}", "{source: a, group_by: x}"]
)
def test_what_takes_no_fraction_divides_nothing(split: str) -> None:
    with pytest.raises(DescriptorValueError, match="and no from to take a fraction of"):
        compiled(split, "{from: rest, fraction: 0.5}")

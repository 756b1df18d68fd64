"""Which files a selection can need: only what no split could take is left out, whatever the condition says."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coralord_lightning.builder.selecting import needed_files, reads_names
from coralord_lightning.spec.plan import SourceFile
from coralord_lightning.spec.selection import SelectedField, SplitRule, Transform
from extractions import field, predicate, selection

PATHS = ("train/a.csv", "train/b.csv", "test/a.csv", "val/a.csv", "readme.txt")
PART = SelectedField(
    name="part",
    column="fullpath",
    kind="file_property",
    dtype="text",
    transforms=(Transform(op="regex", argument="(train|test)/.*"),),
)
NAME = SelectedField(name="file", column="filename", kind="file_property", dtype="text")
KINDS = {"part": "text", "file": "text", "x": "integer"}


def files(*paths: str) -> list[SourceFile]:
    return [SourceFile(name=path, format="csv", identity={}, size_bytes=0, path=path) for path in paths]


def kept(*fields: SelectedField, **changes: Any) -> list[str]:
    needed = needed_files(selection(*fields, **changes), files(*PATHS))
    return [path for path, take in zip(PATHS, needed, strict=True) if take]


def asks(text: str) -> Any:
    return predicate(text, **KINDS)


def test_a_condition_on_a_name_leaves_other_files_out() -> None:
    assert kept(PART, where=asks("part = 'train'")) == ["train/a.csv", "train/b.csv"]
    assert kept(PART, NAME, where=asks("part IN ('train', 'test') AND file = 'a.csv'")) == ["train/a.csv", "test/a.csv"]
    assert kept(PART, where=asks("part = 'val/a.csv'")) == ["val/a.csv"]
    assert kept(PART, where=asks("part = 'nothing'")) == []


def test_splits_open_what_one_of_them_could_take() -> None:
    train = SplitRule(name="train", claims=asks("part = 'train'"))
    test = SplitRule(name="test", of=asks("part = 'test'"), bounds=(0, 2**63))
    rest = SplitRule(name="val", bounds=(0, 2**64))

    assert kept(PART, splits=(train,)) == ["train/a.csv", "train/b.csv"]
    assert kept(PART, splits=(train, test)) == ["train/a.csv", "train/b.csv", "test/a.csv"]
    assert kept(PART, splits=(train, rest)) == list(PATHS)


def test_what_only_rows_can_tell_keeps_every_file() -> None:
    for text in ("x = 3", "part = 'train' OR x = 3", "part IS NOT NULL"):
        assert kept(PART, field("x"), where=asks(text)) == list(PATHS)
    assert kept(PART, field("x"), where=asks("part = 'train' AND x = 3")) == ["train/a.csv", "train/b.csv"]
    assert kept(PART) == list(PATHS)


def test_names_of_joined_files_and_of_no_text_decide_nothing() -> None:
    joined = SelectedField(name="part", column="fullpath", kind="file_property", dtype="text", table="t1")
    assert kept(joined, where=asks("part = 'train/a.csv'")) == list(PATHS)
    number = SelectedField(name="part", column="filename", kind="file_property", dtype="integer")
    assert kept(number, where=predicate("part = 3", part="integer")) == list(PATHS)


def test_fields_made_of_names_are_known_at_any_depth() -> None:
    assert reads_names([SelectedField(name="s", column="", dtype="struct", children=(field("x"), NAME))])
    content = SelectedField(name="c", column="content", kind="file_property", dtype="bytes")
    assert not reads_names([field("x"), content, field("filename", "text")])


@pytest.mark.parametrize("count", [1, 1000, 1001, 2500])
def test_many_files_are_looked_at_and_keep_their_places(count: int) -> None:
    paths = [f"{'train' if n % 3 else 'test'}/{n}.csv" for n in range(count)]

    needed = needed_files(selection(PART, where=asks("part = 'test'")), files(*paths))

    assert needed == [n % 3 == 0 for n in range(count)]


def _split(path: str) -> str:
    found = re.match("(train|test)/.*", path)
    return found[1] if found else path


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.text("train/tes'\"", min_size=1, max_size=8) | st.sampled_from(PATHS), min_size=1, max_size=6),
    st.sampled_from(["=", "<>", "<", ">="]),
    st.sampled_from(["train", "test", "s", ""]),
)
def test_no_file_whose_rows_a_condition_accepts_is_left_out(paths: list[str], operator: str, value: str) -> None:
    holds = {"=": value.__eq__, "<>": value.__ne__, "<": value.__gt__, ">=": value.__le__}[operator]

    needed = needed_files(selection(PART, where=asks(f"part {operator} '{value}'")), files(*paths))

    assert all(take for path, take in zip(paths, needed, strict=True) if holds(_split(path)))

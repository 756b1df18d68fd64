"""The error tree: codes, texts, exit codes, and the way across processes."""

from __future__ import annotations

import pickle  # noqa: TID251 - errors travel to other ranks this way
import re

import pytest

from coralord_lightning import errors
from coralord_lightning.errors import CoralError, UnknownFieldError, UsageError, nearest


def every_class(cls: type[CoralError] = CoralError) -> list[type[CoralError]]:
    return [cls, *(found for child in cls.__subclasses__() for found in every_class(child))]


EVERY = [cls for cls in every_class() if cls.__module__.startswith(errors.__name__)]


def test_every_code_is_used_once():
    codes = [cls.code for cls in EVERY]
    assert len(set(codes)) == len(codes)


def test_the_tree_in_the_docstring_is_the_tree():
    told = dict(re.findall(r"(\w+Error)\s+(CORAL-E\d{4}(?:\s+exit \d)?)", errors.__doc__))
    assert {name: line.split()[0] for name, line in told.items()} == {
        cls.__name__: cls.code for cls in EVERY if cls is not CoralError
    }
    exits = {name: int(line[-1]) if "exit" in line else 1 for name, line in told.items()}
    assert exits == {cls.__name__: cls.exit_code for cls in EVERY if cls is not CoralError}


def test_all_is_sorted_and_complete():
    assert errors.__all__ == sorted(errors.__all__)
    assert {cls.__name__ for cls in EVERY} | {"CoralWarning", "nearest"} == set(errors.__all__)


def test_the_text_says_subject_facts_and_remedy():
    error = UnknownFieldError(
        "where",
        "unknown field 'lable'",
        facts={"got": "lable = 3", "fields": "image,\nlabel"},
        remedy='where: "label = 3"',
    )
    assert str(error) == (
        "CORAL-E0203 where: unknown field 'lable'\n"
        "  got:      lable = 3\n"
        "  fields:   image,\n"
        "            label\n"
        '  try:      where: "label = 3"'
    )


@pytest.mark.parametrize("cls", EVERY)
def test_an_error_is_the_same_on_another_rank(cls):
    error = cls("subject", "message", facts={"got": 3}, remedy="remedy")
    other = pickle.loads(pickle.dumps(error))
    assert type(other) is cls
    assert str(other) == str(error)
    assert other.to_json() == error.to_json()


@pytest.mark.parametrize(
    ("word", "found"), [("lable", "label"), ("LABEL", "label"), ("zzz", None), ("", None), ("imag", "image")]
)
def test_the_nearest_choice_is_what_a_typist_meant(word, found):
    assert nearest(word, ["image", "label"]) == found


def test_the_repr_has_the_remedy_since_hydra_prints_it():
    error = UsageError("batch_size", "is missing", remedy="batch_size=256")
    assert repr(error).splitlines() == ["UsageError: CORAL-E0102 batch_size: is missing", "  try:      batch_size=256"]

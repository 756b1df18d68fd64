"""Transforms as DuckDB runs them: what a pattern keeps is what Python's own would, at any depth and in any order."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coralord_lightning.builder.kinds import TEXT, ColumnType, NoCastError, Value
from coralord_lightning.builder.transform_sql import transformed
from coralord_lightning.errors import SourceFormatError
from coralord_lightning.spec.selection import SelectedField, Transform
from extractions import rows_of, selection

CONNECTION = duckdb.connect()


def applied(text: object, *steps: tuple[str, str], kind: ColumnType = TEXT, dtype: str = "text") -> object:
    """What DuckDB makes of one value."""
    transforms = [Transform(op=op, argument=argument) for op, argument in steps]
    value = transformed(Value("x", kind), transforms, dtype=dtype, failure=lambda shown, wanted: f"error({shown})")
    given_type = kind.element + "[]" * kind.depth
    rows = CONNECTION.execute(f"SELECT {value.sql} FROM (SELECT CAST(? AS {given_type}) AS x)", [text]).fetchall()
    assert len(rows) == 1
    return rows[0][0]


def kept(pattern: str, text: str) -> str:
    """Source: mlcroissant, `_apply_transform_fn`: the first group of `re.match` that is not None, else the input."""
    match = re.match(pattern, text)
    groups = () if match is None else match.groups()
    return next((group for group in groups if group is not None), text)


_PATTERNS = st.recursive(
    st.sampled_from(["a", "b", "1", ".", "[ab]", "[^a(]", r"\d", r"\(", ".*", "a*", "b?"]),
    lambda inner: st.one_of(
        inner.map(lambda part: f"({part})"),
        inner.map(lambda part: f"(?:{part})"),
        inner.map(lambda part: f"(?:{part})?"),
        inner.map(lambda part: f"({part})?"),
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map("|".join),
    ),
    max_leaves=6,
)


@settings(deadline=None, max_examples=400)
@given(_PATTERNS, st.text("ab1(", max_size=6))
def test_a_regex_keeps_what_pythons_match_keeps(pattern: str, text: str) -> None:
    assert applied(text, ("regex", pattern)) == kept(pattern, text)


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (r"(.*)\.txt", "a.txt", "a"),
        (r"(.*)\.txt", "a.csv", "a.csv"),
        (r"b(.)", "abc", "abc"),
        (r"^(train|val|test)(?:_.*)?$", "val_1", "val"),
        (r"(a*)(b)", "b", ""),
        (r"(a)|b", "b", "b"),
        (r"(?:(a)|(b))", "b", "b"),
        (r"[(](\d+)\)", "(12)", "12"),
        (r"(?P<name>é+)x", "éx", "é"),
        (r"(?i)(A)B", "ab", "a"),
        ("abc", "abcd", "abcd"),
        ("('')", "''x", "''"),
    ],
)
def test_a_regex_gives_its_first_group_that_took_part_or_the_text(pattern: str, text: str, found: str) -> None:
    assert applied(text, ("regex", pattern)) == found == kept(pattern, text)


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (r"[(](a)", "(a", "a"),
        (r"[](](a)", "(a", "a"),
        (r"[^](](a)", "xa", "a"),
        (r"[[:^alpha:](](a)", "(a", "a"),
        (r"\Q((\E(a)", "((a", "a"),
        (r"\\(a)", r"\a", "a"),
        ("(?:x)" * 12 + "(a)", "x" * 12 + "a", "a"),
        ("(x)?" * 8 + "(a)" * 5, "aaaaa", "a"),
        ("(" * 5000 + ")" * 5000, "a", ""),
    ],
)
def test_what_is_no_group_is_not_taken_for_one_and_of_many_nine_are_asked_for(
    pattern: str, text: str, found: str
) -> None:
    assert applied(text, ("regex", pattern)) == found


@settings(deadline=None, max_examples=200)
@given(st.text("a,;|é ", max_size=12), st.sampled_from([",", ", ", "|", ";;", "é", "a,"]))
def test_a_separator_splits_as_python_does(text: str, separator: str) -> None:
    assert applied(text, ("separator", separator)) == text.split(separator)


@settings(deadline=None, max_examples=200)
@given(
    st.text("ab1/ ", max_size=10),
    st.sampled_from([("a", "b"), (r"\d", ""), ("a+", "aa"), (r"\/", "-"), ("(a)(b)", r"\2\1"), ("b", r"\/")]),
)
def test_a_replacement_is_that_of_every_match(text: str, parts: tuple[str, str]) -> None:
    pattern, replacement = (part.replace(r"\/", "/") for part in parts)
    assert applied(text, ("replace", "/".join(parts))) == re.sub(pattern, replacement, text)


def test_steps_go_into_lists_and_keep_their_order() -> None:
    steps = (("separator", ";"), ("regex", r"\w+=(.*)"), ("replace", "-/ "), ("separator", " "))

    assert applied("a=1-2;b=3;c", *steps) == [["1", "2"], ["3"], ["c"]]
    assert applied("a-b", ("separator", "-"), ("replace", "b/c-d")) == ["a", "c-d"]
    assert applied("a-b", ("replace", "b/c-d"), ("separator", "-")) == ["a", "c", "d"]


@pytest.mark.parametrize(
    "step", [("regex", "(.*)"), ("separator", ","), ("replace", "a/b"), ("json_path", "$.a"), ("format", "%Y")]
)
def test_nothing_stays_nothing(step: tuple[str, str]) -> None:
    assert applied(None, step, dtype="date") is None


def test_a_path_goes_into_json_structs_maps_and_lists() -> None:
    struct = ColumnType("STRUCT", 0, (("a", ColumnType("STRUCT", 1, (("b", TEXT),))),))
    value = transformed(Value("x", struct), [Transform(op="json_path", argument="$.a[*].b")], dtype="text", failure=str)
    sql = f"SELECT {value.sql} FROM (SELECT {{'a': [{{'b': 'p'}}, {{'b': NULL}}]}} AS x)"

    assert value.type == TEXT.listed(1)
    assert CONNECTION.sql(sql).fetchall() == [(["p", None],)]
    assert applied('{"a": {"b c": [1, 2]}}', ("json_path", "$.a['b c'][-1]")) == "2"
    assert applied('{"a": [{"b": 1}, {}, {"b": 3}]}', ("json_path", "$.a[*].b")) == ["1", "3"]
    with pytest.raises(NoCastError, match="leads to nothing: there is a"):
        transformed(Value("x", struct), [Transform(op="json_path", argument="$.c")], dtype="text", failure=str)


def test_a_date_in_another_format_is_an_error_that_names_field_and_value(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("d\n02.01.2024\n2024-01-02\n")
    steps = (Transform(op="format", argument="%d.%m.%Y"),)
    day = SelectedField(name="day", column="d", dtype="date", transforms=steps)

    with pytest.raises(SourceFormatError) as caught:
        rows_of(selection(day), tmp_path / "a.csv")

    assert "'day'" in caught.value.message
    assert "2024-01-02" in str(caught.value.facts["got"])

"""Fields of JSON lines: what paths lead to, keys that differ in case, numbers beyond a float, moments."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from coralord_lightning.errors import SourceFormatError
from coralord_lightning.spec.selection import SelectedField, Transform
from extractions import field, rows_of, selection


def test_texts_that_a_path_leads_to_are_without_quotes(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"x": [{"a": "p"}, {"a": null}, {"a": "q\\"z"}, {}]}\n{"x": [{"a": 5}]}\n')
    names = SelectedField(name="a", column="$.x[*].a", kind="json_path", dtype="text", shape=(-1,))

    found = rows_of(selection(names), tmp_path / "a.jsonl")

    assert found["a"].to_pylist() == [["p", None, 'q"z'], ["5"]]


def test_keys_that_differ_in_case_are_two(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1, "A": 2}\n{"A": 3}\n')

    found = rows_of(selection(field("a"), field("A")), tmp_path / "a.jsonl")

    assert found.to_pylist() == [{"a": 1, "A": 2}, {"a": None, "A": 3}]


@pytest.mark.parametrize(("dtype", "number"), [("float64", "1e400"), ("float32", "-1e39")])
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_a_number_too_large_for_a_float_is_not_infinite(tmp_path: Path, name: str, dtype: str, number: str) -> None:
    (tmp_path / name).write_text(f'{{"a": {number}}}\n' if name == "a.jsonl" else f"a\n{number}\n")

    with pytest.raises(SourceFormatError, match="is no float"):
        rows_of(selection(field("a", dtype)), tmp_path / name)


def test_infinity_in_words_is_a_float(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\ninf\n-Infinity\n")

    assert rows_of(selection(field("a", "float64")), tmp_path / "a.csv")["a"].to_pylist() == [
        float("inf"),
        -float("inf"),
    ]


def test_z_is_an_offset_of_zero_in_a_format(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"t": "2024-04-03T10:11:12Z"}\n{"t": "2024-04-03T10:11:12+02:00"}\n{"t": null}\n'
    )
    steps = (Transform(op="format", argument="%Y-%m-%dT%H:%M:%S%z"),)
    moment = SelectedField(name="t", column="t", dtype="timestamp", transforms=steps)

    found = rows_of(selection(moment), tmp_path / "a.jsonl")["t"].to_pylist()

    assert found == [dt.datetime(2024, 4, 3, 10, 11, 12), dt.datetime(2024, 4, 3, 8, 11, 12), None]  # noqa: DTZ001

"""What is seen in plain files: the types that every value allows, and what is no file of its kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from coralord_lightning.errors import SourceFormatError
from coralord_lightning.workspace.describe import Described
from plain_files import CSV, described, folder, kinds, parquet_columns

KINDS = {
    "id": "sc:Integer", "zip": "sc:Text", "x": "sc:Float", "when": "sc:Date", "ok": "sc:Boolean", "none": "sc:Text",
    "key": "sc:Text", "at": "sc:DateTime", "code": "sc:Text", "name": "sc:Text",
}  # fmt: skip


@pytest.fixture
def look(tmp_path) -> Callable[[Path], Described]:
    return lambda path: described(path, tmp_path / "home")


def test_a_csv_column_has_a_type_only_where_every_value_is_written_as_one(tmp_path, look):
    found = look(folder(tmp_path / "d", a_csv=CSV))
    assert kinds(found.document, "a") == KINDS
    assert found.num_rows == 3


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "-2", "0"], "sc:Integer"),
        (["9223372036854775807"], "sc:Integer"),
        (["9223372036854775808"], "cr:UInt64"),
        (["18446744073709551616"], "sc:Text"),
        (["9007199254740993", "1.5"], "sc:Text"),
        (["1", "-0"], "sc:Float"),
        (["1e999"], "sc:Text"),
        (["1_000"], "sc:Text"),
        ([" 1"], "sc:Text"),
        ([".5"], "sc:Text"),
        (["nan"], "sc:Text"),
        (["1.50", "2.25"], "sc:Float"),
        (["0", "true"], "sc:Text"),
        (["2024-02-30"], "sc:Text"),
        (["2024-1-1"], "sc:Text"),
        (["2024-01-01", "2024-01-01 00:00:00"], "sc:Text"),
        (["2024-01-01 00:00:00", "2024-01-01 00:00:00Z"], "sc:Text"),
        (["2024-01-01 00:00"], "sc:DateTime"),
        (["2024-01-01 25:00:00"], "sc:Text"),
    ],
)
def test_what_a_csv_value_must_look_like(tmp_path, look, values, kind):
    text = "v,w\n" + "".join(f"{value},x\n" for value in values)
    assert kinds(look(folder(tmp_path / "d", a_csv=text)).document, "a")["v"] == kind


def test_a_late_value_counts_as_much_as_an_early_one(tmp_path, look):
    text = "v,w\n" + "7,1\n" * 300_000 + "007,1\n"
    assert kinds(look(folder(tmp_path / "d", a_csv=text)).document, "a") == {"v": "sc:Text", "w": "sc:Integer"}


def test_several_csv_files_have_the_types_that_hold_in_all_of_them(tmp_path, look):
    found = look(folder(tmp_path / "d", a_csv="x,y\n1,2\n", b_csv="y,x\n1.5,01\n"))
    assert kinds(found.document, "d") == {"x": "sc:Text", "y": "sc:Float"}


def test_json_lines_have_the_types_of_json(tmp_path, look):
    lines = [
        {"a": 1, "b": "2024-01-01", "c": [1, 2], "d": {"e": 1.5, "f": [["x"]]}, "g": True, "big": 2**63, "n": None},
        {"a": -1, "c": [0.5], "mixed": 1, "many": [{"x": 1}], "a/b": 1},
        {"mixed": "x"},
    ]
    found = look(folder(tmp_path / "d", a_jsonl="".join(json.dumps(line) + "\n" for line in lines)))
    assert kinds(found.document, "a") == {
        "a": "sc:Integer", "b": "sc:Text", "c": "sc:Float[-1]", "d": "{sc:Float, sc:Text[-1,-1]}", "g": "sc:Boolean",
        "big": "cr:UInt64", "n": "sc:Text",
    }  # fmt: skip
    assert [note.split("'")[1] for note in found.notes] == ["mixed", "many", "a/b"]


def test_parquet_has_the_types_of_its_footer(tmp_path, look):
    found = look(folder(tmp_path / "d", a_parquet=parquet_columns()))
    assert kinds(found.document, "a") == {
        "i": "cr:Int16", "u": "cr:UInt64", "f": "cr:Float16", "money": "sc:Float", "t": "sc:Text", "word": "sc:Text",
        "day": "sc:Date", "at": "sc:DateTime", "clock": "sc:Time", "fixed": "cr:Int8[1,2]",
        "ragged": "cr:Float64[-1]", "both": "{cr:Int64, sc:Text}", "picture": "sc:ImageObject",
        "bare": "sc:ImageObject", "sound": "sc:AudioObject",
    }  # fmt: skip
    assert [note.split("'")[1] for note in found.notes] == ["raw", "long"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a_csv": "a;b\n1;2\n"}, "apart by commas"),
        ({"a_csv": "a,b\n1,2,3\n"}, "cannot be read"),
        ({"a_csv": b"a,b\n1,\xff\n"}, "no readable header"),
        ({"a_csv": ""}, "no readable header"),
        ({"a_jsonl": "[1, 2]\n"}, "no JSON objects"),
        ({"a_jsonl": '{"a": 1\n'}, "cannot be read"),
        ({"a_parquet": "no parquet"}, "cannot be read as Parquet"),
    ],
)
def test_a_file_that_is_not_what_its_ending_says_is_named(tmp_path, look, files, message):
    with pytest.raises(SourceFormatError, match=message) as caught:
        look(folder(tmp_path / "d", **files))
    assert caught.value.subject.startswith("a.")
    assert caught.value.remedy

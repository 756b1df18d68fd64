"""What DuckDB cannot read itself is read whole and exact: JSON documents, lines, ARFF; and refused where it is none."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from coralord_lightning.builder import staged
from coralord_lightning.builder.staged import stage_arff, stage_json, stage_lines
from coralord_lightning.errors import SourceFormatError
from coralord_lightning.spec.json_path import common_row_path
from coralord_lightning.spec.selection import SelectedField


def json_rows(folder: Path, text: bytes | str, *paths: str, row_path: str | None = None) -> list[list[Any]]:
    """The rows of a document, each value decoded again."""
    source, target = folder / "d.json", folder / "d.parquet"
    source.write_bytes(text.encode() if isinstance(text, str) else text)
    fields = [
        SelectedField(name=f"f{at}", column=path, kind="json_path" if path.startswith("$") else "column", dtype="text")
        for at, path in enumerate(paths)
    ]
    rows = row_path or common_row_path([path for path in paths if path.startswith("$")])
    found = stage_json(source, target, name="d.json", row_path=rows, fields=fields)
    assert [path for _, path in found.places] == list(dict.fromkeys(paths))
    table = pq.read_table(found.path)
    return [[None if text is None else json.loads(text) for text in row.values()] for row in table.to_pylist()]


DOCUMENT = {
    "info": {"year": 2017},
    "items": [{"id": 1, "box": {"x": 0.5}}, {"id": 2}, {"box": {"x": None}}, {"id": 4, "tags": ["a", "b"]}],
}


def test_what_a_row_has_not_is_null_and_the_others_stay_in_their_rows(tmp_path: Path) -> None:
    found = json_rows(tmp_path, json.dumps(DOCUMENT), "$.items[*].id", "$.items[*].box.x", "$.items[*].tags[-1]")

    assert found == [[1, 0.5, None], [2, None, None], [None, None, None], [4, None, "b"]]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$.items[1:3].id", [[2], [None]]),
        ("$.items[?(@.id > 1)].id", [[2], [4]]),
        ("$.items[0].id", [[1]]),
        ("$.info.year", [[2017]]),
        ("$..x", [[0.5], [None]]),
        ("$.items[*].tags[*]", [["a"], ["b"]]),
        ("$['items'].*.id", [[1], [2], [None], [4]]),
        ("$.nothing[*].id", []),
    ],
)
def test_slices_filters_and_descent_give_rows_too(tmp_path: Path, path: str, found: list[list[Any]]) -> None:
    assert json_rows(tmp_path, json.dumps(DOCUMENT), path) == found


def test_keys_that_would_confuse_a_streaming_reader_are_read(tmp_path: Path) -> None:
    text = json.dumps({"a.b": {"item": [{"": 1}, {"": 2}]}})

    assert json_rows(tmp_path, text, "$['a.b'].item[*]['']") == [[1], [2]]


def test_columns_are_keys_of_the_rows(tmp_path: Path) -> None:
    text = json.dumps([{"a.b": 1, "it's": "x"}, {}])

    assert json_rows(tmp_path, text, "a.b", "it's", row_path="$[*]") == [[1, "x"], [None, None]]


def test_numbers_and_texts_are_those_of_the_document(tmp_path: Path) -> None:
    values = [2**63, -0.0, 1e-300, 0.1, 'é\u2028"\\', True, None, [1, [2]], {"k": "v"}]

    assert json_rows(tmp_path, json.dumps([{"v": value} for value in values]), "$[*].v") == [[v] for v in values]


def test_compressed_documents_and_several_in_one_file_are_read(tmp_path: Path) -> None:
    assert json_rows(tmp_path, gzip.compress(b'[{"a": 1}]'), "$[*].a") == [[1]]
    assert json_rows(tmp_path, '{"a": 1}\n{"a": 2}\n', "$.a") == [[1], [2]]


def test_more_rows_than_a_batch_are_all_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staged, "_BATCH_ROWS", 7)

    assert json_rows(tmp_path, json.dumps([{"a": n} for n in range(50)]), "$[*].a") == [[n] for n in range(50)]


@pytest.mark.parametrize("path", ["$[*].v", "$..v"])
def test_whole_numbers_beyond_64_bits_with_a_sign_are_exact_and_absurd_ones_refused(tmp_path: Path, path: str) -> None:
    values = [1, 2**63, 2**64 - 1, -(2**63) - 1, 0.5, 10**300]

    assert json_rows(tmp_path, json.dumps([{"v": value} for value in values]), path) == [[value] for value in values]
    with pytest.raises(SourceFormatError):
        json_rows(tmp_path, '[{"v": ' + "9" * 100_000 + "}]", path)


@pytest.mark.parametrize("text", ['[{"a": 1}', "[{'a': 1}]", "", b"\xff\xfe", '[{"a": NaN}]', b"\x1f\x8b\x08garbage"])
@pytest.mark.parametrize("path", ["$[*].a", "$..a"])
def test_what_is_no_json_is_refused_naming_the_file(tmp_path: Path, text: bytes | str, path: str) -> None:
    with pytest.raises(SourceFormatError) as caught:
        json_rows(tmp_path, text, path)
    assert caught.value.subject == "d.json"


def test_a_filter_runs_no_regular_expression_of_pythons(tmp_path: Path) -> None:
    with pytest.raises(SourceFormatError):
        json_rows(tmp_path, json.dumps(DOCUMENT), "$.items[?match(@.id, '(a+)+')].id")


def test_a_script_called_jsonpath_beside_the_command_is_not_taken_for_the_library(tmp_path: Path) -> None:
    (tmp_path / "jsonpath.py").write_text("raise SystemExit('the script of jsonpath-rw')")
    (tmp_path / "command.py").write_text(
        "from coralord_lightning.builder.staged import _matches\nprint(list(_matches({'a': [{'b': 1}]}, '$..b')))"
    )

    done = subprocess.run([sys.executable, tmp_path / "command.py"], capture_output=True, text=True, check=False)

    assert (done.stdout, done.returncode) == ("[1]\n", 0), done.stderr


def lines_of(folder: Path, content: bytes) -> list[tuple[bytes, int]]:
    (folder / "t.txt").write_bytes(content)
    found = pq.read_table(stage_lines(folder / "t.txt", folder / "t.parquet", name="t.txt").path)
    return list(zip(*(column.to_pylist() for column in found.columns), strict=True))


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"a\nb\n", [b"a", b"b"]),
        (b"a\r\nb", [b"a", b"b"]),
        (b"a\n\nb\n", [b"a", b"", b"b"]),
        (b"", []),
        (b"\n", [b""]),
        (b"\xff\x00x\n", [b"\xff\x00x"]),
        ("a\u2028b\x0bc\n".encode(), ["a\u2028b\x0bc".encode()]),
    ],
)
@pytest.mark.parametrize("chunk", [1, 3, 4096])
@pytest.mark.parametrize("packed", [False, True])
def test_lines_are_numbered_from_zero_and_have_no_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, lines: list[bytes], chunk: int, packed: bool
) -> None:
    monkeypatch.setattr(staged, "_CHUNK", chunk)

    found = lines_of(tmp_path, gzip.compress(content) if packed else content)

    assert found == [(line, number) for number, line in enumerate(lines)]


ARFF = """\
% a comment
@RELATION iris

@ATTRIBUTE 'petal length' NUMERIC
@attribute\tclass {setosa, 'versi color'}
@ATTRIBUTE note STRING
@DATA
5.1, setosa, 'it\\'s, so'
?,'versi color',?

% another
4.9,setosa,"a"
"""


def arff_rows(folder: Path, text: str) -> tuple[list[str], list[list[str | None]]]:
    (folder / "a.arff").write_text(text)
    found = stage_arff(folder / "a.arff", folder / "a.parquet", name="a.arff")
    return [name for _, name in found.places], [list(row.values()) for row in pq.read_table(found.path).to_pylist()]


def test_arff_has_named_attributes_quoted_values_and_nulls(tmp_path: Path) -> None:
    names, rows = arff_rows(tmp_path, ARFF)

    assert names == ["petal length", "class", "note"]
    assert rows == [["5.1", "setosa", "it's, so"], [None, "versi color", None], ["4.9", "setosa", "a"]]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("@DATA", "", "@DATA"),
        ("5.1, setosa", "5.1", "2 values, 3 attributes"),
        ("5.1, setosa, 'it\\'s, so'", "{0 5.1, 1 setosa}", "sparse"),
        ("note STRING", "class STRING", "name of its own"),
    ],
)
def test_an_arff_that_is_none_is_refused_with_its_reason(tmp_path: Path, old: str, new: str, reason: str) -> None:
    assert old in ARFF
    with pytest.raises(SourceFormatError) as caught:
        arff_rows(tmp_path, ARFF.replace(old, new))
    assert reason in str(caught.value)

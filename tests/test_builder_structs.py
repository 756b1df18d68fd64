"""Structs in files: taken apart by path, and what Hugging Face keeps pictures in."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coralord_lightning.errors import SourceFormatError
from coralord_lightning.spec.selection import SelectedField, Transform
from extractions import field, rows_of, selection


def into(name: str, column: str, *path: str, dtype: str = "text") -> SelectedField:
    steps = tuple(Transform(op="json_path", argument=part) for part in path)
    return SelectedField(name=name, column=column, dtype=dtype, transforms=steps)


def test_the_bytes_of_a_hugging_face_picture_are_the_picture(tmp_path: Path) -> None:
    pictures = [{"bytes": b"\x89PNG", "path": "a.png"}, {"bytes": None, "path": "b.png"}, None]
    pq.write_table(pa.table({"image": pictures}), tmp_path / "a.parquet")

    found = rows_of(selection(field("image", "bytes")), tmp_path / "a.parquet")

    assert found["image"].to_pylist() == [b"\x89PNG", None, None]


def test_a_struct_without_bytes_is_no_picture(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [{"path": "a.png"}]}), tmp_path / "a.parquet")

    with pytest.raises(SourceFormatError, match="STRUCT"):
        rows_of(selection(field("image", "bytes")), tmp_path / "a.parquet")


def test_subfields_of_a_list_of_structs_are_a_list_of_structs(tmp_path: Path) -> None:
    talks = [[{"role": "user", "at": {"turn": 1}}, {"role": "bot", "at": None}], [], None]
    kind = pa.list_(pa.struct([("role", pa.string()), ("at", pa.struct([("turn", pa.int64())]))]))
    pq.write_table(pa.table({"talk": pa.array(talks, kind)}), tmp_path / "a.parquet")
    inner = SelectedField(
        name="at", column="", dtype="struct", children=(into("turn", "talk", "at", "turn", dtype="int64"),)
    )
    whole = SelectedField(
        name="talk", column="", dtype="struct", shape=(-1,), children=(into("role", "talk", "role"), inner)
    )

    found = rows_of(selection(whole), tmp_path / "a.parquet")["talk"].to_pylist()

    assert found[0] == [{"role": "user", "at": {"turn": 1}}, {"role": "bot", "at": {"turn": None}}]
    assert found[1:] == [[], None]


def test_three_levels_of_subfields_stay_three_levels(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,a\n2,b\n")
    deepest = SelectedField(name="z", column="", dtype="struct", children=(field("x"), field("y", "text")))
    middle = SelectedField(name="m", column="", dtype="struct", children=(deepest,))
    top = SelectedField(name="t", column="", dtype="struct", children=(middle, field("x")))

    found = rows_of(selection(top), tmp_path / "a.csv")["t"].to_pylist()

    assert found == [{"m": {"z": {"x": 1, "y": "a"}}, "x": 1}, {"m": {"z": {"x": 2, "y": "b"}}, "x": 2}]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_subfields_of_a_list_in_json_are_a_list_of_structs(tmp_path: Path, name: str) -> None:
    rows = ['{"a": [{"x": 1}, {"x": "y"}]}', '{"a": []}', '{"a": null}', "{}", '{"a": [null, {"z": 3}]}']
    text = "\n".join(rows) if name == "a.jsonl" else f"[{', '.join(rows)}]"
    (tmp_path / name).write_text(text)
    whole = SelectedField(name="s", column="", dtype="struct", shape=(-1,), children=(into("x", "a", "x"),))

    found = rows_of(selection(whole), tmp_path / name)["s"].to_pylist()

    assert found == [[{"x": "1"}, {"x": "y"}], [], None, None, [{"x": None}, {"x": None}]]


def test_an_array_of_subfields_that_have_no_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": [{"x": 1}, {"x": 2}]}\n')
    inner = SelectedField(name="x", column="$.a[*].x", dtype="int64", kind="json_path")
    whole = SelectedField(name="s", column="", dtype="struct", shape=(-1,), children=(inner,))

    with pytest.raises(SourceFormatError, match="'s' is an array"):
        rows_of(selection(whole), tmp_path / "a.jsonl")


def test_times_of_day_keep_their_nanoseconds(tmp_path: Path) -> None:
    pq.write_table(pa.table({"t": pa.array([1, None], pa.time64("ns"))}), tmp_path / "a.parquet")

    found = rows_of(selection(field("t", "time")), tmp_path / "a.parquet")["t"]

    assert found.cast(pa.int64()).to_pylist() == [1, None]

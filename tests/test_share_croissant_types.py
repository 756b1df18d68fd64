"""Every type a version can have: exported and read back the same, here and by mlcroissant, or refused beforehand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from coralord_lightning import load
from coralord_lightning.errors import UsageError
from coralord_lightning.share.croissant.fields import require_columns
from coralord_lightning.share.croissant.folder import write_folder
from coralord_lightning.spec.columns import columns_of
from coralord_lightning.spec.digest import ContentHasher, content_digest
from coralord_lightning.spec.manifest import Manifest, SplitPart
from croissant_loads import load_once, plain
from hand_built import write_manifest
from many_types import all_types

ROWS = all_types().num_rows


def more_types() -> pa.Table:
    """Nulls at every level, names that are hard to say, the ends of ranges."""
    count = range(ROWS)
    pair = pa.struct([("a", pa.int32()), ("b", pa.string())])
    return pa.table(
        {
            "structs": pa.array([[{"a": i, "b": "x"}] * (i % 3) for i in count], pa.list_(pa.struct(pair))),
            "null images": pa.array([[[1.0, 2.0]] if i % 3 else None for i in count],
                                    pa.list_(pa.list_(pa.float32(), 2), 1)),
            "null structs": pa.array([[{"a": None}, {"a": i}, None][i % 3] for i in count],
                                     pa.struct([("a", pa.int32())])),
            "fixed of lists": pa.array([[["x"], []]] * ROWS, pa.list_(pa.list_(pa.string()), 2)),
            "nested nulls": pa.array([[None, [None, 1]] if i % 2 else [] for i in count],
                                     pa.list_(pa.list_(pa.int64()))),
            "blobs": pa.array([[b"x\xff", None]] * ROWS, pa.list_(pa.binary())),
            "days": pa.array([[i, None] for i in count], pa.list_(pa.date32())),
            "moments": pa.array([[i] for i in count], pa.list_(pa.timestamp("us"))),
            "all null": pa.nulls(ROWS, pa.int32()),
            "with.dot, space": pa.array(count, pa.int64()),
            "split": pa.array(count, pa.int64()),
            "Split": pa.array(count, pa.int64()),
            "large": pa.array([2**63 + i for i in count], pa.uint64()),
            "least": pa.array([-(2**63)] * ROWS, pa.int64()),
            "zeros": pa.array([float("nan") if i % 2 else -0.0 for i in count]),
            "empty": pa.array([""] * ROWS),
            "names": pa.array([{"x.y": i, "a b": "é", "$": [i], "where": i if i % 3 else None, "it's": 1.5}
                               for i in count]),
        }
    )  # fmt: skip


def everything() -> pa.Table:
    table = all_types()
    for name, column in zip(more_types().column_names, more_types().columns, strict=True):
        table = table.append_column(name, column)
    return table


def can_be_said(table: pa.Table, name: str) -> bool:
    try:
        require_columns(columns_of(table.select([name]).schema))
    except UsageError:
        return False
    return True


def written(home: Path, splits: dict[str, pa.Table]) -> Manifest:
    """A version by hand whose content digest is that of its values."""
    home.mkdir()
    manifest = write_manifest(home, splits)
    blocks = {}
    for name, table in splits.items():
        hasher = ContentHasher(table.schema)
        for batch in table.combine_chunks().to_batches():
            hasher.update(batch)
        blocks[name] = hasher.finish()
    parts = {name: (SplitPart(shards=part.shards, blocks=blocks[name]),) for name, (part,) in manifest.splits.items()}
    return replace(manifest, splits=parts, content_digest=content_digest(manifest.columns, blocks))


def exported(folder: Path, manifest: Manifest) -> Path:
    (folder / "out").mkdir()
    shards = {shard.path: folder / "home" / shard.path for shard in manifest.shards()}
    write_folder(folder / "out", manifest, None, shards)
    return folder / "out"


def as_mlcroissant(value: Any, kind: pa.DataType) -> Any:
    """mlcroissant has no null struct: it is one of nulls. Structs are lists here: its keys are the @ids of fields."""
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return None if value is None else [as_mlcroissant(item, kind.value_type) for item in value]
    if pa.types.is_struct(kind):
        return [as_mlcroissant(value and value[item.name], item.type) for item in kind]
    return value


def without_names(value: Any) -> Any:
    if isinstance(value, list):
        return [without_names(item) for item in value]
    return [without_names(item) for item in value.values()] if isinstance(value, dict) else value


def test_every_type_that_can_be_said_reads_back_the_same(tmp_path: Path) -> None:
    table = everything()
    table = table.select([name for name in table.column_names if can_be_said(table, name)])
    assert {"image", "half", "boxes", "structs", "names", "of timestamp[ns]"} <= set(table.column_names)
    splits = {"test": table.slice(0, 5), "train": table}
    manifest = written(tmp_path / "home", splits)

    out = exported(tmp_path, manifest)

    again = load(out / "dataset.yaml", home=tmp_path / "again")
    for name in table.column_names:
        assert again.table("train")[name].equals(table[name]) or name == "zeros", name  # a NaN equals nothing
    assert again.version.content_digest == manifest.content_digest
    found = load_once(out / "croissant.json", "records")
    assert (found["errors"], found["warnings"]) == ([], [])
    fields = json.loads((out / "croissant.json").read_text())["recordSet"][-1]["field"]
    keys = [field["@id"].rpartition("/")[2] for field in fields]
    for number, (name, key) in enumerate(zip(table.column_names, keys, strict=False)):
        theirs = [without_names(record[key]) for record in found["records"]]
        kind = table.schema.field(number).type
        ours = [as_mlcroissant(value, kind) for split in splits.values() for value in split[name].to_pylist()]
        assert theirs == plain(ours), name
    assert [record[keys[-1]] for record in found["records"]] == ["test"] * 5 + ["train"] * ROWS


def refused() -> pa.Table:
    table = everything()
    table = table.select([name for name in table.column_names if not can_be_said(table, name)])
    more = {
        "nested": pa.array([{"a": {"b": i}} for i in range(ROWS)]),
        "deep": pa.array([[{"a": [{"b": i}]}] for i in range(ROWS)]),
        "rows": pa.array([[[{"a": i}]] for i in range(ROWS)]),
        "pairs": pa.array([[{"a": i}, {"a": 2}] for i in range(ROWS)], pa.list_(pa.struct([("a", pa.int32())]), 2)),
        "nothing": pa.array([{}] * ROWS, pa.struct([])),
        "slashed": pa.array([{"a/b": i} for i in range(ROWS)]),
        "a/b": pa.array(range(ROWS)),
    }
    for name, column in more.items():
        table = table.append_column(name, column)
    return table


def test_what_cannot_be_said_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    table = refused()
    kinds = {str(kind).partition("[")[0].partition("(")[0].partition("<")[0] for kind in table.schema.types}
    assert {"timestamp", "date64", "time32", "duration", "decimal128", "decimal256", "map", "null"} <= kinds

    with pytest.raises(UsageError) as caught:
        exported(tmp_path, written(tmp_path / "home", {"train": table}))

    assert set(caught.value.facts) == set(table.column_names)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("name", refused().column_names)
def test_what_is_said_to_return_instead_can_be_exported(name: str) -> None:
    table = refused().select([name])
    batch = table.combine_chunks().to_batches()[0]
    with pytest.raises(UsageError) as caught:
        require_columns(columns_of(table.schema))

    code = caught.value.remedy.partition("     #")[0]
    got = eval(code, {"pa": pa, "json": json, "batch": batch})  # a remedy works when it is pasted

    schema = got.schema if isinstance(got, pa.RecordBatch) else pa.schema([("x", got.type)])
    require_columns(columns_of(schema))
    assert isinstance(got, pa.RecordBatch) or got.null_count == batch.column(0).null_count

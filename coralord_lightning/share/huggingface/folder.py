"""Owns a version as a folder that `datasets.load_dataset` reads: Parquet by split, a card. It chooses no place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from coralord_lightning.errors import UsageError
from coralord_lightning.share.huggingface.card import SplitFiles, card_text
from coralord_lightning.share.huggingface.features import require_split_names, split_name
from coralord_lightning.share.huggingface.tables import tables_of
from coralord_lightning.spec.description import Description
from coralord_lightning.spec.manifest import Manifest

__all__ = ["write_folder"]

_FILE_BYTES = 500_000_000
_GROUP_BYTES = 64_000_000
_FIRST = ("train", "val", "validation", "test")


def write_folder(
    folder: Path,
    splits: Mapping[str, Sequence[Path]],
    *,
    features: datasets.Features,
    manifest: Manifest,
    description: Description | None,
) -> list[SplitFiles]:
    """Write data and card. A split without rows is left out: `load_dataset` reads no folder that has one.

    Args:
        splits: split -> its shards, known to be whole, in row order.
        features: of every split, by `features_of`.
    Raises:
        UsageError: Parquet cannot keep a column, or `datasets` tells two splits not apart.
    """
    require_split_names(splits)
    _require_columns(features)
    (folder / "data").mkdir()
    ordered = sorted((split for split, paths in splits.items() if paths), key=_rank)
    written = [_write_split(folder, split, splits[split], features) for split in ordered]
    (folder / "README.md").write_text(card_text(manifest, description, features, written), encoding="utf-8")
    return written


def _rank(split: str) -> tuple[int, str]:
    return (_FIRST.index(split) if split in _FIRST else len(_FIRST), split)


def _require_columns(features: datasets.Features) -> None:
    for item in features.arrow_schema:
        if _has_no_field(item.type):
            raise UsageError(
                item.name,
                "is a struct without fields, which Parquet cannot keep",
                remedy=f"leave '{item.name}' out of `fields:`, or give it a field in a pipeline",
            )


def _has_no_field(kind: pa.DataType) -> bool:
    inside = [kind.field(number).type for number in range(kind.num_fields)]
    return (pa.types.is_struct(kind) and not inside) or any(_has_no_field(part) for part in inside)


def _write_split(folder: Path, split: str, paths: Sequence[Path], features: datasets.Features) -> SplitFiles:
    name, runs, memory, rows = split_name(split), list(_cut(paths)), 0, 0
    names = [f"data/{name}-{number:05d}-of-{len(runs):05d}.parquet" for number in range(len(runs))]
    for file, run in zip(names, runs, strict=True):
        with pq.ParquetWriter(
            folder / file,
            features.arrow_schema,
            compression="zstd",
            use_content_defined_chunking=True,  # another version shares most of its pages with this one on the hub
            write_page_index=True,
        ) as writer:
            for mapped in tables_of(run, features):
                table = mapped.table.replace_schema_metadata(features.arrow_schema.metadata)
                memory, rows = memory + table.nbytes, rows + table.num_rows
                writer.write_table(table, row_group_size=max(1, _GROUP_BYTES * table.num_rows // max(1, table.nbytes)))
    size = sum((folder / file).stat().st_size for file in names)
    return SplitFiles(
        name=name, own_name=split, paths=tuple(names), num_rows=rows, size_bytes=size, memory_bytes=memory
    )


def _cut(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Shards by the file they go to."""
    run: list[Path] = []
    taken = 0
    for path in paths:
        size = path.stat().st_size
        if run and taken + size > _FILE_BYTES:
            yield run
            run, taken = [], 0
        run.append(path)
        taken += size
    yield run

"""Owns the Parquet files of an exported version: one a split and partition, in order. Knows no JSON-LD.

A file that would be large is cut where blocks of the content digest end, so that reading every file as a partition of
its own gives the same blocks. Each file is one row group: a large Parquet file is read by windows of its row groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from coralord_lightning.errors import ShardMissingError
from coralord_lightning.share.folders import sha256_of
from coralord_lightning.spec.manifest import Manifest, SplitPart

__all__ = ["ParquetFile", "write_files"]

_FILE_BYTES = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetFile:
    """A file that was written; `path` is relative to the export."""

    path: str
    split: str
    num_rows: int
    size_bytes: int
    sha256: str


def write_files(folder: Path, manifest: Manifest, shards: Mapping[str, Path]) -> list[ParquetFile]:
    """Write every row of a version.

    Args:
        shards: where each shard of the manifest lies, by its `path` there; known to be whole.
    Raises:
        ShardMissingError: one cannot be read.
    """
    written: list[ParquetFile] = []
    for split in sorted(manifest.splits):
        for number, part in enumerate(manifest.splits[split]):
            if part.num_rows:
                written += _write_part(folder, f"data/{split}/part-{number:06d}", split, _table(part, shards), part)
    return written


def _table(part: SplitPart, shards: Mapping[str, Path]) -> pa.Table:
    tables = []
    for shard in part.shards:
        try:
            with pa.memory_map(str(shards[shard.path])) as file:
                tables.append(pa.ipc.open_stream(file).read_all())
        except (OSError, pa.ArrowException) as error:
            raise ShardMissingError(
                shard.path, "cannot be read", facts={"got": error}, remedy="coral verify --repair"
            ) from error
    return pa.concat_tables(tables)


def _write_part(folder: Path, stem: str, split: str, table: pa.Table, part: SplitPart) -> Iterator[ParquetFile]:
    pieces = list(_pieces(table, part))
    for number, piece in enumerate(pieces):
        name = f"{stem}.parquet" if len(pieces) == 1 else f"{stem}-{number:06d}.parquet"
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        plain = _plain(piece)
        pq.write_table(plain, path, compression="zstd", row_group_size=max(1, plain.num_rows))
        yield ParquetFile(
            path=name,
            split=split,
            num_rows=piece.num_rows,
            size_bytes=path.stat().st_size,
            sha256=sha256_of(path),
        )


def _pieces(table: pa.Table, part: SplitPart) -> Iterator[pa.Table]:
    """The rows of a part in runs of whole blocks, each of about so many bytes."""
    row_bytes = max(1.0, table.get_total_buffer_size() / table.num_rows)
    start = stop = 0
    for block in part.blocks:
        if stop > start and (stop - start + block.num_rows) * row_bytes > _FILE_BYTES:
            yield table.slice(start, stop - start)
            start = stop
        stop += block.num_rows
    yield table.slice(start)


def _plain(table: pa.Table) -> pa.Table:
    """Fixed-size lists as lists, which Parquet has: their nulls survive, and every reader takes them."""
    schema = pa.schema([pa.field(item.name, _listed(item.type)) for item in table.schema])
    return table if schema.equals(table.schema) else table.cast(schema)


def _listed(kind: pa.DataType) -> Any:
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(_listed(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(item.name, _listed(item.type)) for item in kind])
    return kind

"""Versions written by hand, for tests of what reads them: shard files, a manifest, a home."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from coralord_lightning.spec.columns import columns_of
from coralord_lightning.spec.manifest import Manifest, Shard, SplitPart

FINGERPRINT = "f1" * 32
CONTENT_DIGEST = "c0" * 32


def write_shard(path: Path, table: pa.Table) -> Shard:
    """One Arrow IPC stream file with one record batch."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_batch(table.combine_chunks().to_batches()[0])
    data = sink.getvalue().to_pybytes()
    path.write_bytes(data)
    return Shard(path=path.name, num_rows=table.num_rows, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def write_shards(home: Path, table: pa.Table, rows_per_shard: Sequence[int], *, stem: str = "") -> list[Shard]:
    """A table over files of so many rows each."""
    starts = np.cumsum([0, *rows_per_shard]).tolist()
    return [
        write_shard(home / f"{stem}{number}.arrow", table.slice(starts[number], rows))
        for number, rows in enumerate(rows_per_shard)
    ]


def write_manifest(home: Path, splits: Mapping[str, pa.Table], *, rows_per_shard: int = 7, **changes: Any) -> Manifest:
    """A version of these splits."""
    parts = {}
    for name, table in splits.items():
        sizes = [min(rows_per_shard, table.num_rows - start) for start in range(0, table.num_rows, rows_per_shard)]
        parts[name] = (SplitPart(shards=tuple(write_shards(home, table, sizes, stem=f"{name}-"))),)
    values: dict[str, Any] = {
        "fingerprint": FINGERPRINT,
        "content_digest": CONTENT_DIGEST,
        "created_at": "2026-01-01T00:00:00+00:00",
        "columns": columns_of(next(iter(splits.values())).schema),
        "splits": parts,
        "partitions": (),
        "plan": {"format": 1},
    }
    return Manifest(**values | changes)

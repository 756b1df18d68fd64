"""Owns the memory maps of one split's shards: opened late, once a process, never pickled; it never copies a value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coralord_lightning.errors import ShardMissingError

if TYPE_CHECKING:
    import pyarrow as pa

    from coralord_lightning.spec.manifest import Shard

__all__ = ["ShardMaps", "open_shard"]


def open_shard(home: Path, shard: Shard, schema: pa.Schema) -> pa.RecordBatch:
    """Memory-map one shard.

    Args:
        home: the store directory that the shard's path is relative to.
        schema: what the manifest says its columns are.
    Raises:
        ShardMissingError: it is gone, has another size, or is not the Arrow stream that was written.
    """
    import pyarrow as pa

    path = home / shard.path
    try:
        size_bytes = path.stat().st_size
    except OSError as error:
        raise _missing(path, "a shard of this version is gone", got=error) from error
    if size_bytes != shard.size_bytes:
        raise _missing(
            path,
            "a shard of this version has another size",
            got=f"{size_bytes} bytes",
            expected=f"{shard.size_bytes} bytes",
        )
    try:
        # The map outlives the file handle: buffers keep it, so that many shards need no open files.
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
            batch = reader.read_next_batch()
        batch.validate()
    except (pa.ArrowException, OSError, StopIteration) as error:
        raise _missing(path, "a shard of this version is damaged", got=error) from error
    got, expected = _shape(batch.num_rows, batch.schema), _shape(shard.num_rows, schema)
    if got != expected:
        raise _missing(path, "a shard of this version has other rows or columns", got=got, expected=expected)
    return batch


def _shape(num_rows: int, schema: pa.Schema) -> str:
    columns = ", ".join(f"{name}: {kind}" for name, kind in zip(schema.names, schema.types, strict=True))
    return f"{num_rows} rows of {columns}"


def _missing(path: Path, message: str, **facts: object) -> ShardMissingError:
    return ShardMissingError(
        str(path), message, facts=facts, remedy="run `coral build` on the descriptor again; it replaces the shard"
    )


class ShardMaps:
    """The shards of one split as one run of rows.

    Args:
        home: the store directory that shard paths are relative to.
        shards: in row order; those without rows are left out.
        schema: of every shard.
    """

    def __init__(self, home: Path, shards: Iterable[Shard], schema: pa.Schema) -> None:
        self._home = home
        self.schema = schema
        self._shards = tuple(shard for shard in shards if shard.num_rows)
        self.offsets: list[int] = [0, *accumulate(shard.num_rows for shard in self._shards)]
        self._batches: dict[int, pa.RecordBatch] = {}

    def __len__(self) -> int:
        return len(self._shards)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_batches": {}}

    def batch(self, number: int) -> pa.RecordBatch:
        """The record batch of one shard, mapped at the first call."""
        if number not in self._batches:
            self._batches[number] = open_shard(self._home, self._shards[number], self.schema)
        return self._batches[number]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All record batches in row order."""
        return (self.batch(number) for number in range(len(self)))

    def paths(self) -> list[Path]:
        """Where the shards lie, in row order."""
        return [self._home / shard.path for shard in self._shards]

"""Owns the memory maps of one split's shards: opened late, once a process, never pickled; it never copies a value.

Reading a map whose file was cut short ends Python (SIGBUS), which no exception handler can stop. So sizes are checked
when a shard is mapped and again, by `check`, before its values are copied. What remains is a file that is cut in the
moment between the check and the copy.
"""

from __future__ import annotations

import hashlib
import os
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from coralord_lightning.errors import BatchError, ShardMissingError, StoreError
from coralord_lightning.stream.window import is_in_reach

if TYPE_CHECKING:
    import pyarrow as pa

    from coralord_lightning.spec.manifest import Shard

__all__ = ["MappedShard", "ShardMaps", "Verify", "open_shard"]

Verify = Literal["stat", "read"]

_Source = tuple[str, "Shard", "pa.Schema", Verify]  # path, and what must be in it

_CONTINUES = 0xFFFFFFFF  # Arrow IPC: every message begins with it and the length of its metadata


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedShard:
    """One shard in memory, as long as this object lives.

    Args:
        buffer: the whole file.
        head: the bytes before the values: schema and layout. Shards with equal heads have their values in equal places.
            Empty where it cannot be told.
    """

    buffer: pa.Buffer
    head: bytes


def open_shard(home: Path, shard: Shard, schema: pa.Schema, verify: Verify = "stat") -> pa.RecordBatch:
    """Memory-map one shard.

    Args:
        home: the store directory that the shard's path is relative to.
        schema: what the manifest says its columns are.
        verify: "read": its bytes are hashed before any value is seen.
    Raises:
        ShardMissingError: it is gone, has another size or other bytes, or is not the Arrow stream that was written.
    """
    path = str(home / shard.path)
    return _read(path, _map(path, shard, verify).buffer, shard, schema)


def _map(path: str, shard: Shard, verify: Verify) -> MappedShard:
    import pyarrow as pa

    _require_size(path, shard.size_bytes)
    try:
        if verify == "read":
            _require_digest(path, shard.sha256)
        # The map outlives the file handle: buffers keep it, so that many shards need no open files.
        with pa.memory_map(path) as source:
            buffer = source.read_buffer()
    except (pa.ArrowException, OSError) as error:
        raise _missing(path, "a shard of this version cannot be read", got=error) from error
    if buffer.size != shard.size_bytes:
        raise _other_size(path, got=buffer.size, expected=shard.size_bytes)
    if not is_in_reach(buffer.address, buffer.size):
        raise StoreError(
            path,
            "is mapped at an address that this release cannot read",
            facts={"got": hex(buffer.address)},
            remedy="coral doctor     # and report what it says: user memory lies elsewhere on this platform",
        )
    return MappedShard(buffer=buffer, head=_head(buffer))


def _require_size(path: str, expected: int) -> None:
    try:
        size_bytes = os.stat(path).st_size  # noqa: PTH116  # a third of the time that Path takes, for every batch
    except OSError as error:
        raise _missing(path, "a shard of this version is gone", got=error) from error
    if size_bytes != expected:
        raise _other_size(path, got=size_bytes, expected=expected)


def _require_digest(path: str, expected: str) -> None:
    with Path(path).open("rb", buffering=0) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()  # in pieces, and other threads go on meanwhile
    if digest != expected:
        raise _missing(
            path, "a shard of this version is damaged", got=f"sha256 {digest}", expected=f"sha256 {expected}"
        )


def _head(buffer: pa.Buffer) -> bytes:
    """Both messages of a shard, schema and record batch, without the values that follow."""
    view, end = memoryview(buffer), 0
    for _ in range(2):
        if end + 8 > len(view):
            return b""
        mark, length = struct.unpack_from("<Ii", view, end)
        if mark != _CONTINUES or length <= 0:
            return b""
        end += 8 + length
    return bytes(view[:end]) if end <= len(view) else b""


def _read(path: str, buffer: pa.Buffer, shard: Shard, schema: pa.Schema) -> pa.RecordBatch:
    import pyarrow as pa

    try:
        with pa.ipc.open_stream(pa.BufferReader(buffer)) as reader:
            batch = reader.read_next_batch()
        batch.validate()
        is_expected = batch.num_rows == shard.num_rows and batch.schema.equals(schema)
        got, expected = (
            ("", "") if is_expected else (_shape(batch.num_rows, batch.schema), _shape(shard.num_rows, schema))
        )
    except (pa.ArrowException, OSError, StopIteration, ValueError, TypeError) as error:
        raise _missing(path, "a shard of this version is damaged", got=error) from error
    if got != expected:
        raise _missing(path, "a shard of this version has other rows or columns", got=got, expected=expected)
    return batch


def _decoded(path: str, buffer: pa.Buffer, shard: Shard, schema: pa.Schema) -> pa.Buffer:
    """A shard in plain encodings, in memory. None of ours needs it: what we build has no other."""
    import pyarrow as pa

    from coralord_lightning.spec.columns import canonical_batch

    batch = _read(path, buffer, shard, schema)
    try:
        batch.validate(full=True)
        plain = canonical_batch(batch)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise _missing(path, "a shard of this version is damaged", got=error) from error
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, plain.schema) as writer:
        writer.write_batch(plain)
    return sink.getvalue()


def _is_encoded(kind: pa.DataType) -> bool:
    """Whether values lie in another form than the plain one: dictionary, run-end, large, view or extension types."""
    import pyarrow as pa

    types = pa.types
    if isinstance(kind, pa.BaseExtensionType) or types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return True
    if types.is_large_string(kind) or types.is_large_binary(kind) or types.is_string_view(kind):
        return True
    if types.is_binary_view(kind) or types.is_large_list(kind) or types.is_list_view(kind):
        return True
    return types.is_large_list_view(kind) or any(_is_encoded(kind.field(at).type) for at in range(kind.num_fields))


def _shape(num_rows: int, schema: pa.Schema) -> str:
    columns = ", ".join(f"{name}: {kind}" for name, kind in zip(schema.names, schema.types, strict=True))
    return f"{num_rows} rows of {columns}"


def _other_size(path: str, *, got: int, expected: int) -> ShardMissingError:
    return _missing(path, "a shard of this version has another size", got=f"{got} bytes", expected=f"{expected} bytes")


def _missing(path: str, message: str, **facts: object) -> ShardMissingError:
    return ShardMissingError(
        path, message, facts=facts, remedy="run `coral build --verify read` on the descriptor; it replaces the shard"
    )


class ShardMaps:
    """The shards of one split as one run of rows.

    Args:
        home: the store directory that shard paths are relative to.
        shards: in row order; those without rows are left out.
        schema: of every shard.
        verify: "stat": sizes are checked; "read": the bytes of a shard are hashed before any value of it is handed out.

    Attributes:
        lock: whoever maps and then reads through addresses holds it: of two threads that map a shard, one map is lost.
    """

    def __init__(self, home: Path, shards: Iterable[Shard], schema: pa.Schema, verify: Verify = "stat") -> None:
        sources = ((str(home / shard.path), shard, schema, verify) for shard in shards if shard.num_rows)
        self._take(list(sources), schema, {})

    def _take(self, shards: list[_Source], schema: pa.Schema, unlike: dict[str, str]) -> None:
        self._shards = shards
        self.schema = schema
        self._unlike = unlike
        self.offsets: list[int] = [0, *accumulate(shard.num_rows for _, shard, _, _ in shards)]
        self._is_encoded = any(_is_encoded(kind) for kind in schema.types)
        self.lock = threading.Lock()
        self._mapped: dict[int, MappedShard] = {}
        self._decoded: dict[int, MappedShard] = {}
        self._batches: dict[int, pa.RecordBatch] = {}

    @classmethod
    def joined(cls, parts: Sequence[ShardMaps]) -> ShardMaps:
        """Several runs of rows, one behind the other; its schema has the fields that they all have in the same type."""
        import pyarrow as pa

        first = parts[0].schema
        unlike: dict[str, str] = {}
        for name in dict.fromkeys(name for part in parts for name in part.schema.names):
            kinds = [part.schema.field(name).type if name in part.schema.names else None for part in parts]
            if any(kind != kinds[0] for kind in kinds):
                unlike[name] = ", ".join("absent" if kind is None else str(kind) for kind in kinds)
        joined = cls.__new__(cls)
        alike = pa.schema([first.field(name) for name in first.names if name not in unlike])
        joined._take([shard for part in parts for shard in part._shards], alike, unlike)  # noqa: SLF001  # our own
        return joined

    def __len__(self) -> int:
        return len(self._shards)

    def __getstate__(self) -> dict[str, Any]:
        own: dict[str, Any] = {"_batches": {}, "_mapped": {}, "_decoded": {}, "lock": None}
        return self.__dict__ | own

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.lock = threading.Lock()

    @property
    def num_rows(self) -> int:
        """Of all shards."""
        return self.offsets[-1]

    @property
    def size_bytes(self) -> int:
        """Of all shard files, all columns."""
        return sum(shard.size_bytes for _, shard, _, _ in self._shards)

    def require_alike(self, field: str) -> None:
        """Refuse a field that joined sources have not alike.

        Raises:
            BatchError: with its types in the order of the sources.
        """
        if field in self._unlike:
            raise BatchError(
                field,
                "is not the same in all sources that are mixed",
                facts={"got": self._unlike[field]},
                remedy=f"leave '{field}' out: batch_as=[…]; or give it one name and type in every descriptor",
            )

    @property
    def plain_schema(self) -> pa.Schema:
        """The schema of what `mapped` gives: without dictionaries and other encodings."""
        return self._plain(self.schema)

    def _plain(self, schema: pa.Schema) -> pa.Schema:
        from coralord_lightning.spec.columns import canonical_schema

        return canonical_schema(schema) if self._is_encoded else schema

    def mapped(self, number: int) -> MappedShard:
        """One shard's bytes, mapped at the first call; decoded, where its schema has encodings.

        Raises:
            ShardMissingError: it is gone, has another size, or other bytes with verify="read".
        """
        path, shard, schema, verify = self._shards[number]
        if number not in self._mapped:
            self._mapped[number] = _map(path, shard, verify)
        if not self._is_encoded:
            return self._mapped[number]
        if number not in self._decoded:
            buffer = _decoded(path, self._mapped[number].buffer, shard, schema)
            self._decoded[number] = MappedShard(buffer=buffer, head=_head(buffer))
        return self._decoded[number]

    def read(self, number: int) -> pa.RecordBatch:
        """The record batch of what `mapped` gives, not kept.

        Raises:
            ShardMissingError: the shard is not what was written.
        """
        path, shard, schema, _ = self._shards[number]
        return _read(path, self.mapped(number).buffer, shard, self._plain(schema))

    def batch(self, number: int) -> pa.RecordBatch:
        """The record batch of one shard as it is in its file, mapped at the first call."""
        if number not in self._batches:
            path, shard, schema, verify = self._shards[number]
            if number not in self._mapped:
                self._mapped[number] = _map(path, shard, verify)
            self._batches[number] = _read(path, self._mapped[number].buffer, shard, schema)
        return self._batches[number]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All record batches in row order."""
        return (self.batch(number) for number in range(len(self)))

    def open_numbers(self) -> list[int]:
        """Which shards are mapped by now."""
        return list(self._mapped)

    def paths(self) -> list[Path]:
        """Where the shards lie, in row order."""
        return [Path(path) for path, _, _, _ in self._shards]

    def check(self, numbers: Iterable[int] | None = None) -> None:
        """Look whether mapped shards still have their sizes: reading a map whose file was cut ends Python.

        Args:
            numbers: which shards; default: all that are mapped.
        Raises:
            ShardMissingError: a file is gone or has another size.
        """
        for number in self.open_numbers() if numbers is None else numbers:
            path, shard, _, _ = self._shards[number]
            _require_size(path, shard.size_bytes)

    def damaged(self, number: int, got: object) -> ShardMissingError:
        """The error for a shard whose values cannot be what was written."""
        return _missing(self._shards[number][0], "a shard of this version is damaged", got=got)

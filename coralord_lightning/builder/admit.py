"""Checks one untrusted Arrow stream after the other, in a limited process of its own; never knows whose they are.

`python -m coralord_lightning.builder.admit` reads one JSON request a line and answers each with one line. What it lets
pass is written again, in canonical types, as shards. It may crash on hostile input: its parent survives that.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from coralord_lightning.builder.limits import allow_cpu, limit_process
from coralord_lightning.builder.measure import Meter
from coralord_lightning.spec.digest import ContentHasher, arrow_schema, canonical_batch, columns_of
from coralord_lightning.spec.manifest import Column, Shard, SplitPart

__all__ = ["SHARD_BYTES", "Refused", "admit_file", "cut_shards", "main", "row_bits"]

SHARD_BYTES = 128 * 1024 * 1024
"""A shard takes rows until this many bytes of values; fixed, so that the same rows always give the same shards."""

_ADDRESS_SPACE = 16 << 30
_MAX_FILE = 8 << 30
_OPEN_FILES = 64
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
_CPU_S = 120
_CPU_S_PER_GIB = 120


class Refused(Exception):  # noqa: N818  # an answer, not a failure of this program
    """The stream cannot be admitted: a kind, and facts for the message."""

    def __init__(self, kind: str, **facts: Any) -> None:
        super().__init__(kind)
        self.answer: dict[str, Any] = {"ok": False, "kind": kind, **facts}


def admit_file(
    path: Path, *, out_dir: Path, prefix: str, expect: tuple[Column, ...] | None, shard_bytes: int = SHARD_BYTES
) -> tuple[tuple[Column, ...] | None, SplitPart]:
    """Check a stream, and write its rows as shards.

    Args:
        path: the untrusted file.
        out_dir: where shards go, as `<prefix>-<number>.arrow`.
        prefix: makes their names unique.
        expect: canonical columns that it must have; None where it is the first.
        shard_bytes: how much goes into one shard; another value is for tests.

    Returns:
        its canonical columns, None where it has neither columns nor rows; and its shards and blocks.

    Raises:
        Refused: it is damaged, of unsupported or unexpected types, or the disk is full.
    """
    with _open_regular(path) as stream, _arrow_trouble():
        _require_end(stream)
        reader = pa.ipc.open_stream(stream)
        columns = _require_columns(reader.schema)
        if not columns:
            return _nothing(reader)
        if expect is not None:
            _require_equal(expect, columns)
        hasher = ContentHasher(columns)
        meter = Meter(columns)
        shards = []
        batches = _checked(reader, arrow_schema(columns), hasher, meter)
        for number, batch in enumerate(cut_shards(batches, shard_bytes)):
            shards.append(_write_shard(batch, out_dir, f"{prefix}-{number:05d}.arrow"))
        return columns, SplitPart(shards=tuple(shards), blocks=hasher.finish(), tallies=meter.finish())


def cut_shards(batches: Iterable[pa.RecordBatch], shard_bytes: int) -> Iterator[pa.RecordBatch]:
    """Regroup rows into one record batch a shard; depends on the rows alone, not on how they were batched."""
    limit = shard_bytes * 8
    waiting: list[pa.RecordBatch] = []
    bits = 0
    for batch in batches:
        rest = batch
        while rest.num_rows:
            fits = _rows_within(rest, limit - bits)
            if not fits and not waiting:
                fits = 1  # a row larger than a shard is a shard
            if fits:
                waiting.append(rest.slice(0, fits))
                bits += row_bits(waiting[-1])
                rest = rest.slice(fits)
            if rest.num_rows:
                yield _combined(waiting)
                waiting, bits = [], 0
    if waiting:
        yield _combined(waiting)


def row_bits(batch: pa.RecordBatch) -> int:
    """Bits that the values of a batch take, counted row by row: additive over any cut of the rows."""
    return int(sum(_array_bits(column) for column in batch.columns))


def _array_bits(array: pa.Array) -> Any:
    kind, rows = array.type, len(array)
    validity = rows
    if pa.types.is_null(kind):
        return validity
    if pa.types.is_struct(kind):
        return validity + sum(_array_bits(array.field(index)) for index in range(kind.num_fields))
    if pa.types.is_fixed_size_list(kind):
        first = array.offset * kind.list_size
        return validity + _array_bits(array.values.slice(first, rows * kind.list_size))
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        first, last = _bounds(array)
        return validity + rows * 32 + (last - first) * 8
    if pa.types.is_list(kind) or pa.types.is_map(kind):
        first, last = _bounds(array)
        values = [array.keys, array.items] if pa.types.is_map(kind) else [array.values]
        return validity + rows * 32 + sum(_array_bits(part.slice(first, last - first)) for part in values)
    return validity + rows * kind.bit_width


def _bounds(array: pa.Array) -> tuple[int, int]:
    """First and last offset of a variable-sized array."""
    buffer = array.buffers()[1]
    if buffer is None or not len(array):
        return 0, 0
    offsets = memoryview(buffer).cast("i")
    return int(offsets[array.offset]), int(offsets[array.offset + len(array)])


def _rows_within(batch: pa.RecordBatch, bits: int) -> int:
    """How many leading rows take at most that many bits."""
    low, high = 0, int(batch.num_rows)
    if row_bits(batch) <= bits:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if row_bits(batch.slice(0, middle)) <= bits else (low, middle)
    return low


def _combined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def _checked(reader: Any, schema: pa.Schema, hasher: ContentHasher, meter: Meter) -> Iterator[pa.RecordBatch]:
    """Validated batches in canonical types; the hasher and the meter see them pass."""
    for batch in reader:
        batch.validate(full=True)
        plain = canonical_batch(batch)
        plain.validate(full=True)
        plain = pa.RecordBatch.from_arrays(plain.columns, schema=schema)
        hasher.update(plain)
        meter.update(plain)
        yield plain


def _require_columns(schema: pa.Schema) -> tuple[Column, ...]:
    for number, item in enumerate(schema):
        if not item.name:
            raise Refused("unsupported", message=f"column {number + 1} has no name")
    try:
        return columns_of(schema)
    except TypeError as error:
        raise Refused("unsupported", message=str(error)) from error


def _require_equal(expect: tuple[Column, ...], columns: tuple[Column, ...]) -> None:
    if expect == columns:
        return
    was, now = ({column.name: _text(column) for column in side} for side in (expect, columns))
    for name in [*was, *now]:
        if was.get(name) != now.get(name):
            raise Refused("other_columns", column=name, was=was.get(name, "absent"), now=now.get(name, "absent"))
    raise Refused("other_columns", column=next(iter(now)), was=", ".join(was), now=", ".join(now))


def _text(column: Column) -> str:
    return column.type + (f" of shape {list(column.shape)}" if column.shape else "")


def _nothing(reader: Any) -> tuple[None, SplitPart]:
    if any(batch.num_rows for batch in reader):
        raise Refused("unsupported", message="it has rows, but no columns")
    return None, SplitPart()


@contextmanager
def _open_regular(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that its writer may have replaced by a link, a pipe or a device."""
    try:
        # non-blocking, because opening a pipe would wait for its writer
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Refused("not_regular", message=str(error.strerror)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Refused("not_regular", message="it is no regular file")
    with os.fdopen(descriptor, "rb") as stream:
        yield stream


@contextmanager
def _arrow_trouble() -> Iterator[None]:
    """Tell damage from lack of memory. A full disk is told by `_write_shard`, so any OSError here is a read."""
    try:
        yield
    except MemoryError as error:
        raise Refused("memory", message=str(error)) from error
    except (pa.ArrowException, OSError, ValueError, TypeError, OverflowError) as error:
        raise Refused("damaged", message=str(error)[:2000]) from error


def _require_end(stream: IO[bytes]) -> None:
    """Refuse a stream that was cut between two batches: Arrow takes the end of the file for the end of the stream."""
    start = max(stream.seek(0, os.SEEK_END) - len(_END_OF_STREAM), 0)
    stream.seek(start)
    end = stream.read()
    stream.seek(0)
    if end != _END_OF_STREAM:
        raise Refused("damaged", message="it does not end with the mark of a stream's end")


def _write_shard(batch: pa.RecordBatch, out_dir: Path, name: str) -> Shard:
    try:
        with (out_dir / name).open("xb") as file:
            sink = _Hashing(file)
            with pa.PythonFile(sink, mode="w") as target, pa.ipc.new_stream(target, batch.schema) as writer:
                writer.write_batch(batch)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise Refused("full", message=str(error)) from error
        raise Refused("unwritable", message=str(error)) from error
    return Shard(path=name, num_rows=batch.num_rows, size_bytes=sink.size_bytes, sha256=sink.digest.hexdigest())


class _Hashing(io.RawIOBase):
    """A file that hashes what is written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size_bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.digest.update(data)
        self._file.write(data)
        self.size_bytes += len(data)
        return len(data)


def _serve(request: dict[str, Any]) -> dict[str, Any]:
    path, out_dir = Path(request["path"]), Path(request["out_dir"])
    expect = None if request["expect"] is None else tuple(Column.from_json(item) for item in request["expect"])
    try:
        allow_cpu(_CPU_S + _CPU_S_PER_GIB * int(request["size_bytes"]) // (1 << 30))
        columns, part = admit_file(path, out_dir=out_dir, prefix=request["prefix"], expect=expect)
    except Refused as refused:
        return refused.answer
    return {
        "ok": True,
        "columns": None if columns is None else [column.to_json() for column in columns],
        "part": part.to_json(),
    }


def main() -> None:
    """Serve requests until standard input ends."""
    limit_process(address_space=_ADDRESS_SPACE, file_bytes=_MAX_FILE, open_files=_OPEN_FILES)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_serve(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

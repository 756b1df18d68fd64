"""Where extracted rows are cut into batches: by the rows' values and the bounds alone, never by how they arrived."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from coralord_lightning.builder.buffers import numbers, validity
from coralord_lightning.spec.plan import BatchBounds

__all__ = ["rebatch", "row_bytes"]

Sizes = npt.NDArray[np.int64]

_OFFSET = 4
"""Bytes that a text, a binary or a list costs beside its content, whatever width its offsets have."""


def rebatch(batches: Iterable[pa.RecordBatch], bounds: BatchBounds) -> Iterator[pa.RecordBatch]:
    """Cut rows anew: each batch takes rows while both bounds hold, and at least one row.

    Args:
        batches: all of one schema.
    Returns:
        Batches of the same rows; none where there are no rows.
    """
    pending: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        sums = np.cumsum(_sizes(batch)) if batch.num_rows else np.zeros(0, np.int64)
        start = 0
        while start < batch.num_rows:
            before = int(sums[start - 1]) if start else 0
            fits = int(np.searchsorted(sums, before + bounds.bytes - size, side="right"))
            stop = min(fits, start + bounds.rows - rows, batch.num_rows)
            if stop <= start and not pending:
                stop = start + 1
            if stop > start:
                pending.append(batch.slice(start, stop - start))
                rows, size = rows + stop - start, size + int(sums[stop - 1]) - before
            if stop < batch.num_rows:
                yield _joined(pending)
                pending, rows, size = [], 0, 0
            start = stop
    if pending:
        yield _joined(pending)


def row_bytes(array: pa.Array) -> Sizes:
    """Logical bytes of each row of a column: the same however the column is laid out.

    Numbers and what is made of them in fixed shapes cost their width, null or not; text, binary and lists cost
    4 bytes and their content.

    Returns:
        int64[len(array)]
    Raises:
        TypeError: the type is none that extraction gives.
    """
    kind = array.type
    width = _fixed_width(kind)
    if width is not None:
        return np.full(len(array), width, np.int64)
    if pa.types.is_dictionary(kind):
        return row_bytes(array.dictionary_decode())
    if pa.types.is_struct(kind):
        return sum((row_bytes(child) for child in array.flatten()), start=np.zeros(len(array), np.int64))
    if _is_text_or_bytes(kind):
        return _filled(pc.binary_length(array)) + _OFFSET
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _list_bytes(array, _filled(pc.list_value_length(array))) + _OFFSET
    if pa.types.is_fixed_size_list(kind):
        valid = validity(array).astype(np.int64)
        return _list_bytes(array, np.multiply(valid, kind.list_size))
    raise TypeError(f"{kind} is no type of extracted rows")


def _sizes(batch: pa.RecordBatch) -> Sizes:
    total = np.zeros(batch.num_rows, np.int64)
    for column in batch.columns:
        total += row_bytes(column)
    return total


def _list_bytes(array: pa.Array, lengths: Sizes) -> Sizes:
    """Bytes of each list's items; `flatten` leaves out what lies beneath null lists and outside the slice."""
    items = np.concatenate([np.zeros(1, np.int64), np.cumsum(row_bytes(array.flatten()))])
    stops = np.cumsum(lengths)
    sizes: Sizes = items[stops] - items[stops - lengths]
    return sizes


def _filled(lengths: pa.Array) -> Sizes:
    return numbers(lengths.fill_null(0)).astype(np.int64)


def _is_text_or_bytes(kind: Any) -> bool:
    tests = (pa.types.is_string, pa.types.is_binary, pa.types.is_large_string, pa.types.is_large_binary)
    return any(test(kind) for test in tests)


def _fixed_width(kind: Any) -> int | None:
    """Bytes of one value, where every value takes as many."""
    if pa.types.is_null(kind):
        return 0
    if pa.types.is_fixed_size_list(kind):
        inner = _fixed_width(kind.value_type)
        return None if inner is None else inner * int(kind.list_size)
    if pa.types.is_struct(kind):
        widths = [_fixed_width(kind.field(index).type) for index in range(kind.num_fields)]
        return None if None in widths else sum(width for width in widths if width is not None)
    if pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or pa.types.is_fixed_size_binary(kind):
        return max(1, int(kind.bit_width) // 8)
    return None


def _joined(pieces: list[pa.RecordBatch]) -> pa.RecordBatch:
    return pieces[0] if len(pieces) == 1 else pa.concat_batches(pieces)

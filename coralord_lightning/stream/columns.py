"""Owns how an Arrow column becomes a tensor or a list: its dtype, its shape, or why it cannot; never opens files.

| Arrow type                                   | in a batch                                          |
|----------------------------------------------|-----------------------------------------------------|
| bool, (u)int8 … (u)int64, float16 … float64  | tensor of the same dtype                            |
| fixed-size lists of those, nested            | tensor[batch, *shape]                               |
| date32, time32                               | int32 tensor: days since 1970, or the column's unit |
| date64, time64, timestamp, duration          | int64 tensor in the column's unit (UTC)             |
| string, binary, fixed-size binary            | list[str] or list[bytes]; a null is None            |
| ragged lists, decimals, structs, others      | BatchError that says what to do                     |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from coralord_lightning.errors import BatchError

__all__ = ["BitColumn", "ColumnView", "DenseColumn", "ListColumn", "require_batchable", "view_column"]

Rows = npt.NDArray[np.int64]
Values = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class DenseColumn:
    """A column whose values lie in the map as they are in the tensor: `values` is [rows, *shape]."""

    values: Values

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one row."""
        return tuple(self.values.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the tensor."""
        return self.values.dtype

    def take(self, rows: Rows, out: Values) -> None:
        """Copy rows into `out`, in that order."""
        # mode="clip" writes straight into `out`; "raise" would go through a buffer. Rows are in range by construction.
        np.take(self.values, rows, axis=0, out=out, mode="clip")

    def slice(self, start: int, stop: int, out: Values) -> None:
        """Copy a run of rows into `out`."""
        out[...] = self.values[start:stop]


@dataclass(frozen=True, slots=True)
class BitColumn:
    """A column of booleans, eight to a byte in the map.

    Args:
        bits: the bytes.
        offset: the bit where row 0 starts.
        shape: of one row.
    """

    bits: npt.NDArray[np.uint8]
    offset: int
    shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the tensor."""
        return np.dtype(np.bool_)

    def take(self, rows: Rows, out: Values) -> None:
        """Copy rows into `out`, in that order."""
        width = int(np.prod(self.shape, dtype=np.int64))
        places = (self.offset + rows[:, None] * width + np.arange(width, dtype=np.int64)).reshape(out.shape)
        out[...] = (self.bits[places >> 3] >> (places & 7).astype(np.uint8)) & 1

    def slice(self, start: int, stop: int, out: Values) -> None:
        """Copy a run of rows into `out`."""
        self.take(np.arange(start, stop, dtype=np.int64), out)


@dataclass(frozen=True, slots=True)
class ListColumn:
    """A column handed out as Python objects: text, bytes."""

    array: pa.Array

    def take(self, rows: Rows) -> list[Any]:
        """Rows in that order."""
        values: list[Any] = self.array.take(rows).to_pylist()
        return values


ColumnView = DenseColumn | BitColumn | ListColumn


def require_batchable(kind: pa.DataType, *, field: str) -> None:
    """Refuse a column that can be neither tensor nor list.

    Raises:
        BatchError: ragged lists, decimals, structs.
    """
    element = kind
    while pa.types.is_fixed_size_list(element):
        element = element.value_type
    if not (_is_listed(element) or pa.types.is_boolean(element) or _find_dtype(element) is not None):
        raise _type_error(field, kind)


def view_column(array: pa.Array, *, field: str, split: str) -> ColumnView:
    """See one shard's column as what a batch is gathered from, without a copy.

    Raises:
        BatchError: it has nulls, and a tensor has no place for them.
    """
    if _is_listed(array.type):
        return ListColumn(array)
    num_rows, shape = len(array), list[int]()
    while True:
        if array.null_count:
            raise _null_error(field, split, array.null_count)
        if not pa.types.is_fixed_size_list(array.type):
            break
        size = array.type.list_size
        shape.append(size)
        array = array.values.slice(array.offset * size, len(array) * size)
    if pa.types.is_boolean(array.type):
        return BitColumn(_buffer(array, np.dtype(np.uint8)), array.offset, tuple(shape))
    dtype = _dtype(array.type)
    flat = _buffer(array, dtype)[array.offset : array.offset + len(array)]
    return DenseColumn(flat.reshape(num_rows, *shape))


def _is_listed(kind: pa.DataType) -> bool:
    while pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _dtype(kind: pa.DataType) -> np.dtype[Any]:
    dtype = _find_dtype(kind)
    if dtype is None:
        raise AssertionError(kind)  # require_batchable came first
    return dtype


def _find_dtype(kind: pa.DataType) -> np.dtype[Any] | None:
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return np.dtype({"halffloat": "float16", "float": "float32", "double": "float64"}.get(str(kind), str(kind)))
    if pa.types.is_date32(kind) or pa.types.is_time32(kind):
        return np.dtype(np.int32)
    if pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        return np.dtype(np.int64)
    return None


def _buffer(array: pa.Array, dtype: np.dtype[Any]) -> Values:
    buffer = array.buffers()[1]
    if buffer is None or buffer.size < dtype.itemsize:
        return np.empty(0, dtype)
    return np.frombuffer(buffer, dtype, count=buffer.size // dtype.itemsize)


def _null_error(field: str, split: str, count: int) -> BatchError:
    return BatchError(
        field,
        f"has nulls in split '{split}', and a tensor has no place for them",
        facts={"got": f"{count} nulls or more"},
        remedy=f'where: "{field} is not null"     # or fill the nulls in the pipeline',
    )


def _type_error(field: str, kind: pa.DataType) -> BatchError:
    remedy = f"leave '{field}' out: batch_as=[…] or `fields:` without it; or turn it into numbers in the pipeline"
    message = "has a type that no tensor can hold"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        message = "has lists of different lengths"
        remedy = f"leave '{field}' out: batch_as=[…] or `fields:` without it; or pad it to one length in the pipeline"
    elif pa.types.is_decimal(kind):
        remedy = f"make '{field}' float64 or an integer in the pipeline: table.column('{field}').cast('float64')"
    return BatchError(field, message, facts={"got": kind}, remedy=remedy)

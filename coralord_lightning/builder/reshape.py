"""DuckDB's Arrow rows into the selection's own types: nested fixed-size lists, half floats, canonical names. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from coralord_lightning.builder.buffers import bitmap, numbers, validity
from coralord_lightning.errors import SourceFormatError
from coralord_lightning.spec.columns import canonical_batch
from coralord_lightning.spec.selection import SelectedField

__all__ = ["reshape", "row_width"]

_WIDTHS = {"bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "float16": 4, "date": 4}
_TARGET_BYTES = 8 * 1024 * 1024
_MAX_ROWS = 2048
"""DuckDB's own vector size; columns of unknown width are streamed so many rows at a time."""


def reshape(batch: pa.RecordBatch, fields: Sequence[SelectedField]) -> pa.RecordBatch:
    """The same rows as the selection types them.

    Args:
        batch: one column a field, shapes as lists (flat where all dimensions are fixed).
    Raises:
        SourceFormatError: a number does not fit a half float.
    """
    columns = [_column(column, field) for column, field in zip(batch.columns, fields, strict=True)]
    return canonical_batch(pa.RecordBatch.from_arrays(columns, names=[field.name for field in fields]))


def row_width(fields: Sequence[SelectedField], limit: int | None = None) -> int:
    """How many rows to stream at a time, so that wide fixed shapes stay within some megabytes.

    Args:
        limit: of the rows that will be asked for.
    """
    width = 0
    for field in fields:
        width += _WIDTHS.get(field.dtype, 8) * int(np.prod(field.shape, dtype=np.int64)) if -1 not in field.shape else 8
    return max(1, min(_MAX_ROWS, limit or _MAX_ROWS, _TARGET_BYTES // max(1, width)))


def _column(array: Any, field: SelectedField) -> Any:
    if field.children:
        return _struct(array, field)
    if not field.shape:
        return _element(array, field)
    return _fixed(array, field) if -1 not in field.shape else _ragged(array, field, field.shape)


def _struct(array: Any, field: SelectedField) -> Any:
    """A struct, or lists of structs, with their subfields reshaped."""
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        return _listed(array, _struct(array.flatten(), field))
    children = [_column(array.field(child.name), child) for child in field.children]
    names = [child.name for child in field.children]
    kind = pa.struct([pa.field(name, child.type) for name, child in zip(names, children, strict=True)])
    return pa.Array.from_buffers(kind, len(array), [bitmap(validity(array))], children=children)


def _listed(array: Any, items: Any) -> Any:
    """Items as lists of the lengths that the given lists have, null where those are."""
    lengths = numbers(array.value_lengths().fill_null(0))
    offsets = np.concatenate([np.zeros(1, np.int32), np.cumsum(lengths, dtype=np.int32)])
    buffers = [bitmap(validity(array)), pa.py_buffer(offsets)]
    return pa.Array.from_buffers(pa.list_(items.type), len(array), buffers, children=[items])


def _fixed(array: Any, field: SelectedField) -> Any:
    """Flat lists of one length as nested fixed-size lists; what lies beneath a null row is null."""
    size = int(np.prod(field.shape, dtype=np.int64))
    values = _element(_padded(array, size), field)
    for dimension in reversed(field.shape[1:]):
        values = pa.FixedSizeListArray.from_arrays(values, dimension)
    return _sized(values, field.shape[0], array)


def _ragged(array: Any, field: SelectedField, shape: tuple[int, ...]) -> Any:
    """Nested lists, level by level; only the fixed levels change."""
    if not shape:
        return _element(array, field)
    if shape[0] != -1:
        return _sized(_ragged(_padded(array, shape[0]), field, shape[1:]), shape[0], array)
    return _listed(array, _ragged(array.flatten(), field, shape[1:]))


def _padded(array: Any, size: int) -> Any:
    """The items of lists of one length, with `size` nulls where a list is null."""
    items = array.flatten()
    if not array.null_count:
        return items
    valid = validity(array)
    places = np.zeros((len(array), size), np.int64)
    places[valid] = np.arange(int(valid.sum()) * size, dtype=np.int64).reshape(-1, size)
    buffers = [bitmap(np.repeat(valid, size)), pa.py_buffer(places)]
    return items.take(pa.Array.from_buffers(pa.int64(), places.size, buffers))


def _sized(items: Any, size: int, lists: Any) -> Any:
    """Items as lists of one size, null where the given lists are."""
    buffers = [bitmap(validity(lists)) if lists.null_count else None]
    return pa.Array.from_buffers(pa.list_(items.type, size), len(lists), buffers, children=[items])


def _element(array: Any, field: SelectedField) -> Any:
    if field.dtype != "float16":
        return array
    wide = numbers(array.fill_null(0))
    with np.errstate(over="ignore"):
        narrow = wide.astype(np.float16)
    if np.any(np.isinf(narrow) & ~np.isinf(wide)):
        raise SourceFormatError(
            field.name,
            "a number does not fit its type",
            facts={"got": wide[np.isinf(narrow)][0], "expected": "float16: at most 65504"},
            remedy=f"give '{field.name}' the dataType cr:Float32 in the Croissant file",
        )
    return pa.Array.from_buffers(pa.float16(), len(array), [bitmap(validity(array)), pa.py_buffer(narrow)])

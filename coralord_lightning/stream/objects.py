"""Owns columns that become Python objects: text, bytes, decimals, dicts, lists of them; never reads unchecked memory.

Everything is copied or sliced by vectorised places; one list comprehension a level makes the objects. Arrow's own
conversion is not used on maps: it trusts the offsets in them.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from coralord_lightning.stream.columns import Node
from coralord_lightning.stream.places import PlaceTable, Spot
from coralord_lightning.stream.window import arrow_memory

__all__ = ["gather_objects", "spread"]


def gather_objects(table: PlaceTable, node: Node, spot: Spot) -> list[Any]:
    """One Python object an element, None for a null.

    Raises:
        ShardMissingError: offsets or text are not what was written.
    """
    values = _objects(table, node, spot)
    valid = None if node.form in ("null", "text", "bytes") else table.valid(node, spot)  # those are done
    if valid is not None:
        for number in np.flatnonzero(~valid).tolist():
            values[number] = None
    return values


def spread(starts: Any, lengths: Any) -> Any:
    """All numbers of ranges, one range behind the other: int64[sum of lengths]."""
    ends = np.cumsum(lengths)
    shift = starts - (ends - lengths)
    return np.arange(int(ends[-1]) if len(ends) else 0, dtype=np.int64) + np.repeat(shift, lengths)


def _objects(table: PlaceTable, node: Node, spot: Spot) -> list[Any]:  # noqa: PLR0911  # one return a form
    count = len(spot.at)
    if node.form == "null":
        return [None] * count
    if node.is_tensor:
        values: list[Any] = table.tensor(node, spot).tolist()
        return values
    if node.form == "raw":
        return _explained(node, table.numbers(node, spot))
    if node.form in ("text", "bytes"):
        return _slices(table, node, spot)
    if node.form == "struct":
        columns = [gather_objects(table, child, spot) for child in node.children]
        names = [item.name for item in node.kind]
        return (
            [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
            if columns
            else [{} for _ in range(count)]
        )
    if node.form == "pair":
        keys, items = (gather_objects(table, child, spot) for child in node.children)
        return list(zip(keys, items, strict=True))
    if node.form == "box":
        at = (spot.at[:, None] * node.width + np.arange(node.width, dtype=np.int64)).reshape(-1)
        inner = gather_objects(table, node.children[0], spot.inside(at, node.width))
        return (
            [inner[start : start + node.width] for start in range(0, count * node.width, node.width)]
            if (node.width)
            else [[] for _ in range(count)]
        )
    starts, ends = table.spans(node, spot)
    lengths = ends - starts
    inner = gather_objects(table, node.children[0], spot.inside(spread(starts, lengths), lengths))
    bounds = np.cumsum([0, *lengths.tolist()]).tolist()
    return [inner[start:end] for start, end in pairwise(bounds)]


def _slices(table: PlaceTable, node: Node, spot: Spot) -> list[Any]:
    starts, ends = table.spans(node, spot)
    bounds = np.stack([starts, ends], axis=1) + np.expand_dims(table.text_starts(node, spot), -1)
    valid = table.valid(node, spot)
    if node.form == "bytes":
        return _copied(pa.large_binary(), bounds, valid)
    try:
        return _copied(pa.large_string(), bounds, valid)
    except UnicodeDecodeError as error:
        bad = next(
            number for number, value in enumerate(_copied(pa.large_binary(), bounds, valid)) if _is_broken(value)
        )
        raise table.damaged(spot, bad, f"text that is no UTF-8: {error.reason}") from error


def _copied(kind: pa.DataType, bounds: Any, valid: Any) -> list[Any]:
    """Bytes or texts from anywhere in memory, None where they are not valid.

    Args:
        bounds: int64[n, 2], where each begins and ends, from the window's first byte.
    """
    # Arrow makes Python objects fast, but wants values side by side. So between any two there is a null that spans what
    # lies between them, backwards too: no one looks at where a null lies. The first and the last keep offsets in order.
    count, memory = len(bounds), arrow_memory()
    offsets = np.empty(2 * count + 2, dtype=np.int64)
    offsets[0], offsets[1:-1], offsets[-1] = 0, bounds.reshape(-1), memory.size
    bits = np.zeros(2 * count + 1, dtype=np.bool_)
    bits[1::2] = True if valid is None else valid
    mask = pa.py_buffer(np.packbits(bits, bitorder="little"))
    array = pa.Array.from_buffers(kind, 2 * count + 1, [mask, pa.py_buffer(offsets), memory])
    objects: list[Any] = array.to_pylist()[1::2]
    return objects


def _is_broken(value: bytes | None) -> bool:
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return True
    return False


def _explained(node: Node, values: Any) -> list[Any]:
    if pa.types.is_fixed_size_binary(node.kind):
        data, width = values.tobytes(), node.width
        return [data[number * width : (number + 1) * width] for number in range(len(values))]
    copied = pa.Array.from_buffers(node.kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])
    objects: list[Any] = copied.to_pylist()
    return objects

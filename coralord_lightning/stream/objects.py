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
from coralord_lightning.stream.window import address_bytes

__all__ = ["gather_objects", "spread"]


def gather_objects(table: PlaceTable, node: Node, spot: Spot) -> list[Any]:
    """One Python object an element, None for a null.

    Raises:
        ShardMissingError: offsets or text are not what was written.
    """
    values = _objects(table, node, spot)
    valid = None if node.form == "null" else table.valid(node, spot)
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
    origin = table.text_starts(node, spot)
    bounds = zip((starts + origin).tolist(), (ends + origin).tolist(), strict=True)
    memory = address_bytes()
    if node.form == "bytes":
        return [bytes(memory[start:end]) for start, end in bounds]
    try:
        return [str(memory[start:end], "utf-8") for start, end in bounds]
    except UnicodeDecodeError as error:
        raise _no_text(table, spot, starts + origin, ends + origin, error) from error


def _no_text(table: PlaceTable, spot: Spot, starts: Any, ends: Any, error: UnicodeDecodeError) -> Exception:
    for number, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        try:
            str(address_bytes()[start:end], "utf-8")
        except UnicodeDecodeError:
            return table.damaged(spot, number, f"text that is no UTF-8: {error.reason}")
    return table.damaged(spot, 0, error.reason)


def _explained(node: Node, values: Any) -> list[Any]:
    if pa.types.is_fixed_size_binary(node.kind):
        data, width = values.tobytes(), node.width
        return [data[number * width : (number + 1) * width] for number in range(len(values))]
    copied = pa.Array.from_buffers(node.kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])
    objects: list[Any] = copied.to_pylist()
    return objects

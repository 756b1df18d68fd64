"""Owns which types an export can say, and for each other the nearest one that holds the same values. Reads no value.

A type can be said where we and mlcroissant both read it back as it was. mlcroissant has no structs in structs, and no
times of nanoseconds; we have no structs in lists of lists.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import pyarrow as pa

from coralord_lightning.spec.columns import INTERVAL

__all__ = ["DATA_TYPES", "dimensions", "expression", "has_name_with", "is_too_deep", "sayable"]

DATA_TYPES: Mapping[pa.DataType, str] = {
    pa.bool_(): "sc:Boolean",
    pa.int8(): "cr:Int8", pa.int16(): "cr:Int16", pa.int32(): "cr:Int32", pa.int64(): "cr:Int64",
    pa.uint8(): "cr:UInt8", pa.uint16(): "cr:UInt16", pa.uint32(): "cr:UInt32", pa.uint64(): "cr:UInt64",
    pa.float16(): "cr:Float16", pa.float32(): "cr:Float32", pa.float64(): "cr:Float64",
    pa.string(): "sc:Text", pa.date32(): "sc:Date", pa.time64("us"): "sc:Time",
    pa.timestamp("us"): "sc:DateTime", pa.timestamp("ns"): "sc:DateTime",
}  # fmt: skip
"""All but bytes, which are media or have no word."""
_SPELLED: Mapping[pa.DataType, str] = {
    pa.bool_(): "bool_", pa.float16(): "float16", pa.float32(): "float32", pa.float64(): "float64",
    pa.date32(): "date32",
}  # fmt: skip
"""What pyarrow calls a type where that is not how it prints it."""


def dimensions(kind: pa.DataType) -> tuple[tuple[int, ...], pa.DataType]:
    """Sizes of nested lists, -1 where they differ, and the type of their elements."""
    shape: list[int] = []
    while pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        shape.append(kind.list_size if pa.types.is_fixed_size_list(kind) else -1)
        kind = kind.value_type
    return tuple(shape), kind


def sayable(kind: pa.DataType) -> pa.DataType | None:
    """The type itself if it can be said, else one that holds the same values; None where there is none."""
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        item = sayable(kind.value_type)
        fixed = pa.types.is_fixed_size_list(kind) and item is not None and not pa.types.is_struct(dimensions(item)[1])
        return None if item is None else pa.list_(item, kind.list_size if fixed else -1)
    if pa.types.is_map(kind):
        return sayable(pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)])))
    if pa.types.is_struct(kind):
        items = [(item.name, sayable(item.type)) for item in kind]
        return pa.struct(items) if items and all(item is not None for _, item in items) else None
    return kind if kind in DATA_TYPES or kind == pa.binary() else _instead(kind)


def is_too_deep(kind: pa.DataType) -> bool:
    """Whether it has a struct elsewhere than in a column, or in one list."""
    shape, element = dimensions(kind)
    return pa.types.is_struct(element) and (
        len(shape) > 1 or any(pa.types.is_struct(dimensions(item.type)[1]) for item in element)
    )


def has_name_with(pattern: re.Pattern[str], kind: pa.DataType) -> bool:
    """Whether a field of a struct has no name, or one in which the pattern is found."""
    element = dimensions(kind)[1]
    return pa.types.is_struct(element) and any(
        not item.name or pattern.search(item.name) is not None or has_name_with(pattern, item.type) for item in element
    )


def expression(kind: pa.DataType) -> str:
    """A type that can be said as Python that makes it."""
    if pa.types.is_list(kind):
        return f"pa.list_({expression(kind.value_type)})"
    if pa.types.is_fixed_size_list(kind):
        return f"pa.list_({expression(kind.value_type)}, {kind.list_size})"
    if pa.types.is_struct(kind):
        return f"pa.struct([{', '.join(f'({item.name!r}, {expression(item.type)})' for item in kind)}])"
    if pa.types.is_timestamp(kind) or pa.types.is_time(kind):
        return f"pa.{'timestamp' if pa.types.is_timestamp(kind) else 'time64'}({kind.unit!r})"
    return f"pa.{_SPELLED.get(kind, str(kind))}()"


def _instead(kind: pa.DataType) -> pa.DataType | None:
    t = pa.types
    known = (
        (t.is_timestamp, pa.timestamp("ns" if t.is_timestamp(kind) and kind.unit == "ns" else "us")),
        (t.is_time32, pa.time64("us")),
        (t.is_time64, pa.int64()),
        (t.is_date64, pa.date32()),
        (t.is_duration, pa.int64()),
        (t.is_decimal, pa.string()),
        (t.is_fixed_size_binary, pa.binary()),
        (t.is_null, pa.string()),
        (lambda kind: kind == pa.month_day_nano_interval(), INTERVAL),
    )
    return next((other for holds, other in known if holds(kind)), None)

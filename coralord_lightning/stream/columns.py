"""Owns which form every Arrow type has in a batch, and where its values lie in a shard; never copies a value.

| Arrow type                                    | in a batch                                                    |
|-----------------------------------------------|---------------------------------------------------------------|
| bool, (u)int8 … (u)int64, float16 … float64   | tensor[batch] of the same dtype                               |
| date32, time32                                | int32 tensor: days since 1970, or the column's unit           |
| date64, time64, timestamp, duration           | int64 tensor in the column's unit (UTC)                       |
| fixed-size lists of those, nested             | tensor[batch, *shape]                                         |
| lists of different lengths of those, nested   | `collate`: padded, or flat with offsets; see `ragged.py`      |
| string; binary, fixed-size binary             | list[str]; list[bytes]                                        |
| decimal                                       | list[decimal.Decimal]                                         |
| struct; map                                   | list[dict[str, …]]; list[list[tuple[key, value]]]             |
| month_day_nano_interval                       | list[pyarrow.MonthDayNano]                                    |
| null                                          | list[None]                                                    |
| lists, of any kind, of what is no tensor      | list[list[…]]                                                 |

A null is None in a list, and refused in a tensor, which has no place for it. Within dicts and lists numbers are
Python's int, float and bool, and times are whole numbers, as in a tensor.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from coralord_lightning.errors import BatchError

__all__ = ["DATA", "LENGTH", "NULLS", "SIZE", "VALID", "VALUES", "Node", "Plan", "find_strict_null", "read_places"]

Form = Literal["numbers", "bits", "raw", "text", "bytes", "list", "box", "struct", "pair", "null"]
Slots = npt.NDArray[np.int64]

# What is known of one node in one shard, each in a slot of its own.
LENGTH, NULLS, VALID, VALUES, DATA, SIZE = range(6)
_SLOTS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One level of a column's type.

    Args:
        form: "numbers" and "bits" have `shape` around each value; "raw" are values of a fixed width that Arrow
            explains; "list" is any list of different lengths, a map too, whose child is a "pair"; "box" is a
            fixed-size list.
        slot: of its first number in a shard's places.
        unit: bytes of what is copied as one item; of "box": 1.
        width: items in a value; of "bits": bits; of "box": elements.
        is_strict: there is no place for a null.
    """

    form: Form
    kind: pa.DataType
    slot: int
    is_strict: bool
    shape: tuple[int, ...] = ()
    unit: int = 1
    width: int = 1
    children: tuple[Node, ...] = ()

    @property
    def is_tensor(self) -> bool:
        """Whether its values are one tensor."""
        return self.form in ("numbers", "bits")

    @property
    def depth(self) -> int:
        """Levels of lists above a tensor; 0 where there is none below."""
        if self.form != "list":
            return 0
        child = self.children[0]
        return 1 if child.is_tensor else child.depth and child.depth + 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the tensor."""
        dtype = _find_dtype(self.kind)
        if dtype is None:
            raise AssertionError(self.kind)
        return dtype

    def walk(self) -> Iterator[Node]:
        """Itself and all below."""
        yield self
        for child in self.children:
            yield from child.walk()


class Plan:
    """The nodes of some columns, and how their places follow from where a shard was mapped.

    Args:
        kinds: field -> Arrow type.
    Raises:
        BatchError: a type has no form in a batch.
    """

    def __init__(self, kinds: Mapping[str, pa.DataType]) -> None:
        self._count = 0
        self.roots = {field: self._root(kind, field) for field, kind in kinds.items()}
        self.num_slots = self._count * _SLOTS
        scale = np.zeros((3, self.num_slots), dtype=np.int64)
        scale[1] = 1
        for root in self.roots.values():
            _set_scale(scale, root, each=1)
        self._times, self._over, self._first = scale

    def rebased(self, places: Slots, *, start: int, first_row: int) -> Slots:
        """A shard's places as they stand in the window.

        Args:
            places: from `read_places`.
            start: where the shard begins, in bytes from the window's first.
            first_row: number of its first row, so that rows need not be counted from there.
        """
        return places + start * self._times // self._over - first_row * self._first

    def _root(self, kind: pa.DataType, field: str) -> Node:
        inner, levels = kind, 0
        while _is_list(inner) or pa.types.is_fixed_size_list(inner):
            if _is_list(inner) and pa.types.is_map(inner):
                return self._object(kind, field)
            levels += 1
            inner = inner.value_type
        if _find_dtype(inner) is None:
            return self._object(kind, field)
        return self._strict(kind, field)

    def _strict(self, kind: pa.DataType, field: str) -> Node:
        """Numbers below any number of lists; a list within a fixed-size list is no tensor."""
        if _is_list(kind):
            before = self._count
            slot = self._slot()
            child = self._strict(kind.value_type, field)
            if child.is_strict:
                return Node(form="list", kind=kind, slot=slot, is_strict=True, unit=4, children=(child,))
            self._count = before
            return self._object(kind, field)
        shape, inner = list[int](), kind
        while pa.types.is_fixed_size_list(inner):
            shape.append(inner.list_size)
            inner = inner.value_type
        dtype = _find_dtype(inner)
        if dtype is None:
            return self._object(kind, field)
        count = int(np.prod(shape, dtype=np.int64))
        if pa.types.is_boolean(inner):
            return Node(form="bits", kind=inner, slot=self._slot(), is_strict=True, shape=tuple(shape), width=count)
        size_bytes = count * dtype.itemsize
        unit = next(unit for unit in (8, 4, 2, 1) if size_bytes % unit == 0)
        return Node(
            form="numbers", kind=inner, slot=self._slot(), is_strict=True, shape=tuple(shape), unit=unit,
            width=size_bytes // unit,
        )  # fmt: skip

    def _object(self, kind: pa.DataType, field: str) -> Node:
        slot = self._slot()
        leaf = _leaf(kind)
        if leaf is not None:
            form, unit, width = leaf
            return Node(form=form, kind=kind, slot=slot, is_strict=False, unit=unit, width=width)
        if pa.types.is_map(kind):
            pair = self._slot()
            items = tuple(self._object(item, field) for item in (kind.key_type, kind.item_type))
            child = Node(form="pair", kind=kind, slot=pair, is_strict=False, children=items)
            return Node(form="list", kind=kind, slot=slot, is_strict=False, unit=4, children=(child,))
        children = tuple(self._object(kind.field(at).type, field) for at in range(kind.num_fields))
        if _is_list(kind):
            return Node(form="list", kind=kind, slot=slot, is_strict=False, unit=4, children=children)
        if pa.types.is_fixed_size_list(kind):
            return Node(form="box", kind=kind, slot=slot, is_strict=False, width=kind.list_size, children=children)
        if pa.types.is_struct(kind):
            return Node(form="struct", kind=kind, slot=slot, is_strict=False, children=children)
        raise _type_error(field, kind)

    def _slot(self) -> int:
        self._count += 1
        return (self._count - 1) * _SLOTS


def _leaf(kind: pa.DataType) -> tuple[Form, int, int] | None:
    """Form, unit and width of a type that has no other types in it."""
    if pa.types.is_null(kind):
        return "null", 1, 1
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return "text" if pa.types.is_string(kind) else "bytes", 4, 1
    if pa.types.is_fixed_size_binary(kind):
        return "raw", 1, kind.byte_width
    if pa.types.is_decimal(kind) or kind == pa.month_day_nano_interval():
        return "raw", 4, kind.bit_width // 32
    dtype = _find_dtype(kind)
    if dtype is None:
        return None
    return "bits" if pa.types.is_boolean(kind) else "numbers", dtype.itemsize, 1


def _set_scale(scale: Slots, node: Node, *, each: int) -> None:
    """Each place is its place in the file + start * scale[0] // scale[1] - first row * scale[2].

    Args:
        each: elements of the node in a row; 0 below lists, whose elements are counted from their shard's first.
    """
    times, over, first = scale[:, node.slot : node.slot + _SLOTS]
    times[VALID], first[VALID] = 8, each
    if node.form == "bits":
        times[VALUES], first[VALUES] = 8, node.width * each
    else:
        times[VALUES], over[VALUES] = 1, node.unit
        first[VALUES] = (node.width if node.form in ("numbers", "raw") else 1) * each
    times[DATA] = 1
    for child in node.children:
        _set_scale(scale, child, each={"list": 0, "box": each * node.width}.get(node.form, each))


def find_strict_null(plan: Plan, places: Slots) -> tuple[str, Node, int] | None:
    """The first field that has nulls where there is no place for them, its level, and how many."""
    for field, root in plan.roots.items():
        for node in root.walk():
            nulls = int(places[node.slot + NULLS])
            if node.is_strict and nulls:
                return field, node, nulls
    return None


def read_places(plan: Plan, batch: pa.RecordBatch, file: pa.Buffer) -> Slots:
    """Where the values of one shard lie, from the beginning of its file.

    Every buffer is checked to lie within the file and to be as long as the number of values says: what is copied later
    by row number is inside then.

    Raises:
        ValueError: it is not so.
    """
    reader = _PlaceReader(plan.num_slots, file)
    for field, root in plan.roots.items():
        reader.read(root, batch.column(field))
    return reader.places


class _PlaceReader:
    def __init__(self, num_slots: int, file: pa.Buffer) -> None:
        self.places = np.zeros(num_slots, dtype=np.int64)
        self._start, self._size = file.address, file.size

    def read(self, node: Node, array: pa.Array) -> None:
        """Fill the slots of a node and of all below."""
        _require(array.offset == 0, "values do not begin where they must")
        length, buffers = len(array), array.buffers()
        slots = self.places[node.slot : node.slot + _SLOTS]
        slots[LENGTH] = length
        if node.form == "null":
            return
        slots[NULLS] = array.null_count
        if slots[NULLS]:
            slots[VALID] = 8 * self._place(buffers[0], (length + 7) // 8)
        if node.form == "struct":
            self._children(node, [array.field(number) for number in range(array.type.num_fields)], length)
        elif node.form == "box":
            self._children(node, [array.values], length * node.width)
        elif node.form in ("list", "text", "bytes"):
            slots[VALUES] = self._place(buffers[1], 4 * (length + 1) if length else 0) // 4
            if node.form == "list":
                slots[SIZE] = self._elements(node.children[0], array)
            else:
                slots[SIZE] = 0 if buffers[2] is None else buffers[2].size
                slots[DATA] = self._place(buffers[2], int(slots[SIZE]))
        else:
            self._fixed(node, array, slots)

    def _elements(self, child: Node, array: pa.Array) -> int:
        if child.form != "pair":
            self.read(child, array.values)
            return len(array.values)
        length = len(array.keys)
        self._children(child, [array.keys, array.items], length)
        return length

    def _children(self, node: Node, arrays: Sequence[pa.Array], length: int) -> None:
        for child, array in zip(node.children, arrays, strict=True):
            _require(len(array) >= length, f"{len(array)} values stand where there must be {length}")
            self.read(child, array)

    def _fixed(self, node: Node, array: pa.Array, slots: Slots) -> None:
        length = len(array)
        for size in node.shape:
            length, array = length * size, array.values
            _require(array.offset == 0, "values do not begin where they must")
            _require(len(array) >= length, f"{len(array)} values stand where there must be {length}")
            slots[NULLS] += array.null_count
        bits = int(slots[LENGTH]) * node.width * (1 if node.form == "bits" else 8 * node.unit)
        place = self._place(array.buffers()[1], (bits + 7) // 8)
        slots[VALUES] = place * 8 if node.form == "bits" else place // node.unit

    def _place(self, buffer: pa.Buffer | None, needed: int) -> int:
        """How many bytes from the file's beginning a buffer lies, of which so many bytes will be read."""
        if not needed:
            return 0
        if buffer is None or buffer.size < needed:
            raise ValueError("a buffer is shorter than its values")
        place: int = buffer.address - self._start
        _require(place >= 0 and place + needed <= self._size, "a buffer lies outside of the file")
        _require(place % 8 == 0, "a buffer is not aligned")
        return place


def _require(is_so: object, message: str) -> None:
    if not is_so:
        raise ValueError(message)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_map(kind))


@functools.lru_cache(maxsize=256)  # asked for every column of every batch
def _find_dtype(kind: pa.DataType) -> np.dtype[Any] | None:
    if pa.types.is_boolean(kind):
        return np.dtype(np.bool_)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return np.dtype({"halffloat": "float16", "float": "float32", "double": "float64"}.get(str(kind), str(kind)))
    if pa.types.is_date32(kind) or pa.types.is_time32(kind):
        return np.dtype(np.int32)
    if pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        return np.dtype(np.int64)
    return None


def _type_error(field: str, kind: pa.DataType) -> BatchError:
    return BatchError(
        field,
        "has a type that no batch can hold",
        facts={"got": kind},
        remedy=f"leave '{field}' out: batch_as=[…] or `fields:` without it; or turn it into numbers in the pipeline",
    )

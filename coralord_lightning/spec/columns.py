"""Canonical column types: one logical schema for all the ways Arrow can lay the same values out. Never hashes.

Canonical means: dictionary, run-end, large and view encodings are undone, extension types are their storage, every
field is nullable, items of lists are called `item`, metadata is gone. Fixed-size lists around an element become the
column's `shape`.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from coralord_lightning.spec.manifest import Column

__all__ = ["INTERVAL", "arrow_schema", "canonical_batch", "canonical_schema", "columns_of", "parse_type", "print_type"]

INTERVAL = pa.struct([("months", pa.int32()), ("days", pa.int32()), ("nanoseconds", pa.int64())])
"""What an interval is kept as where a format has no word for it."""

_PLAIN_NAME = re.compile(r"\w+", re.ASCII)
_TOKEN = re.compile(r'\s*(?:("(?:[^"\\]|\\.)*")|(\w+)|(\[[^\]]*\]|\([^)]*\))|([<>,:]))', re.ASCII)
_ENCODED_TEXT = {pa.large_string(): pa.string(), pa.string_view(): pa.string()}
_ENCODED_BYTES = {pa.large_binary(): pa.binary(), pa.binary_view(): pa.binary()}
_UNENCODED = _ENCODED_TEXT | _ENCODED_BYTES
_SIMPLE: dict[str, Any] = {
    str(kind): kind
    for kind in (
        pa.null(), pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(),
        pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.string(), pa.binary(), pa.date32(), pa.date64(),
        pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"), pa.month_day_nano_interval(),
    )
}  # fmt: skip
_DECIMALS: dict[str, Callable[[int, int], Any]] = {
    "decimal32": pa.decimal32,
    "decimal64": pa.decimal64,
    "decimal128": pa.decimal128,
    "decimal256": pa.decimal256,
}


def columns_of(schema: pa.Schema) -> tuple[Column, ...]:
    """The canonical columns of a schema, in its order.

    Raises:
        TypeError: a column's type is not supported, or a name stands twice; the message names the column.
    """
    seen: set[str] = set()
    columns = []
    for item in schema:
        if item.name in seen:
            raise TypeError(f"column {item.name!r}: the name stands twice")
        seen.add(item.name)
        try:
            kind = _canonical_type(item.type)
        except TypeError as error:
            raise TypeError(f"column {item.name!r}: {error}") from error
        shape: tuple[int, ...] = ()
        while pa.types.is_fixed_size_list(kind):
            shape, kind = (*shape, kind.list_size), kind.value_type
        columns.append(Column(name=item.name, type=print_type(kind), shape=shape))
    return tuple(columns)


def arrow_schema(columns: Iterable[Column]) -> pa.Schema:
    """The Arrow schema of canonical columns; the inverse of `columns_of`."""
    fields = []
    for column in columns:
        kind = parse_type(column.type)
        for size in reversed(column.shape):
            kind = pa.list_(kind, size)
        fields.append(pa.field(column.name, kind))
    return pa.schema(fields)


@functools.lru_cache(maxsize=64)  # asked for every batch
def canonical_schema(schema: pa.Schema) -> pa.Schema:
    """The canonical form of a schema, without metadata."""
    return arrow_schema(columns_of(schema))


def canonical_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same values in canonical types; without a copy where they are canonical already.

    Raises:
        TypeError: a column's type is not supported; the message names the column.
    """
    schema = canonical_schema(batch.schema)
    if schema.equals(batch.schema, check_metadata=True):
        return batch
    return pa.RecordBatch.from_arrays([_canonical_array(column) for column in batch.columns], schema=schema)


def print_type(kind: pa.DataType) -> str:
    """A canonical type as text that `parse_type` reads back, the same for every pyarrow."""
    if pa.types.is_map(kind):
        return f"map<{print_type(kind.key_type)}, {print_type(kind.item_type)}>"
    if pa.types.is_list(kind):
        return f"list<item: {print_type(kind.value_type)}>"
    if pa.types.is_fixed_size_list(kind):
        return f"fixed_size_list<item: {print_type(kind.value_type)}>[{kind.list_size}]"
    if pa.types.is_struct(kind):
        return f"struct<{', '.join(f'{_print_name(item.name)}: {print_type(item.type)}' for item in kind)}>"
    return str(kind)


def parse_type(text: str) -> pa.DataType:
    """The type that `print_type` wrote.

    Raises:
        ValueError: it is no such text.
    """
    tokens = []
    position = 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise ValueError(f"no column type: {text!r}")
        tokens.append(found.group().strip())
        position = found.end()
    reader = _TypeReader(tokens, text)
    kind = reader.type()
    if reader.tokens:
        raise ValueError(f"no column type: {text!r}")
    return kind


def _print_name(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else json.dumps(name)


class _TypeReader:
    """Recursive descent over the tokens of one type."""

    def __init__(self, tokens: list[str], text: str) -> None:
        self.tokens = tokens
        self.text = text

    def type(self) -> pa.DataType:
        word = self.take()
        if word in ("list", "fixed_size_list"):
            self.take("<"), self.take("item"), self.take(":")
            item = self.type()
            self.take(">")
            return pa.list_(item) if word == "list" else pa.list_(item, int(self.take()[1:-1]))
        if word == "map":
            self.take("<")
            key = self.type()
            self.take(",")
            item = self.type()
            self.take(">")
            return pa.map_(key, item)
        if word == "struct":
            return self.struct()
        suffix = self.take() if self.tokens and self.tokens[0][0] in "[(" else ""
        return self.leaf(word, suffix)

    def struct(self) -> pa.DataType:
        fields: list[Any] = []
        self.take("<")
        while self.tokens and self.tokens[0] != ">":
            if fields:
                self.take(",")
            name = self.take()
            self.take(":")
            fields.append(pa.field(json.loads(name) if name.startswith('"') else name, self.type()))
        self.take(">")
        return pa.struct(fields)

    def leaf(self, word: str, suffix: str) -> pa.DataType:
        if word + suffix in _SIMPLE:
            return _SIMPLE[word + suffix]
        arguments = suffix[1:-1].split(", ")
        if word == "timestamp":
            return pa.timestamp(arguments[0], arguments[1].removeprefix("tz=") if len(arguments) > 1 else None)
        if word == "duration":
            return pa.duration(arguments[0])
        if word == "fixed_size_binary":
            return pa.binary(int(arguments[0]))
        if word in _DECIMALS:
            return _DECIMALS[word](int(arguments[0]), int(arguments[1]))
        raise ValueError(f"no column type: {self.text!r}")

    def take(self, wanted: str | None = None) -> str:
        if not self.tokens or (wanted is not None and self.tokens[0] != wanted):
            raise ValueError(f"no column type: {self.text!r}")
        return self.tokens.pop(0)


def _canonical_type(kind: pa.DataType) -> pa.DataType:  # noqa: PLR0911  # one return a kind of type
    if isinstance(kind, pa.FixedShapeTensorType):
        return _tensor_type(kind)
    if isinstance(kind, pa.BaseExtensionType):
        return _canonical_type(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _canonical_type(kind.value_type)
    if pa.types.is_map(kind):
        return pa.map_(_canonical_type(kind.key_type), _canonical_type(kind.item_type))
    if pa.types.is_fixed_size_list(kind):
        if kind.list_size == 0:
            raise TypeError("a fixed-size list of size 0 is not supported")
        return pa.list_(_canonical_type(kind.value_type), kind.list_size)
    if _is_list(kind):
        return pa.list_(_canonical_type(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(item.name, _canonical_type(item.type)) for item in kind])
    kind = _UNENCODED.get(kind, kind)
    try:
        parse_type(str(kind))
    except (ValueError, IndexError):
        raise TypeError(f"type {kind} is not supported") from None
    return kind


def _tensor_type(kind: pa.FixedShapeTensorType) -> pa.DataType:
    if kind.permutation not in (None, list(range(len(kind.shape)))):
        raise TypeError("a tensor with permuted dimensions is not supported; store it in its logical layout")
    nested = _canonical_type(kind.value_type)
    for size in reversed(kind.shape):
        nested = pa.list_(nested, size)
    return nested


def _is_list(kind: pa.DataType) -> bool:
    plain = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return bool(plain or pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind))


def _canonical_array(array: pa.Array) -> pa.Array:  # noqa: PLR0911  # one return a kind of type
    kind = array.type
    target = _canonical_type(kind)
    if kind == target:
        return array
    if isinstance(kind, pa.BaseExtensionType):
        storage = _canonical_array(array.storage)
        return storage if storage.type == target else _reshape(storage, target)
    if pa.types.is_dictionary(kind):
        return _canonical_array(array.dictionary_decode())
    if pa.types.is_run_end_encoded(kind):
        return _canonical_array(pc.run_end_decode(array))
    if pa.types.is_map(kind):
        return _canonical_map(array, target)
    if pa.types.is_fixed_size_list(kind):
        first = array.offset * kind.list_size
        values = _canonical_array(array.values.slice(first, len(array) * kind.list_size))
        return pa.FixedSizeListArray.from_arrays(values, type=target, mask=_mask(array))
    if _is_list(kind):
        return _canonical_list(array, target)
    if pa.types.is_struct(kind):
        children = [_canonical_array(array.field(number)) for number in range(kind.num_fields)]
        return pa.StructArray.from_arrays(children, fields=list(target), mask=_mask(array))
    return array.cast(target)


def _reshape(storage: pa.FixedSizeListArray, target: pa.DataType) -> pa.Array:
    """A flat fixed-size list as nested ones of the same number of elements."""
    sizes = []
    inner = target
    while pa.types.is_fixed_size_list(inner) and inner != storage.type.value_type:
        sizes.append(inner.list_size)
        inner = inner.value_type
    values = storage.values.slice(storage.offset * storage.type.list_size, len(storage) * storage.type.list_size)
    for size in reversed(sizes[1:]):
        values = pa.FixedSizeListArray.from_arrays(values, size)
    return pa.FixedSizeListArray.from_arrays(values, type=target, mask=_mask(storage))


def _canonical_list(array: pa.Array, target: pa.DataType) -> pa.Array:
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    values = _canonical_array(array.flatten())
    return pa.ListArray.from_arrays(_offsets(lengths), values, type=target, mask=_mask(array))


def _canonical_map(array: pa.MapArray, target: pa.DataType) -> pa.Array:
    bounds = array.offsets.to_numpy()
    keys, items = (part.slice(bounds[0], bounds[-1] - bounds[0]) for part in (array.keys, array.items))
    offsets = pa.array(bounds - bounds[0], pa.int32())
    return pa.MapArray.from_arrays(
        offsets, _canonical_array(keys), _canonical_array(items), type=target, mask=_mask(array)
    )


def _offsets(lengths: np.ndarray[Any, Any]) -> pa.Array:
    ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    if ends[-1] > np.iinfo(np.int32).max:
        raise ValueError("a batch holds more than 2**31 list items; cut it into smaller batches")
    return pa.array(ends.astype(np.int32))


def _mask(array: pa.Array) -> pa.Array | None:
    return array.is_null() if array.null_count else None

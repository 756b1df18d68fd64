"""Owns what Croissant calls the columns of a version: the field that reads back as the same type. Reads no value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from coralord_lightning.errors import UsageError
from coralord_lightning.spec.columns import parse_type
from coralord_lightning.spec.description import FieldDescription
from coralord_lightning.spec.infer_names import Names, slug
from coralord_lightning.spec.manifest import Column

__all__ = ["BYTES", "FieldWriter", "require_columns"]

Json = Any

BYTES = "cl:Bytes"
"""Bytes that are no picture and no sound: Croissant has no word for them, mlcroissant passes them through as text."""
_TYPES: Mapping[pa.DataType, str] = {
    pa.bool_(): "sc:Boolean",
    pa.int8(): "cr:Int8", pa.int16(): "cr:Int16", pa.int32(): "cr:Int32", pa.int64(): "cr:Int64",
    pa.uint8(): "cr:UInt8", pa.uint16(): "cr:UInt16", pa.uint32(): "cr:UInt32", pa.uint64(): "cr:UInt64",
    pa.float16(): "cr:Float16", pa.float32(): "cr:Float32", pa.float64(): "cr:Float64",
    pa.string(): "sc:Text", pa.date32(): "sc:Date", pa.time64("us"): "sc:Time", pa.time64("ns"): "sc:Time",
    pa.timestamp("us"): "sc:DateTime", pa.timestamp("ns"): "sc:DateTime",
}  # fmt: skip
_MEDIA = {"image": "sc:ImageObject", "audio": "sc:AudioObject", "video": "sc:VideoObject"}
_INSTEAD: tuple[tuple[str, str], ...] = (
    (r"timestamp\[.*tz=", "timestamp in UTC without a zone: column.cast(pa.timestamp('us', 'UTC')).cast('int64')"),
    (r"timestamp\[", "timestamp of microseconds: column.cast(pa.timestamp('us'))"),
    (r"date64", "date32: column.cast(pa.date32())"),
    (r"time32", "time of microseconds: column.cast(pa.time64('us'))"),
    (r"duration", "int64: column.cast(pa.int64())"),
    (r"decimal", "text, exactly: column.cast(pa.string()); or float64"),
    (r"fixed_size_binary", "binary: column.cast(pa.binary())"),
    (r"map<", "a list of structs"),
    (r"month_day_nano", "a struct of three integers"),
    (r"null", "a type of its own: column.cast(pa.string())"),
)


def require_columns(columns: Iterable[Column]) -> None:
    """Refuse columns that would not read back as they are.

    Raises:
        UsageError: a field has a type that Croissant cannot say, or a name that no field can have; names all of them.
    """
    problems = {column.name: found for column in columns if (found := _problem(column)) is not None}
    if not problems:
        return
    name, (_, remedy) = next(iter(problems.items()))
    raise UsageError(
        name,
        "cannot be said in Croissant so that it reads back the same",
        facts={item: why for item, (why, _) in problems.items()},
        remedy=f"return '{name}' from the pipeline as {remedy}; or coral export hf FP DIR",
    )


def _problem(column: Column) -> tuple[str, str] | None:
    if not column.name or column.name != (column.name.rpartition("/")[2]) or re.search(r"[\n\r\t]", column.name):
        return "a name with / or a line end", "one without / in its name"
    shape, kind = _dimensions(parse_type(column.type))
    if pa.types.is_struct(kind) and any(size != -1 for size in (*column.shape, *shape)):
        return "structs in lists of a fixed size", "lists of any size"
    return _problem_of(kind)


def _problem_of(kind: pa.DataType) -> tuple[str, str] | None:
    if pa.types.is_struct(kind):
        if not kind.num_fields:
            return "a struct without fields", "a struct with a field"
        inside = [_problem(Column(name=item.name, type=_spelled(item.type))) for item in kind]
        return next((found for found in inside if found is not None), None)
    if kind in _TYPES or kind == pa.binary():
        return None
    return str(kind), next((what for pattern, what in _INSTEAD if re.match(pattern, str(kind))), "another type")


def _spelled(kind: pa.DataType) -> str:
    from coralord_lightning.spec.columns import print_type

    return print_type(kind)


@dataclass(slots=True, kw_only=True)
class FieldWriter:
    """Writes the fields of one record set.

    Args:
        record_set: its @id.
        source: the file set that all of them are columns of.
        said: what the parent's Croissant says of a field, by its name.
        references: field -> @id of the field of an Enumeration that its values are keys of.
    """

    record_set: str
    source: Mapping[str, Json]
    said: Mapping[str, FieldDescription] = field(default_factory=dict)
    references: Mapping[str, str] = field(default_factory=dict)
    names: Names = field(default_factory=Names)

    def node(self, column: Column) -> dict[str, Json]:
        """The field of a column.

        Raises:
            UsageError: Croissant cannot say its type.
        """
        require_columns([column])
        said = self.said.get(column.name)
        kind = parse_type(column.type)
        for size in reversed(column.shape):
            kind = pa.list_(kind, size)
        node = self._node(kind, self.record_set, (column.name,), None if said is None else said.media)
        if said is not None and said.text:
            node["description"] = said.text
        if column.name in self.references:
            node["references"] = {"field": {"@id": self.references[column.name]}}
        return node

    def _node(self, kind: pa.DataType, parent: str, path: tuple[str, ...], media: str | None) -> dict[str, Json]:
        column, *steps = path
        name = path[-1]
        identity = self.names.unique(f"{parent}/{slug(name)}")
        out: dict[str, Json] = {"@type": "cr:Field", "@id": identity, "name": f"{parent}/{name}"}
        shape, element = _dimensions(kind)
        if shape:
            out |= {"isArray": True, "arrayShape": ",".join(map(str, shape))}
        if pa.types.is_struct(element):
            out["subField"] = [self._node(item.type, identity, (*path, item.name), None) for item in element]
            return out
        out["dataType"] = _data_type(element, None if shape else media)
        source: dict[str, Json] = {**self.source, "extract": {"column": column}}
        if steps:
            transforms = [{"jsonPath": step} for step in steps]
            source["transform"] = transforms[0] if len(transforms) == 1 else transforms
        return out | {"source": source}


def _dimensions(kind: pa.DataType) -> tuple[tuple[int, ...], pa.DataType]:
    shape: list[int] = []
    while pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        shape.append(kind.list_size if pa.types.is_fixed_size_list(kind) else -1)
        kind = kind.value_type
    return tuple(shape), kind


def _data_type(kind: pa.DataType, media: str | None) -> Json:
    if kind != pa.binary():
        return _TYPES[kind]
    return ["sc:Text", BYTES] if media is None else _MEDIA[media]

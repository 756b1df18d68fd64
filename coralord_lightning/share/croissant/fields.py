"""Owns what Croissant calls the columns of a version: the field that reads back as the same type. Reads no value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from coralord_lightning.errors import UsageError
from coralord_lightning.share.croissant.instead import (
    DATA_TYPES,
    dimensions,
    expression,
    has_name_with,
    is_too_deep,
    sayable,
)
from coralord_lightning.spec.columns import arrow_schema
from coralord_lightning.spec.description import FieldDescription
from coralord_lightning.spec.infer_names import Names, slug
from coralord_lightning.spec.manifest import Column

__all__ = ["BYTES", "FieldWriter", "require_columns"]

Json = Any

BYTES = "cl:Bytes"
"""Bytes that are no picture and no sound: Croissant has no word for them, mlcroissant passes them through as text."""
_NO_NAME = re.compile(r"[/\n\r\t]")
_NO_STEP = re.compile(r"[/\n\r\t\"\\]")
"""What no name in a struct has: a JSON path could not say it to every reader."""
_MEDIA = {"image": "sc:ImageObject", "audio": "sc:AudioObject", "video": "sc:VideoObject"}


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
        "cannot be said in Croissant so that it reads back the same, here and in mlcroissant",
        facts={item: why for item, (why, _) in problems.items()},
        remedy=f"{remedy}     # what the pipeline returns for it; or coral export hf FP DIR",
    )


def _problem(column: Column) -> tuple[str, str] | None:
    """What is wrong with a column, and the Python of another one."""
    name, kind = column.name, arrow_schema([column])[0].type
    if not name or _NO_NAME.search(name):
        plain = re.sub(r"[^\w.-]", "_", name) or "unnamed"
        return "a name with / or a line end, or none", f"batch.rename_columns({{{name!r}: {plain!r}}})[{plain!r}]"
    instead = sayable(kind)
    if instead is None:
        return f"{kind}: a struct without fields", f"batch.drop_columns([{name!r}])"
    nested = is_too_deep(instead)
    if nested or has_name_with(_NO_STEP, instead):
        rows = f"None if row is None else json.dumps(row, default=str) for row in batch[{name!r}].to_pylist()"
        what = "a struct in a struct, or in lists of lists" if nested else "a name in it that is no name in a path"
        return f"{kind}: {what}", f"pa.array([{rows}], pa.string())"
    if instead == kind:
        return None
    if "month_day_nano" in str(kind):
        return str(kind), f"pa.array(batch[{name!r}].to_pylist(), {expression(instead)})"
    return str(kind), f"batch[{name!r}].cast({expression(instead)})"


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
        """The field of a column that `require_columns` has let through."""
        said = self.said.get(column.name)
        node = self._node(
            arrow_schema([column])[0].type, self.record_set, (column.name,), None if said is None else said.media
        )
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
        shape, element = dimensions(kind)
        if shape:
            out |= {"isArray": True, "arrayShape": ",".join(map(str, shape))}
        if pa.types.is_struct(element):
            out["subField"] = [self._node(item.type, identity, (*path, item.name), None) for item in element]
            return out
        out["dataType"] = _data_type(element, None if shape else media)
        source: dict[str, Json] = {**self.source, "extract": {"column": column}}
        if steps:
            transforms = [{"jsonPath": f'$["{step}"]'} for step in steps]
            source["transform"] = transforms[0] if len(transforms) == 1 else transforms
        return out | {"source": source}


def _data_type(kind: pa.DataType, media: str | None) -> Json:
    if kind != pa.binary():
        return DATA_TYPES[kind]
    return ["sc:Text", BYTES] if media is None else _MEDIA[media]

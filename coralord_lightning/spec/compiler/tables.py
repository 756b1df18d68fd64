"""The tables that a record set reads and how they are joined. Pure; opens no file.

A table is one FileObject, one FileSet, or one record set's inline rows. The rows of a record set are those of its
root table; others are joined to it by `references`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from coralord_lightning.errors import CroissantSyntaxError
from coralord_lightning.spec.croissant import CroissantDataset, Field, RecordSet, Reference, Source
from coralord_lightning.spec.croissant.files import CONTAINERS, format_of_name
from coralord_lightning.spec.json_path import common_row_path
from coralord_lightning.spec.selection import (
    ContainerFormat,
    Distribution,
    FieldKind,
    FileFormat,
    FileObject,
    FileSet,
    InlineData,
    Reading,
    Transform,
)

__all__ = ["Edge", "Leaf", "Tables", "row_format"]

_MAX_CHAIN = 32
_INLINE = "#"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """Where a field's values come from in the end.

    Args:
        table: @id of a file, `#` and @id of a record set with inline rows, or "" for a constant.
        field: the field that says what they are, over whatever other fields it was reached.
    """

    table: str
    kind: FieldKind
    column: str
    transforms: tuple[Transform, ...] = ()
    field: Field


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A reference: values of `left` are keys of `right`.

    Args:
        is_key: `right` is declared to be the one key of its record set: at most one row matches.
        nested: name of the field that holds the matching rows as a list; "" where rows are joined.
    """

    left: Leaf
    right: Leaf
    is_key: bool = False
    nested: str = ""


class Tables:
    """The tables of one record set.

    Raises:
        CroissantSyntaxError: a source leads in a circle, or tables are not joined; names the node.
    """

    def __init__(self, dataset: CroissantDataset, record_set: RecordSet) -> None:
        self._dataset = dataset
        self._record_set = record_set
        self._owners: Mapping[str, tuple[RecordSet, Field]] = {
            field.id: (owner, field) for owner in dataset.record_sets for field in _all_fields(owner.fields)
        }

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """The record set's fields; what they do not say themselves is said by the fields that they come from."""
        return tuple(self._filled(field) for field in self._record_set.fields)

    @cached_property
    def root(self) -> str:
        """The table whose rows are the record set's."""
        if self._record_set.data is not None:
            return _INLINE + self._record_set.id
        used = self._used
        inner = {edge.right.table for edge in self._edges if edge.left.table in used}
        roots = [table for table in used if table not in inner] or list(used)[:1]
        return roots[0] if roots else ""

    @cached_property
    def joins(self) -> tuple[Edge, ...]:
        """The references by which other tables are joined, each table once, those before it first.

        Raises:
            CroissantSyntaxError: a table is used and cannot be reached.
        """
        reached = self._reach(self._edges)
        if any(table not in reached for table in self._used):  # by way of a table that no field here comes from
            reached = self._reach((*self._edges, *self._edges_of(self._dataset.record_sets)))
        missing = [table for table in self._used if table not in reached]
        if missing:
            raise self._not_joined([self.root, *missing])
        needed: set[str] = set()
        for table in self._used:
            here = table
            while (way := reached[here]) is not None and here not in needed:
                needed.add(here)
                here = way.left.table
        return (*(edge for table, edge in reached.items() if edge is not None and table in needed), *self._nested)

    def _reach(self, edges: Iterable[Edge]) -> dict[str, Edge | None]:
        """The tables that references lead to from the root, nearest first, each with the reference that reaches it."""
        edges = tuple(edges)
        reached: dict[str, Edge | None] = {self.root: None}
        waiting = [self.root]
        while waiting:
            here = waiting.pop(0)
            for edge in edges:
                if edge.left.table == here and edge.right.table not in reached:
                    reached[edge.right.table] = edge
                    waiting.append(edge.right.table)
        return reached

    def leaf(self, field: Field) -> Leaf:
        """Where a field without subfields comes from."""
        return self._leaf(field, self._owner(field))

    def distribution(self, table: str) -> Distribution:
        """What a table's files are; inline rows whole."""
        if table.startswith(_INLINE):
            owner = next(item for item in self._dataset.record_sets if item.id == table[1:])
            return owner.data or InlineData(rows=())
        value = self._dataset.files[table].value
        if value is None:
            raise AssertionError(table)  # select() has refused unsupported files
        return replace(value, format=row_format(value)) if self.reading(table).mode == "rows" else value

    def reading(self, table: str) -> Reading:
        """What is one row of a table: all fields of the record set decide it, so that selecting some keeps rows."""
        leaves = [leaf for leaf in self._leaves if leaf.table == table]
        if table.startswith(_INLINE):
            return Reading()
        if any(leaf.kind in ("column", "json_path") for leaf in leaves):
            return Reading(mode="rows", row_path=self._row_path(table, leaves))
        if any(leaf.column in ("lines", "lineNumbers") for leaf in leaves):
            return Reading(mode="lines")
        return Reading(mode="files")

    def _row_path(self, table: str, leaves: Iterable[Leaf]) -> str | None:
        value = self._dataset.files[table].value
        if value is None or row_format(value) != "json":
            return None
        paths = [leaf.column for leaf in leaves if leaf.kind == "json_path"]
        return common_row_path(paths) if paths else "$[*]"

    @cached_property
    def _leaves(self) -> tuple[Leaf, ...]:
        """Every leaf that decides how tables are read: of the fields, and of the keys they are joined by."""
        own = [self._leaf(field, self._owner(field)) for field in _ends(self.fields)]
        keys = [leaf for edge in (*self._edges, *self._nested) for leaf in (edge.left, edge.right)]
        return (*own, *keys)

    @cached_property
    def _used(self) -> dict[str, None]:
        """Tables that fields draw from, in their order; those of nested record sets apart."""
        plain = [field for field in self.fields if field.parent is None]
        tables = [self._leaf(field, self._owner(field)).table for field in _ends(plain)]
        return dict.fromkeys(table for table in tables if table)

    @cached_property
    def _edges(self) -> tuple[Edge, ...]:
        owners = {self._record_set.id: self._record_set}
        for field in _ends(self.fields):
            for owner in self._chain(field):
                owners.setdefault(owner.id, owner)
        return self._edges_of(owners.values())

    def _edges_of(self, owners: Iterable[RecordSet]) -> tuple[Edge, ...]:
        found = [
            edge
            for owner in owners
            for field in _all_fields(owner.fields)
            if not field.children and not field.unsupported and (field.source is not None or owner.data is not None)
            for edge in self._references(field, owner)
        ]
        return tuple(edge for edge in found if edge.left.table != edge.right.table)

    @cached_property
    def _nested(self) -> tuple[Edge, ...]:
        return tuple(
            Edge(left=edge.right, right=self._leaf(field.parent, self._record_set), nested=field.name)
            for field in self.fields
            if field.parent is not None and not field.unsupported
            for edge in self._references(field.parent, self._record_set)
        )

    def _references(self, field: Field, owner: RecordSet) -> Iterator[Edge]:
        for reference in field.references:
            target = self._target(reference, owner)
            if target is not None:
                right, is_key = target
                yield Edge(left=self._leaf(field, owner), right=right, is_key=is_key)

    def _target(self, reference: Reference, owner: RecordSet) -> tuple[Leaf, bool] | None:
        if reference.field is not None:
            other, field = self._owners[reference.field]
            if field.children or field.unsupported:
                return None
            return self._leaf(field, other), other.is_enumeration or other.key == (field.name,)
        if reference.source is None:
            return None
        place = Field(id=owner.id, name="references", source=reference.source, dtype="text")
        return self._leaf(place, owner), False

    def _leaf(self, field: Field, owner: RecordSet, depth: int = 0) -> Leaf:
        if field.value is not None:
            return Leaf(table="", kind="constant", column="", field=field)
        source = field.source
        if source is None:
            return Leaf(table=_INLINE + owner.id, kind="column", column=field.name, field=field)
        if source.file is not None:
            return Leaf(
                table=source.file, kind=source.kind, column=source.column, transforms=source.transforms, field=field
            )
        other, inner = self._next(source, field, depth)
        found = self._leaf(inner, other, depth + 1)
        return replace(found, transforms=(*found.transforms, *source.transforms), field=_inherit(field, found.field))

    def _next(self, source: Source, field: Field, depth: int) -> tuple[RecordSet, Field]:
        if depth > _MAX_CHAIN:
            raise CroissantSyntaxError(
                f"field {field.id}",
                "comes from itself",
                facts={"at": self._dataset.origin},
                remedy="name a file in its source",
            )
        return self._owners[source.field or ""]

    def _chain(self, field: Field) -> Iterator[RecordSet]:
        for _ in range(_MAX_CHAIN):
            if field.source is None or field.source.field is None:
                return
            owner, field = self._owners[field.source.field]
            yield owner

    def _owner(self, field: Field) -> RecordSet:
        return self._owners[field.id][0] if field.id in self._owners else self._record_set

    def _filled(self, field: Field) -> Field:
        if field.children:
            return replace(field, children=tuple(self._filled(child) for child in field.children))
        if field.source is None or field.source.field is None:
            return field
        _, inner = self._owners[field.source.field]
        if inner.children:  # a whole structure of another record set
            return replace(inner, id=field.id, name=field.name)
        return _inherit(field, self._leaf(field, self._record_set).field)

    def _not_joined(self, tables: list[str]) -> CroissantSyntaxError:
        names = ", ".join(table.removeprefix(_INLINE) for table in tables)
        return CroissantSyntaxError(
            f"record set {self._record_set.id}",
            "has fields from several files and does not say how these are joined",
            facts={"in": self._dataset.origin, "files": names},
            remedy='give a key field of one `"references": {"field": {"@id": "…"}}`, the key field of the other',
        )


def row_format(value: FileObject | FileSet) -> FileFormat | ContainerFormat:
    """The format that a file's rows are read as: of one that is only said to be compressed, what its name says."""
    if value.format != "gzip":
        return value.format
    name = value.content_url if isinstance(value, FileObject) else next(iter(value.includes), "")
    inner = format_of_name(name)
    return inner if inner not in CONTAINERS else "any"


def _inherit(field: Field, inner: Field) -> Field:
    """The field, with what only the other one says of type and shape."""
    return replace(
        field,
        dtype=field.dtype or inner.dtype,
        shape=field.shape or inner.shape,
        media=field.media or inner.media,
        unsupported=(*field.unsupported, *inner.unsupported) if field is not inner else field.unsupported,
    )


def _all_fields(fields: Iterable[Field]) -> Iterator[Field]:
    for field in fields:
        yield field
        yield from _all_fields(field.children)


def _ends(fields: Iterable[Field]) -> Iterator[Field]:
    """Fields without subfields, at any depth, that can be read."""
    return (field for field in _all_fields(fields) if not field.children and not field.unsupported)

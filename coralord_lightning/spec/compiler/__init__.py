"""Descriptor and Croissant to a selection: every name resolved, every rule checked. Opens no data file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from coralord_lightning.errors import (
    CroissantSyntaxError,
    DescriptorValueError,
    UnknownRecordSetError,
    nearest,
)
from coralord_lightning.spec.compiler.scope import Scope
from coralord_lightning.spec.compiler.splits import compile_splits
from coralord_lightning.spec.compiler.tables import Edge
from coralord_lightning.spec.croissant import CroissantDataset, RecordSet
from coralord_lightning.spec.descriptor import SubsetDescriptor
from coralord_lightning.spec.selection import Distribution, InlineData, Join, OrderKey, SelectedField, Selection

__all__ = ["compile_selection"]


def compile_selection(descriptor: SubsetDescriptor, dataset: CroissantDataset) -> Selection:
    """What a descriptor selects of a dataset.

    Raises:
        UnknownRecordSetError, UnknownFieldError: a name is not there; with suggestions.
        PredicateError, SplitError: a condition or a split cannot be used.
        UnsupportedCroissantError: the selection reaches something of Croissant that we do not read.
    """
    scope = Scope(descriptor, dataset, _record_set(descriptor, dataset))
    fields = tuple(scope.select(name, key) for name, key in _wanted(scope))
    where = scope.predicate(descriptor.where, "where")
    order_by = tuple(_order_key(scope, index, text) for index, text in enumerate(descriptor.order_by))
    splits, split_key = compile_splits(scope)
    shown = {item.name for item in fields}
    helpers = tuple(item for name, item in sorted(scope.reached.items()) if name not in shown)
    joins = _joins(scope)
    return Selection(
        record_set=scope.record_set.id,
        distribution=_root(scope),
        reading=scope.tables.reading(scope.tables.root),
        joins=joins,
        fields=fields,
        helpers=helpers,
        where=where,
        order_by=order_by,
        limit=descriptor.limit,
        splits=splits,
        split_key=split_key,
    )


def _record_set(descriptor: SubsetDescriptor, dataset: CroissantDataset) -> RecordSet:
    wanted, known = descriptor.record_set, dataset.record_sets
    found = [item for item in known if item.id == wanted]
    found = found or [item for item in known if wanted in (None, item.name)]
    if wanted is None and len(found) > 1:  # rows that stand in the Croissant file are mostly lists of splits or classes
        found = [item for item in found if item.data is None] or found
    if len(found) == 1:
        return found[0]
    names = [item.id for item in known]
    if not known:
        raise CroissantSyntaxError(
            dataset.origin, "has no record set", remedy='add a "recordSet" that says which columns the files have'
        )
    guess = nearest(wanted, names) if wanted is not None else names[0]
    message = f"unknown record set {wanted!r}" if not found else f"{len(found)} record sets could be meant"
    raise UnknownRecordSetError(
        "record_set",
        message,
        facts={"at": descriptor.key_line("record_set"), "record sets": ", ".join(names), "in": dataset.origin},
        remedy=f"record_set: {guess or names[0]}",
    )


def _wanted(scope: Scope) -> list[tuple[str, str]]:
    """The names of the fields handed out, in their order, each with the key that asks for it."""
    choice = scope.descriptor.fields
    if choice is None:
        return [(name, "fields") for name in scope.names]
    asked = [
        (name, f"fields.{index}" if choice.ordered else f"fields.{name}") for index, name in enumerate(choice.names)
    ]
    if choice.ordered:
        return asked
    for name, key in asked:
        scope.find(name, key)
    ids = {scope.find(name, key).id: (name, key) for name, key in asked}
    return [ids[item.id] for item in scope.fields if item.id in ids]


def _order_key(scope: Scope, index: int, text: str) -> OrderKey:
    key = f"order_by.{index}"
    name, _, direction = text.rpartition(" ")
    if not name or direction.lower() not in ("asc", "desc"):
        name, direction = text, "asc"
    item = scope.select(name.strip(), key)
    if item.shape or item.dtype in ("bytes", "struct"):
        with scope.at(key):
            raise DescriptorValueError(
                key,
                f"field {item.name!r} has no order",
                facts={"got": text},
                remedy="order by a field of one value a row",
            )
    return OrderKey(field=item.name, descending=direction.lower() == "desc")


def _root(scope: Scope) -> Distribution:
    """The files, or the inline rows, that the rows of the record set are."""
    tables = scope.tables
    if not tables.root:
        raise CroissantSyntaxError(
            f"record set {scope.record_set.id}",
            "has no field that comes from a file, a record set or its own data, and so no rows",
            facts={"at": scope.dataset.origin},
            remedy='give its fields a "source", or the record set "data"',
        )
    return _used_part(scope, tables.root, "")


def _joins(scope: Scope) -> tuple[Join, ...]:
    """The joins whose rows are needed: of tables that something comes from, and of those that may multiply rows."""
    tables = scope.tables
    wanted = {item.table for field in scope.reached.values() for item in _leaves(field)}
    kept: list[Join] = []
    for edge in reversed(tables.joins):
        alias = scope.aliases[f"{edge.nested}/" if edge.nested else edge.right.table]
        if alias not in wanted and (edge.is_key or edge.nested):
            continue
        left, right = _keys(scope, edge, alias)
        wanted.add(left.table)
        kept.append(
            Join(
                alias=alias,
                distribution=_used_part(scope, edge.right.table, alias, right.column),
                reading=tables.reading(edge.right.table),
                on=(left, right),
                nested=bool(edge.nested),
            )
        )
    return tuple(reversed(kept))


def _keys(scope: Scope, edge: Edge, alias: str) -> tuple[SelectedField, SelectedField]:
    """The two keys of a join; as texts where one is a text."""
    left, right = (scope.read(leaf, leaf.field) for leaf in (edge.left, edge.right))
    if left.dtype != right.dtype and "text" in (left.dtype, right.dtype):
        left, right = replace(left, dtype="text"), replace(right, dtype="text")
    return left, replace(right, table=alias)


def _leaves(item: SelectedField) -> Iterator[SelectedField]:
    yield item
    for child in item.children:
        yield from _leaves(child)


def _used_part(scope: Scope, table: str, alias: str, *keys: str) -> Distribution:
    """A table's files; of inline rows the used columns only: an edit of another column is no change."""
    found = scope.tables.distribution(table)
    if not isinstance(found, InlineData):
        return found
    reached = [item for field in scope.reached.values() for item in _leaves(field)]
    left = [edge.left.column for edge in scope.tables.joins if edge.left.table == table]
    columns = {*keys, *left, *(item.column for item in reached if item.table == alias and item.kind == "column")}
    columns |= {field.name for field in scope.fields if field.children and table == f"#{scope.record_set.id}"}
    return InlineData(rows=tuple({name: row[name] for name in row if name in columns} for row in found.rows))

"""Descriptor and Croissant to a selection: every name resolved, every rule checked. Opens no data file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from coralord_lightning.errors import (
    CroissantSyntaxError,
    DescriptorValueError,
    UnknownRecordSetError,
    UnsupportedCroissantError,
    nearest,
)
from coralord_lightning.spec.compiler.scope import Scope
from coralord_lightning.spec.compiler.splits import compile_splits
from coralord_lightning.spec.croissant import CroissantDataset, Field, RecordSet
from coralord_lightning.spec.descriptor import SubsetDescriptor
from coralord_lightning.spec.selection import Distribution, InlineData, OrderKey, Selection

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
    return Selection(
        record_set=scope.record_set.id,
        distribution=_distribution(scope),
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
    return [ids[item.id] for item in scope.record_set.fields if item.id in ids]


def _order_key(scope: Scope, index: int, text: str) -> OrderKey:
    key = f"order_by.{index}"
    name, _, direction = text.rpartition(" ")
    if not name or direction.lower() not in ("asc", "desc"):
        name, direction = text, "asc"
    item = scope.select(name.strip(), key)
    if item.shape or item.dtype == "bytes":
        with scope.at(key):
            raise DescriptorValueError(
                key,
                f"field {item.name!r} has no order",
                facts={"got": text},
                remedy="order by a field of one value a row",
            )
    return OrderKey(field=item.name, descending=direction.lower() == "desc")


def _distribution(scope: Scope) -> Distribution:
    """The one file, file set or inline table that everything reached comes from."""
    used = [item for item in scope.record_set.fields if item.name in scope.reached]
    sources = Counter(item.file for item in used)
    if len(sources) > 1:
        common = sources.most_common(1)[0][0]
        names = [item.name for item in used if item.file == common]
        raise UnsupportedCroissantError(
            f"record set {scope.record_set.id}",
            "has fields from several files, which would have to be joined; this release reads one",
            facts={
                "at": scope.descriptor.key_line("fields"),
                "files": ", ".join(sorted(str(name or "data") for name in sources)),
            },
            remedy=f"fields: [{', '.join(names)}]",
        )
    file = next(iter(sources), None)
    if file is None:
        return _inline(scope.record_set, used)
    value = scope.dataset.files[file].value
    if value is None:
        raise AssertionError(file)  # select() has refused unsupported files
    return value


def _inline(record_set: RecordSet, used: Iterable[Field]) -> InlineData:
    """Inline rows with the used columns only: an edit of another column is no change."""
    columns = [item.column for item in used]
    rows = record_set.data.rows if record_set.data is not None else ()
    return InlineData(rows=tuple({name: row[name] for name in columns if name in row} for row in rows))

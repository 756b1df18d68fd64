"""Where the names of a descriptor are looked up: one record set, and what of it has been reached. Opens no file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property

from coralord_lightning.errors import (
    CoralError,
    DescriptorValueError,
    UnknownFieldError,
    UnsupportedCroissantError,
    nearest,
)
from coralord_lightning.spec.compiler.refinements import refined
from coralord_lightning.spec.compiler.tables import Leaf, Tables, row_format
from coralord_lightning.spec.croissant import CroissantDataset, Field, File, RecordSet
from coralord_lightning.spec.descriptor import SubsetDescriptor
from coralord_lightning.spec.predicate import Predicate, parse_predicate
from coralord_lightning.spec.selection import SelectedField

__all__ = ["Scope"]


@dataclass  # without slots: what is costly is kept
class Scope:
    """The record set that names of a descriptor are looked up in, and what they have reached so far."""

    descriptor: SubsetDescriptor
    dataset: CroissantDataset
    record_set: RecordSet
    reached: dict[str, SelectedField] = field(default_factory=dict)

    @cached_property
    def tables(self) -> Tables:
        """The tables that the record set reads."""
        return Tables(self.dataset, self.record_set)

    @property
    def fields(self) -> tuple[Field, ...]:
        """All its fields, with what other fields say of them."""
        return self.tables.fields

    @property
    def names(self) -> list[str]:
        """The names of all its fields, in the order of the Croissant file."""
        return [item.name for item in self.record_set.fields]

    @contextmanager
    def at(self, key: str) -> Iterator[None]:
        """Let every error inside say on which line of the descriptor the key stands."""
        try:
            yield
        except CoralError as error:
            error.facts = {"at": self.descriptor.key_line(key), **error.facts}
            raise

    def find(self, name: str, key: str) -> Field:
        """The field of that name, or @id.

        Raises:
            UnknownFieldError: there is none.
            DescriptorValueError: there are several.
        """
        found = [item for item in self.fields if name in (item.name, item.id)]
        if len(found) == 1:
            return found[0]
        with self.at(key):
            if not found:
                raise self._unknown(name, key)
            raise DescriptorValueError(
                key,
                f"{name!r} names {len(found)} fields of record set {self.record_set.id!r}",
                facts={"fields": ", ".join(item.id for item in found)},
                remedy="give the fields different names in the Croissant file",
            )

    def _unknown(self, name: str, key: str) -> CoralError:
        guess = nearest(name, self.names)
        leaf = key.partition(".")[0]
        listed = ", ".join(self.names)
        return UnknownFieldError(
            key,
            f"unknown field {name!r} in record set {self.record_set.id!r}",
            facts={"got": name, "fields": listed},
            remedy=f"{leaf}: {_corrected(self.descriptor, leaf, name, guess)}" if guess else f"use one of: {listed}",
        )

    def select(self, name: str, key: str) -> SelectedField:
        """The field of that name, as something that will be read.

        Raises:
            UnsupportedCroissantError: we do not read what it is.
        """
        found = self.find(name, key)
        if found.name in self.reached:
            return self.reached[found.name]
        if self.names.count(found.name) > 1:
            self.find(found.name, key)
        problems = self._problems(found)
        if problems:
            with self.at(key):
                raise self._unsupported(found, problems)
        with self.at(key):
            item = refined(self.descriptor, self.selected(found), found.id)
        self.reached[found.name] = item
        return item

    def selected(self, item: Field) -> SelectedField:
        """A field as it is read, whatever the descriptor says."""
        if item.children:
            children = tuple(self.selected(child) for child in item.children)
            table = self._nested_table(item) if item.parent is not None else self._one_table(item, children)
            shape = (-1,) if item.parent is not None else item.shape
            return SelectedField(
                name=item.name,
                column="",
                dtype="struct",
                shape=shape,
                children=_within(children, table) if item.parent is not None else children,
                table=table,
            )
        return self.read(self.tables.leaf(item), item)

    def _nested_table(self, item: Field) -> str:
        """The table whose rows are the list in a field.

        Raises:
            UnsupportedCroissantError: it is no field of the record set itself.
        """
        alias = self.aliases.get(f"{item.name}/")
        if alias is None:
            raise self._unsupported(item, ["a parentField further in than the record set's own fields"])
        return alias

    def _one_table(self, item: Field, children: Iterable[SelectedField]) -> str:
        """The table that all subfields come from.

        Raises:
            UnsupportedCroissantError: there are several.
        """
        tables = {child.table for child in children if child.kind != "constant"}
        if len(tables) > 1:
            raise self._unsupported(item, ["subfields from several files, joined"])
        return next(iter(tables), "")

    def read(self, leaf: Leaf, item: Field) -> SelectedField:
        """What a leaf gives, as a field."""
        constant = json.dumps(leaf.field.value[0]) if leaf.field.value is not None else None
        return SelectedField(
            name=item.name,
            column=leaf.column if constant is None else constant,
            dtype=item.dtype or "text",
            shape=item.shape,
            kind=leaf.kind,
            transforms=leaf.transforms,
            table=self.aliases.get(leaf.table, ""),
        )

    @cached_property
    def aliases(self) -> dict[str, str]:
        """What joined tables are called in a selection: by @id; a nested one by `field/`: it may be joined as well."""
        with self.at("record_set"):
            joins = self.tables.joins
        return {
            f"{edge.nested}/" if edge.nested else edge.right.table: f"t{number}"
            for number, edge in enumerate(joins, start=1)
        }

    def _problems(self, item: Field) -> list[str]:
        """Why a field cannot be read."""
        if item.unsupported:
            return list(item.unsupported)
        if item.children:
            return [reason for child in item.children for reason in self._problems(child)]
        leaf = self.tables.leaf(item)
        if not leaf.table or leaf.table.startswith("#"):
            return [] if item.dtype is not None else ["a data type"]
        file = self.dataset.files[leaf.table]
        if file.value is None:
            return list(file.unsupported)
        return _format_problems(leaf, file) or ([] if item.dtype is not None else ["a data type"])

    def _unsupported(self, item: Field, problems: list[str]) -> CoralError:
        readable = [other.name for other in self.fields if not self._problems(other)]
        return UnsupportedCroissantError(
            f"field {item.id}",
            "needs of Croissant what this release does not read",
            facts={"in": self.dataset.origin, "needs": "; ".join(dict.fromkeys(problems)) or "a data type"},
            remedy=f"fields: [{', '.join(readable)}]"
            if readable
            else "convert the data to Parquet and describe that: a FileObject with extract.column for every field",
        )

    def predicate(self, text: str | None, key: str) -> Predicate | None:
        """The predicate in a text, its fields reached; None for no text."""
        if text is None:
            return None
        with self.at(key):
            predicate = parse_predicate(text, subject=key, fields=self._dtypes)
        for name in sorted(predicate.fields()):
            self.select(name, key)
        return predicate

    @property
    def _dtypes(self) -> dict[str, str]:
        return {
            item.name: f"{item.dtype}[]" if item.shape or item.children else item.dtype or "unsupported"
            for item in self.fields
        }


def _within(children: Iterable[SelectedField], table: str) -> tuple[SelectedField, ...]:
    """Subfields of a nested record set: those of the joined table are of its own alias there."""
    if not table:
        return tuple(children)
    return tuple(
        replace(child, table=table, children=_within(child.children, table)) if child.kind != "constant" else child
        for child in children
    )


_ROWS = frozenset({"parquet", "csv", "tsv", "jsonl", "json", "arff"})
_PATHS = frozenset({"jsonl", "json"})


def _format_problems(leaf: Leaf, file: File) -> list[str]:
    format_ = row_format(file.value) if file.value is not None else "any"
    said = file.said or "left out"
    if leaf.kind == "column" and format_ not in _ROWS:
        return [f"columns of the encodingFormat {said} (Parquet, CSV, TSV, JSON, JSON lines and ARFF have columns)"]
    if leaf.kind == "json_path" and format_ not in _PATHS:
        return [f"a jsonPath into the encodingFormat {said} (JSON and JSON lines have paths)"]
    return []


def _corrected(descriptor: SubsetDescriptor, leaf: str, wrong: str, right: str) -> str:
    """The list that stands under a key, with one name put right."""
    choice = descriptor.fields
    lists = {
        "fields": choice.names if choice is not None else (),
        "order_by": descriptor.order_by,
        "split_key": descriptor.split_key,
    }
    names = [_replaced(item, wrong, right) for item in lists.get(leaf, (wrong,))]
    if leaf == "fields" and choice is not None and not choice.ordered:
        return "{" + ", ".join(f"{name}: {{}}" for name in names) + "}"
    return f"[{', '.join(names)}]"


def _replaced(item: str, wrong: str, right: str) -> str:
    return item.replace(wrong, right, 1) if item == wrong or item.startswith(wrong + " ") else item

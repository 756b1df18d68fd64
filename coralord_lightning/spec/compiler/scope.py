"""Where the names of a descriptor are looked up: one record set, and what of it has been reached. Opens no file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from coralord_lightning.errors import (
    CoralError,
    DescriptorValueError,
    UnknownFieldError,
    UnsupportedCroissantError,
    nearest,
)
from coralord_lightning.spec.croissant import CroissantDataset, Field, RecordSet
from coralord_lightning.spec.descriptor import SubsetDescriptor
from coralord_lightning.spec.predicate import Predicate, parse_predicate
from coralord_lightning.spec.selection import SelectedField

__all__ = ["Scope"]


@dataclass(slots=True)
class Scope:
    """The record set that names of a descriptor are looked up in, and what they have reached so far."""

    descriptor: SubsetDescriptor
    dataset: CroissantDataset
    record_set: RecordSet
    reached: dict[str, SelectedField] = field(default_factory=dict)

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
        found = [item for item in self.record_set.fields if name in (item.name, item.id)]
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
        problems = list(found.unsupported)
        if found.file is not None:
            problems += self.dataset.files[found.file].unsupported
        if problems or found.dtype is None:
            with self.at(key):
                raise self._unsupported(found, problems)
        item = SelectedField(name=found.name, column=found.column, dtype=found.dtype, shape=found.shape)
        self.reached[found.name] = item
        return item

    def _unsupported(self, item: Field, problems: list[str]) -> CoralError:
        def is_read(other: Field) -> bool:
            return not other.unsupported and (other.file is None or not self.dataset.files[other.file].unsupported)

        readable = [other.name for other in self.record_set.fields if is_read(other)]
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
            item.name: f"{item.dtype}[]" if item.shape else item.dtype or "unsupported"
            for item in self.record_set.fields
        }


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

"""The typed model of a Croissant dataset: what we read of it, and why we do not read the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from coralord_lightning.spec.selection import DType, FileObject, FileSet, InlineData

__all__ = ["CroissantDataset", "Field", "File", "RecordSet"]


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A FileObject or FileSet.

    Args:
        id: its @id.
        value: what can be read; None where something is unsupported.
        unsupported: what it needs of Croissant that we do not read; raised when a selection reaches it.
    """

    id: str
    value: FileObject | FileSet | None
    unsupported: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field of a record set.

    Args:
        id: its @id.
        name: the last part of its name: what it is called in batches and predicates.
        file: @id of the file it comes from; None for inline data.
        column: the column there, or the key in inline data.
        dtype: None where there is none that we read.
        shape: () for a scalar, -1 where a dimension is ragged.
        is_split: it says which split a row belongs to.
        references: @id of a field in another record set.
    """

    id: str
    name: str
    file: str | None
    column: str
    dtype: DType | None
    shape: tuple[int, ...] = ()
    is_split: bool = False
    references: str | None = None
    unsupported: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSet:
    """A record set.

    Args:
        key: names of the fields that identify a row; None where they cannot be told.
        data: rows that stand in the Croissant file itself, by field name.
    """

    id: str
    name: str
    fields: tuple[Field, ...]
    key: tuple[str, ...] | None = ()
    data: InlineData | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CroissantDataset:
    """A dataset.

    Args:
        origin: where it was read, for messages.
        files: by @id.
    """

    origin: str
    name: str
    files: Mapping[str, File]
    record_sets: tuple[RecordSet, ...]

"""The typed model of a Croissant dataset: what we read of it, and why we do not read the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from coralord_lightning.spec.selection import DType, FieldKind, FileObject, FileSet, InlineData, Transform

__all__ = ["CroissantDataset", "Field", "File", "Media", "RecordSet", "Reference", "Source"]

Media = Literal["image", "audio", "video"]


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A FileObject or FileSet.

    Args:
        id: its @id.
        value: what can be read; None where something is unsupported.
        unsupported: what it needs of Croissant that we do not read; raised when a selection reaches it.
        said: its encodingFormat as written, for messages.
    """

    id: str
    value: FileObject | FileSet | None
    unsupported: tuple[str, ...] = ()
    said: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where values come from (Croissant DataSource): a file, or another record set's field.

    Args:
        file: @id of a FileObject or FileSet; None where it is a field.
        field: @id of the field.
        column: the column, JSON path or file property by `kind`; "" for a field.
    """

    file: str | None = None
    field: str | None = None
    kind: FieldKind = "column"
    column: str = ""
    transforms: tuple[Transform, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What a field's values are keys of: a field of another record set, or a column of a file."""

    field: str | None = None
    source: Source | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field of a record set, or an annotation with a source.

    Args:
        id: its @id.
        name: the last part of its name: what it is called in batches and predicates.
        source: None for inline data, a constant, or a field that is made of subfields.
        value: (the constant,) that every row has.
        dtype: None where there is none that we read, and where it is taken from the field that `source` names.
        shape: () for a scalar, -1 where a dimension is ragged.
        media: what its bytes are.
        is_split: it says which split a row belongs to.
        children: its subfields.
        description, data_types: as they are said, types folded (`sc:Text`); carried, never interpreted further.
        parent: for nested record sets: the field of the rows inside that references a field of the row outside.
    """

    id: str
    name: str
    source: Source | None = None
    value: tuple[Any] | None = None
    dtype: DType | None = None
    shape: tuple[int, ...] = ()
    media: Media | None = None
    is_split: bool = False
    references: tuple[Reference, ...] = ()
    children: tuple[Field, ...] = ()
    parent: Field | None = None
    unsupported: tuple[str, ...] = ()
    description: str = ""
    data_types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSet:
    """A record set.

    Args:
        key: names of the fields that identify a row; None where they cannot be told.
        data: rows that stand in the Croissant file itself, by field name.
        is_enumeration: its rows are all values that fields referencing it can have.
    """

    id: str
    name: str
    fields: tuple[Field, ...]
    key: tuple[str, ...] | None = ()
    data: InlineData | None = None
    is_enumeration: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CroissantDataset:
    """A dataset.

    Args:
        origin: where it was read, for messages.
        files: by @id.
        metadata: what it says of itself beside files and records: licence, citation, RAI, provenance, usage; terms
            folded (`sc:license`, `rai:dataBiases`), values as written. Carried, never interpreted.
        is_live: its files change by themselves; a hash that is declared all the same is of a file that does not.
    """

    origin: str
    name: str
    files: Mapping[str, File]
    record_sets: tuple[RecordSet, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    is_live: bool = False

"""What a subset selects, compiled from descriptor and Croissant and not yet bound to files. Pure values.

`compile_selection` (in `spec/compiler.py`) makes it; `plan` pins it; `builder/extract` turns it into SQL.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from coralord_lightning.spec.predicate import Predicate

__all__ = [
    "DType",
    "Distribution",
    "FileFormat",
    "FileObject",
    "FileSet",
    "InlineData",
    "OrderKey",
    "SelectedField",
    "Selection",
    "SplitRule",
]

DType = Literal[
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64",
    "integer",  # the file's own integer width; int64 where the file has none (CSV, JSON)
    "float",    # the file's own float width; float64 where the file has none
    "text", "bytes", "date", "timestamp", "time",
]  # fmt: skip

FileFormat = Literal["parquet", "csv", "tsv", "jsonl"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedField:
    """One field of the selection: what it is called here, where it comes from, which type it has.

    Args:
        name: the name in batches and predicates: the last part of the Croissant name.
        column: the column in the source file (or the key in inline data).
        shape: () for a scalar; one number per dimension otherwise, -1 where a dimension is ragged.
    """

    name: str
    column: str
    dtype: DType
    shape: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FileObject:
    """Croissant FileObject: one file. `content_url` is as written: relative to the Croissant file, or a URL."""

    id: str
    content_url: str
    format: FileFormat
    sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSet:
    """Croissant FileSet: files by glob beneath the Croissant file's folder. `*` does not cross `/`."""

    id: str
    format: FileFormat
    includes: tuple[str, ...]
    excludes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineData:
    """Rows that stand in the Croissant file itself (`data`): plain JSON values by field name."""

    rows: tuple[Mapping[str, Any], ...]


Distribution = FileObject | FileSet | InlineData


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderKey:
    """One term of `order_by`; nulls come last either way."""

    field: str
    descending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRule:
    """Which rows one split takes.

    A rule without `bounds` claims the rows its predicate accepts (None: every row). A rule with `bounds`
    takes, of the rows its group has, those whose hash h of the row key (uint64) is in [low, high).
    The group is: rows accepted by `of`, or with `of=None` the rest, i.e. rows that no claiming rule and no `of`
    of any rule accepts.

    Args:
        bounds: 0 <= low <= high <= 2**64.
    """

    name: str
    claims: Predicate | None = None
    of: Predicate | None = None
    bounds: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """A subset, compiled: from which record set, which fields, which rows, in which order, into which splits.

    Args:
        record_set: Croissant @id; for messages, never fingerprinted.
        fields: the fields handed out, in their order.
        helpers: fields that only predicates, order or split keys need.
        splits: sorted by name; order in the descriptor never matters.
        split_key: field names whose values key the fractions; empty: (file name, row in file).
    """

    record_set: str
    distribution: Distribution
    fields: tuple[SelectedField, ...]
    helpers: tuple[SelectedField, ...] = ()
    where: Predicate | None = None
    order_by: tuple[OrderKey, ...] = ()
    limit: int | None = None
    splits: tuple[SplitRule, ...]
    split_key: tuple[str, ...] = ()

"""What a subset selects, compiled from descriptor and Croissant and not yet bound to files. Pure values.

`compile_selection` (in `spec/compiler.py`) makes it; `plan` pins it; `builder/extract` turns it into SQL.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from coralord_lightning.spec.predicate import Predicate

__all__ = [
    "ContainerFormat",
    "DType",
    "Distribution",
    "FieldKind",
    "FileFormat",
    "FileObject",
    "FileSet",
    "InlineData",
    "Join",
    "Nulls",
    "OrderKey",
    "Reading",
    "Refinement",
    "SelectedField",
    "Selection",
    "SplitRule",
    "Transform",
]

DType = Literal[
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64",
    "integer",  # the file's own integer width; int64 where the file has none (CSV, JSON)
    "float",    # the file's own float width; float64 where the file has none
    "text", "bytes", "date", "timestamp", "time",
    "struct",   # a field with subfields
]  # fmt: skip

FileFormat = Literal["parquet", "csv", "tsv", "jsonl", "json", "arff", "any"]
"""How rows are read. "json" is one JSON document. "any" is a file whose inside we do not know: all that can be read of
it are its bytes, its lines and its name."""

ContainerFormat = Literal["zip", "tar", "gzip", "git"]
"""What holds other files: an archive (a tar may be compressed), one compressed file, a git repository."""

FieldKind = Literal["column", "json_path", "file_property", "constant"]
FILE_PROPERTIES = ("content", "lines", "lineNumbers", "filename", "filepath", "fullpath")

Nulls = Literal["error", "mask", "fill"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transform:
    """One step from what was extracted to a field's value; steps are applied in order.

    Args:
        op: `regex` keeps the first group that matched, or the input where nothing matches; `separator` splits into a
            list; `replace` is "pattern/replacement"; `json_path` goes into JSON text or a struct; `format` parses dates
            and times (strftime or CLDR).
    """

    op: Literal["regex", "separator", "replace", "json_path", "format"]
    argument: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refinement:
    """What is made of a field's values after rows are selected, before the pipeline: decode, encode, nulls.

    Args:
        decode: "image" gives `dtype`[*shape], "audio" float32.
        shape, dtype, layout: of the decoded tensor; None: not asked for, taken from the first value and then required.
        sample_rate: of audio, in Hz; None: required to be one.
        encode: "category" gives the number of a text among `classes`.
        classes: in their order; None: the sorted values that are there.
        nulls: None: not said.
        fill: what stands for a null under "fill".
    """

    decode: Literal["image", "audio"] | None = None
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    layout: Literal["HWC", "CHW"] | None = None
    sample_rate: int | None = None
    encode: Literal["category"] | None = None
    classes: tuple[str, ...] | None = None
    nulls: Nulls | None = None
    fill: bool | int | float | str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedField:
    """One field of the selection: what it is called here, where it comes from, which type it has.

    Args:
        name: the name in batches and predicates: the last part of the Croissant name.
        column: the column in the source file or the key in inline data; by `kind` also a JSON path, the name of a file
            property, or a constant as JSON.
        shape: () for a scalar; one number per dimension otherwise, -1 where a dimension is ragged.
        table: alias of the joined table that it comes from; "" for the selection's own files.
        children: the subfields of a struct.
        refine: what is made of its values once its rows are selected; None: they stay as they are.
    """

    name: str
    column: str
    dtype: DType
    shape: tuple[int, ...] = ()
    kind: FieldKind = "column"
    transforms: tuple[Transform, ...] = ()
    table: str = ""
    children: tuple[SelectedField, ...] = ()
    refine: Refinement | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileObject:
    """Croissant FileObject: one file. `content_url` is as written: relative to the Croissant file, or a URL.

    Args:
        format: how its rows are read, or what kind of container it is.
        content_url: with `within`, the path inside the container; "" for the one file of a gzip container.
        md5: hex; weaker than sha256, checked where there is no sha256.
        within: the archive or repository that holds it.
    """

    id: str
    content_url: str
    format: FileFormat | ContainerFormat
    sha256: str | None = None
    md5: str | None = None
    within: FileObject | FileSet | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSet:
    """Croissant FileSet: files by glob. `*` does not cross `/`.

    Inside an archive, a pattern without `/` means a file name in any of its folders.

    Args:
        within: what holds the files: nothing (the Croissant file's folder), archives, repositories, other sets of
            archives, or plain FileObjects, which then are the files.
    """

    id: str
    format: FileFormat | ContainerFormat
    includes: tuple[str, ...]
    excludes: tuple[str, ...] = ()
    within: tuple[FileObject | FileSet, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineData:
    """Rows that stand in the Croissant file itself (`data`): plain JSON values by field name."""

    rows: tuple[Mapping[str, Any], ...]


Distribution = FileObject | FileSet | InlineData


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What is one row of a table's files.

    Args:
        mode: "rows" of the file's format, "lines" of text, or "files": each file is one row.
        row_path: JSON path of the rows of a JSON document; None for its format's own rows.
    """

    mode: Literal["rows", "lines", "files"] = "rows"
    row_path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """Another table, joined to the rows so far: LEFT JOIN, matches in the order of their files and rows.

    Args:
        alias: what `SelectedField.table` calls it.
        on: (key among the tables before, key in this one); equal keys match.
        nested: the matches of a row become one list of structs, of fields whose `table` is this one.
    """

    alias: str
    distribution: Distribution
    reading: Reading = Reading()
    on: tuple[SelectedField, SelectedField]
    nested: bool = False


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
        group_by: fields whose values key the fraction instead of the row's key: equal values stay together.
        stratify_by: fields within each of whose values the fraction is taken.
    """

    name: str
    claims: Predicate | None = None
    of: Predicate | None = None
    bounds: tuple[int, int] | None = None
    group_by: tuple[str, ...] = ()
    stratify_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """A subset, compiled: from which record set, which fields, which rows, in which order, into which splits.

    Args:
        record_set: Croissant @id; for messages, never fingerprinted.
        fields: the fields handed out, in their order.
        helpers: fields that only predicates, order or split keys need.
        splits: sorted by name; order in the descriptor never matters.
        split_key: field names whose values key the fractions; empty: (file name, row in file).
        reading: what is one row of `distribution`.
        joins: other tables, in the order they are joined.
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
    reading: Reading = Reading()
    joins: tuple[Join, ...] = ()

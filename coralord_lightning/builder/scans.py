"""How source files are scanned, and which columns they have. Opens files for their columns only, never for rows."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import IO, Any

from coralord_lightning.builder.kinds import JSON, TEXT, ColumnType, Value, column_type
from coralord_lightning.builder.transform_sql import file_property, json_path
from coralord_lightning.errors import SourceFormatError, nearest
from coralord_lightning.spec.plan import SourceFile
from coralord_lightning.spec.predicate import quote_identifier, quote_literal
from coralord_lightning.spec.selection import InlineData, SelectedField

__all__ = [
    "Table",
    "csv_table",
    "file_columns",
    "files_table",
    "json_table",
    "parquet_table",
    "staged_table",
    "write_rows",
]

_GZIP = b"\x1f\x8b"
_HEAD_BYTES = 1024 * 1024
_REMOTE_BUFFER = 4 * 1024 * 1024
"""More than the longest line that DuckDB takes (2 MiB), as it must be."""
_COUNTED = "row_number() OVER () - 1"
Place = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A source file, or several that are read at once, as a table.

    Args:
        name: the file's logical name, for messages.
        names: logical names of the files; of several, the one of a row is number `k`.
        src: SQL of the file's place among the plan's sources.
        relation: what stands after FROM.
        row: SQL of a row's number in the file, from 0.
        values: (kind, column), exactly as in the file -> its SQL and its type.
        repeated: names that stand twice in the file, and so name no column.
        whole: the row as one JSON value, where there is one: any column or path is in there.
        truncates: numbers have one type in it, so that an integer field takes what stands before the point.
    """

    name: str
    names: tuple[str, ...]
    src: str
    relation: str
    row: str
    values: Mapping[Place, Value]
    repeated: frozenset[str] = frozenset()
    whole: Value | None = None
    truncates: bool = False

    @property
    def file(self) -> str:
        """SQL of the file's logical name."""
        literals = [quote_literal(name) for name in self.names]
        return literals[0] if len(literals) == 1 else f"([{', '.join(literals)}])[k]"

    def value(self, item: SelectedField) -> Value:
        """The column that gives a field.

        Raises:
            SourceFormatError: the file has no such column.
        """
        if (item.kind, item.column) in self.values:
            return self.values[item.kind, item.column]
        if self.whole is not None and item.kind == "column":
            return Value(f"json_extract({self.whole.sql}, {quote_literal(_key_path(item.column))})", JSON)
        if self.whole is not None and item.kind == "json_path":
            return json_path(self.whole, item.column)
        raise self._missing(item)

    def with_value(self, item: SelectedField, value: Value) -> Table:
        """The same table with another value in the place that gives a field."""
        return replace(self, values={**self.values, (item.kind, item.column): value})

    def within(self, first: int, stop: int) -> Table:
        """The rows [first, stop) alone, with the numbers that they have in the file.

        DuckDB leaves row groups unread by `file_row_number`; where the file has a column of that name, it reads all.
        """
        rows, number = self.relation, self.row
        if number == _COUNTED:
            number = _unused("row", [value.sql for value in self.values.values()])
            rows = f"(SELECT *, {_COUNTED} AS {number} FROM {self.relation})"  # noqa: S608 - all quoted
        test = f"{number} BETWEEN {first} AND {stop - 1}" if first < stop else "FALSE"
        return replace(self, relation=f"(SELECT * FROM {rows} WHERE {test})", row=number)  # noqa: S608 - all quoted

    def starting_at(self, first_row: int) -> Table:
        """The same rows, numbered as those of a larger file that they were cut out of."""
        return replace(self, row=f"{self.row} + {first_row}")

    def _missing(self, item: SelectedField) -> SourceFormatError:
        if item.column in self.repeated:
            return SourceFormatError(
                self.name,
                f"has several columns '{item.column}', which field '{item.name}' is read from",
                facts={"expected": f"one column '{item.column}'"},
                remedy=f"give the columns '{item.column}' of the file different names",
            )
        columns = [name for kind, name in self.values if kind == "column"]
        near = nearest(item.column, columns)
        return SourceFormatError(
            self.name,
            f"has no column '{item.column}', which field '{item.name}' is read from",
            facts={"got": ", ".join(columns) or "no column", "expected": item.column},
            remedy=f"correct the column of '{item.name}' in the Croissant file" + (f" to '{near}'" if near else ""),
        )


def file_columns(source: SourceFile) -> dict[Place, Value]:
    """What a file's own name and path give."""
    path = source.path if source.path is not None else source.name
    return {
        ("file_property", name): Value(quote_literal(file_property(path, name)), TEXT)
        for name in ("filename", "filepath", "fullpath")
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Base:
    """What every table of one file has."""

    source: SourceFile
    index: int

    def table(self, **parts: Any) -> Table:
        values = file_columns(self.source) | parts.pop("values")
        return Table(
            name=self.source.name,
            src=str(self.index),
            names=(self.source.name,),
            values=values,
            **parts,
        )


def parquet_table(source: SourceFile, index: int, path: str, cursor: Any) -> Table:
    """A Parquet file; its footer says which columns it has.

    DuckDB folds case, so it calls the second of `a` and `A` `A_1`: a column is told by its place, never by that name.
    """
    options = "hive_partitioning = false, union_by_name = false"
    found = cursor.sql(f"SELECT * FROM read_parquet({quote_literal(path)}, {options})")  # noqa: S608 - quoted
    nodes = cursor.sql(f"SELECT name, num_children FROM parquet_schema({quote_literal(path)})").fetchall()  # noqa: S608
    header = _top_level(nodes)
    repeated = _repeated(header)
    values: dict[Place, Value] = {
        ("column", name): Value(quote_identifier(own), column_type(kind))
        for name, own, kind in zip(header, found.columns, found.types, strict=True)
        if name not in repeated
    }
    numbered = all(column.lower() != "file_row_number" for column in header)
    return _Base(source=source, index=index).table(
        relation=f"read_parquet({quote_literal(path)}, {'file_row_number = true, ' if numbered else ''}{options})",
        row="file_row_number" if numbered else _COUNTED,
        values=values,
        repeated=repeated,
    )


def _repeated(header: Sequence[str]) -> frozenset[str]:
    return frozenset(name for name, count in Counter(header).items() if count > 1)


def _top_level(nodes: Sequence[tuple[str, int | None]]) -> list[str]:
    """The columns among the nodes of a Parquet schema, which stand depth first, the root before all."""
    names, inside = [], 0
    for name, children in nodes[1:]:
        if inside == 0:
            names.append(name)
        inside = max(inside - 1, 0) + (children or 0)
    return names


def csv_table(source: SourceFile, index: int, path: str, head: bytes, *, delimiter: str) -> Table:
    """A CSV or TSV file with a header. Everything is text and an empty field is null; nothing is guessed.

    Columns are named by place, so that no header can clash with another in DuckDB, which folds case.

    Args:
        head: the beginning of the file.
    """
    zipped = head.startswith(_GZIP)
    header = _header(source.name, head, delimiter, zipped=zipped)
    repeated = _repeated(header)
    values: dict[Place, Value] = {
        ("column", column): Value(f"c{place}", TEXT) for place, column in enumerate(header) if column not in repeated
    }
    places = ", ".join(f"'c{place}': 'VARCHAR'" for place in range(len(header)))
    relation = (
        f"read_csv({quote_literal(path)}, auto_detect = false, header = true, delim = {quote_literal(delimiter)}, "
        "quote = '\"', escape = '\"', nullstr = '', strict_mode = true, null_padding = false, "
        f"compression = '{'gzip' if zipped else 'none'}', {_buffers(path)}columns = {{{places}}})"
    )
    return _Base(source=source, index=index).table(relation=relation, row=_COUNTED, values=values, repeated=repeated)


def _buffers(path: str) -> str:
    """How much of a remote file is read at once: DuckDB's own 32 MB are more than a `limit` wants fetched."""
    return f"buffer_size = {_REMOTE_BUFFER}, " if path.startswith("coral://") else ""


def json_table(source: SourceFile, index: int, path: str, head: bytes, fields: Sequence[SelectedField]) -> Table:
    """A file of JSON lines: one object a line; a key that a line has not is null there."""
    if any(item.kind == "json_path" or item.transforms for item in fields):
        return _whole_json(source, index, path, head)
    columns: dict[str, ColumnType] = {}
    for item in fields:
        if item.kind != "column":
            continue
        kind = JSON if len(item.shape) > 1 else TEXT.listed(len(item.shape))
        if columns.setdefault(item.column, kind) != kind:
            raise SourceFormatError(
                source.name,
                f"key '{item.column}' is read by two fields of different shapes",
                facts={"got": item.name},
                remedy="give both the same arrayShape in the Croissant file",
            )
    if len({key.casefold() for key in columns}) < len(columns) or not columns:  # DuckDB folds the case of its columns
        return _whole_json(source, index, path, head)
    typed = ", ".join(f"{quote_literal(key)}: '{_spelled(kind)}'" for key, kind in columns.items())
    return _Base(source=source, index=index).table(
        relation=f"read_json({quote_literal(path)}, {_json_options(head)}, records = true, columns = {{{typed}}})",
        row=_COUNTED,
        values={("column", key): Value(quote_identifier(key), kind) for key, kind in columns.items()},
    )


def _whole_json(source: SourceFile, index: int, path: str, head: bytes) -> Table:
    options = f"{_json_options(head)}, records = false, columns = {{'j': 'JSON'}}"
    return _Base(source=source, index=index).table(
        relation=f"read_json({quote_literal(path)}, {options})", row=_COUNTED, values={}, whole=Value("j", JSON)
    )


def _json_options(head: bytes) -> str:
    compression = "gzip" if head.startswith(_GZIP) else "uncompressed"
    return f"format = 'newline_delimited', ignore_errors = false, compression = '{compression}'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """A file that DuckDB cannot read itself, read into a Parquet file beside it.

    Args:
        places: what gave each of its columns `c0`, `c1`, …, in their order.
        types: of these columns.
    """

    path: str
    places: Sequence[Place]
    types: Sequence[ColumnType] = field(default_factory=tuple)
    truncates: bool = False


def staged_table(source: SourceFile, index: int, staged: Staged) -> Table:
    """What was read out of a file by other means than DuckDB's."""
    pairs = zip(staged.places, staged.types, strict=True)
    return _Base(source=source, index=index).table(
        relation=f"read_parquet({quote_literal(staged.path)}, file_row_number = true)",
        row="file_row_number",
        values={place: Value(f"c{at}", kind) for at, (place, kind) in enumerate(pairs)},
        truncates=staged.truncates,
    )


def files_table(sources: Sequence[tuple[int, SourceFile, str]], *, content: bool) -> Table:
    """Files of which each is one row.

    Args:
        sources: (place among the plan's sources, source, path).
        content: whether the bytes of the files are needed.
    """
    places = f"[{', '.join(str(index) for index, _, _ in sources)}]"
    paths = [quote_literal(path) for _, _, path in sources]
    values: dict[Place, Value] = {}
    every = [file_columns(source) for _, source, _ in sources]
    for place in every[0]:
        values[place] = Value(f"([{', '.join(columns[place].sql for columns in every)}])[k]", TEXT)
    if content:
        # equal files have one path: each is read under its own number
        reads = [f"SELECT {k} AS k, content FROM read_blob({path})" for k, path in enumerate(paths, 1)]  # noqa: S608
        relation = f"({' UNION ALL '.join(reads)})"
        values["file_property", "content"] = Value("content", ColumnType("BLOB"))
    else:
        relation = f"(SELECT unnest(range(1, {len(sources) + 1})) AS k)"
    return Table(
        name=sources[0][1].name,
        names=tuple(source.name for _, source, _ in sources),
        src=f"({places})[k]",
        relation=relation,
        row="0",
        values=values,
    )


def write_rows(data: InlineData, file: IO[bytes], *, start: int = 0, stop: int | None = None) -> None:
    """Write rows [start, stop) that stand in the Croissant file as JSON lines, numbers exactly as they are.

    Raises:
        SourceFormatError: a number is not finite, which JSON cannot say.
    """
    for number, row in enumerate(data.rows[start:stop], start=start):
        try:
            file.write(json.dumps(dict(row), allow_nan=False).encode() + b"\n")
        except ValueError as error:
            raise SourceFormatError(
                "inline",
                f"row {number} of its data is not JSON",
                facts={"got": error},
                remedy="write null where there is no number",
            ) from error


def _unused(name: str, taken: Sequence[str]) -> str:
    """A name, as SQL, that no column has, whatever its case."""
    folded = {sql.casefold() for sql in taken}
    while f'"{name}"' in folded or name in folded:
        name += "_"
    return f'"{name}"'


def _key_path(key: str) -> str:
    quoted = key.replace("\\", "\\\\").replace('"', '\\"')
    return f'$."{quoted}"'


def _spelled(kind: ColumnType) -> str:
    return kind.element + "[]" * kind.depth


def _header(name: str, head: bytes, delimiter: str, *, zipped: bool) -> list[str]:
    try:
        if zipped:
            with gzip.GzipFile(fileobj=io.BytesIO(head)) as file:
                head = file.read1(_HEAD_BYTES)
        text = head[: head.rindex(b"\n") + 1] if b"\n" in head else head
        rows = csv.reader(io.StringIO(text.decode("utf-8-sig"), newline=""), delimiter=delimiter)
        return next(rows)
    except (StopIteration, UnicodeDecodeError, csv.Error, OSError, EOFError) as error:
        raise SourceFormatError(
            name,
            "has no readable header",
            facts={"got": str(error) or "an empty file", "expected": "UTF-8 text; a first line of column names"},
            remedy="save the file as UTF-8 with a first line of column names",
        ) from error

"""How one source file is scanned, and which columns it has. Opens files for their columns only, never for rows."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from coralord_lightning.builder.field_sql import ColumnType, NoCastError, field_sql, parse_column_type
from coralord_lightning.builder.split_sql import Scan
from coralord_lightning.errors import SourceFormatError, nearest
from coralord_lightning.spec.predicate import quote_identifier, quote_literal
from coralord_lightning.spec.selection import InlineData, SelectedField

__all__ = ["Table", "csv_table", "json_table", "parquet_table", "scan_of", "write_rows"]

_GZIP = b"\x1f\x8b"
_HEAD_BYTES = 1024 * 1024
_COUNTED = "row_number() OVER () - 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A source file as a table.

    Args:
        relation: what stands after FROM.
        row: SQL of a row's number in the file, from 0.
        columns: column name, exactly as in the file -> its SQL and its type.
        repeated: names that stand twice in the file, and so name no column.
    """

    name: str
    relation: str
    row: str
    columns: Mapping[str, tuple[str, ColumnType]]
    repeated: frozenset[str] = frozenset()

    def type_of(self, field: SelectedField) -> ColumnType:
        """The type of the column that gives a field.

        Raises:
            SourceFormatError: the file has no such column.
        """
        if field.column in self.columns:
            return self.columns[field.column][1]
        if field.column in self.repeated:
            raise SourceFormatError(
                self.name,
                f"has several columns '{field.column}', which field '{field.name}' is read from",
                facts={"expected": f"one column '{field.column}'"},
                remedy=f"give the columns '{field.column}' of the file different names",
            )
        near = nearest(field.column, self.columns)
        raise SourceFormatError(
            self.name,
            f"has no column '{field.column}', which field '{field.name}' is read from",
            facts={"got": ", ".join(self.columns) or "no column", "expected": field.column},
            remedy=f"correct the column of '{field.name}' in the Croissant file" + (f" to '{near}'" if near else ""),
        )


def scan_of(table: Table, index: int, fields: Sequence[SelectedField], targets: Mapping[str, str]) -> Scan:
    """The scan that gives fields as the selection types them.

    Args:
        targets: field name -> DuckDB type of its elements.
    Raises:
        SourceFormatError: a column is missing or can never be the field.
    """
    expressions = {}
    for field in fields:
        column_type = table.type_of(field)
        try:
            expressions[field.name] = field_sql(
                field, table.columns[field.column][0], column_type, targets[field.name], file=table.name
            )
        except NoCastError as error:
            raise SourceFormatError(
                table.name,
                f"column '{field.column}' cannot be field '{field.name}'",
                facts={"got": error, "expected": f"{field.dtype} {list(field.shape) or ''}".strip()},
                remedy=f"correct dataType or arrayShape of '{field.name}' in the Croissant file",
            ) from error
    return Scan(index=index, name=table.name, relation=table.relation, row=table.row, fields=expressions)


def parquet_table(name: str, path: str, cursor: Any) -> Table:
    """A Parquet file; its footer says which columns it has.

    DuckDB folds case, so it calls the second of `a` and `A` `A_1`: a column is told by its place, never by that name.
    """
    options = "hive_partitioning = false, union_by_name = false"
    described = f"DESCRIBE SELECT * FROM read_parquet({quote_literal(path)}, {options})"  # noqa: S608 - quoted
    found = cursor.sql(described).fetchall()
    nodes = cursor.sql(f"SELECT name, num_children FROM parquet_schema({quote_literal(path)})").fetchall()  # noqa: S608
    header = _top_level(nodes)
    columns = {
        column: (quote_identifier(row[0]), parse_column_type(row[1]))
        for column, row in zip(header, found, strict=True)
        if header.count(column) == 1
    }
    numbered = all(column.lower() != "file_row_number" for column in header)
    relation = f"read_parquet({quote_literal(path)}, {'file_row_number = true, ' if numbered else ''}{options})"
    row = "file_row_number" if numbered else _COUNTED
    repeated = frozenset(column for column in header if header.count(column) > 1)
    return Table(name=name, relation=relation, row=row, columns=columns, repeated=repeated)


def _top_level(nodes: Sequence[tuple[str, int | None]]) -> list[str]:
    """The columns among the nodes of a Parquet schema, which stand depth first, the root before all."""
    names, inside = [], 0
    for name, children in nodes[1:]:
        if inside == 0:
            names.append(name)
        inside = max(inside - 1, 0) + (children or 0)
    return names


def csv_table(name: str, path: str, head: bytes, *, delimiter: str) -> Table:
    """A CSV or TSV file with a header. Everything is text and an empty field is null; nothing is guessed.

    Columns are named by place, so that no header can clash with another in DuckDB, which folds case.

    Args:
        head: the beginning of the file.
    """
    zipped = head.startswith(_GZIP)
    header = _header(name, head, delimiter, zipped=zipped)
    repeated = {column for column in header if header.count(column) > 1}
    columns = {
        column: (f"c{place}", ColumnType("VARCHAR")) for place, column in enumerate(header) if column not in repeated
    }
    places = ", ".join(f"'c{place}': 'VARCHAR'" for place in range(len(header)))
    relation = (
        f"read_csv({quote_literal(path)}, auto_detect = false, header = true, delim = {quote_literal(delimiter)}, "
        "quote = '\"', escape = '\"', nullstr = '', strict_mode = true, null_padding = false, "
        f"compression = '{'gzip' if zipped else 'none'}', columns = {{{places}}})"
    )
    return Table(name=name, relation=relation, row=_COUNTED, columns=columns, repeated=frozenset(repeated))


def json_table(name: str, path: str, head: bytes, fields: Sequence[SelectedField]) -> Table:
    """A file of JSON lines: one object a line; a key that a line has not is null there."""
    columns: dict[str, tuple[str, ColumnType]] = {}
    for field in fields:
        kind = ColumnType("JSON") if len(field.shape) > 1 else ColumnType("VARCHAR", len(field.shape))
        if columns.setdefault(field.column, (quote_identifier(field.column), kind))[1] != kind:
            raise SourceFormatError(
                name,
                f"key '{field.column}' is read by two fields of different shapes",
                facts={"got": field.name},
                remedy="give both the same arrayShape in the Croissant file",
            )
    typed = ", ".join(f"{quote_literal(key)}: '{_spelled(kind)}'" for key, (_, kind) in columns.items())
    relation = (
        f"read_json({quote_literal(path)}, format = 'newline_delimited', records = true, ignore_errors = false, "
        f"compression = '{'gzip' if head.startswith(_GZIP) else 'uncompressed'}', columns = {{{typed}}})"
    )
    return Table(name=name, relation=relation, row=_COUNTED, columns=columns)


def write_rows(data: InlineData, file: IO[str]) -> None:
    """Write rows that stand in the Croissant file as JSON lines, numbers exactly as they are.

    Raises:
        SourceFormatError: a number is not finite, which JSON cannot say.
    """
    for number, row in enumerate(data.rows):
        try:
            file.write(json.dumps(dict(row), allow_nan=False) + "\n")
        except ValueError as error:
            raise SourceFormatError(
                "inline",
                f"row {number} of its data is not JSON",
                facts={"got": error},
                remedy="write null where there is no number",
            ) from error


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

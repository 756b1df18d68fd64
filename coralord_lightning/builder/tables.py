"""Opens the tables of a selection, each once, and puts their scans together. Never reads a row itself.

What DuckDB reads natively is opened for its columns only; what it does not is staged (`staged`) when first needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coralord_lightning.builder.expressions import Place, ends_of, field_sql, leaves
from coralord_lightning.builder.field_sql import element_type
from coralord_lightning.builder.footers import Footer, read_footer
from coralord_lightning.builder.kinds import ColumnType
from coralord_lightning.builder.scans import (
    Table,
    csv_table,
    files_table,
    json_table,
    parquet_table,
    staged_table,
    write_rows,
)
from coralord_lightning.builder.slices import Slices
from coralord_lightning.builder.split_sql import Joined, Rows, Scan, file_key
from coralord_lightning.builder.staged import stage_arff, stage_json, stage_lines
from coralord_lightning.errors import SourceFormatError, SourceMissingError
from coralord_lightning.spec.plan import Location, Partition, SourceFile
from coralord_lightning.spec.selection import InlineData, Join, Reading, SelectedField, Selection

__all__ = ["Tables", "fields_of"]

_HEAD_BYTES = 1024 * 1024
_PIECE_BYTES = 4 * 1024 * 1024
_REMOTE = "coral://"


def fields_of(selection: Selection) -> tuple[SelectedField, ...]:
    """Everything that is read: fields handed out, and those that only conditions, order or keys need."""
    return (*selection.fields, *selection.helpers)


@dataclass(slots=True, kw_only=True)
class Tables:
    """The tables of one extractor.

    Args:
        paths: where DuckDB reads each source, by name; rows of the Croissant file are written there when first read.
        locations: where sources lie, by name; nothing for "inline".
        cursor: gives a DuckDB cursor.
        filesystem: what serves `coral://`; None where nothing is remote.
        staging: a folder that DuckDB may read.
        slices: those that lie there.
    """

    selection: Selection
    sources: Sequence[SourceFile]
    paths: Mapping[str, str]
    locations: Mapping[str, Location]
    cursor: Any
    filesystem: Any | None
    staging: Path
    slices: Slices
    opened: dict[int, Table] = field(default_factory=dict)
    footers: dict[int, Footer] = field(default_factory=dict)

    def rows(self, partition: Partition) -> Rows:
        """The rows of a partition; a field has one type over all files that give it.

        Raises:
            SourceError: a file cannot be opened, or is not what the selection asks of it.
        """
        scans = self._scans("", self.selection.reading, partition, None)
        joined = tuple(
            Joined(join=join, scans=self._scans(join.alias, join.reading, partition, join))
            for join in self.selection.joins
        )
        return Rows(selection=self.selection, scans=scans, joined=joined)

    def _scans(self, alias: str, reading: Reading, partition: Partition, join: Join | None) -> list[Scan]:
        indices = [index for index in partition.sources if self.sources[index].table == alias]
        cut = not alias and (partition.window is not None or partition.slice is not None)
        tables = [self._part(indices[0], partition)] if cut else self._open(indices, reading, alias)
        fields = [item for item in fields_of(self.selection) if item.table == alias]
        keys = {other.alias: other.on[0] for other in self.selection.joins if other.on[0].table == alias}
        own = None if join is None else join.on[1]
        expressions = {item.name: _over(tables, item) for item in fields}
        key_expressions = {name: _over(tables, key) for name, key in keys.items()}
        own_keys = None if own is None else _over(tables, own)
        return [
            Scan(
                src=table.src,
                key=file_key(table.names),
                relation=table.relation,
                row=table.row,
                fields={name: sqls[at] for name, sqls in expressions.items()},
                keys={name: sqls[at] for name, sqls in key_expressions.items()},
                own_key=None if own_keys is None else own_keys[at],
            )
            for at, table in enumerate(tables)
        ]

    def _open(self, indices: Sequence[int], reading: Reading, alias: str) -> list[Table]:
        if reading.mode == "files" and indices:
            found = [(index, self.sources[index], self.paths[self.sources[index].name]) for index in indices]
            content = any(leaf.column == "content" for leaf in self._leaves(alias))
            return [files_table(found, content=content)]
        return [self._whole(index, reading, alias) for index in indices]

    def _whole(self, index: int, reading: Reading, alias: str) -> Table:
        if index not in self.opened:
            self.opened[index] = self._table(index, reading, alias)
        return self.opened[index]

    def _part(self, index: int, partition: Partition) -> Table:
        """The window or slice of a file that a partition reads."""
        cut, source = partition.slice, self.sources[index]
        if cut is None:
            assert partition.window is not None  # noqa: S101 - one of both
            table = self._whole(index, self.selection.reading, "")
            return table.within(*self._footer(index).rows_in(partition.window))
        data = self._inline("")
        laid = (
            self.slices.of_lines(index, source, cut, Path(self.paths[source.name]))
            if data is None
            else self.slices.of_rows(index, source, cut, data)
        )
        return json_table(source, index, str(laid), b"", list(self._leaves(""))).starting_at(cut.first_row)

    def _footer(self, index: int) -> Footer:
        if index not in self.footers:
            source = self.sources[index]
            with self._looking():
                self.footers[index] = read_footer(source, self.locations[source.name], self.filesystem)
        return self.footers[index]

    def _looking(self) -> AbstractContextManager[None]:
        return self.filesystem.looking_at_footers() if self.filesystem is not None else nullcontext()

    def _inline(self, alias: str) -> InlineData | None:
        """The rows of a table that stand in the Croissant file."""
        joined = {join.alias: join.distribution for join in self.selection.joins}
        found = joined[alias] if alias else self.selection.distribution
        return found if isinstance(found, InlineData) else None

    def _table(self, index: int, reading: Reading, alias: str) -> Table:
        source = self.sources[index]
        path = self.paths[source.name]
        if reading.mode == "lines":
            return staged_table(
                source, index, stage_lines(self._at_hand(path, index), self._stage(index), name=source.name)
            )
        match source.format:
            case "parquet":
                with self._looking():
                    return parquet_table(source, index, path, self.cursor())
            case "csv" | "tsv":
                delimiter = "," if source.format == "csv" else "\t"
                return csv_table(source, index, path, self._head(source.name, path), delimiter=delimiter)
            case "jsonl" | "inline":
                data = self._inline(alias)
                if data is not None:
                    with Path(path).open("xb") as file:
                        write_rows(data, file)
                head = self._head(source.name, path)
                return json_table(source, index, path, head, list(self._leaves(alias)))
            case "json":
                fields = list(self._leaves(alias))
                row_path = reading.row_path or "$[*]"
                target = self._stage(index)
                staged = stage_json(Path(path), target, name=source.name, row_path=row_path, fields=fields)
                return staged_table(source, index, staged)
            case "arff":
                return staged_table(source, index, stage_arff(Path(path), self._stage(index), name=source.name))
            case "any":
                raise SourceFormatError(
                    source.name,
                    "has no rows that can be read",
                    facts={"got": "an unknown encodingFormat"},
                    remedy="correct its encodingFormat in the Croissant file",
                )

    def _leaves(self, alias: str) -> Iterator[SelectedField]:
        """Every field without subfields that comes from a table, join keys included."""
        keys = [key for join in self.selection.joins for key in join.on]
        for item in (*fields_of(self.selection), *keys):
            yield from (leaf for leaf in ends_of(item) if leaf.table == alias)

    def _stage(self, index: int) -> Path:
        return self.staging / f"{index}.parquet"

    def _at_hand(self, path: str, index: int) -> Path:
        """A file that is read as it is: one that is read by ranges is copied here first."""
        if self.filesystem is None or not path.startswith(_REMOTE):
            return Path(path)
        place, at = self.staging / f"{index}.whole", 0
        with place.open("xb") as file:
            while piece := self.filesystem.read_at(path, at, at + _PIECE_BYTES):
                at += file.write(piece)
        return place

    def _head(self, name: str, path: str) -> bytes:
        if self.filesystem is not None and path.startswith(_REMOTE):
            head: bytes = self.filesystem.read_at(path, 0, _HEAD_BYTES)
            return head
        try:
            with Path(path).open("rb") as file:
                return file.read(_HEAD_BYTES)
        except OSError as error:
            raise SourceMissingError(
                name,
                "cannot be opened any more",
                facts={"file": path, "got": error.strerror},
                remedy="put the file back, then run the same command again",
            ) from error


def _over(tables: Sequence[Table], item: SelectedField) -> list[str]:
    """A field's expression in each table, its leaves of one type over all of them."""
    types: dict[Place, tuple[SelectedField, list[ColumnType]]] = {}
    for table in tables:
        for place, leaf, kind in leaves(item, table):
            types.setdefault(place, (leaf, []))[1].append(kind)
    targets = {place: element_type(leaf.dtype, kinds) for place, (leaf, kinds) in types.items()}
    return [field_sql(item, table, targets) for table in tables]

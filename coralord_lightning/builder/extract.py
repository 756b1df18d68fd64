"""Selected rows out of pinned files, as Arrow: which rows, in which order, of which types. Never runs users' code.

One connection, locked down, for as long as the extractor is open. SQL is made in `split_sql` and `field_sql`.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, Self

import duckdb
import numpy as np
import pyarrow as pa

from coralord_lightning.builder.batching import rebatch
from coralord_lightning.builder.buffers import numbers
from coralord_lightning.builder.duck import Complaints, arrow_reader, open_locked
from coralord_lightning.builder.reshape import reshape, row_width
from coralord_lightning.builder.slices import Slices
from coralord_lightning.builder.split_sql import (
    Rows,
    crowd_query,
    in_one_group,
    overlap_pairs,
    overlap_query,
    split_query,
    unassigned_query,
)
from coralord_lightning.builder.tables import Tables
from coralord_lightning.errors import BuildError, SourceFormatError, SourceMissingError, SplitError
from coralord_lightning.spec.plan import BatchBounds, Job, LocalFile, Location, Partition, RemoteFile, SourceFile
from coralord_lightning.spec.selection import Selection, SplitRule

__all__ = ["Extractor", "RemoteReader", "open_extractor"]

_GATHER_BYTES = 4 * 1024 * 1024
_GLOB = frozenset("*?[")
_MAX_PAIRS = 64
_MAX_CROWD = 8
_MAX_THREADS = 8
Unchanged = Callable[[Iterable[tuple[SourceFile, Location]]], None]


class RemoteReader(Protocol):
    """The file system that serves `coral://`; `sources` has the one."""

    def path_of(self, name: str) -> str:
        """The `coral://` path of a remote source."""
        ...

    def read_at(self, path: str, start: int, stop: int) -> bytes:
        """Bytes [start, stop), cut at the file's end."""
        ...

    def looking_at_footers(self) -> AbstractContextManager[None]:
        """While only the columns of Parquet files are asked for, no row."""
        ...

    def take_failure(self) -> Exception | None:
        """The first error since the last call."""
        ...


class Extractor:
    """Reads the rows of a selection; a context manager.

    Args:
        sources: the plan's, in its order; partitions count in it.
        locations: where sources lie, by name; nothing for "inline".
        filesystem_factory: makes the file system for remote sources; called only if there are any.
        threads: of DuckDB; rows and their order are the same for any number.
        memory_bytes: DuckDB's limit; None: half of its own default.
        temp_dir: where to put what does not fit into memory; None: the system's place for that.
        unchanged: raises if one of these sources is not what the plan pinned; asked once the rows of a split are read.
    """

    def __init__(
        self,
        selection: Selection,
        sources: Sequence[SourceFile],
        locations: Mapping[str, Location],
        batch: BatchBounds,
        *,
        filesystem_factory: Callable[[Mapping[str, Location]], Any],
        threads: int = 1,
        memory_bytes: int | None = None,
        temp_dir: Path | None = None,
        unchanged: Unchanged | None = None,
    ) -> None:
        self._selection = selection
        self._sources = tuple(sources)
        self._locations = locations
        self._batch = batch
        self._filesystem_factory = filesystem_factory
        self._threads = threads
        self._memory_bytes = memory_bytes
        self._temp_dir = temp_dir
        self._unchanged = unchanged
        self._stack = ExitStack()
        self._paths: dict[str, str] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="coral-", dir=self._temp_dir)))
            remote = {n: place for n, place in self._locations.items() if isinstance(place, RemoteFile)}
            self._filesystem: RemoteReader | None = self._filesystem_factory(remote) if remote else None
            self._paths = {s.name: self._path_for(s, folder, at) for at, s in enumerate(self._sources)}
            slices = Slices(folder=folder / "staged")
            self._complaints = Complaints(
                subject=self._selection.record_set,
                names={path: name for name, path in self._paths.items()},
                starts=slices.starts,
                filesystem=self._filesystem,
            )
            (folder / "staged").mkdir()
            self._connection = open_locked(
                [path for path in self._paths.values() if not path.startswith("coral://")],
                folders=[f"{folder / 'staged'}/"],
                filesystem=self._filesystem,
                temp_dir=folder / "spill",
                threads=self._threads,
                memory_bytes=self._memory_bytes,
            )
            stack.callback(self._connection.close)
            self._tables = Tables(
                selection=self._selection,
                sources=self._sources,
                paths=self._paths,
                locations=self._locations,
                cursor=self._connection.cursor,
                filesystem=self._filesystem,
                staging=folder / "staged",
                slices=slices,
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def read(self, partition: Partition, split: str) -> pa.RecordBatchReader:
        """The rows of one split in one partition, cut by `rebatch`; file order unless `order_by` says otherwise.

        Returns:
            A reader of the selection's fields in canonical types. Reading raises what `SourceError`s there are.
        Raises:
            SourceError: a file cannot be read as described.
        """
        first, *others = self._steps(partition)
        schema, batches = self._open(first, split, self._selection.limit)
        batches = itertools.chain(batches, *(self._later(step, split, schema) for step in others))
        if others and self._selection.limit is not None:
            batches = self._limited(batches, self._selection.limit)
        whole = itertools.chain(rebatch(batches, self._batch), self._checked(partition))
        return pa.RecordBatchReader.from_batches(schema, whole)

    def _checked(self, partition: Partition) -> Iterator[pa.RecordBatch]:
        """No batch; what was read must still be what was planned, or it would be kept under another's key."""
        if self._unchanged is not None:
            read = [self._sources[index] for index in partition.sources]
            self._unchanged([(item, self._locations[item.name]) for item in read if item.name in self._locations])
        yield from ()

    def _steps(self, partition: Partition) -> list[Partition]:
        """What is read one after the other: with a limit and no order, files until there are enough rows."""
        selection = self._selection
        if selection.limit is None or selection.order_by or selection.joins or selection.reading.mode == "files":
            return [partition]
        return [Partition(sources=(index,)) for index in partition.sources]

    def _open(self, partition: Partition, split: str, limit: int | None) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        fields = self._selection.fields
        with self._complaints.translated():
            sql = split_query(self._rows(partition), split)
            stream = arrow_reader(self._connection.cursor(), sql, row_width(fields, limit))
            schema = reshape(_empty(stream.schema.remove(len(fields) + 1).remove(len(fields))), fields).schema
        return schema, self._reshaped(stream)

    def _later(self, partition: Partition, split: str, expected: pa.Schema) -> Iterator[pa.RecordBatch]:
        """The rows of one more file, which is opened now; its columns must be those of the first."""
        schema, batches = self._open(partition, split, self._selection.limit)
        if schema != expected:
            raise SourceFormatError(
                self._sources[partition.sources[0]].name,
                "has columns of other types than the files before it",
                facts={"got": schema.to_string(), "expected": expected.to_string()},
                remedy="say the width in the Croissant file: cr:Int64 or cr:Float64 instead of sc:Integer or sc:Float",
            )
        yield from batches

    def _limited(self, batches: Iterator[pa.RecordBatch], limit: int) -> Iterator[pa.RecordBatch]:
        while limit > 0 and (batch := next(batches, None)) is not None:
            yield batch.slice(0, limit)
            limit -= batch.num_rows

    def overlaps(self, partition: Partition) -> list[tuple[str, str, int]]:
        """Pairs of splits that share rows in one partition, and how many; of very many splits, some of these pairs."""
        pairs = overlap_pairs(self._selection.splits)
        if not pairs:
            return []
        rows = self._rows(partition)
        if len(pairs) > _MAX_PAIRS:
            pairs = self._likely(rows, pairs)
        if not pairs:
            return []
        counts = self._count(overlap_query(rows, pairs))
        return [(first.name, second.name, count) for (first, second), count in zip(pairs, counts, strict=True) if count]

    def _likely(self, rows: Rows, pairs: list[tuple[SplitRule, SplitRule]]) -> list[tuple[SplitRule, SplitRule]]:
        """Of too many pairs to count each, those that share the first row that any share."""
        splits = list({rule.name: rule for pair in pairs for rule in pair}.values())
        with self._complaints.translated():
            found = self._connection.cursor().sql(crowd_query(rows, splits)).fetchall()
        names = [rule.name for rule, there in zip(splits, found[0] if found else (), strict=False) if there][
            :_MAX_CROWD
        ]
        return [
            (first, second)
            for first, second in pairs
            if in_one_group(first, second) or (first.name in names and second.name in names)
        ]

    def require_disjoint(self, partition: Partition) -> None:
        """Check that no row of a partition is in two splits.

        Raises:
            SplitError: some are; it says how many.
        """
        found = self.overlaps(partition)
        if not found:
            return
        first, second, _ = found[0]
        raise SplitError(
            "splits",
            "some rows would be in two splits",
            facts={f"{a} and {b}": f"{count} rows" for a, b, count in found},
            remedy=f"narrow the predicate of '{first}' or of '{second}', e.g. with AND NOT (the other's)",
        )

    def count_unassigned(self, partition: Partition) -> int:
        """How many selected rows of one partition are in no split; 0 with a limit, which leaves rows out by itself."""
        takes_all = any(rule == SplitRule(name=rule.name) for rule in self._selection.splits)
        if takes_all or self._selection.limit is not None:
            return 0
        sql = unassigned_query(self._rows(partition))
        return self._count(sql)[0] if sql is not None else 0

    def _count(self, sql: str) -> tuple[int, ...]:
        with self._complaints.translated():
            found = self._connection.cursor().sql(sql).fetchall()
        return tuple(int(count) for count in found[0])

    def _reshaped(self, stream: Any) -> Iterator[pa.RecordBatch]:
        fields = self._selection.fields
        check = _OrderCheck(self._selection)
        while waiting := self._gathered(stream):
            batch = pa.concat_batches(waiting) if len(waiting) > 1 else waiting[0]
            check.take(batch.column(len(fields)), batch.column(len(fields) + 1))
            yield reshape(batch.select(range(len(fields))), fields)

    def _gathered(self, stream: Any) -> list[pa.RecordBatch]:
        """The next batches of a stream: a few megabytes at once cost less than many small ones."""
        found: list[pa.RecordBatch] = []
        size = 0
        with self._complaints.translated():
            while size < _GATHER_BYTES and (batch := next(stream, None)) is not None:
                found.append(batch)
                size += max(batch.nbytes, 1)
        return found

    def _rows(self, partition: Partition) -> Rows:
        with self._complaints.translated():
            return self._tables.rows(partition)

    def _path_for(self, source: SourceFile, folder: Path, number: int) -> str:
        """Where DuckDB reads a source: its own path, by a link where DuckDB would take that for a glob."""
        location = self._locations.get(source.name)
        if isinstance(location, RemoteFile) and self._filesystem is not None:
            return self._filesystem.path_of(source.name)
        place = folder / f"{number}.{source.format}"
        if isinstance(location, LocalFile):
            if not _GLOB & set(str(location.path)):
                return str(location.path)
            place.symlink_to(location.path)
        elif source.format != "inline":
            raise SourceMissingError(
                source.name,
                "has no place on this machine",
                facts={"expected": "a location for each source"},
                remedy="run the same command again",
            )
        return str(place)

    def distinct(self, partition: Partition, field: str, *, at_most: int) -> list[str]:
        """The texts that a field has in the rows of all splits of one partition, sorted.

        Args:
            at_most: no more than one above it are found of each split.
        """
        everything = (*self._selection.fields, *self._selection.helpers)
        shown = tuple(item for item in everything if item.name == field)
        rest = tuple(item for item in everything if item.name != field)
        rows = replace(self._rows(partition), selection=replace(self._selection, fields=shown, helpers=rest))
        found: set[str] = set()
        for rule in self._selection.splits:
            one = split_query(rows, rule.name)
            sql = f"SELECT DISTINCT f0 FROM (\n{one}\n) AS s WHERE f0 IS NOT NULL ORDER BY f0"  # noqa: S608 - ours
            with self._complaints.translated():
                found |= {row[0] for row in self._connection.cursor().sql(f"{sql} LIMIT {at_most + 1}").fetchall()}
        return sorted(found)

    def place_of(self, partition: Partition, split: str, row: int) -> tuple[str, int] | None:
        """The source's name, and the row in it, of one row of what `read` gives; for messages."""
        query = split_query(self._rows(partition), split)
        sql = f"SELECT src, pos FROM (\n{query}\n) AS s LIMIT 1 OFFSET {row}"  # noqa: S608 - ours
        with self._complaints.translated():
            found = self._connection.cursor().sql(sql).fetchall()
        return (self._sources[found[0][0]].name, int(found[0][1])) if found else None


def open_extractor(
    job: Job,
    *,
    filesystem: Callable[[Mapping[str, Location]], Any],
    spill_dir: Path,
    threads: int | None = None,
    unchanged: Unchanged | None = None,
) -> Extractor:
    """The extractor of a job's plan; to be entered as a context.

    Args:
        filesystem: makes the file system for remote sources.
        spill_dir: where to put what does not fit into memory.
        threads: None: one a core for local files, one where something is remote: several would read ahead of a limit.
        unchanged: see `Extractor`.
    """
    plan = job.plan
    if threads is None:
        remote = any(isinstance(place, RemoteFile) for place in job.locations.values())
        threads = 1 if remote else min(os.cpu_count() or 1, _MAX_THREADS)
    return Extractor(
        plan.selection,
        plan.sources,
        job.locations,
        plan.batch,
        filesystem_factory=filesystem,
        threads=threads,
        temp_dir=spill_dir,
        unchanged=unchanged,
    )


class _OrderCheck:
    """Makes sure that rows come in file order: DuckDB promises it, and the digest depends on it."""

    def __init__(self, selection: Selection) -> None:
        self._needed = not selection.order_by
        self._repeats = bool(selection.joins)  # a row stands once for each of its matches
        self._subject = selection.record_set
        self._last = (-1, -1)

    def take(self, src: Any, pos: Any) -> None:
        """The next rows' places.

        Raises:
            BuildError: they do not come after those before.
        """
        if not self._needed or not len(src):
            return
        sources = np.concatenate([[self._last[0]], numbers(src).astype(np.int64)])
        rows = np.concatenate([[self._last[1]], numbers(pos).astype(np.int64)])
        later = (np.diff(sources) > 0) | ((np.diff(sources) == 0) & (np.diff(rows) > (-1 if self._repeats else 0)))
        if not later.all():
            raise BuildError(
                self._subject,
                "DuckDB gave rows out of their order in the files",
                facts={"got": f"DuckDB {duckdb.__version__}"},
                remedy="pip install --upgrade duckdb",
            )
        self._last = (int(sources[-1]), int(rows[-1]))


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)

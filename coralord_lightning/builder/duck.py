"""One locked-down DuckDB connection, and what its errors mean to a user. Never opens what is not named.

It reads the named files and `coral://`, nothing else, and no setting can be changed once it is open.
Source: `reliability.md` section 3, "DuckDB, in order". `execute(sql, parameters)` and `register` would import pandas.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from coralord_lightning.builder.field_sql import MARK, SEPARATOR
from coralord_lightning.errors import BuildError, CoralError, SourceFormatError, StoreFullError
from coralord_lightning.spec.predicate import quote_literal

__all__ = ["Complaints", "arrow_reader", "open_locked"]

_GAP_BYTES = 16 * 1024
"""Needed column chunks this near to one another are fetched in one request."""
_LINE = re.compile(r"in line (\d+)")
_OWN = ("enable_progress_bar", "lock_configuration")
"""Settings that no session can make for others. All others are made for all: a cursor takes over no session's."""


def open_locked(
    paths: Sequence[str],
    *,
    folders: Sequence[str] = (),
    filesystem: Any | None,
    temp_dir: Path,
    threads: int,
    memory_bytes: int | None,
) -> duckdb.DuckDBPyConnection:
    """An in-memory database that can read the given paths only.

    Args:
        folders: what lies beneath them can be read too, also what is put there later.
        filesystem: what serves `coral://`; None where nothing is remote.
        temp_dir: where large sorts spill to.
        memory_bytes: where they begin to; None: half of what DuckDB would take, since pipelines need memory too.
    """
    folders = [*folders, *(["coral://"] if filesystem is not None else [])]
    connection = duckdb.connect(":memory:")
    try:
        if filesystem is not None:
            connection.register_filesystem(filesystem)
        memory = _half_the_memory(connection) if memory_bytes is None else f"{memory_bytes}B"
        for setting in (*_prefetching(connection), *_settings(paths, folders, temp_dir, threads, memory)):
            connection.execute(f"SET {'' if setting.startswith(_OWN) else 'GLOBAL '}{setting}")
    except BaseException:
        connection.close()
        raise
    return connection


def _half_the_memory(connection: duckdb.DuckDBPyConnection) -> str:
    """Half of DuckDB's own limit, which is most of what the machine, or its control group, has."""
    limit, unit = str(connection.sql("SELECT current_setting('memory_limit')").fetchall()[0][0]).split()
    return f"{float(limit) / 2:.2f}{unit}"


def _prefetching(connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    """DuckDB 2.0 would fit the gap to latencies that it measures: what is fetched would differ from run to run."""
    name = "parquet_prefetch_column_gap"
    if connection.sql(f"SELECT count(*) FROM duckdb_settings() WHERE name = '{name}'").fetchall()[0][0]:  # noqa: S608
        yield f"{name} = {_GAP_BYTES}"


def _settings(paths: Sequence[str], folders: Sequence[str], temp_dir: Path, threads: int, memory: str) -> Iterator[str]:
    yield "autoinstall_known_extensions = false"
    yield "autoload_known_extensions = false"
    yield "allow_community_extensions = false"
    yield "allow_persistent_secrets = false"
    yield "allow_unredacted_secrets = false"
    yield "python_enable_replacements = false"
    yield "enable_external_file_cache = false"
    yield "parquet_metadata_cache = true"  # of our own connection: a footer is read once, when the file is opened
    yield f"temp_directory = {quote_literal(str(temp_dir))}"
    yield f"allowed_paths = [{', '.join(map(quote_literal, paths))}]"
    yield f"allowed_directories = [{', '.join(map(quote_literal, folders))}]"
    yield "enable_external_access = false"
    yield f"memory_limit = '{memory}'"
    yield f"threads = {threads}"
    yield "preserve_insertion_order = true"
    yield "TimeZone = 'UTC'"
    yield "ieee_floating_point_ops = true"
    yield "integer_division = false"
    yield "enable_progress_bar = false"
    yield "lock_configuration = true"


def arrow_reader(cursor: duckdb.DuckDBPyConnection, sql: str, batch_rows: int) -> Any:
    """Stream a query's rows as Arrow batches; the method's name differs between DuckDB versions."""
    relation = cursor.sql(sql)
    read = getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader
    return read(batch_rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaints:
    """Turns what DuckDB raises into errors of ours.

    Args:
        subject: what a message is about where no file can be told: the record set.
        names: path as DuckDB knows it -> logical name of the file.
        filesystem: what serves `coral://`, which keeps the errors of requests.
        starts: path of a slice of a file -> (the file's logical name, number of its first row there).
    """

    subject: str
    names: Mapping[str, str]
    filesystem: Any | None
    starts: Mapping[str, tuple[str, int]] = field(default_factory=dict)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Raise errors of ours for DuckDB's.

        Raises:
            SourceError: a file cannot be read, or a request failed.
            StoreFullError: no room to sort.
            BuildError: anything else; its message is DuckDB's.
        """
        try:
            yield
        except (duckdb.Error, OSError, ValueError) as error:
            # pyarrow raises OSError and ValueError for what fails while a stream is read
            failure = self.filesystem.take_failure() if self.filesystem is not None else None
            raise failure or self.error(str(error)) from error

    def error(self, text: str) -> CoralError:
        """The error that a DuckDB message stands for."""
        if MARK in text:
            return _value_error(text[text.index(MARK) :])
        message = text.strip().split("\n\n")[0].removeprefix("Invalid Input Error: ")
        if "no space left on device" in text.lower() or "max_temp_directory_size" in text:
            return StoreFullError(
                self.subject, "no room to sort its rows", facts={"got": message}, remedy="make room on the disk"
            )
        if "out of memory" in text.lower():
            remedy = "select fewer fields, drop order_by, or build where there is more memory"
            return BuildError(self.subject, "its rows do not fit into memory", facts={"got": message}, remedy=remedy)
        known = {**self.names, **{path: name for path, (name, _) in self.starts.items()}}
        named = [path for path in sorted(known, key=len, reverse=True) if path in text]
        for path in named:
            message = _numbered_on(message.replace(path, known[path]), self.starts.get(path, ("", 0))[1])
        names = list(dict.fromkeys(self.names.values()))
        if named or len(names) == 1:
            return SourceFormatError(
                known[named[0]] if named else names[0],
                "cannot be read as the format that the Croissant file declares",
                facts={"got": message},
                remedy="fetch the file again, or correct its encodingFormat in the Croissant file",
            )
        return BuildError(
            self.subject,
            "its rows could not be read",
            facts={"got": message, "files": ", ".join(names[:8])},
            remedy="check the files named here; if they are whole, report this message",
        )


def _numbered_on(message: str, rows_before: int) -> str:
    """A message with the numbers that the lines of a slice have in their file."""
    return _LINE.sub(lambda found: f"in line {int(found[1]) + rows_before}", message)


def _value_error(text: str) -> SourceFormatError:
    """The error for a value that a field's type or shape does not allow; `field_sql` wrote the text."""
    _, file, field, value, wanted = (text.split(SEPARATOR) + [""] * 4)[:5]
    return SourceFormatError(
        file,
        f"a value of field '{field}' {wanted}",
        facts={"got": value, "field": field},
        remedy=f"correct the file, or the dataType or arrayShape of '{field}' in the Croissant file",
    )

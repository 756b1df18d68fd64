"""`catalog.duckdb`: an index over manifests, pins and runs. Only an index: missing, damaged or foreign, it is rebuilt.

Opened late, one transaction, closed early, under a lock file. INSERT only; no keys and no indexes. The storage version
is the lowest supported DuckDB's, so that every version of DuckDB we support opens the same file.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coralord_lightning.errors import StoreError
from coralord_lightning.store.catalog_rows import ORDERED_BY, SCHEMA_VERSION, TABLES, Known, Rows, rows_of, scan
from coralord_lightning.store.disk import Disk
from coralord_lightning.store.locks import file_lock
from coralord_lightning.store.scratch import clean_leftovers

if TYPE_CHECKING:
    import duckdb

__all__ = ["Catalog", "lock_down", "quoted"]

_LOG = logging.getLogger("coralord")
_STORAGE_VERSION = "v1.5.0"
_CHUNK_ROWS = 2_000
_SAFE = (
    "SET autoinstall_known_extensions=false",
    "SET autoload_known_extensions=false",
    "SET allow_community_extensions=false",
    "SET allow_persistent_secrets=false",
)


class Catalog:
    """The index of one home.

    Args:
        timeout_s: how long to wait for others who have the file open.
    """

    def __init__(self, disk: Disk, *, timeout_s: float = 30.0, sleep: Callable[[float], None] = time.sleep) -> None:
        self.disk = disk
        self._timeout_s = timeout_s
        self._sleep = sleep

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self.disk.root / "catalog.duckdb"

    def sync(self) -> bool:
        """Bring the file up to date with the JSON files; False, with a warning, where that cannot be done now."""
        import duckdb

        try:
            with file_lock(self.disk, "catalog", self._timeout_s):
                self.disk.passed("catalog.locked")
                clean_leftovers(self.disk.root / "tmp")
                self._sync_locked()
        except (TimeoutError, StoreError, duckdb.Error) as error:
            _LOG.warning("the catalog is not up to date: %s", error)
            return False
        return True

    @contextlib.contextmanager
    def reading(self, *, synced: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        """A locked-down connection to an index that is up to date: the file, or a private one in memory.

        Args:
            synced: whether the file is known to be up to date.

        Raises:
            duckdb.Error: as the caller's own statements do.
        """
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(_connected())
            if not self._attach_current(stack, connection, synced=synced):
                connection.execute("ATTACH ':memory:' AS coral")
                _create(connection)
                _insert(connection, rows_of(self.disk.root, scan(self.disk.root), Known()))
            connection.execute("USE coral")
            lock_down(connection)
            yield connection

    def rebuild(self) -> bool:
        """Make the file anew from the JSON files, whatever it holds now; it is put aside as evidence. False if not."""
        import duckdb

        try:
            with file_lock(self.disk, "catalog", self._timeout_s):
                self._rebuild_locked(damaged=True)
        except (TimeoutError, StoreError, duckdb.Error) as error:
            _LOG.warning("the catalog could not be rebuilt: %s", error)
            return False
        return True

    def _attach_current(
        self, stack: contextlib.ExitStack, connection: duckdb.DuckDBPyConnection, *, synced: bool
    ) -> bool:
        """Attach the file as `coral`, if it says what the JSON files say."""
        import duckdb

        try:
            # held while we read: POSIX locks of a file are lost when any descriptor of it closes in this process
            stack.enter_context(file_lock(self.disk, "catalog", self._timeout_s))
        except TimeoutError:
            return False
        except StoreError:
            pass  # a home we may not write; DuckDB's own lock guards against other processes
        try:
            self._attach(connection, self.path, "READ_ONLY")
        except (TimeoutError, duckdb.Error):
            return False
        with contextlib.suppress(duckdb.Error):
            if synced or _known(connection).stamps == scan(self.disk.root):
                return True
        connection.execute("DETACH coral")
        return False

    def _sync_locked(self) -> None:
        import duckdb

        if not self.path.exists():
            self._rebuild_locked(damaged=False)
            return
        stamps = scan(self.disk.root)
        try:
            with _connected() as connection:
                self._attach(connection, self.path, "READ_ONLY")
                known = _known(connection)
            if known.stamps == stamps:
                return
            if all(stamps.get(path) == stamp for path, stamp in known.stamps.items()):
                self._insert_locked(stamps, known)
                return
        except duckdb.Error as error:
            _LOG.warning("rebuilding the catalog, for it cannot be used: %s", str(error).partition("\n")[0])
            self._rebuild_locked(damaged=True)
            return
        self._rebuild_locked(damaged=False)

    def _insert_locked(self, stamps: Mapping[str, str], known: Known) -> None:
        rows = rows_of(self.disk.root, stamps, known)
        with _connected() as connection:
            self._attach(connection, self.path, f"STORAGE_VERSION '{_STORAGE_VERSION}'")
            connection.execute("BEGIN TRANSACTION")
            _insert(connection, rows)
            self.disk.passed("catalog.inserted")
            connection.execute("COMMIT")
            self.disk.passed("catalog.committed")
            connection.execute("CHECKPOINT coral")
            self.disk.passed("catalog.checkpointed")
        self.disk.passed("catalog.closed")

    def _rebuild_locked(self, *, damaged: bool) -> None:
        temp = self.disk.new_temp(".duckdb")
        try:
            with _connected() as connection:
                self._attach(connection, temp, f"STORAGE_VERSION '{_STORAGE_VERSION}'")
                connection.execute("BEGIN TRANSACTION")
                _create(connection)
                _insert(connection, rows_of(self.disk.root, scan(self.disk.root), Known()))
                connection.execute("COMMIT")
                connection.execute("CHECKPOINT coral")
            self.disk.share(temp)
            self.disk.passed("catalog.rebuilt")
            if damaged and self.path.exists():
                self.disk.move(self.path, self.disk.root / "quarantine" / self.path.name)
                self.disk.passed("catalog.aside")
            # a log left by the old file must not be replayed into the new one
            _log_of(self.path).unlink(missing_ok=True)
            self.disk.move(temp, self.path)
            self.disk.passed("catalog.swapped")
        finally:
            temp.unlink(missing_ok=True)
            _log_of(temp).unlink(missing_ok=True)

    def _attach(self, connection: duckdb.DuckDBPyConnection, path: Path, options: str) -> None:
        """Attach a file as `coral`; waits while another process has it open.

        Raises:
            TimeoutError: it had it open all the time.
        """
        import duckdb

        deadline = time.monotonic() + self._timeout_s
        pause_s = 0.01
        while True:
            try:
                connection.execute(f"ATTACH {quoted(str(path))} AS coral ({options})")
            except duckdb.IOException as error:
                if "Could not set lock" not in str(error):
                    raise
                if time.monotonic() > deadline:
                    raise TimeoutError(str(path)) from error
                self._sleep(pause_s)
                pause_s = min(pause_s * 1.7, 0.5)
            else:
                return


def lock_down(connection: duckdb.DuckDBPyConnection) -> None:
    """Forbid files, network, extensions and any further setting."""
    connection.execute("SET enable_external_access=false")
    connection.execute("SET lock_configuration=true")


def quoted(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


@contextlib.contextmanager
def _connected() -> Iterator[duckdb.DuckDBPyConnection]:
    import duckdb

    connection = duckdb.connect(":memory:", config={"threads": 1})  # an index is small, starting threads is not free
    try:
        for statement in _SAFE:
            connection.execute(statement)
        yield connection
    finally:
        connection.close()


def _create(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("CREATE SCHEMA coral.data")
    for table, columns in TABLES.items():
        described = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        connection.execute(f"CREATE TABLE coral.data.{table} ({described})")
    connection.execute(f"CREATE TABLE coral.data.catalog_schema AS SELECT {SCHEMA_VERSION} AS version")
    connection.execute("USE coral")
    for table, order in ORDERED_BY.items():
        connection.execute(f"CREATE VIEW {table} AS SELECT * FROM data.{table} ORDER BY {order}")  # noqa: S608  # our own names
    connection.execute("USE memory")  # else `coral` could not be detached


def _insert(connection: duckdb.DuckDBPyConnection, rows: Rows) -> None:
    for table, columns in TABLES.items():
        shape = json.dumps([dict(columns)])
        for start in range(0, len(rows[table]), _CHUNK_ROWS):
            text = json.dumps(rows[table][start : start + _CHUNK_ROWS])
            # parameters, registered tables and appenders would import pandas or pyarrow; JSON text needs neither
            connection.execute(
                f"INSERT INTO coral.data.{table} BY NAME "  # noqa: S608  # our own names, and one quoted literal
                f"SELECT unnest(item) FROM (SELECT unnest(from_json({quoted(text)}, {quoted(shape)})) AS item)"
            )


def _known(connection: duckdb.DuckDBPyConnection) -> Known:
    import duckdb

    def rows(sql: str) -> list[tuple[Any, ...]]:
        return connection.execute(sql).fetchall()

    if rows("SELECT version FROM coral.data.catalog_schema") != [(SCHEMA_VERSION,)]:
        raise duckdb.CatalogException("the tables are another release's")
    pins = rows(
        "SELECT name, fingerprint, strftime(pinned_at, '%Y-%m-%d %H:%M:%S') FROM coral.data.pins ORDER BY 1, number"
    )
    return Known(
        stamps=dict(rows("SELECT path, stamp FROM coral.data.indexed_files")),
        pins=tuple((name, fingerprint, pinned_at) for name, fingerprint, pinned_at in pins),
        entries=frozenset((name, fp) for name, fp in rows("SELECT name, fingerprint FROM coral.data.entries")),
    )


def _log_of(path: Path) -> Path:
    return path.with_name(path.name + ".wal")

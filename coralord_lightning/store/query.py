"""One read-only statement of a user on the catalog. Never writes, never leaves the catalog."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coralord_lightning.errors import QueryError, nearest
from coralord_lightning.store.catalog_rows import ORDERED_BY, TABLES

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from coralord_lightning.store.catalog import Catalog

__all__ = ["QueryResult", "run_query"]

_EXAMPLE = 'coral query "select name, fingerprint, num_rows from entries"'
_MISSING_TABLE = re.compile(r"Table with name (\S+) does not exist")
_MISSING_COLUMN = re.compile(r'column "([^"]+)" not found|does not have a column named "([^"]+)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryResult:
    """Columns as (name, DuckDB type), and rows of Python values."""

    columns: list[tuple[str, str]]
    rows: list[tuple[Any, ...]]


def run_query(catalog: Catalog, sql: str) -> QueryResult:
    """Run it on an index that is up to date.

    Raises:
        QueryError: it is not one statement that reads, or DuckDB refuses it.
        KeyboardInterrupt: it was interrupted.
    """
    import duckdb

    _require_one_read(sql)
    synced = catalog.sync()
    try:
        return _fetch(catalog, sql, synced=synced)
    except duckdb.Error as error:
        if not _is_damage(error):
            raise _explain(sql, error) from error
        # damage that shows only when a block is read; what is the statement's own fault fails again
        synced = catalog.rebuild()
    try:
        return _fetch(catalog, sql, synced=synced)
    except duckdb.Error as error:
        raise _explain(sql, error) from error


def _fetch(catalog: Catalog, sql: str, *, synced: bool) -> QueryResult:
    # DuckDB 2.0 looks at signals only between statements; in a thread of its own, it can be told at once
    with catalog.reading(synced=synced) as connection, ThreadPoolExecutor(max_workers=1) as pool:
        running = pool.submit(_execute, connection, sql)
        try:
            return running.result()
        except KeyboardInterrupt:
            connection.interrupt()
            raise


def _execute(connection: DuckDBPyConnection, sql: str) -> QueryResult:
    cursor = connection.execute(sql)
    columns = [(item[0], str(item[1])) for item in cursor.description or ()]
    return QueryResult(columns=columns, rows=cursor.fetchall())


def _is_damage(error: Exception) -> bool:
    import duckdb

    storage = (duckdb.IOException, duckdb.InternalException, duckdb.FatalException, duckdb.SerializationException)
    # DuckDB 2.0 has no class of its own for a block whose checksum is wrong
    return isinstance(error, storage) or type(error) is duckdb.Error


def _require_one_read(sql: str) -> None:
    import duckdb

    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise _explain(sql, error) from error
    kinds = [statement.type.name for statement in statements]
    if kinds != ["SELECT"]:
        raise QueryError(
            "query",
            "must be exactly one statement that reads: SELECT, WITH, FROM, DESCRIBE, SHOW or SUMMARIZE",
            facts={"got": ", ".join(kinds) or "nothing"},
            remedy=_EXAMPLE,
        )


def _explain(sql: str, error: Exception) -> QueryError:
    message = str(error).strip()
    remedy = _EXAMPLE
    facts = {"got": message}
    table = _MISSING_TABLE.search(message)
    column = _MISSING_COLUMN.search(message)
    if table is not None:
        facts = {"got": f"table {table[1]}", "tables": ", ".join(ORDERED_BY)}
        remedy = _corrected(sql, table[1], nearest(table[1], ORDERED_BY), 'coral query "show tables"')
        message = f"there is no table '{table[1]}'"
    elif column is not None:
        word = column[1] or column[2]
        columns = {name: None for table_name in ORDERED_BY for name in TABLES[table_name]}
        facts = {"got": f"column {word}", "columns": ", ".join(columns)}
        remedy = _corrected(sql, word, nearest(word, columns), 'coral query "describe entries"')
        message = f"there is no column '{word}'"
    else:
        message = message.partition("\n")[0]
    return QueryError("query", message, facts=facts, remedy=remedy)


def _corrected(sql: str, word: str, near: str | None, otherwise: str) -> str:
    if near is None or set(sql) & set('"$`\\'):  # what a shell would not leave alone
        return otherwise
    corrected = re.sub(rf"\b{re.escape(word)}\b", near, sql)
    return f'coral query "{corrected}"'

"""Owns how a split's table is handed to other libraries: DuckDB, pandas, Polars, pyarrow.dataset. It reads no shard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from coralord_lightning.errors import UnknownFieldError, UsageError, nearest

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import polars as pl
    import pyarrow as pa
    import pyarrow.dataset

__all__ = ["arrow_dataset", "duckdb_relation", "pandas_frame", "polars_frame", "select"]


def select(table: pa.Table, columns: Sequence[str] | None) -> pa.Table:
    """Some columns of a table, in that order, without a copy; all where `columns` is None.

    Raises:
        UnknownFieldError: there is no such column.
    """
    for name in columns or ():
        if name not in table.column_names:
            near = nearest(name, table.column_names)
            raise UnknownFieldError(
                "columns",
                f"there is no field '{name}'",
                facts={"got": name, "fields": ", ".join(table.column_names)},
                remedy=f'columns=["{near or table.column_names[0]}"]',
            )
    return table if columns is None else table.select(list(columns))


def duckdb_relation(table: pa.Table, connection: duckdb.DuckDBPyConnection | None) -> duckdb.DuckDBPyRelation:
    """The table as a relation; DuckDB's own default connection lives as long as the process.

    Raises:
        UsageError: DuckDB has no type for a column.
    """
    import duckdb

    door = duckdb if connection is None else connection
    try:
        return door.from_arrow(table)
    except duckdb.Error:
        empty = table.slice(0, 0)
        refused = [name for name in table.column_names if _is_refused(door, empty.select([name]))]
        if not refused:
            raise
    raise _no_type("duckdb", "DuckDB", table, refused)


def _is_refused(door: ModuleType | duckdb.DuckDBPyConnection, table: pa.Table) -> bool:
    import duckdb

    try:
        door.from_arrow(table)
    except duckdb.Error:
        return True
    return False


def pandas_frame(table: pa.Table) -> pd.DataFrame:
    """The table as a frame of Arrow-backed columns over the same memory.

    Raises:
        UsageError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ModuleNotFoundError as error:
        raise UsageError("to_pandas", "needs pandas", remedy="pip install pandas") from error
    frame: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def polars_frame(table: pa.Table) -> pl.DataFrame:
    """The table as a Polars frame over the same memory, in as many chunks as there are shards.

    Raises:
        UsageError: Polars is not installed, or has no type for a column.
    """
    try:
        import polars as pl
    except ModuleNotFoundError as error:
        raise UsageError("to_polars", "needs Polars", remedy="pip install 'coralord-lightning[polars]'") from error
    refused = [item.name for item in table.schema if _holds(item.type, _polars_has_none)]
    if refused:
        raise _no_type("to_polars", "Polars", table, refused)
    frame = pl.from_arrow(table, rechunk=False)
    assert isinstance(frame, pl.DataFrame)  # noqa: S101  # a table never becomes a Series
    return frame


def _polars_has_none(kind: pa.DataType) -> bool:
    """Whether Polars ends the import of a type, by an error or a panic, also where it is nested."""
    import pyarrow as pa

    return bool(pa.types.is_decimal256(kind) or pa.types.is_interval(kind))


def _holds(kind: pa.DataType, test: Callable[[pa.DataType], bool]) -> bool:
    return test(kind) or any(_holds(kind.field(number).type, test) for number in range(kind.num_fields))


def arrow_dataset(table: pa.Table) -> pyarrow.dataset.Dataset:
    """The table as a pyarrow dataset: what is asked of it is read from the same memory maps, batch by batch."""
    import pyarrow.dataset

    return pyarrow.dataset.dataset(table)


def _no_type(method: str, library: str, table: pa.Table, refused: Sequence[str]) -> UsageError:
    rest = ", ".join(f'"{name}"' for name in table.column_names if name not in refused)
    return UsageError(
        method,
        f"{library} has no type for {'a column' if len(refused) == 1 else 'some columns'} of this version",
        facts={"columns": ", ".join(f"{name}: {table.schema.field(name).type}" for name in refused)},
        remedy=f"columns=[{rest}]" if rest else "data.table(split)",
    )

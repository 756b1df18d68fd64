"""Which files a selection can need, by their names alone: a split that names tell opens only its own files.

Opens no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from coralord_lightning.builder.expressions import field_sql, leaves
from coralord_lightning.builder.pruning import Span, can_hold
from coralord_lightning.builder.scans import files_table
from coralord_lightning.spec.plan import SourceFile
from coralord_lightning.spec.selection import SelectedField, Selection, SplitRule

if TYPE_CHECKING:
    import duckdb

__all__ = ["needed_files", "reads_names"]

_NAMES = frozenset({"filename", "filepath", "fullpath"})
_AT_ONCE = 1000


def reads_names(fields: Sequence[SelectedField]) -> bool:
    """Whether some of these fields are made of a file's name or path."""
    return any(_of_name(item) or reads_names(item.children) for item in fields)


def needed_files(selection: Selection, files: Sequence[SourceFile]) -> list[bool]:
    """For each of the selection's own files, whether some split could take a row of it.

    Args:
        files: with their paths; nothing else of them is looked at.
    """
    named = [
        item
        for item in (*selection.fields, *selection.helpers)
        if _of_name(item) and item.dtype == "text" and not item.table
    ]
    rules = [selection.where, *(rule.claims for rule in selection.splits), *(rule.of for rule in selection.splits)]
    asked = {name for predicate in rules if predicate is not None for name in predicate.fields()}
    named = [item for item in named if item.name in asked]
    if not named:
        return [True] * len(files)
    import duckdb  # late: most hits ask for no name

    found: list[bool] = []
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET python_enable_replacements = false")
        connection.execute("SET enable_external_access = false")
        for start in range(0, len(files), _AT_ONCE):
            found += _needed(selection, files[start : start + _AT_ONCE], named, connection)
    return found


def _needed(
    selection: Selection,
    files: Sequence[SourceFile],
    named: Sequence[SelectedField],
    connection: duckdb.DuckDBPyConnection,
) -> list[bool]:
    table = files_table([(at, file, "") for at, file in enumerate(files)], content=False)
    columns = [field_sql(item, table, {place: "VARCHAR" for place, _, _ in leaves(item, table)}) for item in named]
    values = connection.sql(f"SELECT {', '.join(columns)} FROM {table.relation} ORDER BY k").fetchall()  # noqa: S608
    return [
        _may_give(selection, {item.name: _span(value) for item, value in zip(named, row, strict=True)})
        for row in values
    ]


def _may_give(selection: Selection, spans: dict[str, Span]) -> bool:
    return can_hold(selection.where, spans) and any(_may_take(rule, spans) for rule in selection.splits)


def _may_take(rule: SplitRule, spans: dict[str, Span]) -> bool:
    return can_hold(rule.claims if rule.bounds is None else rule.of, spans)


def _span(value: str | None) -> Span:
    return Span(low=value, high=value, num_rows=1, num_nulls=int(value is None))


def _of_name(item: SelectedField) -> bool:
    return item.kind == "file_property" and item.column in _NAMES

"""Types of columns as DuckDB has them: element, lists around it, fields inside it. Pure values, runs nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

__all__ = ["JSON", "TEXT", "ColumnType", "NoCastError", "Value", "column_type"]


class NoCastError(Exception):
    """A column can never become the field; its text says why. `scans` makes it an error for users."""


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A column's type: `BIGINT[][]` is element BIGINT, two lists deep.

    Args:
        element: DuckDB's name; STRUCT and MAP for what has fields.
        fields: of a struct by name; of a map `key` and `value`.
    """

    element: str
    depth: int = 0
    fields: tuple[tuple[str, ColumnType], ...] = ()

    @property
    def item(self) -> ColumnType:
        """The type of a list's items."""
        return replace(self, depth=self.depth - 1)

    def listed(self, depth: int) -> ColumnType:
        """So many lists of this."""
        return replace(self, depth=self.depth + depth)


TEXT = ColumnType("VARCHAR")
JSON = ColumnType("JSON")


@dataclass(frozen=True, slots=True)
class Value:
    """An expression and its type."""

    sql: str
    type: ColumnType


def column_type(kind: Any) -> ColumnType:
    """The type that a `duckdb.DuckDBPyType` is."""
    name = str(kind.id)
    if name in ("list", "array"):
        return column_type(kind.children[0][1]).listed(1)
    if name == "struct":
        return ColumnType("STRUCT", 0, tuple((str(field), column_type(inner)) for field, inner in kind.children))
    if name == "map":
        return ColumnType("MAP", 0, tuple((str(field), column_type(inner)) for field, inner in kind.children))
    text = str(kind)
    return ColumnType('"NULL"' if text in ("NULL", '"NULL"') else text)

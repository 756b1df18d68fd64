"""Where two runs of rows differ first, as content digests see them. Pure: it is handed Arrow batches, reads no file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from coralord_lightning.spec.digest import ContentHasher, columns_of

__all__ = ["Difference", "first_difference"]

_SHOWN = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One value that two builds disagree on.

    Args:
        row: from 0 on; the length of the shorter run where only one of them has that row.
        column: its name; "" where a row is missing.
        was, now: the two values, for people.
    """

    row: int
    column: str
    was: str
    now: str


def first_difference(one: pa.Table, other: pa.Table) -> Difference | None:
    """The first row in which two tables differ, and the first column in it; None where they are the same.

    Args:
        one, other: in canonical types.
    """
    if one.schema != other.schema:
        return _other_columns(one.schema, other.schema)
    rows = min(one.num_rows, other.num_rows)
    first = _first_row(one, other, rows)
    if first < rows:
        pairs = (
            (name, one.slice(first, 1).select([name]), other.slice(first, 1).select([name])) for name in _names(one)
        )
        name, was, now = next((name, was, now) for name, was, now in pairs if not _same(was, now))
        return Difference(row=first, column=name, was=_shown(was), now=_shown(now))
    if one.num_rows == other.num_rows:
        return None
    return Difference(row=rows, column="", was=f"{one.num_rows} rows", now=f"{other.num_rows} rows")


def _first_row(one: pa.Table, other: pa.Table, rows: int) -> int:
    """The first of so many rows that differs, by halving; `rows` where none does."""
    low, high = 0, rows
    if _same(one.slice(0, rows), other.slice(0, rows)):
        return rows
    while high - low > 1:
        middle = (low + high) // 2
        if _same(one.slice(low, middle - low), other.slice(low, middle - low)):
            low = middle
        else:
            high = middle
    return low


def _same(one: pa.Table, other: pa.Table) -> bool:
    return _blocks(one) == _blocks(other)


def _blocks(table: pa.Table) -> tuple[Any, ...]:
    hasher = ContentHasher(columns_of(table.schema))
    for batch in table.to_batches():
        hasher.update(batch)
    return hasher.finish()


def _other_columns(one: pa.Schema, other: pa.Schema) -> Difference:
    was, now = ({field.name: str(field.type) for field in schema} for schema in (one, other))
    name = next((name for name in [*was, *now] if was.get(name) != now.get(name)), None)
    if name is not None:
        return Difference(row=0, column=name, was=was.get(name, "absent"), now=now.get(name, "absent"))
    place = next(at for at, (name, there) in enumerate(zip(was, now, strict=True)) if name != there)
    name = one.names[place]
    return Difference(row=0, column=name, was=f"column {place + 1}", now=f"column {other.names.index(name) + 1}")


def _names(table: pa.Table) -> Sequence[str]:
    return list(table.schema.names)


def _shown(cell: pa.Table) -> str:
    text = repr(cell.column(0)[0].as_py())
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"

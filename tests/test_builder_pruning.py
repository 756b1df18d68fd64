"""What bounds say of a predicate: never that no row fits where one does; and what DuckDB leaves out by them."""

from __future__ import annotations

import datetime as dt
import functools
import io
import os
import threading
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.spec import AbstractFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from coralord_lightning.builder.footers import read_footer
from coralord_lightning.builder.pruning import Span, can_hold, conjuncts, is_plain, must_hold
from coralord_lightning.spec.plan import LocalFile, SourceFile
from coralord_lightning.spec.predicate import quote_identifier
from coralord_lightning.spec.selection import SelectedField
from extractions import predicate

KINDS = {"n": "integer", "d": "float64", "s": "text", "day": "date", "moment": "timestamp", "b": "bool"}
OLD = duckdb.__version__.startswith("1.")
NEW_YEAR = dt.date(2024, 1, 1)
SQL = {"n": "INTEGER", "d": "DOUBLE", "s": "VARCHAR", "day": "DATE", "moment": "TIMESTAMP", "b": "BOOLEAN"}


def spans(rows: list[dict[str, Any]]) -> dict[str, Span]:
    found = {}
    for name in KINDS:
        values = [row[name] for row in rows if row[name] is not None]
        low, high = (min(values), max(values)) if values else (None, None)
        found[name] = Span(low=low, high=high, num_rows=len(rows), num_nulls=len(rows) - len(values))
    return found


_DAYS = st.integers(0, 4).map(lambda day: dt.date(2024, 1, 1 + day))
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "n": st.integers(-3, 3),
    "d": st.sampled_from([-1.5, 0.0, 0.5, 2.0]),
    "s": st.sampled_from(["", "a", "ab", "b", "b%", "é"]),
    "day": _DAYS,
    "moment": _DAYS.map(lambda day: dt.datetime.combine(day, dt.time(12))),
    "b": st.booleans(),
}
_ROWS = st.lists(
    st.fixed_dictionaries({name: st.one_of(st.none(), values) for name, values in _VALUES.items()}),
    min_size=1,
    max_size=3,
)


def _literal(value: Any) -> str:
    if isinstance(value, dt.date):
        return f"'{value}'"
    return repr(value).upper() if isinstance(value, bool) else repr(value)


@st.composite
def _tests(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from(sorted(KINDS)))
    one, other = (_literal(draw(_VALUES[name])) for _ in range(2))
    op = draw(st.sampled_from(["=", "<>", "<", "<=", ">", ">=", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"]))
    return draw(
        st.sampled_from(
            [
                f"{name} {op} {one}",
                f"{one} {op} {name}" if name != "b" else "NOT b",
                f"{name} BETWEEN {one} AND {other}",
                f"{name} IN ({one}, {other})",
                f"{name} IS NULL",
                "b",
                "starts_with(s, 'a')",
                "s LIKE 'a%'",
                "s LIKE 'b\\%'",
                "n % 2 = 0",
                "n < 0.5",
                "coalesce(n, 1) = 1",
                "n < d",
            ]
        )
    )


_TEXTS = st.recursive(
    _tests(),
    lambda inner: st.one_of(
        st.builds("({} AND {})".format, inner, inner),
        st.builds("({} OR {})".format, inner, inner),
        st.builds("(NOT ({}))".format, inner),
    ),
    max_leaves=5,
)


@functools.cache
def _database() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


@settings(deadline=None, max_examples=200)
@given(_ROWS, _TEXTS)
def test_it_never_rules_out_a_row_that_fits(rows, text):
    found = predicate(text, **KINDS)
    values = ", ".join(
        "(" + ", ".join(f"CAST({_literal(row[n]) if row[n] is not None else 'NULL'} AS {SQL[n]})" for n in KINDS) + ")"
        for row in rows
    )
    sql = found.to_sql(quote_identifier)
    query = f"SELECT count(*) FILTER ({sql}), count(*) FROM (VALUES {values}) AS t({', '.join(KINDS)})"
    true, total = _database().sql(query).fetchall()[0]
    held = spans(rows)
    assert can_hold(found, held) or true == 0
    assert not must_hold(found, held) or true == total
    assert all(can_hold(part, held) for part in conjuncts(found)) or true == 0


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("n < 0", False),
        ("n <= 0", True),
        ("5 > n", True),
        ("n = 11", False),
        ("NOT (n >= 0)", False),
        ("n BETWEEN 11 AND 20", False),
        ("n IN (-1, 11)", False),
        ("n < 0 OR n > 10", False),
        ("n < 0 OR s = 'b'", True),
        ("n IS NULL", False),
        ("s < 'a'", False),
        ("starts_with(s, 'x')", False),
        ("s LIKE 'x%'", False),
        ("day < '2024-01-01'", False),
        ("moment >= '2024-01-02'", False),
        ("b", False),
        ("n + 1 < 0", True),
    ],
)
def test_what_bounds_rule_out(text, holds):
    held = {
        "n": Span(low=0, high=10, num_rows=5, num_nulls=0),
        "s": Span(low="a", high="c", num_rows=5, num_nulls=1),
        "day": Span(low=dt.date(2024, 1, 1), high=dt.date(2024, 1, 2), num_rows=5, num_nulls=0),
        "moment": Span(
            low=dt.datetime.combine(NEW_YEAR, dt.time()),
            high=dt.datetime.combine(NEW_YEAR, dt.time(23)),
            num_rows=5,
            num_nulls=0,
        ),
        "b": Span(low=False, high=False, num_rows=5, num_nulls=0),
    }
    assert can_hold(predicate(text, **KINDS), held) is holds
    assert can_hold(predicate(text, **KINDS), {})


class _Recorder(AbstractFileSystem):
    """One file, and which of its bytes were read."""

    protocol = "coral"
    cachable = False

    def __init__(self, content: bytes) -> None:
        super().__init__(skip_instance_cache=True)
        self.content = content
        self.reads: list[tuple[int, int]] = []

    def open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        return _File(self)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        return {"name": path, "size": len(self.content), "type": "file"}

    def exists(self, path: str, **_: Any) -> bool:
        return True

    def glob(self, path: str, **_: Any) -> list[str]:
        return [path]

    def modified(self, path: str) -> dt.datetime:
        return dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class _File(io.RawIOBase):
    def __init__(self, owner: _Recorder) -> None:
        super().__init__()
        self._owner, self._own = owner, threading.local()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return getattr(self._own, "at", 0)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._own.at = {0: 0, 1: self.tell(), 2: len(self._owner.content)}[whence] + offset
        return self._own.at

    def read(self, size: int | None = -1) -> bytes:
        start = self.tell()
        stop = len(self._owner.content) if size is None or size < 0 else start + size
        self._owner.reads.append((start, stop))
        self._own.at = stop
        return self._owner.content[start:stop]


@pytest.fixture(scope="module")
def sorted_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten row groups, sorted by each column; `w` is what a query wants, `z` keeps it away from the footer."""
    rows = range(20_000)
    path = tmp_path_factory.mktemp("sorted") / "a.parquet"
    held = {
        "n": pa.array(rows, pa.int32()),
        "d": [row / 4 for row in rows],
        "s": [f"k{row:06d}" for row in rows],
        "day": pa.array([row // 10 for row in rows], pa.date32()),
        "moment": pa.array([row * 10**6 for row in rows], pa.timestamp("us")),
        "b": [row >= 10_000 for row in rows],
        "w": pa.array([(row * 2654435761) % 2**62 for row in rows], pa.int64()),
        "z": [os.urandom(64) for _ in rows],
    }
    pq.write_table(pa.table(held), path, row_group_size=2_000)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "n < 4000",
        "n >= 19000",
        "4000 > n",
        "n = 5",
        "n IN (5, 10005)",
        "n BETWEEN 4000 AND 5999",
        "NOT (n >= 4000)",
        "n < 2000 OR n > 19000",
        "n < 4000 AND n % 2 = 0",
        "n % 2 = 0",
        "n < 4000.5",
        "abs(n) < 4000",
        "d < 100",
        "d < 100.5",
        "s < 'k003999'",
        "s LIKE 'k019%'",
        "starts_with(s, 'k019')",
        "day < '1971-01-01'",
        "moment < '1970-01-01 02:00:00'",
        "b",
        "NOT b",
        "n IS NOT NULL",
        "n IS NULL",
        "n IS NOT DISTINCT FROM 5",
        "n < -5",
    ],
)
def test_it_leaves_out_what_duckdb_leaves_out(sorted_file, text):
    if OLD and not is_plain(predicate(text, **KINDS)):
        pytest.skip("DuckDB 1.5 leaves rows unread by comparisons with constants alone")
    recorder = _Recorder(sorted_file.read_bytes())
    asked = predicate(text, **KINDS)
    with duckdb.connect() as connection:
        connection.register_filesystem(recorder)
        connection.execute("SET threads = 1")
        if connection.sql("FROM duckdb_settings() WHERE name = 'parquet_prefetch_column_gap'").fetchall():
            connection.execute("SET GLOBAL parquet_prefetch_column_gap = 0")
        sql = asked.to_sql(quote_identifier)
        relation = "read_parquet('coral://0/a.parquet', file_row_number = true)"
        rows = f"SELECT *, file_row_number AS pos FROM {relation}"
        connection.sql(f"SELECT w, pos FROM ({rows}) AS t WHERE {sql}").fetchall()

    source = SourceFile(name="a", format="parquet", identity={}, size_bytes=len(recorder.content))
    footer = read_footer(source, LocalFile(path=sorted_file), None)
    fields = [SelectedField(name=name, column=name, dtype=kind) for name, kind in KINDS.items()]  # type: ignore[arg-type]
    groups = [footer.metadata.row_group(index) for index in range(10)]
    wanted = [index for index, group in enumerate(groups) if can_hold(asked, footer.spans(group, fields))]
    columns = {"w", *asked.fields()}
    read = [
        i for i, group in enumerate(groups) if any(_is_read(c, recorder.reads) for c in footer.chunks(group, columns))
    ]
    assert wanted == read


def _is_read(chunk: Any, reads: list[tuple[int, int]]) -> bool:
    """Whether most bytes of a column chunk were read."""
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    stop = start + chunk.total_compressed_size
    inside = sum(max(0, min(stop, high) - max(start, low)) for low, high in reads)
    return inside >= 0.9 * (stop - start)

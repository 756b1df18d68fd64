"""Batches are cut by the rows' values and the bounds alone."""

from __future__ import annotations

import itertools

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coralord_lightning.builder.batching import rebatch, row_bytes
from coralord_lightning.spec.plan import BatchBounds

TYPES = [
    pa.int8(),
    pa.bool_(),
    pa.float64(),
    pa.string(),
    pa.binary(),
    pa.list_(pa.int16()),
    pa.list_(pa.string()),
    pa.list_(pa.list_(pa.float32(), 2), 3),
    pa.list_(pa.string(), 2),
    pa.list_(pa.list_(pa.int32())),
    pa.struct([("a", pa.int32()), ("b", pa.list_(pa.string()))]),
]


def values(kind: pa.DataType) -> st.SearchStrategy:
    if pa.types.is_fixed_size_list(kind):
        inner = st.lists(values(kind.value_type), min_size=kind.list_size, max_size=kind.list_size)
    elif pa.types.is_list(kind):
        inner = st.lists(values(kind.value_type), max_size=4)
    elif pa.types.is_struct(kind):
        inner = st.fixed_dictionaries({field.name: values(field.type) for field in kind})
    elif pa.types.is_string(kind):
        inner = st.text(max_size=6)
    elif pa.types.is_binary(kind):
        inner = st.binary(max_size=6)
    elif pa.types.is_boolean(kind):
        inner = st.booleans()
    elif pa.types.is_floating(kind):
        inner = st.floats(width=32, allow_nan=False)
    else:
        inner = st.integers(-100, 100)
    return st.none() | inner


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    kinds = draw(st.lists(st.sampled_from(TYPES), min_size=1, max_size=3))
    rows = draw(st.integers(0, 20))
    return pa.table(
        {
            f"c{index}": pa.array(draw(st.lists(values(kind), min_size=rows, max_size=rows)), kind)
            for index, kind in enumerate(kinds)
        }
    )


def chunked(table: pa.Table, cuts: list[int]) -> list[pa.RecordBatch]:
    """The table's rows in batches that end at the cuts; each a slice of one allocation or a copy of its own."""
    whole = table.combine_chunks().to_batches()[0] if table.num_rows else pa.RecordBatch.from_pylist([], table.schema)
    edges = [0, *sorted(cut % (table.num_rows + 1) for cut in cuts), table.num_rows]
    pieces = [whole.slice(start, stop - start) for start, stop in itertools.pairwise(edges)]
    return [
        pa.RecordBatch.from_pylist(piece.to_pylist(), table.schema) if index % 2 else piece
        for index, piece in enumerate(pieces)
    ]


@given(
    tables(),
    st.lists(st.integers(0, 50), max_size=6),
    st.builds(BatchBounds, rows=st.integers(1, 8), bytes=st.integers(1, 200)),
)
def test_cuts_do_not_depend_on_how_rows_arrive(table: pa.Table, cuts: list[int], bounds: BatchBounds) -> None:
    once = list(rebatch(chunked(table, []), bounds))
    again = list(rebatch(chunked(table, cuts), bounds))

    assert [batch.num_rows for batch in once] == [batch.num_rows for batch in again]
    assert all(left.equals(right) for left, right in zip(once, again, strict=True))
    assert pa.Table.from_batches(again, table.schema).to_pylist() == table.to_pylist()


@given(tables(), st.builds(BatchBounds, rows=st.integers(1, 8), bytes=st.integers(1, 200)))
def test_each_batch_is_as_long_as_the_bounds_let_it_be(table: pa.Table, bounds: BatchBounds) -> None:
    batches = list(rebatch(table.to_batches(max_chunksize=3), bounds))
    sizes = [[sum(int(row_bytes(c)[i]) for c in b.columns) for i in range(b.num_rows)] for b in batches]

    for index, rows in enumerate(sizes):
        assert rows
        assert len(rows) == 1 or (len(rows) <= bounds.rows and sum(rows) <= bounds.bytes)
        if index + 1 < len(sizes):
            assert len(rows) + 1 > bounds.rows or sum(rows) + sizes[index + 1][0] > bounds.bytes


def test_a_row_larger_than_the_bound_is_a_batch_of_its_own() -> None:
    table = pa.table({"t": ["a", "b" * 100, "c", "d"]})

    found = [batch.num_rows for batch in rebatch(table.to_batches(), BatchBounds(rows=10, bytes=20))]

    assert found == [1, 1, 2]


def test_no_rows_make_no_batch() -> None:
    assert list(rebatch([pa.RecordBatch.from_pylist([], pa.schema([("a", pa.int8())]))], BatchBounds())) == []


def test_sizes_are_the_same_for_every_layout_of_a_column() -> None:
    texts = pa.array(["a", None, "abc", "a"])

    expected = [5, 4, 7, 5]
    assert row_bytes(texts).tolist() == expected
    assert row_bytes(texts.dictionary_encode()).tolist() == expected
    assert row_bytes(texts.cast(pa.large_string())).tolist() == expected
    assert row_bytes(pa.nulls(2)).tolist() == [0, 0]


def test_a_type_that_extraction_never_gives_is_refused() -> None:
    with pytest.raises(TypeError, match="map"):
        row_bytes(pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int8())))

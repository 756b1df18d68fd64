"""The content digest sees values in row order and nothing else."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coralord_lightning.spec.columns import parse_type, print_type
from coralord_lightning.spec.digest import (
    BlockBounds,
    ContentHasher,
    arrow_schema,
    canonical_batch,
    columns_of,
    content_digest,
)
from coralord_lightning.spec.manifest import Block, Column

# examples are nested and the machine may be busy: slow is no failure
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)

SMALL = BlockBounds(min_rows=3, max_rows=12, cut_bits=2)

VALUES = {
    pa.int8(): st.integers(-128, 127),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.bool_(): st.booleans(),
    pa.float16(): st.floats(width=16),
    pa.float32(): st.floats(width=32),
    pa.float64(): st.floats(),
    pa.string(): st.text(max_size=40),
    pa.binary(): st.binary(max_size=40),
    pa.binary(3): st.binary(min_size=3, max_size=3),
    pa.timestamp("us", "UTC"): st.integers(0, 2**40),
    pa.date32(): st.integers(0, 30_000),
    pa.decimal128(9, 2): st.decimals(-99_999, 99_999, places=2),
    pa.null(): st.none(),
}
LEAVES = st.sampled_from(list(VALUES))
TYPES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        inner.map(pa.list_),
        st.tuples(inner, st.integers(1, 3)).map(lambda pair: pa.list_(*pair)),
        st.tuples(inner, inner).map(lambda pair: pa.struct([("a", pair[0]), ("b c", pair[1])])),
        inner.map(lambda kind: pa.map_(pa.string(), kind)),
    ),
    max_leaves=4,
)


def values_of(kind):
    if pa.types.is_map(kind):
        inner = st.lists(st.tuples(st.text(max_size=3), values_of(kind.item_type)), max_size=3)
    elif pa.types.is_list(kind):
        inner = st.lists(values_of(kind.value_type), max_size=4)
    elif pa.types.is_fixed_size_list(kind):
        inner = st.lists(values_of(kind.value_type), min_size=kind.list_size, max_size=kind.list_size)
    elif pa.types.is_struct(kind):
        inner = st.fixed_dictionaries({item.name: values_of(item.type) for item in kind})
    else:
        inner = VALUES[kind]
    return st.one_of(st.none(), inner)


@st.composite
def columns(draw, min_size=0):
    kind = draw(TYPES)
    return pa.array(draw(st.lists(values_of(kind), min_size=min_size, max_size=16)), kind)


def blocks_of(column, cuts=(), bounds=SMALL):
    schema = pa.schema([pa.field("x", column.type)])
    hasher = ContentHasher(schema, bounds=bounds)
    edges = [0, *sorted(min(cut, len(column)) for cut in cuts), len(column)]
    for start, end in itertools.pairwise(edges):
        hasher.update(pa.RecordBatch.from_arrays([column.slice(start, end - start)], schema=schema))
    return hasher.finish()


def enlarged(kind):
    """The same type with every part in its large variant."""
    if pa.types.is_string(kind):
        return pa.large_string()
    if pa.types.is_binary(kind):
        return pa.large_binary()
    if pa.types.is_list(kind):
        return pa.large_list(pa.field("element", enlarged(kind.value_type)))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(pa.field("element", enlarged(kind.value_type)), kind.list_size)
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(item.name, enlarged(item.type)) for item in kind])
    if pa.types.is_map(kind):
        return pa.map_(pa.large_string(), enlarged(kind.item_type))
    return kind


def table_digest(table):
    hasher = ContentHasher(table.schema)
    for batch in table.to_batches():
        hasher.update(batch)
    return content_digest(columns_of(table.schema), {"train": hasher.finish()})


@unhurried
@given(columns(), st.lists(st.integers(0, 30), max_size=5))
def test_batch_sizes_do_not_count(column, cuts):
    assert blocks_of(column, cuts) == blocks_of(column)


@unhurried
@given(columns(min_size=1), st.integers(1, 5))
def test_slicing_offsets_do_not_count(column, offset):
    padded = pa.concat_arrays([*[column.slice(0, 1)] * offset, column])
    assert blocks_of(padded.slice(offset)) == blocks_of(column)


@unhurried
@given(TYPES.flatmap(lambda kind: st.tuples(st.just(kind), st.lists(values_of(kind), max_size=16))))
def test_large_variants_and_item_names_do_not_count(case):
    kind, values = case
    large = pa.array(values, enlarged(kind))
    assert columns_of(pa.schema([("x", large.type)])) == columns_of(pa.schema([("x", kind)]))
    assert blocks_of(large) == blocks_of(pa.array(values, kind))


@unhurried
@given(st.lists(st.one_of(st.none(), st.sampled_from(["a", "bb", "a longer text than sixteen"])), max_size=40))
def test_encodings_of_text_do_not_count(values):
    plain = pa.array(values, pa.string())
    encoded = [plain.dictionary_encode(), pa.array(values, pa.string_view()), pa.array(values, pa.large_string())]
    encoded.append(pc.run_end_encode(plain))
    for array in encoded:
        assert blocks_of(array) == blocks_of(plain), array.type


@unhurried
@given(st.lists(st.one_of(st.none(), st.lists(st.integers(0, 9), max_size=3)), max_size=20))
def test_list_views_do_not_count(values):
    plain = pa.array(values, pa.list_(pa.int64()))
    for kind in (pa.list_view(pa.int64()), pa.large_list_view(pa.int64())):
        assert blocks_of(pa.array(values, kind)) == blocks_of(plain)


def test_what_lies_under_nulls_does_not_count():
    mask = np.array([False, True, False, True] * 5)
    clean = pa.array(np.where(mask, 0, 7), mask=mask)
    dirty = pa.Array.from_buffers(
        pa.int64(), 20, [clean.buffers()[0], pa.py_buffer(np.where(mask, 99, 7).astype(np.int64))]
    )
    assert blocks_of(dirty) == blocks_of(clean)
    nested = [pa.FixedSizeListArray.from_arrays(child, 2, mask=pa.array([False, True] * 5)) for child in (clean, dirty)]
    assert blocks_of(nested[0]) == blocks_of(nested[1])


@unhurried
@given(columns(min_size=1), st.data())
def test_every_changed_value_counts(column, data):
    row = data.draw(st.integers(0, len(column) - 1))
    values = column.to_pylist(maps_as_pydicts=None)
    other = pa.array([data.draw(values_of(column.type))], column.type)
    same = repr(other.to_pylist()) == repr(values[row : row + 1])
    changed = pa.concat_arrays([column.slice(0, row), other, column.slice(row + 1)])
    assert (blocks_of(changed) == blocks_of(column)) == same


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        ([0.0], [-0.0], False),
        ([math.nan], [-math.nan], True),
        ([None], [0.0], False),
        ([None], [math.nan], False),
        ([1.0, 2.0], [2.0, 1.0], False),
        ([None, 1.0], [1.0, None], False),
        ([1.0], [1.0, None], False),
        ([], [None], False),
    ],
)
def test_floats_and_nulls(left, right, equal):
    blocks = [blocks_of(pa.array(values, pa.float64())) for values in (left, right)]
    assert (blocks[0] == blocks[1]) is equal


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (["ab", "c"], ["a", "bc"]),
        ([["a", "b"], []], [["a"], ["b"]]),
        ([["a", None]], [["a"]]),
        ([None], [[]]),
        ([{"a": None}], [None]),
        ([[[1], [2]]], [[[1, 2], []]]),
    ],
)
def test_boundaries_between_values_count(left, right):
    kind = pa.infer_type([*left, *right])
    assert blocks_of(pa.array(left, kind)) != blocks_of(pa.array(right, kind))


def test_names_order_types_and_splits_are_in_the_root():
    blocks = [Block(num_rows=1, sha256="0" * 64)]
    a, b = Column(name="a", type="int64"), Column(name="b", type="int64")
    digests = {
        content_digest([a, b], {"train": blocks}),
        content_digest([b, a], {"train": blocks}),
        content_digest([a, Column(name="c", type="int64")], {"train": blocks}),
        content_digest([a, Column(name="b", type="int32")], {"train": blocks}),
        content_digest([a, Column(name="b", type="int64", shape=(1,))], {"train": blocks}),
        content_digest([a, b], {"test": blocks}),
        content_digest([a, b], {"train": [*blocks, *blocks]}),
    }
    assert len(digests) == 7
    pair = {"a": blocks, "b": []}
    assert content_digest([a], pair) == content_digest([a], dict(reversed(pair.items())))


def big_table(rows=200_000):
    key = np.arange(rows, dtype=np.int64)
    return pa.table({"key": key, "value": key * 2_654_435_761 % 2**32 / 2**32})


def test_an_inserted_row_leaves_most_blocks_unchanged():
    table = big_table()
    inserted = pa.concat_tables([table.slice(0, 90_000), table.slice(17, 1), table.slice(90_000)])
    before, after = (blocks_of_table(item) for item in (table, inserted))
    assert len(before) >= 4
    assert sum(block.num_rows for block in after) == 200_001
    assert len({block.sha256 for block in after} - {block.sha256 for block in before}) <= 2


def blocks_of_table(table, batch_rows=50_000):
    hasher = ContentHasher(table.schema)
    for batch in table.to_batches(max_chunksize=batch_rows):
        hasher.update(batch)
    return hasher.finish()


def test_blocks_keep_their_bounds():
    constant = pa.table({"x": np.zeros(600_000, np.int8)})
    for table in (big_table(), constant):
        rows = [block.num_rows for block in blocks_of_table(table)]
        assert sum(rows) == table.num_rows
        assert max(rows) <= 262_144
        assert min(rows[:-1], default=8_192) >= 8_192
    assert blocks_of_table(constant, 1_000) == blocks_of_table(constant, 600_000)


@unhurried
@given(st.integers(3_000, 70_000), st.integers(3_000, 70_000))
def test_real_bounds_do_not_see_batches(first, second):
    table = big_table(100_000)
    assert blocks_of_table(table, first) == blocks_of_table(table, second)


@unhurried
@given(st.integers(1, 100), st.sampled_from(["u1", "f4"]))
def test_wide_rows_are_cut_alike_in_any_batches(width, code):
    values = np.random.default_rng(width).integers(0, 250, 40 * width).astype(code)
    column = pa.FixedSizeListArray.from_arrays(pa.array(values), width)
    assert blocks_of(column, (1, 7, 20)) == blocks_of(column)
    assert len(blocks_of(column)) > 3


@unhurried
@given(TYPES)
def test_columns_and_schema_are_inverse(kind):
    schema = pa.schema([("x", kind)])
    described = columns_of(schema)
    assert columns_of(arrow_schema(described)) == described
    assert print_type(parse_type(print_type(kind))) == print_type(kind)
    batch = pa.RecordBatch.from_arrays([pa.array([None], kind)], schema=schema)
    assert canonical_batch(batch).schema == arrow_schema(described)


def test_shape_is_taken_from_fixed_size_lists():
    kind = pa.list_(pa.list_(pa.uint8(), 28), 3)
    assert columns_of(pa.schema([("image", kind)])) == (Column(name="image", type="uint8", shape=(3, 28)),)


def test_a_tensor_column_is_its_nested_lists():
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    plain = pa.array(np.arange(24).reshape(2, 3, 4).tolist(), pa.list_(pa.list_(pa.int16(), 4), 3))
    assert columns_of(pa.schema([("x", tensor.type)]))[0].shape == (3, 4)
    assert blocks_of(tensor) == blocks_of(plain)
    assert blocks_of(tensor.slice(1)) == blocks_of(plain.slice(1))


@pytest.mark.parametrize(
    "kind",
    [
        pa.sparse_union([pa.field("a", pa.int8()), pa.field("b", pa.string())]),
        pa.list_(pa.dense_union([pa.field("a", pa.int8())])),
        pa.list_(pa.int8(), 0),
        pa.fixed_shape_tensor(pa.int8(), [2, 3], permutation=[1, 0]),
    ],
    ids=str,
)
def test_a_type_that_cannot_be_kept_is_refused_by_name(kind):
    with pytest.raises(TypeError, match="column 'odd'"):
        columns_of(pa.schema([("odd", kind)]))


def test_a_name_that_stands_twice_is_refused():
    with pytest.raises(TypeError, match="column 'x': the name stands twice"):
        columns_of(pa.schema([("x", pa.int8()), ("x", pa.int8())]))


@pytest.mark.parametrize(
    "text", ["", "int65", "list<int8>", "struct<a int8>", "int8>", "list<item: int8", "?", "map<>"]
)
def test_text_that_is_no_type_is_refused(text):
    with pytest.raises(ValueError, match="no column type"):
        parse_type(text)


def test_other_columns_within_a_stream_are_refused():
    hasher = ContentHasher(pa.schema([("x", pa.int8())]))
    with pytest.raises(TypeError, match="columns changed"):
        hasher.update(pa.record_batch({"x": pa.array([1], pa.int16())}))


def test_a_huge_batch_is_taken_in_parts(monkeypatch):
    table = big_table(30_000)
    expected = blocks_of_table(table)
    monkeypatch.setattr("coralord_lightning.spec.digest._UPDATE_BYTES", 1_000)
    assert blocks_of_table(table) == expected


def test_an_empty_stream_has_no_blocks():
    assert blocks_of(pa.array([], pa.string())) == ()


def test_golden_digests_never_move():
    table = pa.table(
        {
            "key": pa.array([1, 2, None], pa.int64()),
            "value": pa.array([0.5, math.nan, -0.0], pa.float32()),
            "text": pa.array(["a", None, "grüße"]),
            "flag": pa.array([True, False, None]),
            "image": pa.array([[[1, 2], [3, 4]], None, [[5, 6], [7, None]]], pa.list_(pa.list_(pa.uint8(), 2), 2)),
            "tags": pa.array([["x", "y"], [], None], pa.list_(pa.string())),
            "at": pa.array([0, 1, 2], pa.timestamp("us", "UTC")),
            "price": pa.array([None, 1, 2], pa.decimal128(9, 2)),
            "point": pa.array([{"x": 1}, None, {"x": None}], pa.struct([("x", pa.int32())])),
            "bag": pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int8())),
        }
    )
    assert table_digest(table) == "ca88c520680614bfba5fd42011bcf970624b39afec2d7bba52a7e38fbbe4377a"
    assert table_digest(big_table()) == "d7538348cdf87d590a7240f8da2bc60618b51aa2edbb80cd80b6b12eae1f15af"
    rows = [block.num_rows for block in blocks_of_table(big_table())]
    assert rows == [9355, 16586, 72997, 37840, 16386, 46836]


def test_golden_cuts_never_move():
    batch = pa.record_batch({"x": np.arange(200)})
    hasher = ContentHasher(batch.schema, bounds=BlockBounds(min_rows=8, max_rows=32, cut_bits=3))
    hasher.update(batch)
    rows = [block.num_rows for block in hasher.finish()]
    assert rows == [14, 12, 19, 15, 12, 8, 10, 22, 19, 11, 21, 9, 15, 13], "one of the least length is among them"

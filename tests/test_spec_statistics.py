"""Statistics: exact for whole numbers, stable for others, the same however rows are cut and merged."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coralord_lightning.builder.measure import Meter
from coralord_lightning.spec.columns import columns_of
from coralord_lightning.spec.statistics import FieldStatistics, Tally, merge_tallies

INTS = [getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)]


def tallies(*batches: pa.Array) -> Tally:
    meter = Meter(columns_of(pa.schema([("x", batches[0].type)])))
    for batch in batches:
        meter.update(pa.record_batch({"x": batch}))
    return meter.finish()["x"]


def measured(*batches: pa.Array) -> FieldStatistics:
    return tallies(*batches).statistics()


@pytest.mark.parametrize("kind", INTS, ids=str)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_whole_numbers_are_summed_exactly(kind: pa.DataType, data: st.DataObject) -> None:
    low, high = (0, 2**kind.bit_width - 1) if str(kind).startswith("u") else (
        -(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1,
    )  # fmt: skip
    value = st.one_of(st.integers(low, high), st.sampled_from([low, high, 0, 1]), st.none())
    parts = data.draw(st.lists(st.lists(value, max_size=90), min_size=1, max_size=3))
    found = tallies(*[pa.array(part, kind) for part in parts])
    values = [value for part in parts for value in part if value is not None]

    assert (found.count, found.nulls) == (len(values), sum(map(len, parts)) - len(values))
    assert (found.total, found.squares) == (sum(values), sum(value * value for value in values))
    if values:
        assert (found.min, found.max) == (min(values), max(values))
        assert found.statistics().mean == sum(values) / len(values)
    counts = {value: values.count(value) for value in values}
    assert found.distinct == (counts if len(counts) <= 64 else None)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 131_071, 131_073, 400_001])
@pytest.mark.parametrize("levels", [3, 256])
def test_bytes_are_counted_like_any_number(size: int, levels: int) -> None:
    values = np.random.default_rng(size).integers(0, levels, size).astype(np.uint8)
    found = tallies(pa.array(values))
    wide = values.astype(np.int64)

    assert (found.count, found.total, found.squares) == (size, int(wide.sum()), int((wide * wide).sum()))
    kinds, counts = np.unique(values, return_counts=True)
    assert found.distinct == (dict(zip(kinds.tolist(), counts.tolist(), strict=True)) if len(kinds) <= 64 else None)


def test_wide_numbers_over_many_chunks_are_exact() -> None:
    values = np.random.default_rng(0).integers(-(2**62), 2**62, 600_000)
    found = tallies(pa.array(values))
    exact = [int(value) for value in values]

    assert (found.total, found.squares) == (sum(exact), sum(value * value for value in exact))


def test_a_tensor_counts_by_its_elements_and_not_beneath_its_nulls() -> None:
    inner = pa.array([1, 2, 3, 4, 99, 99, None, 8], pa.uint8())
    pairs = pa.FixedSizeListArray.from_arrays(inner, 2, mask=pa.array([False, False, True, False]))
    nested = pa.FixedSizeListArray.from_arrays(pairs, 2)
    found = measured(nested.slice(0, 1), nested.slice(1))

    assert (found.count, found.nulls, found.min, found.max) == (5, 2, 1, 8)
    assert found.distinct == {1: 1, 2: 1, 3: 1, 4: 1, 8: 1}


def test_ragged_lists_count_by_their_elements() -> None:
    found = measured(pa.array([[1.5], [], None, [2.5, None]], pa.list_(pa.float32())))

    assert (found.kind, found.count, found.nulls, found.mean) == ("float", 2, 2, 2.0)


def test_what_is_no_number_is_counted_apart() -> None:
    found = measured(pa.array([1.0, math.nan, math.inf, -math.inf, 3.0, None], pa.float64()))

    assert (found.count, found.nulls, found.nan, found.inf) == (5, 1, 1, 2)
    assert (found.min, found.max, found.mean, found.std) == (1.0, 3.0, 2.0, 1.0)
    assert found.distinct is None


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()], ids=str)
def test_nothing_but_nan_has_no_mean(kind: pa.DataType) -> None:
    found = measured(pa.array(np.array([np.nan, np.nan], kind.to_pandas_dtype())))

    assert (found.count, found.nan, found.min, found.mean, found.std) == (2, 2, None, None, None)


def test_floats_far_from_zero_keep_their_spread() -> None:
    values = np.random.default_rng(0).normal(1e9, 1e-3, 700_000)
    found = measured(*[pa.array(part) for part in np.array_split(values, 7)])
    exact = sum(map(Fraction, values.tolist())) / len(values)

    assert found.mean == pytest.approx(float(exact), rel=1e-15)
    assert found.std == pytest.approx(float(np.std(values - 1e9)), rel=1e-6)


def test_floats_that_overflow_have_no_spread() -> None:
    found = measured(pa.array([1e308, -1e308, 1e308]))

    assert (found.min, found.max, found.std) == (-1e308, 1e308, None)
    assert json.dumps(found.to_json(), allow_nan=False)


def test_texts_and_booleans_are_counted_while_they_are_few() -> None:
    texts = measured(pa.array(["b", "a", None, "b"]))
    flags = measured(pa.array([True, None, True, False]))

    assert (texts.count, texts.nulls, list(texts.distinct.items())) == (3, 1, [("a", 1), ("b", 2)])
    assert (flags.min, flags.max, flags.mean, flags.distinct) == (0, 1, 2 / 3, {False: 1, True: 2})
    assert measured(pa.array([str(n) for n in range(64)])).distinct is not None
    assert measured(pa.array([str(n) for n in range(65)])).distinct is None
    assert measured(pa.array(["é" * 64])).distinct == {"é" * 64: 1}
    assert measured(pa.array(["é" * 65])).distinct is None


def test_once_there_are_too_many_values_none_is_told() -> None:
    found = measured(pa.array(range(60)), pa.array(range(30, 90)), pa.array([1]))

    assert (found.distinct, found.count, found.max) == (None, 121, 89)


@pytest.mark.parametrize(
    "column",
    [pa.array([b"x", None]), pa.array([{"a": 1}, None]), pa.array([None, 3], pa.date32()), pa.nulls(2)],
    ids=lambda column: str(column.type),
)
def test_other_types_have_counts_alone(column: pa.Array) -> None:
    found = measured(column)

    assert (found.kind, found.count + found.nulls, found.min, found.distinct) == ("other", 2, None, None)


FIELD = st.one_of(
    st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), max_size=30).map(
        lambda v: pa.array(v, pa.int64())
    ),
    st.lists(st.one_of(st.none(), st.floats(width=32)), max_size=30).map(lambda v: pa.array(v, pa.float32())),
    st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=30).map(lambda v: pa.array(v, pa.string())),
    st.lists(st.one_of(st.none(), st.booleans()), max_size=30).map(lambda v: pa.array(v, pa.bool_())),
)


@settings(deadline=None)
@given(FIELD, st.integers(0, 30))
def test_parts_read_back_from_json_merge_to_the_whole(column: pa.Array, cut: int) -> None:
    parts = [tallies(column.slice(0, cut)), tallies(column.slice(cut))]
    texts = [json.dumps(part.to_json(), allow_nan=False) for part in parts]
    merged = merge_tallies([{"x": Tally.from_json(json.loads(text))} for text in texts])["x"]
    whole = tallies(column)
    told = merged.statistics()

    assert [Tally.from_json(json.loads(text)) for text in texts] == parts
    assert FieldStatistics.from_json(json.loads(json.dumps(told.to_json(), allow_nan=False))) == told
    assert {key: value for key, value in told.to_json().items() if key not in ("mean", "std")} == {
        key: value for key, value in whole.statistics().to_json().items() if key not in ("mean", "std")
    }
    if told.mean is not None and whole.kind != "float":
        assert (told.mean, told.std) == (whole.statistics().mean, whole.statistics().std)


def test_measuring_imports_no_pandas() -> None:
    code = """
import sys, pyarrow as pa
from coralord_lightning.builder.measure import Meter
from coralord_lightning.spec.manifest import Column
kinds = {"a": "int64", "b": "string", "c": "bool", "d": "double"}
batch = pa.RecordBatch.from_arrays([pa.nulls(3, pa.type_for_alias(kind)) for kind in kinds.values()], names=list(kinds))
meter = Meter([Column(name=name, type=kind) for name, kind in kinds.items()])
meter.update(batch)
text = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(bytes(4) + b"\\1\\0\\0\\0"), pa.py_buffer(b"x")])
meter = Meter([Column(name="b", type="string")])
meter.update(pa.RecordBatch.from_arrays([text], names=["b"]))
assert meter.finish()["b"].distinct == {"x": 1}
assert "pandas" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)

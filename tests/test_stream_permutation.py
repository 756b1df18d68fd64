"""The keyed permutation: a bijection for any number of rows, flat over positions and neighbours, in no memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coralord_lightning.stream.permutation import MAX_ROWS, Permutation
from statistics_of_orders import z_score

# Below, at and above: one pass, other rounds, the squares and their neighbours, and the change to 64-bit words.
SIZES = [1, 2, 3, 4, 5, 17, 4095, 4096, 4097, 32_768, 32_769, 65_535, 65_536, 65_537, 99_991]
HUGE = [2**31, 2**32 - 2, 2**32 - 1, 2**32, 2**32 + 1, 10**12 + 39, MAX_ROWS]


def values_of(num_rows: int, key: str = "key") -> np.ndarray:
    return Permutation.keyed(num_rows, key).at(np.arange(num_rows, dtype=np.int64))


def many_orders(num_rows: int, trials: int) -> np.ndarray:
    """The orders of many keys, int64[trials, num_rows]: the same arithmetic with arrays of keys, to be quick."""
    keys = np.array([Permutation.keyed(num_rows, f"trial {trial}").keys for trial in range(trials)], np.uint64)
    columns = tuple(np.repeat(keys[:, number], num_rows) for number in range(keys.shape[1]))
    network = Permutation(num_rows=num_rows, keys=columns)  # type: ignore[arg-type]
    values = network._feistel(np.tile(np.arange(num_rows, dtype=np.uint32), trials))
    while (values >= num_rows).any():
        values = np.where(values >= num_rows, network._feistel(values.copy()), values)
    orders = values.reshape(trials, num_rows).astype(np.int64)
    for trial in (0, trials // 2, trials - 1):
        assert np.array_equal(orders[trial], values_of(num_rows, f"trial {trial}"))
    return orders


@settings(deadline=None)
@given(num_rows=st.integers(0, 3000), key=st.text(max_size=9))
def test_every_value_stands_at_exactly_one_position(num_rows: int, key: str) -> None:
    values = values_of(num_rows, key)

    assert values.dtype == np.int64
    assert np.array_equal(np.sort(values), np.arange(num_rows))


@pytest.mark.parametrize("num_rows", [*SIZES, 1_000_000])
def test_large_ones_are_bijections_too(num_rows: int) -> None:
    assert np.array_equal(np.sort(values_of(num_rows)), np.arange(num_rows))


@settings(deadline=None)
@given(data=st.data(), num_rows=st.sampled_from([*SIZES, *HUGE]))
def test_a_range_is_the_same_whatever_is_asked_with_it(data: st.DataObject, num_rows: int) -> None:
    start = data.draw(st.integers(0, num_rows))
    stop = data.draw(st.integers(start, min(num_rows, start + 400)))
    cut = data.draw(st.integers(start, stop))
    permutation = Permutation.keyed(num_rows, "key")

    whole = permutation.at(np.arange(start, stop))

    parts = [permutation.at(np.arange(start, cut)), permutation.at(np.arange(cut, stop))]
    assert np.array_equal(whole, np.concatenate(parts))
    assert np.all((whole >= 0) & (whole < num_rows))
    assert len(np.unique(whole)) == len(whole)


@pytest.mark.parametrize("num_rows", HUGE)
def test_the_ends_of_huge_ones_have_values_of_their_own(num_rows: int) -> None:
    ends = np.array([0, 1, num_rows // 2, num_rows - 2, num_rows - 1])

    values = Permutation.keyed(num_rows, "key").at(ends)

    assert len(np.unique(values)) == 5
    assert np.all((values >= 0) & (values < num_rows))


@pytest.mark.parametrize("num_rows", [3, 4097, 10**6, 2**33])
def test_every_key_gives_another_one(num_rows: int) -> None:
    some = np.arange(min(num_rows, 100))
    texts = [f"{key}" for key in range(3 if num_rows == 3 else 50)]
    orders = {tuple(Permutation.keyed(num_rows, text).at(some).tolist()) for text in texts}

    assert len(orders) >= min(len(texts), 2)
    if num_rows > 3:
        assert len(orders) == len(texts)


@pytest.mark.parametrize("num_rows", [2, 3, 5, 7, 9, 12, 16, 25, 40])
def test_rows_are_spread_flatly_over_positions_and_neighbours(num_rows: int) -> None:
    trials = 3000
    orders = many_orders(num_rows, trials)
    places = np.zeros((num_rows, num_rows))
    pairs = np.zeros((num_rows, num_rows))
    np.add.at(places, (np.tile(np.arange(num_rows), (trials, 1)), orders), 1)
    np.add.at(pairs, (orders[:, :-1], orders[:, 1:]), 1)

    assert z_score(places, trials / num_rows) < 4.5
    others = pairs[~np.eye(num_rows, dtype=bool)]
    assert z_score(others, trials / num_rows) < 4.5


def test_every_order_of_four_rows_comes_as_often() -> None:
    orders = many_orders(4, 12_000)

    codes = np.unique(orders @ np.array([64, 16, 4, 1]), return_counts=True)[1]

    assert len(codes) == 24
    assert z_score(codes, 500) < 4.5


@pytest.mark.parametrize("num_rows", [3_000_017, 3_000_000_019, 2**32 - 1, 10**13 + 37])
def test_a_part_of_a_huge_one_is_flat(num_rows: int) -> None:
    taken, buckets = 400_000, 40
    values = Permutation.keyed(num_rows, "part").at(np.arange(taken) + num_rows // 3)
    bucket = values // -(-num_rows // buckets)

    spread = np.bincount(bucket, minlength=buckets)
    neighbours = np.bincount(bucket[:-1] * buckets + bucket[1:], minlength=buckets**2)
    low = np.bincount(values % 64, minlength=64)

    assert z_score(spread, taken / buckets) < 4.5
    assert z_score(neighbours, taken / buckets**2) < 4.5
    assert z_score(low, taken / 64) < 4.5


def test_memory_does_not_grow_with_the_number_of_rows() -> None:
    permutation = Permutation.keyed(MAX_ROWS, "any")
    tracemalloc.start()
    permutation.at(np.arange(4096))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert len(permutation.keys) == 6
    assert permutation.at(np.array([[0, 1], [MAX_ROWS - 1, 5]])).shape == (2, 2)
    assert peak < 2**20

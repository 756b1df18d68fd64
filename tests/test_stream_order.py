"""The order of an epoch: a bijection for any number of rows, flat, keyed, and cut equally for any number of ranks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coralord_lightning.stream.order import SplitOrder
from coralord_lightning.stream.permutation import MAX_ROWS, Permutation

GOLDEN_SMALL = [7, 8, 3, 5, 9, 4, 0, 6, 1, 2]
GOLDEN_LARGE = [599130820, 839928683, 941868312, 285723919]
GOLDEN_HUGE = [64862943322, 39589543847, 64831137975, 55787233545]
GOLDEN_LANES = [0, 1, 3, 2, 4, 6, 5, 7, 8, 9]
GOLDEN_BLOCKS = [35, 744, 119, 493, 611, 905, 545, 494]


def example_order(num_rows: int, **changes: object) -> SplitOrder:
    return SplitOrder(**{"num_rows": num_rows, "content_digest": "ab" * 32, **changes})  # type: ignore[arg-type]


def rows_of(order: SplitOrder, start: int, stop: int, *, epoch: int = 0) -> np.ndarray:
    return order.at(epoch, np.arange(start, stop, dtype=np.int64))


def z_score(counts: np.ndarray, expected: float) -> float:
    """How many standard deviations chi-square lies above its mean."""
    degrees = counts.size - 1
    return (((counts - expected) ** 2 / expected).sum() - degrees) / (2 * degrees) ** 0.5


@settings(deadline=None)
@given(num_rows=st.integers(0, 3000), seed=st.integers(-(2**70), 2**70), epoch=st.integers(0, 2**40))
def test_every_row_stands_at_exactly_one_position(num_rows: int, seed: int, epoch: int) -> None:
    rows = rows_of(example_order(num_rows, seed=seed), 0, num_rows, epoch=epoch)

    assert rows.dtype == np.int64
    assert np.array_equal(np.sort(rows), np.arange(num_rows))


@pytest.mark.parametrize("num_rows", [4095, 4096, 65_535, 65_537, 99_991, 1_000_000])
def test_large_orders_are_bijections_too(num_rows: int) -> None:
    assert np.array_equal(np.sort(rows_of(example_order(num_rows), 0, num_rows)), np.arange(num_rows))


@settings(deadline=None)
@given(data=st.data(), num_rows=st.sampled_from([1, 2, 3, 17, 4097, 10**6, 10**9, 10**12 + 39, MAX_ROWS]))
def test_a_range_is_the_same_whatever_is_asked_with_it(data: st.DataObject, num_rows: int) -> None:
    start = data.draw(st.integers(0, num_rows))
    stop = data.draw(st.integers(start, min(num_rows, start + 400)))
    cut = data.draw(st.integers(start, stop))
    order = example_order(num_rows)

    whole = rows_of(order, start, stop)

    assert np.array_equal(whole, np.concatenate([rows_of(order, start, cut), rows_of(order, cut, stop)]))
    assert np.all((whole >= 0) & (whole < num_rows))
    assert len(np.unique(whole)) == len(whole)


@pytest.mark.parametrize("change", [{"seed": 1}, {"content_digest": "cd" * 32}, {"epoch": 1}])
def test_order_changes_with_everything_that_keys_it(change: dict[str, object]) -> None:
    epoch = change.pop("epoch", 0)
    base = example_order(5000)

    assert not np.array_equal(rows_of(example_order(5000, **change), 0, 5000, epoch=epoch), rows_of(base, 0, 5000))  # type: ignore[arg-type]


def test_order_without_shuffle_is_the_stored_one() -> None:
    assert rows_of(example_order(7, shuffle=False), 2, 6, epoch=3).tolist() == [2, 3, 4, 5]


def test_order_stays_what_it_was_in_earlier_releases() -> None:
    assert rows_of(example_order(10, seed=7), 0, 10, epoch=2).tolist() == GOLDEN_SMALL
    assert rows_of(example_order(10**9, seed=7), 0, 4, epoch=2).tolist() == GOLDEN_LARGE
    assert rows_of(example_order(10**11, seed=7), 0, 4, epoch=2).tolist() == GOLDEN_HUGE
    assert rows_of(example_order(10, seed=7, lanes=3), 0, 10, epoch=2).tolist() == GOLDEN_LANES
    blocks = example_order(1000, seed=7, shuffle="block", block_rows=4)
    assert rows_of(blocks, 0, 8, epoch=2).tolist() == GOLDEN_BLOCKS


@pytest.mark.parametrize("num_rows", [2, 3, 5, 7, 9, 12, 16, 25, 40])
def test_rows_are_spread_flatly_over_positions_and_neighbours(num_rows: int) -> None:
    trials = 2500
    places = np.zeros((num_rows, num_rows))
    pairs = np.zeros((num_rows, num_rows))
    for seed in range(trials):
        rows = rows_of(example_order(num_rows, seed=seed), 0, num_rows)
        places[np.arange(num_rows), rows] += 1
        pairs[rows[:-1], rows[1:]] += 1

    assert z_score(places, trials / num_rows) < 4.5
    others = pairs[~np.eye(num_rows, dtype=bool)]
    assert z_score(others, trials / num_rows) < 4.5


def test_a_large_order_mixes_far_and_near() -> None:
    num_rows, buckets = 1_000_003, 50
    rows = rows_of(example_order(num_rows, seed=3), 0, num_rows)
    bucket = rows * buckets // num_rows
    at = np.arange(num_rows) * buckets // num_rows

    spread = np.bincount(at * buckets + bucket, minlength=buckets**2)
    neighbours = np.bincount(bucket[:-1] * buckets + bucket[1:], minlength=buckets**2)

    assert z_score(spread, num_rows / buckets**2) < 4.5
    assert z_score(neighbours, num_rows / buckets**2) < 4.5


def test_memory_does_not_grow_with_the_number_of_rows() -> None:
    permutation = Permutation.keyed(MAX_ROWS, "any")

    assert len(permutation.keys) == 8
    assert permutation.at(np.array([[0, 1], [MAX_ROWS - 1, 5]])).shape == (2, 2)

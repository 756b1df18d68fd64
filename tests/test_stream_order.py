"""The order of an epoch: a bijection for any number of rows, flat, keyed, and cut equally for any number of ranks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coralord_lightning.stream.order import MAX_ROWS, BatchLayout, Order, Permutation

GOLDEN_SMALL = [6, 0, 2, 7, 4, 8, 3, 5, 1, 9]
GOLDEN_LARGE = [968118113, 138807126, 517473968, 936111689]


def example_order(num_rows: int, **changes: object) -> Order:
    return Order(**{"num_rows": num_rows, "content_digest": "ab" * 32, **changes})  # type: ignore[arg-type]


def z_score(counts: np.ndarray, expected: float) -> float:
    """How many standard deviations chi-square lies above its mean."""
    degrees = counts.size - 1
    return (((counts - expected) ** 2 / expected).sum() - degrees) / (2 * degrees) ** 0.5


@settings(deadline=None)
@given(num_rows=st.integers(0, 3000), seed=st.integers(-(2**70), 2**70), epoch=st.integers(0, 2**40))
def test_every_row_stands_at_exactly_one_position(num_rows: int, seed: int, epoch: int) -> None:
    rows = example_order(num_rows, seed=seed).rows(0, num_rows, epoch=epoch)

    assert rows.dtype == np.int64
    assert np.array_equal(np.sort(rows), np.arange(num_rows))


@pytest.mark.parametrize("num_rows", [4095, 4096, 65_535, 65_537, 99_991, 1_000_000])
def test_large_orders_are_bijections_too(num_rows: int) -> None:
    assert np.array_equal(np.sort(example_order(num_rows).rows(0, num_rows)), np.arange(num_rows))


@settings(deadline=None)
@given(data=st.data(), num_rows=st.sampled_from([1, 2, 3, 17, 4097, 10**6, 10**9, 10**12 + 39, MAX_ROWS]))
def test_a_range_is_the_same_whatever_is_asked_with_it(data: st.DataObject, num_rows: int) -> None:
    start = data.draw(st.integers(0, num_rows))
    stop = data.draw(st.integers(start, min(num_rows, start + 400)))
    cut = data.draw(st.integers(start, stop))
    order = example_order(num_rows)

    whole = order.rows(start, stop)

    assert np.array_equal(whole, np.concatenate([order.rows(start, cut), order.rows(cut, stop)]))
    assert np.all((whole >= 0) & (whole < num_rows))
    assert len(np.unique(whole)) == len(whole)


@pytest.mark.parametrize("change", [{"seed": 1}, {"content_digest": "cd" * 32}, {"epoch": 1}])
def test_order_changes_with_everything_that_keys_it(change: dict[str, object]) -> None:
    epoch = change.pop("epoch", 0)
    base = example_order(5000)

    assert not np.array_equal(example_order(5000, **change).rows(0, 5000, epoch=epoch), base.rows(0, 5000))  # type: ignore[arg-type]


def test_order_without_shuffle_is_the_stored_one() -> None:
    assert example_order(7, shuffle=False).rows(2, 6, epoch=3).tolist() == [2, 3, 4, 5]


def test_order_stays_what_it_was_in_earlier_releases() -> None:
    assert example_order(10, seed=7).rows(0, 10, epoch=2).tolist() == GOLDEN_SMALL
    assert example_order(10**9, seed=7).rows(0, 4, epoch=2).tolist() == GOLDEN_LARGE


@pytest.mark.parametrize("num_rows", [2, 3, 5, 7, 9, 12, 16, 25, 40])
def test_rows_are_spread_flatly_over_positions_and_neighbours(num_rows: int) -> None:
    trials = 2500
    places = np.zeros((num_rows, num_rows))
    pairs = np.zeros((num_rows, num_rows))
    for seed in range(trials):
        rows = example_order(num_rows, seed=seed).rows(0, num_rows)
        places[np.arange(num_rows), rows] += 1
        pairs[rows[:-1], rows[1:]] += 1

    assert z_score(places, trials / num_rows) < 4.5
    others = pairs[~np.eye(num_rows, dtype=bool)]
    assert z_score(others, trials / num_rows) < 4.5


def test_a_large_order_mixes_far_and_near() -> None:
    num_rows, buckets = 1_000_003, 50
    rows = example_order(num_rows, seed=3).rows(0, num_rows)
    bucket = rows * buckets // num_rows
    at = np.arange(num_rows) * buckets // num_rows

    spread = np.bincount(at * buckets + bucket, minlength=buckets**2)
    neighbours = np.bincount(bucket[:-1] * buckets + bucket[1:], minlength=buckets**2)

    assert z_score(spread, num_rows / buckets**2) < 4.5
    assert z_score(neighbours, num_rows / buckets**2) < 4.5


@settings(deadline=None)
@given(
    num_rows=st.integers(0, 400),
    share=st.integers(1, 40),
    world_size=st.integers(1, 9),
    drop_last=st.booleans(),
)
def test_ranks_have_equal_batches_and_cover_each_row_once(
    num_rows: int, share: int, world_size: int, drop_last: bool
) -> None:
    layout = BatchLayout(num_rows=num_rows, global_batch=share * world_size, world_size=world_size, drop_last=drop_last)
    order = example_order(num_rows)
    seen: list[int] = []

    for step in range(layout.num_batches):
        batches = [order.batch_rows(layout, epoch=1, step=step, rank=rank) for rank in range(world_size)]
        assert len({len(batch.rows) for batch in batches}) == 1
        assert len(batches[0].rows) == share or (step == layout.num_batches - 1 and not drop_last)
        assert all((batch.is_padding is not None) == layout.is_padded for batch in batches)
        for batch in batches:
            assert np.all((batch.rows >= 0) & (batch.rows < num_rows))
            kept = batch.rows if batch.is_padding is None else batch.rows[~batch.is_padding]
            seen.extend(kept.tolist())

    tail = num_rows % (share * world_size) if drop_last else 0
    assert seen == order.rows(0, num_rows - tail, epoch=1).tolist()


@pytest.mark.parametrize(
    ("num_rows", "world_size", "drop_last", "num_batches", "is_padded"),
    [
        (0, 1, False, 0, False),
        (0, 4, False, 0, False),
        (1, 4, False, 1, True),
        (1, 4, True, 0, False),
        (16, 4, False, 1, False),
        (20, 4, False, 2, False),
        (21, 4, False, 2, True),
        (21, 4, True, 1, False),
        (21, 1, False, 6, False),
    ],
)
def test_padding_is_only_where_ranks_would_differ(
    num_rows: int, world_size: int, drop_last: bool, num_batches: int, is_padded: bool
) -> None:
    layout = BatchLayout(num_rows=num_rows, global_batch=4 * world_size, world_size=world_size, drop_last=drop_last)

    assert (layout.num_batches, layout.is_padded) == (num_batches, is_padded)


def test_the_global_sequence_is_the_same_on_any_number_of_ranks() -> None:
    order = example_order(100)
    sequences = []
    for world_size in (1, 2, 4):
        layout = BatchLayout(num_rows=100, global_batch=8, world_size=world_size)
        steps = [
            [order.batch_rows(layout, epoch=0, step=step, rank=rank) for rank in range(world_size)]
            for step in range(layout.num_batches)
        ]
        sequences.append([row for step in steps for batch in step for row in batch.rows.tolist()])

    assert sequences[0] == sequences[1] == sequences[2]


def test_memory_does_not_grow_with_the_number_of_rows() -> None:
    permutation = Permutation.keyed(MAX_ROWS, "any")

    assert len(permutation.keys) == 8
    assert permutation.at(np.array([[0, 1], [MAX_ROWS - 1, 5]])).shape == (2, 2)

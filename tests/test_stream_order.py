"""The order of an epoch: keyed by all that it depends on and nothing else, whole in every lane and window."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coralord_lightning.stream.order import (
    BLOCK_BYTES,
    WINDOW_BLOCKS,
    Shuffle,
    SplitOrder,
    block_rows_for,
    lane_starts,
)

GOLDEN_SMALL = [7, 8, 3, 5, 9, 4, 0, 6, 1, 2]
GOLDEN_LARGE = [783878806, 279845800, 424963872, 415501728]
GOLDEN_HUGE = [54715589262, 64737204516, 44448546093, 84795689082]
GOLDEN_LANES = [0, 1, 3, 2, 4, 6, 5, 7, 8, 9]
GOLDEN_BLOCKS = [35, 744, 119, 493, 611, 905, 545, 494]


def example_order(num_rows: int, **changes: object) -> SplitOrder:
    return SplitOrder(**{"num_rows": num_rows, "content_digest": "ab" * 32, **changes})  # type: ignore[arg-type]


def rows_of(order: SplitOrder, start: int, stop: int, *, epoch: int = 0, repeat: int = 0) -> np.ndarray:
    return order.at(epoch, np.arange(start, stop, dtype=np.int64), repeat=repeat)


def blocks(**changes: object) -> SplitOrder:
    return example_order(**{"num_rows": 3000, "shuffle": "block", "block_rows": 8} | changes)


@settings(deadline=None, max_examples=150)
@given(
    num_rows=st.integers(0, 3000),
    seed=st.integers(-(2**70), 2**70),
    epoch=st.integers(0, 2**40),
    shuffle=st.sampled_from(["full", "block"]),
    lanes=st.sampled_from([1, 2, 3, 8]),
    block_rows=st.sampled_from([1, 2, 16, 100]),
)
def test_every_row_stands_at_exactly_one_position(
    num_rows: int, seed: int, epoch: int, shuffle: Shuffle, lanes: int, block_rows: int
) -> None:
    order = example_order(num_rows, seed=seed, shuffle=shuffle, lanes=lanes, block_rows=block_rows)

    rows = rows_of(order, 0, num_rows, epoch=epoch)

    assert rows.dtype == np.int64
    assert np.array_equal(np.sort(rows), np.arange(num_rows))
    starts = lane_starts(num_rows, lanes).tolist()
    for first, last in itertools.pairwise(starts):  # and in its own lane
        assert np.array_equal(np.sort(rows[first:last]), np.arange(first, last))


@settings(deadline=None, max_examples=40)
@given(data=st.data(), shuffle=st.sampled_from([False, "full", "block"]), lanes=st.sampled_from([1, 3]))
def test_a_position_has_the_same_row_whatever_is_asked_with_it(
    data: st.DataObject, shuffle: Shuffle, lanes: int
) -> None:
    order = example_order(10_000, shuffle=shuffle, lanes=lanes, block_rows=4)
    whole = rows_of(order, 0, 10_000)
    asked = np.array(data.draw(st.lists(st.integers(0, 9_999), max_size=50)), np.int64)

    assert np.array_equal(order.at(0, asked), whole[asked])


@pytest.mark.parametrize("base", [example_order(5000), example_order(5000, lanes=2), blocks(num_rows=5000)])
@pytest.mark.parametrize("change", [{"seed": 1}, {"content_digest": "cd" * 32}, {"epoch": 1}, {"repeat": 1}])
def test_order_changes_with_everything_that_keys_it(base: SplitOrder, change: dict[str, object]) -> None:
    at = {name: change[name] for name in ("epoch", "repeat") if name in change}
    fields = {name: getattr(base, name) for name in ("shuffle", "lanes", "block_rows")}
    other = example_order(5000, **fields | {name: change[name] for name in change if name not in at})

    rows, were = rows_of(other, 0, 5000, **at), rows_of(base, 0, 5000)  # type: ignore[arg-type]

    assert np.mean(rows == were) < 0.01


def test_lanes_are_of_other_orders_each() -> None:
    order = example_order(3000, lanes=3)

    first, second, third = (rows_of(order, lane * 1000, lane * 1000 + 1000) - lane * 1000 for lane in range(3))

    assert np.mean(first == second) < 0.01
    assert np.mean(second == third) < 0.01
    assert not np.array_equal(rows_of(example_order(3000, lanes=1), 0, 1000), first)


def test_blocks_windows_and_the_start_are_drawn_apart_and_by_the_size_of_blocks() -> None:
    eight, nine = rows_of(blocks(), 0, 3000), rows_of(blocks(block_rows=9), 0, 3000)
    twice = blocks(num_rows=64 * 8 * 4)

    assert np.mean(eight == nine) < 0.01
    starts = {next(iter(blocks(seed=seed).windows(0))).ranges[0][0] % 8 for seed in range(40)}
    assert starts == set(range(8))  # blocks begin at any row
    windows = list(twice.windows(0))
    within = [
        rows_of(twice, window.start, window.stop) - min(first for first, _ in window.ranges) for window in windows
    ]
    assert len(windows) == 4
    assert not any(np.array_equal(within[0], other) for other in within[1:])


def test_order_without_shuffle_is_the_stored_one() -> None:
    assert rows_of(example_order(7, shuffle=False), 2, 6, epoch=3).tolist() == [2, 3, 4, 5]
    assert rows_of(example_order(7, shuffle=False, lanes=2), 2, 6, repeat=1).tolist() == [2, 3, 4, 5]


def test_order_stays_what_it_was_in_earlier_releases() -> None:
    assert rows_of(example_order(10, seed=7), 0, 10, epoch=2).tolist() == GOLDEN_SMALL
    assert rows_of(example_order(10**9, seed=7), 0, 4, epoch=2).tolist() == GOLDEN_LARGE
    assert rows_of(example_order(10**11, seed=7), 0, 4, epoch=2).tolist() == GOLDEN_HUGE
    assert rows_of(example_order(10, seed=7, lanes=3), 0, 10, epoch=2).tolist() == GOLDEN_LANES
    block = example_order(1000, seed=7, shuffle="block", block_rows=4)
    assert rows_of(block, 0, 8, epoch=2).tolist() == GOLDEN_BLOCKS


@pytest.mark.parametrize("num_rows", [0, 1, 2, 5, 63, 64, 65, 1000, 20_000])
@pytest.mark.parametrize("lanes", [1, 3, 8])
@pytest.mark.parametrize("block_rows", [1, 16, 100])
def test_windows_name_where_the_rows_of_their_positions_lie(num_rows: int, lanes: int, block_rows: int) -> None:
    order = example_order(num_rows, shuffle="block", lanes=lanes, block_rows=block_rows)
    rows = rows_of(order, 0, num_rows, epoch=3)
    starts = lane_starts(num_rows, lanes).tolist()

    for lane in range(lanes):
        end = starts[lane]
        for window in order.windows(3, lane):
            ranges = [np.arange(first, stop) for first, stop in window.ranges]
            assert window.start == end < window.stop
            assert all(len(part) for part in ranges)
            assert np.array_equal(np.sort(rows[window.start : window.stop]), np.sort(np.concatenate(ranges)))
            end = window.stop
        assert end == starts[lane + 1]


@pytest.mark.parametrize("count", [1, 63, 64, 65, 127, 128, 129, 1000])
def test_a_window_mixes_64_to_127_blocks_and_what_fills_none(count: int) -> None:
    order = example_order(count * 16 + 9, shuffle="block", block_rows=16)

    sizes = [window.stop - window.start for window in order.windows(0)]

    assert len(sizes) == max(count // WINDOW_BLOCKS, 1)
    assert sum(sizes) == order.num_rows
    if count >= WINDOW_BLOCKS:
        assert all(WINDOW_BLOCKS * 16 <= size < 2 * WINDOW_BLOCKS * 16 for size in sizes[:-1])
        assert WINDOW_BLOCKS * 16 <= sizes[-1] < 2 * WINDOW_BLOCKS * 16 + 16
    assert max(sizes) - min(sizes) <= 16 + 9  # as equal as blocks allow


@pytest.mark.parametrize(("num_rows", "lanes"), [(0, 3), (2, 3), (10, 3), (12, 3), (7, 1)])
def test_lanes_are_runs_of_rows_as_equal_as_they_can_be(num_rows: int, lanes: int) -> None:
    sizes = np.diff(lane_starts(num_rows, lanes))

    assert sizes.sum() == num_rows
    assert sizes.max() - sizes.min() <= 1
    assert list(sizes) == sorted(sizes, reverse=True)


@pytest.mark.parametrize(
    ("row_bytes", "rows"),
    [(BLOCK_BYTES, 1), (10 * BLOCK_BYTES, 1), (1024, 4096), (1000, 4096), (785, 4096), (8, 2**19)],
)
def test_a_block_is_about_four_mebibytes_whatever_the_layout(row_bytes: int, rows: int) -> None:
    assert block_rows_for(1000, 1000 * row_bytes) == rows
    assert block_rows_for(1000, 1000 * row_bytes + 77) == rows
    assert block_rows_for(0, 0) >= 1

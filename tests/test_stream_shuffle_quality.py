"""How well epochs are mixed: `full` as by chance, `block` as by chance within windows whose bounds are stated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coralord_lightning.stream.order import WINDOW_BLOCKS, SplitOrder
from statistics_of_orders import spread_over, z_score

SIZES = [1000, 4096, 9973, 65_536, 100_003, 1_000_003]
SEEDS = [0, 1, 2**40]
BLOCK = 16


def order_of(num_rows: int, shuffle: Any, seed: int = 0, **changes: Any) -> SplitOrder:
    digest = "ab" * 32
    return SplitOrder(
        num_rows=num_rows, content_digest=digest, seed=seed, shuffle=shuffle, block_rows=BLOCK, **changes
    )  # fmt: skip


def epoch_of(order: SplitOrder, epoch: int = 0) -> np.ndarray:
    return order.at(epoch, np.arange(order.num_rows))


def places_of(rows: np.ndarray) -> np.ndarray:
    places = np.empty_like(rows)
    places[rows] = np.arange(len(rows))
    return places


def neighbours_kept(rows: np.ndarray) -> int:
    """How many rows are followed by the row that is stored after them."""
    return int((rows[1:] == rows[:-1] + 1).sum())


def buckets_for(num_rows: int) -> int:
    return int(min(50, (num_rows / 10) ** 0.5))


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """In standard deviations of what independent ones have."""
    return abs(float(np.corrcoef(first, second)[0, 1])) * len(first) ** 0.5


def require_as_by_chance(rows: np.ndarray) -> None:
    """Positions, neighbours and distances of neighbours as in a drawn permutation."""
    num_rows = len(rows)
    positions, buckets = np.arange(num_rows), buckets_for(num_rows)
    assert spread_over(positions, rows, num_rows, buckets) < 4.5
    assert spread_over(rows[:-1], rows[1:], num_rows, buckets) < 4.5
    assert spread_over(rows[:-7], rows[7:], num_rows, buckets) < 4.5
    assert correlation(positions, rows) < 4.5
    assert correlation(rows[:-1], rows[1:]) < 4.5
    assert neighbours_kept(rows) <= 8  # one is expected, whatever the number of rows
    assert z_score(np.bincount((rows[1:] - rows[:-1]) % num_rows % 32, minlength=32), (num_rows - 1) / 32) < 4.5


@pytest.mark.parametrize("num_rows", SIZES)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_full_shuffle_is_as_by_chance(num_rows: int, seed: int) -> None:
    require_as_by_chance(epoch_of(order_of(num_rows, "full", seed)))


@pytest.mark.parametrize("shuffle", ["full", "block"])
@pytest.mark.parametrize("other", [{"epoch": 1}, {"epoch": 2}, {"epoch": 1000}, {"seed": 1}, {"seed": -1}])
def test_epochs_and_seeds_are_independent_of_each_other(shuffle: str, other: dict[str, int]) -> None:
    num_rows = 70_001
    first = places_of(epoch_of(order_of(num_rows, shuffle)))
    second = places_of(epoch_of(order_of(num_rows, shuffle, other.get("seed", 0)), other.get("epoch", 0)))

    # Rows of a block stay together, so that blocks are what is independent.
    each = 1 if shuffle == "full" else BLOCK * 4
    assert correlation(first[::each], second[::each]) < 4.5
    assert spread_over(first[::each], second[::each], num_rows, 10) < 4.5


@pytest.mark.parametrize("shuffle", ["full", "block"])
def test_lanes_are_independent_of_each_other(shuffle: str) -> None:
    rows = epoch_of(order_of(4 * 20_000, shuffle, lanes=4)).reshape(4, -1)
    places = [places_of(rows[lane] - lane * 20_000)[:: 1 if shuffle == "full" else BLOCK * 4] for lane in range(4)]

    for first, second in ((0, 1), (1, 2), (0, 3)):
        assert correlation(places[first], places[second]) < 4.5


@pytest.mark.parametrize("seed", SEEDS)
def test_blocks_of_one_window_are_mixed_as_by_a_full_shuffle(seed: int) -> None:
    for num_rows in (WINDOW_BLOCKS * BLOCK, 127 * BLOCK + 5):
        order = order_of(num_rows, "block", seed)
        assert len(list(order.windows(0))) == 1
        require_as_by_chance(epoch_of(order))


def test_rows_of_a_block_land_in_one_window_of_64_to_127_blocks() -> None:
    order = order_of(1000 * BLOCK + 11, "block")
    rows, windows = epoch_of(order), list(order.windows(0))
    window_of = np.repeat(np.arange(len(windows)), [window.stop - window.start for window in windows])

    sizes = np.bincount(window_of)
    assert WINDOW_BLOCKS * BLOCK <= sizes.min() <= sizes.max() < 2 * WINDOW_BLOCKS * BLOCK
    # Stored neighbours part only where a block ends: in one of 16 places, and there mostly.
    parted = window_of[places_of(rows)][1:] != window_of[places_of(rows)][:-1]
    ends = np.flatnonzero(parted) % BLOCK
    assert len(np.unique(ends)) <= 2  # a second one where the circle of rows is closed
    assert 800 < parted.sum() <= 1001


@pytest.mark.parametrize("seed", SEEDS)
def test_within_a_window_rows_are_mixed_as_by_a_full_shuffle(seed: int) -> None:
    order = order_of(640 * BLOCK, "block", seed)
    rows, kept, expected = epoch_of(order), 0, 0.0
    for window in order.windows(0):
        within = rows[window.start : window.stop]
        ranked = np.argsort(np.argsort(within))
        require_as_by_chance(ranked)
        kept += neighbours_kept(within)
        expected += sum(stop - first - 1 for first, stop in window.ranges) / len(within)
    # Chance keeps at most 2 of the pairs that lie side by side, in either direction, for each window.
    assert kept <= expected + 4.5 * expected**0.5


def test_the_order_of_blocks_and_the_row_where_blocks_begin_are_flat() -> None:
    blocks, seeds = 256, 1500
    windows = blocks // WINDOW_BLOCKS
    counts, turns = np.zeros((blocks, windows)), np.zeros(seeds, np.int64)
    for seed in range(seeds):
        order = order_of(blocks * BLOCK, "block", seed)._blocks(0, 0, 0)
        turns[seed] = order.turn
        order_of_blocks = order.order.at(np.arange(blocks))
        counts[order_of_blocks, np.arange(blocks) // WINDOW_BLOCKS] += 1

    assert z_score(counts, seeds / windows) < 4.5
    assert z_score(np.bincount(turns // 64, minlength=blocks * BLOCK // 64), seeds / (blocks * BLOCK / 64)) < 4.5
    assert z_score(np.bincount(turns % BLOCK, minlength=BLOCK), seeds / BLOCK) < 4.5


def test_where_a_row_comes_in_an_epoch_of_blocks_is_flat_over_epochs() -> None:
    order, epochs = order_of(256 * BLOCK + 7, "block"), 400
    places = np.stack([places_of(epoch_of(order, epoch))[[0, 1, 2048, 4102]] for epoch in range(epochs)])

    for row in range(places.shape[1]):
        assert z_score(np.bincount(places[:, row] * 16 // order.num_rows, minlength=16), epochs / 16) < 4.5

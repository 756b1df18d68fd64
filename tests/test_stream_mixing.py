"""Orders that draw: exact shares of every source at any position, and rows as often as their weights say."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coralord_lightning.errors import UsageError
from coralord_lightning.stream.mixing import (
    MAX_SOURCES,
    MixedOrder,
    WeightedOrder,
    cumulate_weights,
    epoch_of_mixture,
)
from coralord_lightning.stream.order import SplitOrder
from statistics_of_orders import spread_over, z_score

Sources = tuple[list[int], list[Fraction]]

GOLDEN_MIX_ROWS = [
    1964,
    346,
    465,
    48,
    1459,
    1885,
    1734,
    911,
    1445,
    1043,
    1705,
    638,
    765,
    893,
    383,
    1156,
    1279,
    1451,
    83,
    759,
]
GOLDEN_WEIGHTED = [2, 3, 3, 3, 2, 2, 0, 3]


def mixed(sizes: Sequence[int], weights: Sequence[Fraction], num_rows: int, **changes: Any) -> MixedOrder:
    sources = tuple(SplitOrder(num_rows=rows, content_digest=f"{at}", **changes) for at, rows in enumerate(sizes))
    return MixedOrder(sources=sources, weights=tuple(weights), num_rows=num_rows, key="mixture")


def counts_of(order: MixedOrder, epoch: int = 0) -> np.ndarray:
    sources, _ = order.source_of(order.at(epoch, np.arange(order.num_rows)))
    return np.bincount(sources, minlength=len(order.sources))


@st.composite
def sources(draw: st.DrawFn) -> Sources:
    count = draw(st.sampled_from([1, 2, 3, 7, MAX_SOURCES]))
    parts = draw(st.lists(st.integers(1, 1000), min_size=count, max_size=count))
    sizes = draw(st.lists(st.integers(1, 400), min_size=count, max_size=count))
    return sizes, [Fraction(part, sum(parts)) for part in parts]


HALF_AND_MANY: Sources = ([5000] * 64, [Fraction(1, 2), *[Fraction(1, 126)] * 63])


@settings(deadline=None, max_examples=60)
@given(mixture=sources(), num_rows=st.one_of(st.integers(1, 6000), st.integers(4090, 4300), st.just(12_290)))
@example(mixture=HALF_AND_MANY, num_rows=4158)  # the others all cross a whole number in the rest of a block
def test_every_source_is_dealt_its_share_in_turn(mixture: Sources, num_rows: int) -> None:
    order = mixed(*mixture, num_rows)
    dealt_to, turns = order.deal(3, np.arange(num_rows))

    counts = np.bincount(dealt_to, minlength=len(mixture[1]))
    off = [abs(count - weight * num_rows) for count, weight in zip(counts.tolist(), mixture[1], strict=True)]
    largest = int(np.argmax([float(weight) for weight in mixture[1]]))
    assert all(share < 1 for at, share in enumerate(off) if at != largest)
    assert off[largest] < max(len(off) - 1, 1)
    for source, count in enumerate(counts.tolist()):
        assert np.array_equal(np.sort(turns[dealt_to == source]), np.arange(count))


@settings(deadline=None, max_examples=25)
@given(mixture=sources(), epoch=st.integers(0, 5))
def test_first_ends_before_a_source_repeats_and_all_when_each_row_was_seen(mixture: Sources, epoch: int) -> None:
    sizes, weights = mixture
    first, last = epoch_of_mixture(sizes, weights, "first"), min(epoch_of_mixture(sizes, weights, "all"), 20_000)

    rows = mixed(sizes, weights, first).at(epoch, np.arange(first))
    assert len(np.unique(rows)) == first
    # One sample more of each source, and some source would repeat a row.
    bound = min(Fraction(size) / weight for size, weight in zip(sizes, weights, strict=True))
    assert bound - len(sizes) / max(weights) - 1 < first <= bound

    if last < 20_000:
        rows = mixed(sizes, weights, last).at(epoch, np.arange(last))
        assert len(np.unique(rows)) == sum(sizes)
        assert last >= max(Fraction(size) / weight for size, weight in zip(sizes, weights, strict=True)) - 1


def test_an_epoch_until_the_first_source_ends_uses_all_of_it() -> None:
    halves, thirds = [Fraction(1, 2)] * 2, [Fraction(1, 3), Fraction(2, 3)]

    assert epoch_of_mixture([10, 10], halves, "first") == epoch_of_mixture([10, 10], halves, "all") == 20
    assert (epoch_of_mixture([10, 50], thirds, "first"), epoch_of_mixture([10, 50], thirds, "all")) == (30, 75)


def test_a_source_that_is_exhausted_goes_on_with_another_permutation() -> None:
    order = mixed([100, 3000], [Fraction(1, 2)] * 2, 600)
    rows = order.at(0, np.arange(600))
    turns, (sources_, places) = order.deal(0, np.arange(600))[1], order.source_of(rows)

    rounds = []
    for turn in range(3):
        chosen = (sources_ == 0) & (turns // 100 == turn)
        rounds.append(places[chosen][np.argsort(turns[chosen])])

    assert all(np.array_equal(np.sort(one), np.arange(100)) for one in rounds)
    assert not any(np.array_equal(rounds[0], other) for other in rounds[1:])


@pytest.mark.parametrize("shuffle", [False, "full", "block"])
def test_a_position_has_the_same_row_whatever_is_asked_with_it(shuffle: Any) -> None:
    order = mixed(
        [900, 5000, 700], [Fraction(1, 2), Fraction(1, 3), Fraction(1, 6)], 9000, shuffle=shuffle, block_rows=3
    )
    whole = order.at(2, np.arange(9000))
    asked = np.random.default_rng(0).integers(0, 9000, 500)

    assert np.array_equal(order.at(2, asked), whole[asked])


def test_where_a_source_is_dealt_is_flat_and_another_in_every_epoch_and_block() -> None:
    order = mixed([9000, 9000], [Fraction(3, 10), Fraction(7, 10)], 3 * 4096)
    epochs = [order.deal(epoch, np.arange(order.num_rows))[0].reshape(-1, 4096) for epoch in range(40)]
    places = np.concatenate(epochs).sum(0).reshape(64, 64).sum(1)
    # 120 decks without replacement vary by 3/10 of what independent cards would.
    assert z_score(places / 0.3, places.mean() / 0.3) < 4.5
    assert np.mean(epochs[0] == epochs[1]) < 0.65
    assert np.mean(epochs[0][0] == epochs[0][1]) < 0.65


def test_rows_are_numbered_behind_each_other() -> None:
    order = mixed([10, 20], [Fraction(1, 2)] * 2, 20)

    sources_, places = order.source_of(np.array([0, 9, 10, 29]))

    assert (sources_.tolist(), places.tolist()) == ([0, 0, 1, 1], [0, 9, 0, 19])


def test_draws_stay_what_they_were_in_earlier_releases() -> None:
    mixture = mixed([1000, 1000], [Fraction(1, 2)] * 2, 20)
    assert mixture.at(1, np.arange(20)).tolist() == GOLDEN_MIX_ROWS
    assert weighted([1, 0, 3, 4], 8).at(1, np.arange(8)).tolist() == GOLDEN_WEIGHTED


def weighted(weights: Sequence[float], num_rows: int, **changes: Any) -> WeightedOrder:
    cumulated = cumulate_weights(np.array(weights, np.float64), column="weight")
    return WeightedOrder(**{"cumulated": cumulated, "num_rows": num_rows, "content_digest": "ab", "seed": 0} | changes)


def test_rows_are_drawn_as_often_as_their_weights_say_and_never_with_none() -> None:
    weights = np.array([1.0, 0, 3, 0, 0.5, 2, 0])
    rows = weighted(weights.tolist(), 200_000).at(0, np.arange(200_000))

    counts, expected = np.bincount(rows, minlength=7), weights / weights.sum() * 200_000
    kept = weights > 0

    assert counts[~kept].sum() == 0
    assert (((counts - expected)[kept] ** 2 / expected[kept]).sum() - 3) / 6**0.5 < 4.5


@pytest.mark.parametrize("change", [{"seed": 1}, {"content_digest": "cd"}, {"epoch": 1}])
def test_draws_change_with_everything_that_keys_them(change: dict[str, Any]) -> None:
    epoch = change.pop("epoch", 0)
    weights = [1.0] * 1000
    base, other = weighted(weights, 5000).at(0, np.arange(5000)), weighted(weights, 5000, **change)

    drawn = other.at(epoch, np.arange(5000))

    assert np.mean(drawn == base) < 0.01
    assert spread_over(base, drawn, 1000, 10) < 4.5


def test_a_sum_of_weights_that_rounds_draws_rows_of_the_split_only() -> None:
    order = weighted([1e-300, 1e300, 0, 0], 1000)

    assert set(order.at(0, np.arange(1000)).tolist()) == {1}


@pytest.mark.parametrize(
    "weights", [[], [0.0, 0.0], [3.0, -1.0], [1.0, float("nan")], [float("inf")], [1.7e308, 1.7e308]]
)
def test_weights_that_nothing_can_be_drawn_by_are_refused(weights: list[float]) -> None:
    with pytest.raises(UsageError, match="weight"), np.errstate(over="ignore"):
        cumulate_weights(np.array(weights, np.float64), column="weight")

"""How an epoch is cut: into equal slices of global batches, whoever asks, from anywhere, with anything left out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coralord_lightning.stream.layout import BatchLayout, EpochLayout, Span, merge_spans
from coralord_lightning.stream.order import lane_starts

Steps = list[list[int]]


@st.composite
def layouts(draw: st.DrawFn) -> BatchLayout:
    lanes, world_size = draw(st.sampled_from([1, 1, 2, 3, 4, 8])), draw(st.sampled_from([1, 2, 3, 4, 8, 16]))
    return BatchLayout(
        num_rows=draw(st.integers(0, 150)),
        global_batch=math.lcm(lanes, world_size) * draw(st.integers(1, 5)),
        world_size=world_size,
        drop_last=draw(st.booleans()),
        lanes=lanes,
    )


@st.composite
def epochs(draw: st.DrawFn) -> EpochLayout:
    base = draw(layouts())
    spans: list[Span] = []
    for _ in range(draw(st.integers(0, 3)) if base.num_batches else 0):
        first = draw(st.integers(0, base.num_batches - 1))
        last = draw(st.integers(first + 1, base.num_batches))
        spans += [(start, stop) for _, start, stop in base.spans(first, last)]
    return EpochLayout(base=base, skipped=merge_spans(spans))


def positions_of(epoch: EpochLayout) -> Steps:
    """What all ranks take in each step, without padding; that all of it is well formed is looked at on the way."""
    steps = []
    for step in range(epoch.num_batches):
        parts = [epoch.take(step, step + 1, rank) for rank in range(epoch.base.world_size)]
        assert len({part.sizes for part in parts}) == 1
        for part in parts:
            assert part.sizes == (len(part.positions),) == (len(part.is_padding),)
            assert np.all((part.positions >= 0) & (part.positions < epoch.base.num_rows))
            assert epoch.is_padded or not part.is_padding.any()
        steps.append([row for part in parts for row in part.positions[~part.is_padding].tolist()])
    return steps


def in_order(base: BatchLayout) -> Steps:
    """The definition, in plain words: each global batch takes the next samples of each lane, the first lane's first."""
    starts, share = lane_starts(base.num_rows, base.lanes).tolist(), base.global_batch // base.lanes
    lanes = [list(range(starts[lane], starts[lane + 1])) for lane in range(base.lanes)]
    full = min(map(len, lanes)) // share
    steps = [[row for lane in lanes for row in lane[step * share : (step + 1) * share]] for step in range(full)]
    rest = [row for lane in lanes for row in lane[full * share :]]
    return [*steps, rest] if rest and not base.drop_last else steps


def kept_steps(epoch: EpochLayout) -> Steps:
    starts = range(0, epoch.base.num_batches * epoch.base.global_batch, epoch.base.global_batch)
    whole = zip(starts, in_order(epoch.base), strict=True)
    return [rows for at, rows in whole if not any(start <= at < stop for start, stop in epoch.skipped)]


@settings(max_examples=400, deadline=None)
@given(epoch=epochs())
@example(epoch=EpochLayout(base=BatchLayout(num_rows=3, global_batch=8, world_size=8, lanes=8)))
@example(epoch=EpochLayout(base=BatchLayout(num_rows=10, global_batch=4, lanes=4), skipped=((8, 10),)))
def test_every_world_takes_the_steps_that_one_process_would(epoch: EpochLayout) -> None:
    assert positions_of(epoch) == kept_steps(epoch)
    if not epoch.base.drop_last and not epoch.skipped:
        assert sorted(row for step in positions_of(epoch) for row in step) == list(range(epoch.base.num_rows))


@settings(max_examples=150, deadline=None)
@given(base=layouts())
def test_the_number_of_batches_is_that_of_the_rows(base: BatchLayout) -> None:
    full, rest = divmod(base.num_rows, base.global_batch)

    assert base.num_batches == full + (1 if rest and not base.drop_last else 0)


@settings(max_examples=200, deadline=None)
@given(epoch=epochs())
def test_an_epoch_goes_on_after_any_step(epoch: EpochLayout) -> None:
    steps = positions_of(epoch)
    for step in range(len(steps)):
        over = epoch.end_of(step)
        assert (over is None) == (step == len(steps) - 1)
        if over is not None:
            assert over % epoch.base.lanes == 0
            rest = EpochLayout(base=epoch.base, start=over, skipped=epoch.skipped)
            assert positions_of(rest) == steps[step + 1 :]


@settings(max_examples=200, deadline=None)
@given(epoch=epochs(), data=st.data())
def test_several_steps_at_once_are_those_steps_behind_each_other(epoch: EpochLayout, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, epoch.num_batches))
    last = data.draw(st.integers(first, epoch.num_batches))
    for rank in range(epoch.base.world_size):
        many = epoch.take(first, last, rank)
        ones = [epoch.take(step, step + 1, rank) for step in range(first, last)]
        assert many.sizes == tuple(size for one in ones for size in one.sizes)
        assert many.positions.tolist() == [row for one in ones for row in one.positions.tolist()]
        assert many.is_padding.tolist() == [mark for one in ones for mark in one.is_padding.tolist()]


@settings(max_examples=200, deadline=None)
@given(epoch=epochs(), data=st.data())
def test_batches_of_other_sizes_may_go_on_and_no_sample_is_repeated_or_lost(
    epoch: EpochLayout, data: st.DataObject
) -> None:
    base, wanted = epoch.base, sorted(row for step in kept_steps(epoch) for row in step)
    taken: list[int] = []
    for _ in range(2):
        if epoch.num_batches < 2 or base.drop_last:
            break
        step = data.draw(st.integers(0, epoch.num_batches - 2))
        taken += [row for rows in positions_of(epoch)[: step + 1] for row in rows]
        other = math.lcm(base.lanes, base.world_size) * data.draw(st.integers(1, 6))
        epoch = EpochLayout(
            base=BatchLayout(
                num_rows=base.num_rows, global_batch=other, world_size=base.world_size, lanes=base.lanes
            ),
            start=epoch.end_of(step) or 0,
            skipped=epoch.skipped,
        )  # fmt: skip

    assert sorted(taken + [row for rows in positions_of(epoch) for row in rows]) == wanted


@settings(max_examples=200, deadline=None)
@given(base=layouts(), batches=st.integers(0, 6))
def test_a_rank_reads_its_own_lanes_only_where_ranks_and_lanes_divide_each_other(
    base: BatchLayout, batches: int
) -> None:
    starts = lane_starts(base.num_rows, base.lanes)
    if base.num_rows < base.lanes or (base.lanes % base.world_size and base.world_size % base.lanes):
        return
    for rank in range(base.world_size):
        taken = base.whole.take(max(base.num_batches - batches, 0), base.num_batches, rank)
        lanes = set((np.searchsorted(starts, taken.positions, side="right") - 1).tolist())
        first = rank * base.lanes // base.world_size
        assert lanes <= set(range(first, first + max(base.lanes // base.world_size, 1)))


def test_padding_is_the_start_of_the_epoch() -> None:
    base = BatchLayout(num_rows=9, global_batch=8, world_size=4)

    last = [base.whole.take(1, 2, rank) for rank in range(4)]

    assert [part.positions.tolist() for part in last] == [[8], [0], [0], [0]]
    assert [part.is_padding.tolist() for part in last] == [[False], [True], [True], [True]]
    assert base.is_padded


@pytest.mark.parametrize(
    ("steps", "spans"),
    [
        ((0, 1), [(0, 0, 8)]),
        ((2, 3), [(0, 16, 20)]),
        ((1, 4), [(0, 8, 20), (1, 0, 8)]),
        ((3, 9), [(1, 0, 20), (2, 0, 20)]),
        ((7, 8), [(2, 8, 16)]),
    ],
)
def test_steps_of_a_run_lie_in_epochs(steps: tuple[int, int], spans: list[tuple[int, int, int]]) -> None:
    assert BatchLayout(num_rows=20, global_batch=8).spans(*steps) == spans


def test_spans_that_touch_become_one() -> None:
    assert merge_spans([(8, 12), (0, 4), (4, 6), (9, 10), (20, 21)]) == ((0, 6), (8, 12), (20, 21))
    assert merge_spans([(0, 9), (2, 3)]) == ((0, 9),)


def test_a_global_batch_larger_than_the_data_takes_no_more_memory_than_they_do() -> None:
    taken = BatchLayout(num_rows=20, global_batch=10**15).whole.take(0, 1, 0)

    assert (taken.positions.tolist(), taken.sizes) == (list(range(20)), (20,))

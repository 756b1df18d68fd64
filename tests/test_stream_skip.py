"""Steps that are left out: exactly those, in every epoch they name, and in every run that goes on from there."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coralord_lightning.errors import UsageError
from toy_streams import Step, global_steps, loader_over, mixture_feed, rows_feed, steps_of

BATCHES = 5  # in an epoch of 18 rows
Spans = list[tuple[int, int]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def without(steps: list[Step], skip: Spans) -> list[Step]:
    return [step for at, step in enumerate(steps) if not any(start <= at < stop for start, stop in skip)]


def leaves_something(skip: Spans) -> bool:
    left = set(range(100 * BATCHES)) - {step for start, stop in skip for step in range(start, stop)}
    return all(any(step // BATCHES == epoch for step in left) for epoch in range(8))


spans = st.lists(
    st.tuples(st.integers(0, 14), st.integers(1, 4)).map(lambda pair: (pair[0], pair[0] + pair[1])), max_size=4
).filter(leaves_something)


@settings(max_examples=60, deadline=None)
@given(skip=spans, lanes=st.sampled_from([1, 2, 4]), shuffle=st.booleans())
def test_a_run_is_the_same_without_those_steps(home: Path, skip: Spans, lanes: int, shuffle: bool) -> None:
    options: dict[str, Any] = {"lanes": lanes, "shuffle": shuffle}
    whole = steps_of(loader_over(rows_feed(home, 18), **options), 4 * BATCHES)
    kept = without(whole, skip)

    skipping = loader_over(rows_feed(home, 18), skip=skip, **options)

    assert steps_of(skipping, len(kept)) == kept


@pytest.mark.parametrize("skip", [[(4, 5)], [(3, 6)], [(0, 1), (2, 3), (4, 5)], [(9, 11), (10, 12)], [(0, 4), (6, 10)]])
def test_an_epoch_has_so_many_batches_less_and_the_last_short_one_may_be_among_them(home: Path, skip: Spans) -> None:
    loader = loader_over(rows_feed(home, 18), skip=skip)
    skipped = {step for start, stop in skip for step in range(start, stop)}

    for epoch in range(3):
        expected = sum(step not in skipped for step in range(epoch * BATCHES, (epoch + 1) * BATCHES))
        assert len(loader) == expected == len(list(loader))


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_ranks_leave_out_the_same(home: Path, world_size: int) -> None:
    skip: Spans = [(1, 3), (4, 6)]
    whole = steps_of(loader_over(rows_feed(home, 18)), 15)

    ranks = [loader_over(rows_feed(home, 18), batch_size=4 // world_size, rank=rank, world_size=world_size, skip=skip)
             for rank in range(world_size)]  # fmt: skip

    assert global_steps(ranks, 11) == without(whole, skip)


@settings(max_examples=40, deadline=None)
@given(skip=spans, stop=st.integers(0, 8), more=spans)
def test_what_is_skipped_is_kept_in_the_state_and_what_a_resumed_run_skips_is_added(
    home: Path, skip: Spans, stop: int, more: Spans
) -> None:
    whole = steps_of(loader_over(rows_feed(home, 18)), 6 * BATCHES)
    first = loader_over(rows_feed(home, 18), skip=skip)
    done = steps_of(first, stop)
    state = first.state_dict()

    kept, added = loader_over(rows_feed(home, 18)), loader_over(rows_feed(home, 18), skip=more)
    kept.load_state_dict(state)
    assert done + steps_of(kept, 10) == without(whole, skip)[: stop + 10]

    both = [*skip, *more]
    over = whole.index(done[-1]) + 1 if done else 0
    if leaves_something([span for span in both if span[1] > over - over % BATCHES]) and leaves_something(both):
        added.load_state_dict(state)
        after = [step for at, step in enumerate(whole) if at >= over and step in without(whole, both)]
        assert steps_of(added, 8) == after[:8]


def test_a_resumed_run_whose_epoch_is_all_skipped_from_there_begins_the_next_one(home: Path) -> None:
    first, second = loader_over(rows_feed(home, 18)), loader_over(rows_feed(home, 18), skip=[(3, 5)])
    whole = steps_of(loader_over(rows_feed(home, 18)), 2 * BATCHES)
    steps_of(first, 3)
    second.load_state_dict(first.state_dict())

    assert (second.position.epoch, second.position.batches, second.position.step) == (1, 0, 3)
    assert steps_of(second, BATCHES) == whole[BATCHES:]


@pytest.mark.parametrize(
    ("skip", "epoch"),
    [([(0, 5)], 0), ([(4, 10)], 1), ([(5, 7), (7, 10)], 1), ([(1, 10**15)], 1), ([(14, 20), (23, 31)], 3)],
)
def test_an_epoch_of_nothing_is_refused_naming_its_steps(home: Path, skip: Spans, epoch: int) -> None:
    with pytest.raises(UsageError, match=f"leaves no batch of epoch {epoch}") as caught:
        loader_over(rows_feed(home, 18), skip=skip)

    assert f"steps than {epoch * BATCHES} to {epoch * BATCHES + 4}" in caught.value.remedy


def test_what_two_runs_skip_of_one_epoch_is_refused_where_nothing_is_left_of_it_and_changes_nothing(home: Path) -> None:
    first, second = (loader_over(rows_feed(home, 18), skip=skip) for skip in ([(5, 8)], [(8, 10)]))
    before = second.state_dict()

    with pytest.raises(UsageError, match="leaves no batch of epoch 1"):
        second.load_state_dict(first.state_dict())
    assert second.state_dict() == before

    list(first), list(first)
    second.load_state_dict(first.state_dict())  # epoch 1 is over
    assert second.position.epoch == 2


@pytest.mark.parametrize(
    "options", [{"drop_last": True}, {"weights": "weight"}, {"mixture": "all"}, {"shuffle": "block"}]
)
def test_every_order_can_leave_steps_out(home: Path, options: dict[str, Any]) -> None:
    stopping = options.get("mixture")
    feed = mixture_feed(home, {18: 0.5, 13: 0.5}, stopping) if stopping else rows_feed(home, 18)
    options = {name: value for name, value in options.items() if name != "mixture"}
    whole = steps_of(loader_over(feed, **options), 12)

    assert steps_of(loader_over(feed, skip=[(1, 3), (7, 8)], **options), 9) == without(whole, [(1, 3), (7, 8)])


@pytest.mark.parametrize("told_again", [False, True])
def test_skipped_samples_are_those_of_the_batches_that_were_skipped_whatever_size_goes_on(
    home: Path, told_again: bool
) -> None:
    whole = steps_of(loader_over(rows_feed(home, 18)), 2 * BATCHES)
    first = loader_over(rows_feed(home, 18), skip=[(2, 3), (6, 7)])
    done = steps_of(first, 1)
    again: dict[str, Any] = {"skip": [(2, 3), (6, 7)]} if told_again else {}
    second = loader_over(rows_feed(home, 18), batch_size=6, resume_batch="rebatch", **again)
    second.load_state_dict(first.state_dict())

    rest = steps_of(second, 2 + 3)

    assert [*itertools.chain(*done, *rest)] == [*itertools.chain(*without(whole, [(2, 3), (6, 7)]))]

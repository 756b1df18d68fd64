"""The saved position: the same after any way through plain values, and a run that goes on from it misses nothing."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coralord_lightning.errors import UsageError
from coralord_lightning.stream.loader import CoralLoader
from coralord_lightning.stream.recipe import Recipe, SourceFacts
from coralord_lightning.stream.state import Chapter, LoaderState, Position
from toy_streams import Step, global_steps, loader_over, mixture_feed, rows_feed, steps_of, with_block_rows

Make = Callable[..., CoralLoader]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


positions = st.builds(
    Position, **{name: st.integers(0, 2**50) for name in ("epoch", "global_samples", "batches", "step")}
)
recipes = st.builds(
    Recipe,
    num_rows=st.integers(0, 2**50),
    seed=st.integers(-(2**70), 2**70),
    shuffle=st.sampled_from([False, "full", "block"]),
    global_batch=st.integers(1, 2**40),
    lanes=st.integers(1, 64),
    block_rows=st.integers(1, 2**20),
    drop_last=st.booleans(),
    skip=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 50), st.integers(51, 99)), max_size=3).map(tuple),
    limit=st.none() | st.integers(0, 9),
    weights=st.none() | st.text(max_size=5),
)
texts = st.text(max_size=5)
sources = st.builds(
    SourceFacts,
    fingerprint=texts, content_digest=texts, num_rows=st.integers(0, 2**50), split=texts,
    name=st.none() | texts, weight=st.none() | st.just("1/3"),
)  # fmt: skip
states = st.builds(
    LoaderState,
    sources=st.lists(sources, min_size=1, max_size=3).map(tuple),
    chapters=st.lists(st.builds(Chapter, since=positions, recipe=recipes), min_size=1, max_size=4).map(tuple),
    position=positions,
)


@given(state=states)
def test_a_state_is_the_same_after_the_way_through_json(state: LoaderState) -> None:
    assert LoaderState.from_json(json.loads(json.dumps(state.to_json()))) == state


@given(state=states, data=st.data())
def test_a_state_with_a_part_missing_or_of_another_kind_is_refused(state: LoaderState, data: st.DataObject) -> None:
    saved = state.to_json()
    told = ("fingerprint", "content_digest")  # for people; what counts stands in the sources
    name = data.draw(st.sampled_from([name for name in saved if name not in told]))
    for broken in ({key: value for key, value in saved.items() if key != name}, saved | {"format": 3}):
        with pytest.raises(UsageError, match="is not one that this release can resume"):
            LoaderState.from_json(broken)
    for count in ("epoch", "global_samples", "batches", "step"):
        with pytest.raises(UsageError):
            LoaderState.from_json(saved | {count: -1})


def plain(home: Path, **options: Any) -> CoralLoader:
    return loader_over(rows_feed(home, 18), **options)


def in_blocks(home: Path, **options: Any) -> CoralLoader:
    loader = loader_over(rows_feed(home, 150), shuffle="block", **{"batch_size": 16} | options)
    return with_block_rows(loader, 1)  # 150 blocks: two windows


def mixture_of(stopping: str) -> Make:
    def make(home: Path, **options: Any) -> CoralLoader:
        return loader_over(mixture_feed(home, {18: 0.7, 11: 0.3}, stopping), **options)

    return make


RUNS: dict[str, tuple[Make, dict[str, Any]]] = {
    "full": (plain, {}),
    "stored": (plain, {"shuffle": False}),
    "drop_last": (plain, {"drop_last": True}),
    "block": (in_blocks, {}),
    "block in lanes": (in_blocks, {"lanes": 2}),
    "lanes 2": (plain, {"lanes": 2}),
    "lanes 4": (plain, {"lanes": 4}),
    "stored in lanes": (plain, {"lanes": 4, "shuffle": False, "drop_last": True}),
    "weights": (plain, {"weights": "weight"}),
    "weights, longer epochs": (plain, {"weights": "weight", "epoch_size": 23}),
    "mixture until the first ends": (mixture_of("first"), {}),
    "mixture until all are seen": (mixture_of("all"), {}),
    "mixture of a size": (mixture_of("first"), {"epoch_size": 13}),
    "skip": (plain, {"skip": [(1, 2), (3, 4), (4, 5), (8, 11)]}),
    "skip in lanes": (plain, {"skip": [(0, 1), (4, 6)], "lanes": 4}),
}


@pytest.mark.parametrize("run", RUNS)
def test_a_run_goes_on_exactly_after_every_batch(home: Path, run: str) -> None:
    make, options = RUNS[run]
    count = 2 * len(make(home, **options | {"skip": None})) + 2
    whole, first = steps_of(make(home, **options), count), make(home, **options)
    endless = itertools.chain.from_iterable(iter(first) for _ in itertools.count())

    for stop in range(count):
        state = json.loads(json.dumps(first.state_dict()))
        again = make(home, **options)
        again.load_state_dict(state)
        assert again.state_dict() == state
        assert steps_of(again, count - stop) == whole[stop:]
        next(endless)


@pytest.mark.parametrize("run", RUNS)
def test_other_numbers_of_ranks_go_on_with_the_same_global_sequence(home: Path, run: str) -> None:
    make, options = RUNS[run]
    size = 16 if make is in_blocks else 4
    whole = steps_of(make(home, **options), 12)

    state, done = make(home, **options).state_dict(), []
    for world_size, count in ((2, 2), (1, 1), (4, 3), (2, 6)):
        ranks = [make(home, **options | {"batch_size": size // world_size, "rank": r, "world_size": world_size})
                 for r in range(world_size)]  # fmt: skip
        for loader in ranks:
            loader.load_state_dict(state)
        done += global_steps(ranks, count)
        assert all(loader.state_dict() == ranks[0].state_dict() for loader in ranks)
        state = ranks[0].state_dict()

    assert done == whole


@pytest.mark.parametrize("run", ["full", "stored", "block", "lanes 2", "weights", "mixture until all are seen", "skip"])
@pytest.mark.parametrize("sizes", [(4, 8), (4, 2), (4, 6, 2), (8, 4, 12)])
def test_batches_of_another_size_go_on_and_no_sample_is_repeated_or_lost(
    home: Path, run: str, sizes: tuple[int, ...]
) -> None:
    make, options = RUNS[run]
    wanted = rest_of(make(home, **options | {"batch_size": sizes[0]}))

    for stops in itertools.product(range(1, 3), repeat=len(sizes) - 1):
        loader, done = make(home, **options | {"batch_size": sizes[0]}), []
        for size, stop in zip(sizes[1:], stops, strict=True):
            done += rest_of(loader, stop)
            state = loader.state_dict()
            loader = make(home, **options | {"batch_size": size, "resume_batch": "rebatch", "skip": None})
            loader.load_state_dict(state)
            assert list(loader.recipe.skip) == [tuple(span) for span in state["skip"]]
            assert loader.position.to_json() == {name: state[name] for name in loader.position.to_json()}
            if state["epoch"]:
                break
        else:
            done += rest_of(loader)
        assert loader.position.epoch == 1
        samples, expected = list(itertools.chain(*done)), list(itertools.chain(*wanted))
        assert sorted(samples) == sorted(expected)
        assert samples == expected or "lanes" in options  # lanes take turns by the batch


def rest_of(loader: CoralLoader, most: int = 1000) -> list[Step]:
    """The rest of the epoch that a loader stands in, and no batch of the next."""
    return steps_of(loader, min(most, len(loader) - loader.position.batches))


def at_epoch(loader: CoralLoader, epoch: int) -> CoralLoader:
    loader.set_epoch(epoch)
    return loader


def test_an_epoch_that_another_size_leaves_no_batch_of_is_over(home: Path) -> None:
    first = plain(home)
    steps_of(first, 3)
    big = plain(home, batch_size=16, drop_last=True, resume_batch="rebatch")
    big.load_state_dict(first.state_dict())

    assert (big.position.epoch, big.position.batches, big.position.step) == (1, 0, 3)
    assert steps_of(big, 1) == steps_of(at_epoch(plain(home, batch_size=16), 1), 1)


def test_what_pads_a_later_epoch_is_marked_though_neither_whole_ones_nor_the_rest_of_this_need_it(home: Path) -> None:
    first = loader_over(rows_feed(home, 16), batch_size=5, skip=[(5, 6)])
    steps_of(first, 2)
    ranks = [
        loader_over(rows_feed(home, 16), batch_size=4, rank=r, world_size=2, resume_batch="rebatch") for r in range(2)
    ]
    for loader in ranks:
        loader.load_state_dict(first.state_dict())

    assert not ranks[0].layout.is_padded
    steps = global_steps(ranks, 3)  # what is left of epoch 0, and the 11 samples that are kept of epoch 1
    kept = [
        step for at, step in enumerate(rest_of(at_epoch(loader_over(rows_feed(home, 16), batch_size=5), 1))) if at != 1
    ]
    assert [len(step) for step in steps] == [6, 8, 3]
    assert list(itertools.chain(*steps[1:])) == list(itertools.chain(*kept))


@pytest.mark.parametrize("limit", [1, 3, 4])
def test_a_limit_ends_epochs_in_the_state_after_every_batch(home: Path, limit: int) -> None:
    def limited() -> CoralLoader:
        loader = plain(home)
        loader.limit_batches(limit)
        return loader

    def run(loader: CoralLoader, count: int) -> list[Step]:
        done: list[Step] = []
        while len(done) < count:
            left = limit - loader.position.batches
            done += steps_of(loader, min(left, count - len(done)))
        return done

    whole = run(limited(), 2 * limit + 1)
    for stop in range(2 * limit + 1):
        first, second = limited(), limited()
        run(first, stop)
        second.load_state_dict(first.state_dict())
        assert (second.position.epoch, second.position.batches) == divmod(stop, limit)
        assert run(second, len(whole) - stop) == whole[stop:]


def test_a_limit_beyond_the_epochs_is_none_but_counts_in_one_that_another_size_made_longer(home: Path) -> None:
    loader = plain(home)
    loader.limit_batches(5)
    assert loader.recipe.limit is None

    steps_of(loader, 3)
    longer = plain(home, batch_size=8, resume_batch="rebatch")
    longer.load_state_dict(loader.state_dict() | {})
    assert len(longer) == 4 > longer.layout.num_batches == 3
    longer.limit_batches(3)
    assert (longer.position.epoch, longer.position.step) == (1, 3)


def test_a_limit_that_the_live_loader_has_ends_a_loaded_epoch(home: Path) -> None:
    first, second = plain(home), plain(home)
    steps_of(first, 3)
    second.limit_batches(2)
    second.load_state_dict(first.state_dict())

    assert (second.position.epoch, second.position.batches, second.position.step) == (1, 0, 3)

"""Rows of any step are named from a state alone, however the run came there and however it goes on."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coralord_lightning.dataset import Dataset
from coralord_lightning.errors import UsageError
from coralord_lightning.stream.feed import Feed
from coralord_lightning.stream.loader import CoralLoader
from coralord_lightning.stream.replay import StepRows, rows_of_step
from coralord_lightning.stream.state import LoaderState
from coralord_lightning.workspace import Version
from hand_built import write_manifest
from toy_streams import Step, loader_over, mixture_feed, rows_feed, rows_table, seen, steps_of, with_block_rows


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


class Story:
    """A run that anything may happen to, and what it handed out at each step."""

    def __init__(self, feed: Feed, options: dict[str, Any], block_rows: int | None) -> None:
        self.feed, self.options, self.block_rows = feed, options, block_rows
        self.loader = self.made()
        if block_rows is not None:
            with_block_rows(self.loader, block_rows)
        self.handed: dict[int, tuple[int, int, Step]] = {}
        self.epoch: Iterator[Any] = iter(self.loader)

    def made(self) -> CoralLoader:
        return loader_over(self.feed, **self.options)

    def take(self, count: int) -> None:
        for _ in range(count):
            start = self.loader.position
            batch = next(self.epoch, None)
            if batch is None:  # the epoch is over
                self.epoch = iter(self.loader)
                start, batch = self.loader.position, next(self.epoch)
            if self.loader.position.step > start.step + 1:
                raise AssertionError(self.loader.position)
            self.handed[self.loader.position.step - 1] = (start.epoch, start.batches, seen(batch))
            if self.loader.position.batches == 0 and self.loader.recipe.limit is not None:
                self.epoch = iter(self.loader)  # as whoever gave the limit does

    def leave_early(self) -> None:
        if self.loader.position.batches:
            self.loader.set_epoch(self.loader.position.epoch + 1)
        self.epoch = iter(self.loader)

    def jump(self, epoch: int) -> None:
        self.loader.sampler.set_epoch(epoch)
        self.epoch = iter(self.loader)

    def limit(self, batches: int | None) -> None:
        self.loader.limit_batches(batches)
        self.epoch = iter(self.loader) if self.loader.position.batches == 0 else self.epoch

    def resume(self, **changes: Any) -> None:
        state, limit = json.loads(json.dumps(self.loader.state_dict())), self.loader.recipe.limit
        self.options = self.options | {"resume_batch": "rebatch"} | changes
        try:
            fresh = self.made()
            fresh.load_state_dict(state)
        except UsageError as error:  # what is skipped by now would leave nothing of an epoch
            if error.subject != "skip":
                raise
            self.options.pop("skip")
            fresh = self.made()
            fresh.load_state_dict(state)
        fresh.limit_batches(limit)
        self.loader, self.epoch = fresh, iter(fresh)

    def named(self, step: int) -> StepRows:
        return rows_of_step(
            LoaderState.from_json(json.loads(json.dumps(self.loader.state_dict()))),
            step,
            cumulate=self.feed.cumulate,
        )


KINDS: dict[str, dict[str, Any]] = {
    "full": {},
    "stored": {"shuffle": False},
    "block": {"shuffle": "block", "block_rows": 1, "rows": 140},
    "lanes": {"lanes": 2, "rows": 19},
    "drop_last": {"drop_last": True},
    "weights": {"weights": "weight", "epoch_size": 15},
    "mixture": {"mixture": "first"},
    "mixture of all": {"mixture": "all"},
}


pytestmark = pytest.mark.filterwarnings("ignore:the loaded position is batch")


def story_of(home: Path, kind: str) -> Story:
    options = dict(KINDS[kind])
    mixture, rows, block_rows = options.pop("mixture", None), options.pop("rows", 18), options.pop("block_rows", None)
    feed = mixture_feed(home, {18: 0.6, 13: 0.4}, mixture) if mixture else rows_feed(home, rows)
    return Story(feed, options | {"batch_size": 32 if rows > 100 else 4}, block_rows)


def happen(story: Story, chance: random.Random) -> None:
    what = chance.choice(["take", "take", "take", "leave", "jump", "limit", "resume", "rebatch", "skip"])
    size = story.options["batch_size"]
    if what == "take":
        story.take(chance.randint(1, 7))
    elif what == "leave":
        story.leave_early()
    elif what == "jump":
        story.jump(chance.randint(0, 9))
    elif what == "limit":
        story.limit(chance.choice([None, 1, 2, 3]))
    elif what == "resume":
        story.resume()
    elif what == "rebatch":
        story.resume(batch_size=size + chance.choice([-2, 2, 4]) if size > 2 else size + 2)
    else:
        first = chance.randint(0, 12)
        story.resume(skip=[(first, first + 1)])


@settings(max_examples=70, deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)), seed=st.integers(0, 2**32))
def test_every_step_before_and_after_a_saved_position_is_named_as_it_was_handed_out(
    home: Path, kind: str, seed: int
) -> None:
    story, chance = story_of(home, kind), random.Random(seed)
    for _ in range(chance.randint(1, 6)):
        happen(story, chance)

    future = story.loader.position.step
    state = story.loader.state_dict()
    named = {step: story.named(step) for step in [*story.handed, *range(future, future + 12)]}
    begun = story.loader.position.batches
    if begun:  # a live run goes on in its epoch; another generator would begin the next one
        story.loader.load_state_dict(state)
        story.epoch = iter(story.loader)
    story.take(12)

    for step, (epoch, batch, rows) in story.handed.items():
        told = named[step]
        assert (told.step, told.epoch, told.batch) == (step, epoch, batch)
        assert told.rows.tolist() == rows


def test_rows_of_a_mixture_are_named_with_their_source(home: Path) -> None:
    story = story_of(home, "mixture")
    story.take(3)

    told = story.named(1)

    order = story.loader.order
    sources, rows = order.source_of(order.at(0, story.loader.layout.whole.take(1, 2, 0).positions))  # type: ignore[attr-defined]
    assert told.sources.tolist() == sources.tolist()
    assert told.rows.tolist() == rows.tolist()
    assert set(told.sources.tolist()) == {0, 1}


def test_a_run_that_drew_by_weight_in_some_epochs_only_is_named_in_all(home: Path) -> None:
    plain, drawing = loader_over(rows_feed(home, 18)), loader_over(rows_feed(home, 18), weights="weight")
    first = steps_of(plain, 5)
    drawing.load_state_dict(plain.state_dict())
    second = steps_of(drawing, 3)
    cumulate = drawing.feed.cumulate
    state = LoaderState.from_json(drawing.state_dict())

    assert [rows_of_step(state, step, cumulate=cumulate).rows.tolist() for step in range(8)] == first + second
    assert rows_of_step(state, 4).rows.tolist() == first[4]
    with pytest.raises(UsageError, match="drawn by a column"):
        rows_of_step(state, 5)


def test_steps_that_never_come_are_refused(home: Path) -> None:
    nothing = loader_over(rows_feed(home, 3), drop_last=True)

    with pytest.raises(UsageError, match="no batch"):
        rows_of_step(LoaderState.from_json(nothing.state_dict()), 0)
    with pytest.raises(UsageError, match="step"):
        rows_of_step(LoaderState.from_json(nothing.state_dict()), -1)


def test_a_far_step_is_named_at_once(home: Path) -> None:
    state = LoaderState.from_json(loader_over(rows_feed(home, 18), skip=[(1, 2), (11, 12)]).state_dict())

    told = rows_of_step(state, 5 * 10**15)

    assert (told.epoch, told.batch) == divmod(5 * 10**15 + 2, 5)


@pytest.mark.parametrize(
    "options",
    [
        {}, {"shuffle": False}, {"shuffle": "block"}, {"lanes": 2}, {"drop_last": True}, {"weights": "weight"},
        {"weights": "weight", "epoch_size": 25}, {"skip": [(0, 1), (4, 6), (12, 13)]}, {"world_size": 2}, {"seed": 5},
    ],
)  # fmt: skip
def test_data_rows_names_what_a_loader_hands_out(home: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    manifest = write_manifest(tmp_path, {"train": rows_table(18)})
    data = Dataset(Version(manifest=manifest, home=tmp_path, name="toy"))
    world_size = options.get("world_size", 1)
    loaders = [
        data.loader("train", **{"batch_size": 4, "shuffle": True, "rank": r} | options) for r in range(world_size)
    ]
    handed = [list(itertools.chain(*parts)) for parts in zip(*(steps_of(one, 12) for one in loaders), strict=True)]

    named = [data.rows("train", step=step, batch_size=4, **options).tolist() for step in range(12)]

    assert named == handed
    later = len(data.loader("train", **{"batch_size": 4, "shuffle": True} | options))
    first = [data.rows("train", step=step, epoch=1, batch_size=4, **options).tolist() for step in range(3)]
    assert first == handed[later : later + 3]

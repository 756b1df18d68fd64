"""Batches in order, for any rank, and the position in them: saved anywhere, resumed exactly."""

from __future__ import annotations

import itertools
import pickle  # noqa: TID251  # others pickle loaders: spawned processes
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coralord_lightning.errors import (
    BatchError,
    CoralWarning,
    DataVersionMismatchError,
    SplitNotFoundError,
    UnknownFieldError,
    UsageError,
)
from coralord_lightning.stream.feed import split_feed
from coralord_lightning.stream.loader import CoralLoader
from coralord_lightning.stream.options import LoaderOptions
from coralord_lightning.stream.state import MARKER, saved_state
from hand_built import CONTENT_DIGEST, FINGERPRINT, write_manifest


def rows_table(num_rows: int) -> pa.Table:
    names = pa.array([str(row) for row in range(num_rows)], pa.string())
    return pa.table({"row": np.arange(num_rows), "name": names})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def example_loader(home: Path, num_rows: int = 20, *, changes: Any = None, **options: Any) -> CoralLoader:
    folder = home / str(num_rows)
    if not folder.exists():
        folder.mkdir()
        write_manifest(folder, {"train": rows_table(num_rows)})
    manifest = write_manifest(folder, {"train": rows_table(num_rows)}, **(changes or {}))
    return CoralLoader(
        split_feed(manifest, folder, "train"), LoaderOptions(**{"batch_size": 4, "shuffle": True} | options)
    )


def ids(batches: Any) -> list[list[int]]:
    return [batch["row"].tolist() for batch in batches]


def epochs(loader: CoralLoader, count: int) -> list[list[int]]:
    return [batch for _ in range(count) for batch in ids(loader)]


def test_an_epoch_has_every_row_once_and_the_next_one_another_order(home: Path) -> None:
    loader = example_loader(home)

    first, second = ids(loader), ids(loader)

    assert sorted(itertools.chain(*first)) == sorted(itertools.chain(*second)) == list(range(20))
    assert first != second


def test_order_depends_on_data_and_seed_only(home: Path) -> None:
    assert ids(example_loader(home)) == ids(example_loader(home))
    assert ids(example_loader(home)) != ids(example_loader(home, seed=1))
    assert ids(example_loader(home)) != ids(example_loader(home, changes={"content_digest": "d1" * 32}))
    assert ids(example_loader(home)) == ids(example_loader(home, changes={"fingerprint": "f2" * 32}))


def test_without_shuffle_every_epoch_is_in_stored_order(home: Path) -> None:
    loader = example_loader(home, 10, shuffle=False)

    assert epochs(loader, 2) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]] * 2


@settings(max_examples=60, deadline=None)
@given(
    num_rows=st.sampled_from([0, 1, 2, 5, 16, 33]),
    batch_size=st.integers(1, 9),
    world_size=st.integers(1, 5),
    drop_last=st.booleans(),
    shuffle=st.booleans(),
)
def test_any_world_has_equal_batches_and_sees_each_row_once(
    home: Path, num_rows: int, batch_size: int, world_size: int, drop_last: bool, shuffle: bool
) -> None:
    if num_rows == 0:
        loaders = [empty_loader(home, batch_size, rank, world_size) for rank in range(world_size)]
    else:
        loaders = [
            example_loader(
                home, num_rows, batch_size=batch_size, rank=rank, world_size=world_size, drop_last=drop_last,
                shuffle=shuffle,
            )
            for rank in range(world_size)
        ]  # fmt: skip
    epoch = [list(loader) for loader in loaders]

    assert {len(batches) for batches in epoch} == {len(loaders[0])}
    seen: list[int] = []
    for step in zip(*epoch, strict=True):
        assert len({len(batch["row"]) for batch in step}) == 1
        for batch in step:
            assert ("is_padding" in batch) == loaders[0].layout.is_padded
            keep = ~batch["is_padding"] if "is_padding" in batch else torch.ones(len(batch["row"]), dtype=torch.bool)
            seen.extend(batch["row"][keep].tolist())
    left_out = num_rows % (batch_size * world_size) if drop_last else 0
    assert len(set(seen)) == len(seen) == num_rows - left_out


def empty_loader(home: Path, batch_size: int, rank: int, world_size: int) -> CoralLoader:
    manifest = write_manifest(home, {"train": rows_table(0)})
    return CoralLoader(
        split_feed(manifest, home, "train"),
        LoaderOptions(batch_size=batch_size, rank=rank, world_size=world_size, shuffle=True),
    )


@pytest.mark.parametrize("shuffle", [True, False])
def test_resume_after_any_batch_goes_on_exactly_there(home: Path, shuffle: bool) -> None:
    whole = epochs(example_loader(home, 18, shuffle=shuffle), 3)

    for stop in range(len(whole)):
        first, again = example_loader(home, 18, shuffle=shuffle), example_loader(home, 18, shuffle=shuffle)
        stream = itertools.chain.from_iterable(iter(first) for _ in range(3))
        before = ids(itertools.islice(stream, stop))
        state = pickle.loads(pickle.dumps(first.state_dict()))
        again.load_state_dict(state)
        assert again.state_dict() == state
        assert before + epochs(again, 3)[: len(whole) - stop] == whole


def test_state_after_the_last_batch_is_the_beginning_of_the_next_epoch(home: Path) -> None:
    loader = example_loader(home)
    for _ in loader:
        last = loader.state_dict()

    assert (last["epoch"], last["global_samples"]) == (1, 0)
    assert loader.state_dict() == last


def test_state_is_the_same_for_every_rank_and_resumes_on_another_number_of_ranks(home: Path) -> None:
    two = [example_loader(home, batch_size=4, rank=rank, world_size=2) for rank in range(2)]
    for loader in two:
        next(iter(loader))
    states = [loader.state_dict() for loader in two]
    assert states[0] == states[1] == {
        "format": 2, "fingerprint": FINGERPRINT, "content_digest": CONTENT_DIGEST, "epoch": 0, "global_samples": 8,
        "batches": 1, "step": 1, "num_rows": 20, "seed": 0, "shuffle": "full", "global_batch": 8, "lanes": 1,
        "block_rows": 0, "drop_last": False, "skip": [], "limit": None, "weights": None,
        "sources": [{
            "fingerprint": FINGERPRINT, "content_digest": CONTENT_DIGEST, "num_rows": 20, "split": "train",
            "name": None, "weight": None,
        }],
        "since": {"epoch": 0, "global_samples": 0, "batches": 0, "step": 0}, "chapters": [],
    }  # fmt: skip

    one = example_loader(home, batch_size=8)
    one.load_state_dict(states[0])

    assert ids(one) == ids(example_loader(home, batch_size=8))[1:]


def test_a_mere_iter_starts_nothing(home: Path) -> None:
    loader = example_loader(home)
    expected = ids(example_loader(home))
    probes = [iter(loader), iter(loader)]

    assert loader.state_dict() == example_loader(home).state_dict()
    assert ids(loader) == expected
    assert len(probes) == 2


def test_an_epoch_set_between_iter_and_next_counts(home: Path) -> None:
    loader = example_loader(home)
    second = epochs(example_loader(home), 2)[5:]

    iterator = iter(loader)
    loader.sampler.set_epoch(1)

    assert ids(iterator) == second


def test_set_epoch_keeps_a_loaded_position_of_the_same_epoch_and_drops_that_of_another(home: Path) -> None:
    stopped = example_loader(home)
    next(iter(stopped))
    same, other = example_loader(home), example_loader(home)
    for loader in (same, other):
        loader.load_state_dict(stopped.state_dict())
    same.sampler.set_epoch(0)
    with pytest.warns(CoralWarning, match="the rest of that epoch is not read"):
        other.sampler.set_epoch(1)

    assert ids(same) == epochs(example_loader(home), 1)[1:]
    assert ids(other) == epochs(example_loader(home), 2)[5:]


def test_set_epoch_again_begins_that_epoch_again(home: Path) -> None:
    loader = example_loader(home)
    first = next(iter(loader))["row"].tolist()
    loader.sampler.set_epoch(0)

    assert ids(loader)[0] == first


def test_an_epoch_left_early_is_followed_by_the_next_one(home: Path) -> None:
    loader = example_loader(home)
    next(iter(loader))

    assert ids(loader) == epochs(example_loader(home), 2)[5:]


def test_state_of_other_data_is_refused_naming_both_versions(home: Path) -> None:
    state = example_loader(home, changes={"content_digest": "d1" * 32, "fingerprint": "f2" * 32}).state_dict()

    with pytest.raises(DataVersionMismatchError) as caught:
        example_loader(home).load_state_dict(state)

    assert caught.value.facts == {"saved": "f2" * 32, "loaded": FINGERPRINT}
    assert f'pin="{"f2" * 32}"' in caught.value.remedy


def test_state_of_the_same_values_under_another_fingerprint_is_taken(home: Path) -> None:
    example_loader(home).load_state_dict(example_loader(home, changes={"fingerprint": "f2" * 32}).state_dict())


@pytest.mark.parametrize(
    ("options", "subject", "remedy"),
    [
        (
            {"batch_size": 5},
            "global_batch",
            'global_batch_size=4, or batch_size=4 with 1 process(es); or resume_batch="rebatch"',
        ),
        ({"world_size": 3}, "global_batch", 'global_batch_size=4; or resume_batch="rebatch"'),
        ({"seed": 9}, "seed", "seed=0"),
        ({"shuffle": False}, "shuffle", "shuffle='full'"),
    ],
)
def test_another_order_cannot_be_resumed_within_an_epoch(
    home: Path, options: dict[str, Any], subject: str, remedy: str
) -> None:
    stopped = example_loader(home)
    fresh = stopped.state_dict()
    next(iter(stopped))

    with pytest.raises(UsageError) as caught:
        example_loader(home, **options).load_state_dict(stopped.state_dict())

    assert (caught.value.subject, caught.value.remedy) == (subject, remedy)
    example_loader(home, **options).load_state_dict(fresh)


@pytest.mark.parametrize("state", [{}, {"format": 1}, {"format": 2, "epoch": "x"}])
def test_what_is_no_state_is_refused(home: Path, state: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="is not one that this release can resume"):
        example_loader(home).load_state_dict(state)


def test_state_of_another_split_is_refused(home: Path) -> None:
    folder = home / "two"
    folder.mkdir()
    manifest = write_manifest(folder, {"train": rows_table(20), "extra": rows_table(20)})
    train, extra = (
        CoralLoader(split_feed(manifest, folder, split), LoaderOptions(batch_size=4, shuffle=True))
        for split in ("train", "extra")
    )
    next(iter(train))

    with pytest.raises(UsageError, match="is another one of the same data") as caught:
        extra.load_state_dict(train.state_dict())

    assert caught.value.remedy == 'load it into a loader of split "train"'


def test_our_part_of_a_checkpoint_is_found_under_any_name() -> None:
    ours = {MARKER: 1, "version": {}}

    assert saved_state({"epoch": 1, "state_dict": {}, "SomeSubclass": ours}) is ours
    assert saved_state({"epoch": 1}) is None
    assert saved_state([ours]) is None


def test_batches_as_tuples(home: Path) -> None:
    loader = example_loader(home, batch_as=["name", "row"], shuffle=False)

    names, rows = next(iter(loader))

    assert (names, rows.tolist()) == (["0", "1", "2", "3"], [0, 1, 2, 3])


def test_padding_can_be_named_in_a_tuple_whether_or_not_there_is_any(home: Path) -> None:
    padded = [list(example_loader(home, 5, batch_as=["row", "is_padding"], rank=r, world_size=2)) for r in range(2)]
    ((row, mark),) = example_loader(home, 4, batch_as=["row", "is_padding"])

    assert [batch[1].tolist() for batch in padded[1]] == [[False, True]] or padded[1][-1][1][-1]
    assert mark.tolist() == [False] * 4
    assert len(row) == 4


def test_unknown_names_are_refused_with_the_nearest(home: Path) -> None:
    with pytest.raises(UnknownFieldError, match="unknown field 'nmae'") as caught:
        example_loader(home, batch_as=["nmae"])
    assert "'name'" in caught.value.remedy

    manifest = write_manifest(home, {"train": rows_table(3), "val": rows_table(2)})
    with pytest.raises(SplitNotFoundError) as unknown:
        CoralLoader(split_feed(manifest, home, "vall"), LoaderOptions(batch_size=1))
    assert "'val'" in unknown.value.remedy


def test_transform_sees_the_whole_batch_and_may_add_fields(home: Path) -> None:
    def double(batch: dict[str, Any]) -> dict[str, Any]:
        return batch | {"twice": batch["row"] * 2}

    loader = example_loader(home, shuffle=False, transform=double, batch_as=["twice"])

    assert next(iter(loader))[0].tolist() == [0, 2, 4, 6]
    with pytest.raises(UnknownFieldError):
        next(iter(example_loader(home, transform=double, batch_as=["thrice"])))
    with pytest.raises(BatchError, match="must return a dict"):
        next(iter(example_loader(home, transform=lambda batch: 1, batch_as=["row"])))


def test_a_field_called_is_padding_clashes_only_where_padding_is(home: Path, tmp_path: Path) -> None:
    table = pa.table({"is_padding": np.arange(5)})
    manifest = write_manifest(tmp_path, {"train": table})

    assert len(CoralLoader(split_feed(manifest, tmp_path, "train"), LoaderOptions(batch_size=4))) == 2
    with pytest.raises(UsageError, match="needs that name"):
        CoralLoader(split_feed(manifest, tmp_path, "train"), LoaderOptions(batch_size=4, world_size=2))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"batch_size": 0}, UsageError),
        ({"batch_size": True}, UsageError),
        ({"batch_size": 2.5}, UsageError),
        ({"rank": 1}, UsageError),
        ({"rank": -1}, UsageError),
        ({"world_size": 0}, UsageError),
        ({"seed": "0"}, UsageError),
        ({"shuffle": "ful"}, UsageError),
        ({"shuffle": 1}, UsageError),
        ({"shuffle": []}, UsageError),
        ({"batch_as": "row"}, UsageError),
        ({"num_workers": -1}, UsageError),
        ({"lanes": 3}, UsageError),
        ({"collate": "pads"}, UsageError),
        ({"skip": [(3, 3)]}, UsageError),
        ({"skip": [3]}, UsageError),
        ({"skip": 3}, UsageError),
        ({"skip": "03"}, UsageError),
        ({"skip": [(0, 5)]}, UsageError),
        ({"resume_batch": "re"}, UsageError),
        ({"weights": "row", "shuffle": False}, UsageError),
        ({"weights": "name"}, UsageError),
        ({"epoch_size": 10}, UsageError),
    ],
)
def test_options_that_nothing_can_mean_are_refused(home: Path, options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        example_loader(home, **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the machine has a CUDA device")
def test_pinned_memory_without_a_device_warns_and_goes_on(home: Path) -> None:
    with pytest.warns(CoralWarning, match="pin_memory"):
        loader = example_loader(home, pin_memory=True)

    assert len(ids(loader)) == 5


def test_a_pickled_loader_keeps_its_position_and_shows_no_dataset(home: Path) -> None:
    loader = example_loader(home)
    next(iter(loader))

    again = pickle.loads(pickle.dumps(loader))

    assert again.state_dict() == loader.state_dict()
    assert not hasattr(loader, "dataset")


def test_epochs_longer_than_one_chunk_of_the_order_are_whole(home: Path) -> None:
    loader = example_loader(home, 20_000, batch_size=3000)

    assert sorted(itertools.chain(*ids(loader))) == list(range(20_000))
    assert [len(batch) for batch in ids(loader)] == [3000] * 6 + [2000]

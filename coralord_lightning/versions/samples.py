"""Which rows a step of a run saw, by its checkpoint alone, and where they are in the store. Reads; builds nothing."""

from __future__ import annotations

import difflib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coralord_lightning.dataset import read_checkpoint
from coralord_lightning.errors import UsageError, VersionNotFoundError
from coralord_lightning.spec.manifest import Manifest, Shard
from coralord_lightning.store import Store
from coralord_lightning.stream.feed import split_feed
from coralord_lightning.stream.recipe import SourceFacts
from coralord_lightning.stream.replay import Cumulate, StepRows, chapter_of, rows_of_step
from coralord_lightning.stream.state import LoaderState, saved_state

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["MAX_COUNT", "MAX_STEP", "Place", "Sample", "Samples", "samples"]

MAX_STEP = 2**63 - 1
"""No run takes more steps than this."""

MAX_COUNT = 100_000
"""Steps that are told at once; they are held in memory."""

_LOADER_KEYS = frozenset({"format", "sources", "chapters", "since"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a row lies in the store.

    Args:
        partition: the key of the partition that gave it.
        files: the sources of that partition, as the plan names them.
        shard: relative to the home.
    """

    partition: str
    files: tuple[str, ...]
    shard: str
    row_in_shard: int

    def to_json(self) -> dict[str, Any]:
        """The place as plain values."""
        return {
            "partition": self.partition, "files": list(self.files), "shard": self.shard,
            "row_in_shard": self.row_in_shard,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One row that a step saw.

    Args:
        row: its number in the split, as in `table(split)`.
        source: its name in a mixture; None outside of one.
        place: None where its version is not in this home.
    """

    step: int
    epoch: int
    row: int
    source: str | None
    place: Place | None

    def to_json(self) -> dict[str, Any]:
        """The row as plain values; what is not known is left out."""
        out: dict[str, Any] = {"step": self.step, "epoch": self.epoch, "row": self.row}
        out |= {} if self.source is None else {"source": self.source}
        return out if self.place is None else out | self.place.to_json()


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """The rows of some steps, in the order of the ranks.

    Args:
        sources: the split that the run reads, or those of its mixture.
        epoch, step: of the first of these steps.
        position: the step that the checkpoint stands before; later ones are foretold.
        missing: fingerprints of versions that are not in this home.
    """

    sources: tuple[SourceFacts, ...]
    epoch: int
    step: int
    position: int
    rows: tuple[Sample, ...]
    missing: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The rows as plain values, with the sources of a mixture."""
        out: dict[str, Any] = {
            "fingerprint": " + ".join(dict.fromkeys(source.fingerprint for source in self.sources)),
            "split": " + ".join(dict.fromkeys(source.split for source in self.sources)),
            "epoch": self.epoch,
            "step": self.step,
        }
        if self.sources[0].weight is not None:
            out["sources"] = [source.to_json() for source in self.sources]
        return out | {"rows": [row.to_json() for row in self.rows]}


def samples(store: Store, checkpoint: Path, step: int, *, count: int = 1) -> Samples:
    """Tell which rows steps of a run saw, or will see.

    Args:
        checkpoint: of a Trainer with a CoralDataModule, or any that holds the `state_dict()` of a CoralLoader.
        step: counts batches over the whole run, from 0.
        count: how many steps, from that one on.
    Raises:
        UsageError: there is no such checkpoint, it has no state of ours, or a number is out of range.
        VersionNotFoundError: rows were drawn by a column of a version that is not in this home.
    """
    _require_range("--step", step, 0, MAX_STEP)
    _require_range("--count", count, 1, MAX_COUNT)
    state = _read_state(checkpoint)
    cumulate = _weights_of(store, state)
    steps = [_rows(state, number, cumulate) for number in range(step, step + count)]
    manifests = {source.fingerprint: store.read_manifest(source.fingerprint) for source in state.sources}
    finders = [_finder(manifests[source.fingerprint], source.split) for source in state.sources]
    return Samples(
        sources=state.sources,
        epoch=steps[0].epoch,
        step=step,
        position=state.position.step,
        rows=tuple(row for taken in steps for row in _samples(taken, state.sources, finders)),
        missing=tuple(fingerprint for fingerprint, manifest in manifests.items() if manifest is None),
    )


def _read_state(path: Path) -> LoaderState:
    if not path.is_file():
        raise _no_checkpoint(path)
    checkpoint = read_checkpoint(path, remedy="save it without objects of your own: hyperparameters as plain values")
    ours = saved_state(checkpoint)
    found = ours.get("loader") if ours is not None else next(_loader_states(checkpoint), None)
    if found is None:
        why = (
            "is from before training: no batch was asked for" if ours else "says nothing of data: none of ours is in it"
        )
        raise UsageError(
            str(path), why, remedy="name a checkpoint that a fit with a CoralDataModule saved while it trained"
        )
    return LoaderState.from_json(found)


def _loader_states(checkpoint: object) -> Iterator[Mapping[str, Any]]:
    """States of loaders that a program put into a checkpoint by itself."""
    if isinstance(checkpoint, Mapping):
        for value in (checkpoint, *checkpoint.values()):
            if isinstance(value, Mapping) and value.keys() >= _LOADER_KEYS:
                yield value


def _rows(state: LoaderState, step: int, cumulate: Cumulate) -> StepRows:
    if chapter_of(state, step) is None:
        begun = state.chapters[0].since.step
        raise UsageError(
            "--step",
            "lies before what the checkpoint knows of its run",
            facts={"got": step, "known from": begun},
            remedy=f"--step {begun}",
        )
    return rows_of_step(state, step, cumulate=cumulate)


def _weights_of(store: Store, state: LoaderState) -> Cumulate:
    """Reads a column of weights, once."""

    @lru_cache
    def cumulated(column: str) -> npt.NDArray[np.float64]:
        (source,) = state.sources
        manifest = store.read_manifest(source.fingerprint)
        if manifest is None:
            raise VersionNotFoundError(
                source.fingerprint,
                "is not in this home, and a column of it decides which rows were drawn",
                facts={"home": store.home, "column": column},
                remedy="coral samples … --home DIR   # the home that has it; or build its descriptor in this one",
            )
        return split_feed(manifest, store.home, source.split).cumulate(column)

    return cumulated


def _samples(
    taken: StepRows, sources: Sequence[SourceFacts], finders: Sequence[Callable[[int], Place | None]]
) -> Iterator[Sample]:
    for row, number in zip(taken.rows.tolist(), taken.sources.tolist(), strict=True):
        place = finders[number](row)
        yield Sample(step=taken.step, epoch=taken.epoch, row=row, source=sources[number].name, place=place)


def _finder(manifest: Manifest | None, split: str) -> Callable[[int], Place | None]:
    """From a row of a split to where it lies."""
    if manifest is None:
        return lambda _: None
    shards: list[tuple[int, Shard]] = [
        (index, shard) for index, part in enumerate(manifest.splits.get(split, ())) for shard in part.shards
    ]
    starts = [0, *accumulate(shard.num_rows for _, shard in shards)]

    def find(row: int) -> Place | None:
        number = bisect_right(starts, row) - 1
        if number >= len(shards):
            return None
        index, shard = shards[number]
        return Place(
            partition=manifest.partitions[index],
            files=_files(manifest.plan, index),
            shard=shard.path,
            row_in_shard=row - starts[number],
        )

    return find


def _files(plan: Mapping[str, Any], index: int) -> tuple[str, ...]:
    """The names of a partition's sources."""
    return tuple(str(plan["sources"][int(source)]["name"]) for source in plan["partitions"][index]["sources"])


def _require_range(option: str, value: int, least: int, most: int) -> None:
    if value < least:
        raise UsageError(option, f"counts from {least}", facts={"got": value}, remedy=f"{option} {least}   # or more")
    if value > most:
        raise UsageError(option, "is out of range", facts={"got": value, "most": most}, remedy=f"{option} {least}")


def _no_checkpoint(path: Path) -> UsageError:
    folder = path if path.is_dir() else path.parent
    there = sorted(item.name for item in folder.glob("*.ckpt")) if folder.is_dir() else []
    near = next(iter(difflib.get_close_matches(path.name, there, n=1)), there[0] if there else None)
    return UsageError(
        str(path),
        "is a folder, not a checkpoint" if path.is_dir() else "there is no such checkpoint",
        facts={"there": ", ".join(there[:8])} if there else {},
        remedy=f"coral samples {folder / near} --step 0" if near else "coral samples FOLDER/NAME.ckpt --step 0",
    )

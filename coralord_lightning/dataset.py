"""Owns `load()`: one version, its tables, loaders and row numbers, without Lightning; never builds by itself.

torch is imported by what needs tensors only.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from coralord_lightning.config import load_config
from coralord_lightning.errors import UsageError, nearest
from coralord_lightning.workspace import Version, open_workspace
from coralord_lightning.workspace.progress import PlainProgress

if TYPE_CHECKING:
    import datasets
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from coralord_lightning.spec.statistics import FieldStatistics
    from coralord_lightning.stream.batches import Collate
    from coralord_lightning.stream.feed import Feed
    from coralord_lightning.stream.loader import CoralLoader
    from coralord_lightning.stream.views import BatchView, RowView
    from coralord_lightning.workspace.planning import DescriptorLike

__all__ = ["Dataset", "load", "read_checkpoint", "read_saved_state", "resolve"]

Update = Literal["auto", "locked", "offline"]
Verify = Literal["stat", "read"]

_FINGERPRINT = re.compile(r"[0-9a-f]{4,64}")


def load(
    descriptor: DescriptorLike,
    *,
    home: str | os.PathLike[str] | None = None,
    base_dir: str | os.PathLike[str] | None = None,
    update: Update | None = None,
    build: bool = True,
    pin: str | os.PathLike[str] | None = None,
    verify: Verify = "stat",
) -> Dataset:
    """Resolve a descriptor, check its version and build it if it is stale or missing.

    Args:
        descriptor: path, mapping, DictConfig or SubsetDescriptor.
        home: the store directory; default: CORAL_HOME, `coral.toml`, `~/.cache/coralord`.
        base_dir: what relative paths in a mapping are relative to.
        update: None: the committed `coral.lock` if there is one, else "auto".
        build: False: a stale or missing version raises, naming the `coral build …` to run.
        pin: a fingerprint, a prefix of one, or a checkpoint: this version and no other, whatever the descriptor says.
        verify: "stat": shards are there with their sizes; "read": their bytes are what was built.
    Raises:
        CoralError: the descriptor, its data or its pipeline cannot be used; the error says what to do.
    """
    version = resolve(descriptor, home=home, base_dir=base_dir, update=update, build=build, pin=pin, verify=verify)
    return Dataset(version, verify=verify)


def resolve(
    descriptor: DescriptorLike,
    *,
    home: str | os.PathLike[str] | None,
    base_dir: str | os.PathLike[str] | None,
    update: Update | None,
    build: bool,
    pin: str | os.PathLike[str] | None,
    verify: Verify,
) -> Version:
    """Find or build the version; the arguments are those of `load`."""
    _require_choice("update", update, (None, "auto", "locked", "offline"))
    _require_choice("verify", verify, ("stat", "read"))
    workspace = open_workspace(load_config(home=home), offline=update == "offline")
    if pin is not None:
        return workspace.version(_fingerprint_of(pin), verify=verify)
    folder = None if base_dir is None else Path(base_dir).absolute()
    progress = PlainProgress(sys.stderr)  # a hit says nothing; a training that waits for a build says why
    return workspace.ensure(
        descriptor, base_dir=folder, update=update, build=build, verify=verify, progress=progress
    ).version


class Dataset:
    """One version, ready to be read.

    Args:
        version: fingerprint, content_digest, num_rows, splits, schema, created_at, plan.
        verify: "read" checks the bytes of a shard whenever it is opened.
    """

    def __init__(self, version: Version, *, verify: Verify = "stat") -> None:
        self.version = version
        self._verify = verify

    def __repr__(self) -> str:
        splits = ", ".join(f"{name}: {rows}" for name, rows in self.version.splits.items())
        return f"Dataset({self.version.name or 'pinned'} {self.version.fingerprint[:12]}, {splits})"

    @property
    def classes(self) -> Mapping[str, Sequence[str]]:
        """Field -> its classes in the order of their numbers, of every field with `encode: category`."""
        return self.version.classes

    @property
    def stats(self) -> Mapping[str, Mapping[str, FieldStatistics]]:
        """Split -> field -> statistics: `data.stats["train"]["image"].mean`."""
        return self.version.statistics

    def table(self, split: str) -> pa.Table:
        """One split as a memory-mapped table, without a copy; tensors are nested FixedSizeList columns.

        Raises:
            SplitNotFoundError: the version has no such split.
            ShardMissingError: a shard is gone or damaged.
        """
        import pyarrow as pa

        maps = self._feed(split).maps
        return pa.Table.from_batches(list(maps.batches()), schema=maps.schema)

    def loader(
        self,
        split: str,
        *,
        batch_size: int,
        shuffle: bool | Literal["full", "block"] = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        batch_as: Sequence[str] | None = None,
        transform: Callable[[Any], Any] | None = None,
        collate: Collate | None = None,
        pin_memory: bool = False,
        num_workers: int = 0,
        lanes: int = 1,
        skip: Sequence[Sequence[int]] | None = None,
        resume_batch: Literal["rebatch"] | None = None,
        weights: str | None = None,
        epoch_size: int | None = None,
    ) -> CoralLoader:
        """Batches of one split for one rank: dict[field, Tensor], or tuples with `batch_as`.

        Args:
            batch_size: rows in a batch of one rank; the global batch has batch_size * world_size.
            shuffle: True or "full" permutes all rows in each epoch, by (content digest, seed, epoch); "block" permutes
                blocks of about 4 MiB and mixes the rows of 64 to 127 blocks: for data larger than memory.
            drop_last: leave out the rows that fill no global batch.
            transform: called with each batch, a dict, before `batch_as`.
            collate: lists of different lengths: "pad", "offsets" or "rows"; or a function of a list of rows.
            num_workers: processes that make the batches, where `transform` is slow; it must be a function of a module.
            lanes: runs of rows that each global batch takes equal parts of, so that a node reads only some of them.
            skip: (start, stop) of steps to leave out, counted over the whole run from 0.
            resume_batch: "rebatch": a saved state may go on inside an epoch with global batches of another size.
            weights: a column that rows are drawn by, with replacement; `epoch_size` of them in an epoch.
        Raises:
            SplitNotFoundError: the version has no such split.
            UnknownFieldError: `batch_as` or `weights` names no field.
            BatchError: a field has no form in a batch.
            UsageError: an option means nothing here.
        """
        from coralord_lightning.stream.loader import CoralLoader
        from coralord_lightning.stream.options import LoaderOptions

        options = LoaderOptions(
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            rank=rank,
            world_size=world_size,
            drop_last=drop_last,
            batch_as=batch_as,
            transform=transform,
            collate=collate,
            pin_memory=pin_memory,
            num_workers=num_workers,
            lanes=lanes,
            skip=skip,
            resume_batch=resume_batch,
            weights=weights,
            epoch_size=epoch_size,
        )
        return CoralLoader(self._feed(split), options)

    def dataset(self, split: str) -> RowView:
        """One split as a torch Dataset of rows by number, each a dict of tensors and values.

        Raises:
            SplitNotFoundError: the version has no such split.
            BatchError: a field has no form in a batch.
        """
        from coralord_lightning.stream.views import RowView

        return RowView(self._feed(split))

    def iterable(self, split: str, **options: Any) -> BatchView:
        """One split as a torch IterableDataset of batches, for `DataLoader(view, batch_size=None, num_workers=…)`.

        It keeps no position: to resume exactly, use `loader`.

        Args:
            options: those of `loader`.
        Raises:
            CoralError: as `loader`.
        """
        from coralord_lightning.stream.options import LoaderOptions
        from coralord_lightning.stream.views import BatchView

        return BatchView(self._feed(split), LoaderOptions(**options))

    def rows(
        self,
        split: str,
        *,
        step: int,
        batch_size: int,
        seed: int = 0,
        epoch: int = 0,
        shuffle: bool | Literal["full", "block"] = True,
        world_size: int = 1,
        drop_last: bool = False,
        lanes: int = 1,
        skip: Sequence[Sequence[int]] | None = None,
        weights: str | None = None,
        epoch_size: int | None = None,
    ) -> npt.NDArray[np.int64]:
        """Which rows a step sees, over all ranks and without padding, in the order of the ranks.

        Args:
            step: batches after the beginning of `epoch`; it may lie in a later epoch.
            batch_size: and all others as in `loader`.
        Returns:
            int64[rows], row numbers as in `table(split)`.
        Raises:
            UsageError: the split has no batch, or a number is out of range.
        """
        from coralord_lightning.stream.options import LoaderOptions, recipe_of, require_int
        from coralord_lightning.stream.replay import rows_of_step
        from coralord_lightning.stream.state import Chapter, LoaderState, Position

        require_int("step", step, 0)
        require_int("epoch", epoch, 0)
        options = LoaderOptions(
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            world_size=world_size,
            drop_last=drop_last,
            lanes=lanes,
            skip=skip,
            weights=weights,
            epoch_size=epoch_size,
        )
        options.require_valid()
        feed = self._feed(split)
        chapter = Chapter(since=Position(epoch=epoch), recipe=recipe_of(feed, options))
        state = LoaderState(sources=feed.sources, chapters=(chapter,))
        return rows_of_step(state, step, cumulate=feed.cumulate).rows

    def _feed(self, split: str) -> Feed:
        from coralord_lightning.stream.feed import split_feed

        return split_feed(self.version.manifest, self.version.home, split, self._verify)

    def to_hf(self, split: str) -> datasets.Dataset:
        """One split as a Hugging Face dataset over the same memory-mapped files, without a copy.

        Raises:
            UsageError: Hugging Face datasets is not installed.
        """
        try:
            import datasets
            from datasets.table import InMemoryTable
        except ModuleNotFoundError as error:
            raise UsageError(
                "to_hf", "needs Hugging Face datasets", remedy="pip install 'coralord-lightning[hf]'"
            ) from error
        maps = self._feed(split).maps
        if len(maps) == 0:
            return datasets.Dataset(InMemoryTable(maps.schema.empty_table()))
        list(maps.batches())  # a damaged shard is our error, not an Arrow exception
        parts = [datasets.Dataset.from_file(str(path)) for path in maps.paths()]
        return datasets.concatenate_datasets(parts)


def _require_choice(name: str, value: object, choices: Sequence[object]) -> None:
    if value in choices:
        return
    near = nearest(str(value), [str(choice) for choice in choices if choice is not None])
    raise UsageError(
        name,
        "has a value that is none of its choices",
        facts={"got": repr(value), "choices": ", ".join(repr(choice) for choice in choices)},
        remedy=f'{name}="{near or choices[-1]}"',
    )


def _fingerprint_of(pin: str | os.PathLike[str]) -> str:
    """Read a pin: a fingerprint as it is, or the one in a checkpoint."""
    text = os.fspath(pin)
    if Path(text).is_file():
        return _read_checkpoint_pin(Path(text))
    if _FINGERPRINT.fullmatch(text):
        return text
    raise UsageError(
        "pin",
        "is neither a fingerprint nor a checkpoint file",
        facts={"got": text, "expected": "4 to 64 hex digits, or a path"},
        remedy="coral log     # prints the fingerprints of the store",
    )


def read_saved_state(path: str | os.PathLike[str]) -> Mapping[str, Any] | None:
    """What a run with a CoralDataModule kept in its checkpoint; nothing in the file is run.

    Returns:
        None where its run had no CoralDataModule.
    Raises:
        UsageError: it is no checkpoint, or not one of plain values.
    """
    from coralord_lightning.stream.state import saved_state

    return saved_state(read_checkpoint(path, remedy='pin="<fingerprint>", as the run logged it'))


def read_checkpoint(path: str | os.PathLike[str], *, remedy: str) -> object:
    """What a checkpoint holds; nothing in the file is run.

    Args:
        remedy: what helps whoever asks where it cannot be read.
    Raises:
        UsageError: it is no checkpoint, or not one of plain values.
    """
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises anything on a file that is no checkpoint
        raise UsageError(
            os.fspath(path),
            "cannot be read as a checkpoint of plain values",
            facts={"got": str(error).splitlines()[0] if str(error) else type(error).__name__},
            remedy=remedy,
        ) from error


def _read_checkpoint_pin(path: Path) -> str:
    state = read_saved_state(path)
    if state is None:
        raise UsageError(
            str(path),
            "is a checkpoint without a data version: its run had no CoralDataModule",
            remedy='pin="<fingerprint>", or no pin',
        )
    return str(state["version"]["fingerprint"])

"""Owns `Dataset`: the tables, loaders and row numbers of one version, without Lightning; never builds.

torch is imported by what needs tensors only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

if TYPE_CHECKING:
    import datasets
    import duckdb
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import polars as pl
    import pyarrow as pa
    import pyarrow.dataset

    from coralord_lightning.spec.statistics import FieldStatistics
    from coralord_lightning.stream.batches import Collate
    from coralord_lightning.stream.feed import Feed
    from coralord_lightning.stream.loader import CoralLoader
    from coralord_lightning.stream.views import BatchView, RowView
    from coralord_lightning.workspace import Version

__all__ = ["Dataset", "Verify"]

Verify = Literal["stat", "read"]


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

    def _repr_html_(self) -> str:
        """The data in a notebook: its version and splits, and what reads them."""
        from coralord_lightning.workspace.notebook import html_of_facts, html_of_version_facts

        version = self.version
        facts = html_of_version_facts(version.fingerprint, version.content_digest, version.splits)
        facts["columns"] = ", ".join(column.name for column in version.manifest.columns)
        facts["classes"] = "\n".join(f"{name}: {len(names)} classes" for name, names in self.classes.items())
        shown = {name: value for name, value in facts.items() if value}
        return html_of_facts(f"Dataset {version.name}" if version.name else "Dataset", shown)

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

    def duckdb(
        self,
        split: str,
        *,
        columns: Sequence[str] | None = None,
        connection: duckdb.DuckDBPyConnection | None = None,
    ) -> duckdb.DuckDBPyRelation:
        """One split as a DuckDB relation over the memory-mapped table, in the order of `table`.

        A query reads the columns that it names, filtered, and copies no more than it returns. Tensors are nested arrays
        (`UTINYINT[8][8]`), and of maps no key may be there twice.

        Args:
            columns: fields to read, in this order; default: all.
            connection: the relation belongs to it, and may be joined with what else does; default: DuckDB's own.
        Raises:
            SplitNotFoundError: the version has no such split.
            UnknownFieldError: `columns` names no field.
            UsageError: DuckDB has no type for a column: float16, decimal256.
            ShardMissingError: a shard is gone or damaged.
        """
        from coralord_lightning.dataset.readers import duckdb_relation, select

        return duckdb_relation(select(self.table(split), columns), connection)

    def to_pandas(self, split: str, *, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """One split as a pandas DataFrame of Arrow-backed columns, in the order of `table`; without a copy.

        Tensors are columns of nested lists. Every type is kept and a null stays `NA`; for columns of NumPy, copied, and
        nulls in whole numbers as float, `data.table(split).to_pandas()`.

        Args:
            columns: fields to read, in this order; default: all.
        Raises:
            UsageError: pandas is not installed.
            SplitNotFoundError: the version has no such split.
            UnknownFieldError: `columns` names no field.
            ShardMissingError: a shard is gone or damaged.
        """
        from coralord_lightning.dataset.readers import pandas_frame, select

        return pandas_frame(select(self.table(split), columns))

    def to_polars(self, split: str, *, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """One split as a Polars DataFrame, in the order of `table`, in a chunk for each shard.

        Numbers, times and tensors (`Array(UInt8, shape=(8, 8))`) are not copied; texts and bytes get 16 bytes a row.

        Args:
            columns: fields to read, in this order; default: all.
        Raises:
            UsageError: Polars is not installed, or has no type for a column: decimal256, intervals.
            SplitNotFoundError: the version has no such split.
            UnknownFieldError: `columns` names no field.
            ShardMissingError: a shard is gone or damaged.
        """
        from coralord_lightning.dataset.readers import polars_frame, select

        return polars_frame(select(self.table(split), columns))

    def arrow_dataset(self, split: str) -> pyarrow.dataset.Dataset:
        """One split as a pyarrow dataset: scanned in batches, filtered, over the memory maps, in the order of `table`.

        Raises:
            SplitNotFoundError: the version has no such split.
            ShardMissingError: a shard is gone or damaged.
        """
        from coralord_lightning.dataset.readers import arrow_dataset

        return arrow_dataset(self.table(split))

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

    @overload
    def to_hf(self, split: None = None, *, streaming: Literal[False] = False) -> datasets.DatasetDict: ...
    @overload
    def to_hf(self, split: None = None, *, streaming: Literal[True]) -> datasets.IterableDatasetDict: ...
    @overload
    def to_hf(self, split: str, *, streaming: Literal[False] = False) -> datasets.Dataset: ...
    @overload
    def to_hf(self, split: str, *, streaming: Literal[True]) -> datasets.IterableDataset: ...
    def to_hf(self, split: str | None = None, *, streaming: bool = False) -> object:
        """One split as a Hugging Face dataset over the same memory-mapped files, without a copy; or all, by name.

        Its features are those of the Croissant: ClassLabel, Image, Audio, Translation, nested lists. Its fingerprint is
        that of this version and split, so that what `map` computes is found again by other processes.

        Args:
            split: None: every split, in a DatasetDict.
            streaming: an IterableDataset, with `state_dict`, in as many pieces as there are files.
        Raises:
            UsageError: Hugging Face datasets is not installed, or has no type for a column.
            SplitNotFoundError: the version has no such split.
            ShardMissingError: a shard is gone or damaged.
        """
        from coralord_lightning.share.huggingface import require_datasets

        require_datasets("to_hf")
        import datasets

        from coralord_lightning.share.huggingface.features import features_of, require_split_names, split_name
        from coralord_lightning.share.huggingface.tables import hugging_face_dataset, iterable
        from coralord_lightning.store import open_store

        manifest = self.version.manifest
        description = open_store(self.version.home).read_description(manifest.fingerprint)
        features = features_of(manifest, description)
        found = {}
        wanted = list(self.version.splits) if split is None else [split]
        require_split_names(wanted)
        for name in wanted:
            maps = self._feed(name).maps
            list(maps.batches())  # a damaged shard is our error, not an Arrow exception
            made = hugging_face_dataset(
                maps.paths(),
                features=features,
                manifest=manifest,
                split=name,
                description=description,
            )
            found[split_name(name)] = iterable(made) if streaming else made
        if split is not None:
            return found[split_name(split)]
        return datasets.IterableDatasetDict(found) if streaming else datasets.DatasetDict(found)

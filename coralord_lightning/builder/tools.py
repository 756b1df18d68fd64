"""What a build acts through, as Protocols: store, extractor, progress. Each has its real one in another room."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from coralord_lightning.builder.runners.base import Runner
from coralord_lightning.spec.manifest import PartitionRecord
from coralord_lightning.spec.plan import Job, Partition

__all__ = ["Extractor", "PartitionStore", "Progress", "Tools"]


class Progress(Protocol):
    """Who hears how a build goes."""

    def phase(self, text: str) -> None:
        """Say what happens now, in a few words."""
        ...

    def start(self, partitions_total: int) -> None:
        """Partitions are about to be built."""
        ...

    def advance(self, partitions: int = 1, rows: int = 0, bytes: int = 0) -> None:  # noqa: A002 - the unit is the name
        """Partitions are finished."""
        ...

    def fetching(self, done_bytes: int, total_bytes: int | None = None) -> None:
        """So much was fetched; `total_bytes` is what is foretold, where it is said."""
        ...

    def finish(self) -> None:
        """Nothing more will come."""
        ...


class PartitionStore(Protocol):
    """What a build needs of the store."""

    def lookup_partition(self, key: str) -> PartitionRecord | None:
        """A finished partition whose shards are all there."""
        ...

    def admit_shard(self, temp: Path, sha256: str, size_bytes: int) -> str:
        """Keep a shard for good; returns its path relative to the home."""
        ...

    def publish_partition(self, record: PartitionRecord) -> None:
        """Keep a partition's record; its shards are kept already."""
        ...

    def temp_dir(self) -> AbstractContextManager[Path]:
        """A private directory on the store's file system, gone afterwards."""
        ...


class Extractor(Protocol):
    """What a build needs of the selection's reader."""

    def require_disjoint(self, partition: Partition) -> None:
        """Raise SplitError with counts where two splits claim one row."""
        ...

    def read(self, partition: Partition, split: str) -> Any:
        """The rows of one split as a pyarrow.RecordBatchReader, in order, cut into the plan's batches."""
        ...

    def count_unassigned(self, partition: Partition) -> int:
        """Selected rows that no split takes."""
        ...

    def distinct(self, partition: Partition, field: str, *, at_most: int) -> list[str]:
        """The texts of a field in the rows of all splits, sorted; more than `at_most` where there are more."""
        ...

    def place_of(self, partition: Partition, split: str, row: int) -> tuple[str, int] | None:
        """The source's name and the row in it of one row of what `read` gives."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """Everything a build acts through.

    Args:
        runner: None where the job has no pipeline.
        image: gives the image to run, building or pulling it if need be; only called when something is built.
        jobs: how many partitions are refined, run and checked at the same time; the result is the same for any number.
        backwards: the last partition first; the result is the same.
        processors: how many the pipeline may see and use; None: whatever there is. The result is the same.
    """

    store: PartitionStore
    open_extractor: Callable[[Job, Path], AbstractContextManager[Extractor]]
    runner: Runner | None
    image: Callable[[], str | None]
    progress: Progress
    jobs: int = 1
    backwards: bool = False
    processors: int | None = None

"""Builds a version once more, under other circumstances, and compares: `coral build --check`. Publishes nothing.

The second build runs its partitions the other way round, with another number of workers, later, and with one processor
to be seen. What a plan pins may not depend on any of that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coralord_lightning.errors import NotDeterministicError
from coralord_lightning.spec.manifest import Manifest, PartitionRecord, SplitPart
from coralord_lightning.spec.plan import Job

if TYPE_CHECKING:
    import pyarrow as pa

    from coralord_lightning.builder.tools import Tools
    from coralord_lightning.spec.first_difference import Difference

__all__ = ["require_reproducible"]


def require_reproducible(job: Job, manifest: Manifest, *, tools: Tools, home: Path) -> None:
    """Build again into a folder that goes away, and require the same content.

    Args:
        manifest: the first build; its shards lie under `home`.
    Raises:
        NotDeterministicError: the content is another; names the first partition, column and row that differ.
    """
    from coralord_lightning.builder.build import build

    with tools.store.temp_dir() as folder:
        scratch = _Scratch(folder=folder, temp_dir=tools.store.temp_dir)
        varied = replace(tools, store=scratch, jobs=1 if tools.jobs > 1 else 2, backwards=True, processors=1)
        again = build(job, varied, created_at=manifest.created_at).manifest
        if again.content_digest == manifest.content_digest:
            return
        raise _contradiction(job, manifest, again, home, folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scratch:
    """A `PartitionStore` that has nothing, and keeps what it is given in a folder."""

    folder: Path
    temp_dir: Callable[[], AbstractContextManager[Path]]

    def lookup_partition(self, key: str) -> PartitionRecord | None:  # noqa: ARG002  # as in PartitionStore
        """Nothing was built before."""
        return None

    def admit_shard(self, temp: Path, sha256: str, size_bytes: int) -> str:  # noqa: ARG002  # as in PartitionStore
        """Take the file over."""
        temp.replace(self.folder / sha256)
        return sha256

    def publish_partition(self, record: PartitionRecord) -> None:
        """Forget it: the build holds it in memory."""


def _contradiction(job: Job, one: Manifest, other: Manifest, home: Path, folder: Path) -> NotDeterministicError:
    facts: dict[str, Any] = {"first": one.content_digest, "again": other.content_digest}
    for index, split in _places(one):
        parts = one.splits[split][index], other.splits[split][index]
        if parts[0].blocks != parts[1].blocks or one.columns != other.columns:
            found = _difference(one, other, parts, (home, folder))
            facts |= _told(job, index, split, found)
            break
    return NotDeterministicError(
        job.name,
        "a second build from the same inputs gave other content",
        facts=facts,
        remedy="take the time, randomness and whatever else differs from run to run out of the pipeline: a seed belongs"
        "\ninto pipeline.params, and no state may be kept from one batch to the next",
    )


def _places(manifest: Manifest) -> Iterator[tuple[int, str]]:
    """Partition and split, in the order in which people count."""
    return ((index, split) for index in range(len(manifest.partitions)) for split in manifest.splits)


def _difference(
    one: Manifest, other: Manifest, parts: tuple[SplitPart, SplitPart], homes: tuple[Path, Path]
) -> Difference | None:
    from coralord_lightning.spec.first_difference import first_difference

    tables = (_table(m, part, home) for m, part, home in zip((one, other), parts, homes, strict=True))
    return first_difference(*tables)


def _table(manifest: Manifest, part: SplitPart, home: Path) -> pa.Table:
    import pyarrow as pa

    from coralord_lightning.spec.digest import arrow_schema
    from coralord_lightning.stream.shards import open_shard

    schema = arrow_schema(manifest.columns)
    return pa.Table.from_batches([open_shard(home, shard, schema) for shard in part.shards], schema)


def _told(job: Job, index: int, split: str, found: Difference | None) -> Mapping[str, Any]:
    sources = [job.plan.sources[source].name for source in job.plan.partitions[index].sources]
    named = sources[0] if len(sources) == 1 else f"{sources[0]} and {len(sources) - 1} more"
    facts: dict[str, Any] = {"partition": f"{index + 1} of {len(job.plan.partitions)} ({named}), split {split}"}
    if found is not None:
        facts |= {"column": found.column or "a row is missing", "row": found.row, "was": found.was, "now": found.now}
    return facts

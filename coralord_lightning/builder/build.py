"""Makes a plan true: builds the partitions that are missing and assembles the version. Owns no byte and no process.

What it acts through is handed in as Protocols; `workspace` puts the real ones together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

from coralord_lightning.builder.admission import Admission
from coralord_lightning.builder.runners.base import Runner, Sandbox, Session, Task
from coralord_lightning.builder.staging import stage_code, write_batches
from coralord_lightning.errors import EmptySelectionError
from coralord_lightning.spec.digest import content_digest
from coralord_lightning.spec.fingerprint import partition_key
from coralord_lightning.spec.manifest import Column, Manifest, PartitionRecord, Shard, SplitPart
from coralord_lightning.spec.plan import Job, Partition

__all__ = ["Built", "Extractor", "PartitionStore", "Progress", "Tools", "build"]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """Everything a build acts through.

    Args:
        runner: None where the job has no pipeline.
        image: gives the image to run, building or pulling it if need be; only called when something is built.
    """

    store: PartitionStore
    open_extractor: Callable[[Job, Path], AbstractContextManager[Extractor]]
    runner: Runner | None
    image: Callable[[], str | None]
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What a build came to."""

    manifest: Manifest
    partitions_built: int
    partitions_reused: int


def build(job: Job, tools: Tools, *, created_at: str) -> Built:
    """Build the partitions that the store lacks and assemble the version; publishing it is the caller's.

    Args:
        created_at: ISO 8601, UTC; goes into the manifest.
    Raises:
        CoralError: whatever extraction, pipeline, admission or store found wrong; finished partitions are kept.
    """
    plan = job.canonical
    keys = [partition_key(plan, index) for index in range(len(job.plan.partitions))]
    tools.progress.phase("looking for finished partitions")
    records = {key: record for key in keys if (record := tools.store.lookup_partition(key)) is not None}
    missing = [index for index, key in enumerate(keys) if key not in records]
    isolation: Mapping[str, Any] | None = None
    if missing:
        expect = next((record.columns for record in records.values() if record.columns), None)
        with _Bench.open(job, tools, expect) as bench:
            tools.progress.start(len(missing))
            for index in missing:
                records[keys[index]] = bench.make(keys[index], index)
            isolation = bench.isolation
    manifest = assemble(job, [records[key] for key in keys], isolation, created_at)
    return Built(manifest=manifest, partitions_built=len(missing), partitions_reused=len(keys) - len(missing))


def assemble(
    job: Job, records: list[PartitionRecord], isolation: Mapping[str, Any] | None, created_at: str
) -> Manifest:
    """Put finished partitions together to one version. Pure.

    Raises:
        EmptySelectionError: no partition has a row.
    """
    columns = next((record.columns for record in records if record.columns), None)
    if columns is None:
        raise EmptySelectionError(
            "selection",
            "no row is left in any split",
            facts={"where": "given" if job.plan.selection.where else "none", "files": len(job.plan.sources)},
            remedy="loosen `where` and `splits` in the descriptor, or check the data files",
        )
    splits = {
        rule.name: tuple(record.splits.get(rule.name, SplitPart()) for record in records)
        for rule in job.plan.selection.splits
    }
    blocks = {name: [block for part in parts for block in part.blocks] for name, parts in splits.items()}
    return Manifest(
        fingerprint=job.fingerprint,
        content_digest=content_digest(columns, blocks),
        created_at=created_at,
        columns=columns,
        splits=splits,
        partitions=tuple(record.key for record in records),
        plan=job.canonical,
        unassigned_rows=sum(record.unassigned_rows for record in records),
        isolation=isolation,
    )


@dataclass(slots=True, kw_only=True)
class _Bench:
    """The open tools of one build: extractor, sandbox and admission, all gone when it closes."""

    job: Job
    tools: Tools
    folder: Path
    extractor: Extractor
    admission: Admission
    session: Session | None
    expect: tuple[Column, ...] | None
    stack: ExitStack

    @classmethod
    def open(cls, job: Job, tools: Tools, expect: tuple[Column, ...] | None) -> _Bench:
        with ExitStack() as stack:
            folder = stack.enter_context(tools.store.temp_dir())
            for name in ("code", "in", "out", "shards", "spill"):
                (folder / name).mkdir()
            extractor = stack.enter_context(tools.open_extractor(job, folder / "spill"))
            admission = stack.enter_context(Admission(folder / "shards"))
            session = _open_session(job, tools, folder, stack)
            return cls(
                job=job, tools=tools, folder=folder, extractor=extractor, admission=admission,
                session=session, expect=expect, stack=stack.pop_all(),
            )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stack.__exit__(*exception)  # type: ignore[arg-type]  # ExitStack types the triple apart

    @property
    def isolation(self) -> Mapping[str, Any] | None:
        return None if self.session is None else dict(self.session.isolation)

    def make(self, key: str, index: int) -> PartitionRecord:
        """Build one partition and keep it."""
        plan = self.job.plan
        partition = plan.partitions[index]
        where = f"partition {index + 1} of {len(plan.partitions)}"
        self.tools.progress.phase(f"building {where}")
        self.extractor.require_disjoint(partition)
        parts = {
            rule.name: self._part(partition, rule.name, f"{index}-{number}", f"{where}, split {rule.name}")
            for number, rule in enumerate(plan.selection.splits)
        }
        record = PartitionRecord(
            key=key,
            columns=self.expect if any(part.num_rows for part in parts.values()) else None,
            splits={name: self._keep(part) for name, part in parts.items()},  # all of it, or nothing
            unassigned_rows=self.extractor.count_unassigned(partition),
        )
        self.tools.store.publish_partition(record)
        size_bytes = sum(shard.size_bytes for part in parts.values() for shard in part.shards)
        rows = sum(part.num_rows for part in parts.values())
        self.tools.progress.advance(partitions=1, rows=rows, bytes=size_bytes)
        return record

    def _part(self, partition: Partition, split: str, stem: str, label: str) -> SplitPart:
        """Extract, run and admit one split of one partition; nothing runs over no rows."""
        source, output = self.folder / "in" / f"{stem}.arrow", self.folder / "out" / f"{stem}.arrow"
        direct = self.session is None
        if not write_batches(self.extractor.read(partition, split), output if direct else source):
            return SplitPart()
        if self.session is not None:
            self.session.run(Task(input=source.name, output=output.name, label=label))
            source.unlink()
        admitted = self.admission.admit(output, expect=self.expect, label=label)
        output.unlink()
        if admitted.part.num_rows:
            self.expect = admitted.columns
        return admitted.part

    def _keep(self, part: SplitPart) -> SplitPart:
        """Hand finished shards over to the store."""
        return replace(part, shards=tuple(self._keep_shard(shard) for shard in part.shards))

    def _keep_shard(self, shard: Shard) -> Shard:
        temp = self.folder / "shards" / shard.path
        return replace(shard, path=self.tools.store.admit_shard(temp, shard.sha256, shard.size_bytes))


def _open_session(job: Job, tools: Tools, folder: Path, stack: ExitStack) -> Session | None:
    pipeline, environment = job.plan.pipeline, job.plan.environment
    if pipeline is None or environment is None or tools.runner is None:
        return None
    tools.progress.phase("starting the pipeline's environment")
    stage_code(job, folder / "code")
    sandbox = Sandbox(
        code_dir=folder / "code",
        in_dir=folder / "in",
        out_dir=folder / "out",
        file=pipeline.file,
        function=pipeline.function,
        per=pipeline.per,
        params=pipeline.params,
        batch_rows=job.plan.batch.rows,
        image=tools.image(),
        network=environment.network,
        limits=job.limits,
        source_names=job.source_names,
    )
    return stack.enter_context(tools.runner.open(sandbox))

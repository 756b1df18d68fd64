"""Makes a plan true: builds the partitions that are missing and assembles the version. Owns no byte and no process.

What it acts through is handed in as Protocols; `workspace` puts the real ones together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from coralord_lightning.builder.admission import Admission
from coralord_lightning.builder.refine_errors import unlike_forms
from coralord_lightning.builder.runners.base import Runner, Sandbox, Session, Task
from coralord_lightning.builder.staging import stage_code, write_batches
from coralord_lightning.errors import EmptySelectionError
from coralord_lightning.spec.digest import content_digest
from coralord_lightning.spec.fingerprint import canonical, partition_key
from coralord_lightning.spec.manifest import Column, Manifest, PartitionRecord, Shard, SplitPart
from coralord_lightning.spec.plan import Job, Partition
from coralord_lightning.spec.selection import SelectedField
from coralord_lightning.spec.statistics import FieldStatistics, merge_tallies

if TYPE_CHECKING:
    from coralord_lightning.builder.refine import Refiner

__all__ = ["Built", "Extractor", "PartitionStore", "Progress", "Tools", "assemble", "build", "common_forms"]


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
    classes = _classes(job, tools)
    keys = [partition_key(plan, index, _found(job, classes)) for index in range(len(job.plan.partitions))]
    tools.progress.phase("looking for finished partitions")
    records = {key: record for key in keys if (record := tools.store.lookup_partition(key)) is not None}
    missing = [index for index, key in enumerate(keys) if key not in records]
    isolation: Mapping[str, Any] | None = None
    if missing:
        refining = _Refining(classes=classes, forms=common_forms(records.values()))
        expect = next((record.columns for record in records.values() if record.columns), None)
        with _Bench.open(job, tools, expect, refining) as bench:
            tools.progress.start(len(missing))
            for index in missing:
                records[keys[index]] = bench.make(keys[index], index)
            isolation = bench.isolation
    manifest = assemble(job, [records[key] for key in keys], isolation, created_at, classes)
    return Built(manifest=manifest, partitions_built=len(missing), partitions_reused=len(keys) - len(missing))


def assemble(
    job: Job,
    records: list[PartitionRecord],
    isolation: Mapping[str, Any] | None,
    created_at: str,
    classes: Mapping[str, tuple[str, ...]] | None = None,
) -> Manifest:
    """Put finished partitions together to one version. Pure.

    Raises:
        EmptySelectionError: no partition has a row.
        SourceFormatError: partitions hold pictures of different shapes, or sounds of different rates.
    """
    common_forms(records)
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
        splits={name: tuple(replace(part, tallies=None) for part in parts) for name, parts in splits.items()},
        partitions=tuple(record.key for record in records),
        plan=job.canonical,
        unassigned_rows=sum(record.unassigned_rows for record in records),
        isolation=isolation,
        classes=classes or {},
        statistics=_statistics(splits),
        extra={"dataset": canonical(job.metadata)} if job.metadata else {},
    )


def common_forms(records: Iterable[PartitionRecord]) -> dict[str, Mapping[str, Any]]:
    """What decoded values turned out to be, the same in all partitions. Pure.

    Raises:
        SourceFormatError: it is not the same.
    """
    forms: dict[str, Mapping[str, Any]] = {}
    for record in records:
        for name, form in record.forms.items():
            if forms.setdefault(name, form) != form:
                raise unlike_forms(name, forms[name], form)
    return forms


def _statistics(splits: Mapping[str, tuple[SplitPart, ...]]) -> dict[str, dict[str, FieldStatistics]]:
    """By split and column; nothing for a split with a part that nobody has counted."""
    out = {}
    for name, parts in splits.items():
        counted = [part.tallies for part in parts if part.num_rows]
        tallies = [part for part in counted if part is not None]
        if tallies and len(tallies) == len(counted):
            out[name] = {column: tally.statistics() for column, tally in merge_tallies(tallies).items()}
    return out


def _classes(job: Job, tools: Tools) -> dict[str, tuple[str, ...]]:
    """Field -> its classes, of every field with `encode`: as given, else the values of all rows, sorted."""
    asked = [item for item in job.plan.selection.fields if item.refine is not None and item.refine.encode is not None]
    given = {item.name: item.refine.classes for item in asked if item.refine is not None}
    if None not in given.values():
        return {name: known for name, known in given.items() if known is not None}
    tools.progress.phase("looking for classes")
    with tools.store.temp_dir() as folder, tools.open_extractor(job, folder) as extractor:
        return {item.name: given[item.name] or _values_of(item, job, extractor) for item in asked}


def _values_of(item: SelectedField, job: Job, extractor: Extractor) -> tuple[str, ...]:
    from coralord_lightning.builder.refine_errors import MAX_CLASSES, too_many_classes

    fill = item.refine.fill if item.refine is not None and item.refine.nulls == "fill" else None
    found = {fill} if isinstance(fill, str) else set()
    for partition in job.plan.partitions:
        found |= set(extractor.distinct(partition, item.name, at_most=MAX_CLASSES))
        if len(found) > MAX_CLASSES:
            raise too_many_classes(item, at_least=len(found))
    return tuple(sorted(found))


def _found(job: Job, classes: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """The classes that the plan does not give: they come from the rows of all partitions."""
    given = {item.name for item in job.plan.selection.fields if item.refine is not None and item.refine.classes}
    return {name: known for name, known in classes.items() if name not in given}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refining:
    """What refining needs beside the selection."""

    classes: Mapping[str, tuple[str, ...]]
    forms: Mapping[str, Mapping[str, Any]]

    def open(self, job: Job, stack: ExitStack) -> Refiner | None:
        from coralord_lightning.builder.refine import Refiner, needs_refining

        fields = job.plan.selection.fields
        if not needs_refining(fields):
            return None
        from coralord_lightning.builder.decode import Decoder

        decoder = stack.enter_context(Decoder())
        return Refiner(fields, decoder=decoder, bounds=job.plan.batch, classes=self.classes, forms=self.forms)


@dataclass(slots=True, kw_only=True)
class _Bench:
    """The open tools of one build: extractor, sandbox and admission, all gone when it closes."""

    job: Job
    tools: Tools
    folder: Path
    extractor: Extractor
    admission: Admission
    refiner: Refiner | None
    session: Session | None
    expect: tuple[Column, ...] | None
    stack: ExitStack

    @classmethod
    def open(cls, job: Job, tools: Tools, expect: tuple[Column, ...] | None, refining: _Refining) -> _Bench:
        with ExitStack() as stack:
            folder = stack.enter_context(tools.store.temp_dir())
            for name in ("code", "in", "out", "shards", "spill"):
                (folder / name).mkdir()
            extractor = stack.enter_context(tools.open_extractor(job, folder / "spill"))
            admission = stack.enter_context(Admission(folder / "shards"))
            refiner = refining.open(job, stack)
            session = _open_session(job, tools, folder, stack)
            return cls(
                job=job, tools=tools, folder=folder, extractor=extractor, admission=admission,
                refiner=refiner, session=session, expect=expect, stack=stack.pop_all(),
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
            forms={} if self.refiner is None else self.refiner.take_forms(),
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
        if not write_batches(self._rows(partition, split, label), output if direct else source):
            return SplitPart()
        if self.session is not None:
            self.session.run(Task(input=source.name, output=output.name, label=label))
            source.unlink()
        admitted = self.admission.admit(output, expect=self.expect, label=label, selected=direct)
        output.unlink()
        if admitted.part.num_rows:
            self.expect = admitted.columns
        return admitted.part

    def _rows(self, partition: Partition, split: str, label: str) -> Any:
        """The rows of one split of one partition, as the pipeline gets them."""
        rows = self.extractor.read(partition, split)
        if self.refiner is None:
            return rows
        from coralord_lightning.builder.refine import Origin

        extractor = self.extractor
        origin = Origin(label=label, locate=lambda row: extractor.place_of(partition, split, row))
        return self.refiner.refine(rows, origin)

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

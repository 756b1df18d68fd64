"""One worker's bench: rows refined, run through the pipeline, checked and kept. Extracts nothing, starts no thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coralord_lightning.builder.admission import Admission, AdmittedPart
from coralord_lightning.builder.refine_errors import unlike_forms
from coralord_lightning.builder.runners.base import Sandbox, Session, Started, Task
from coralord_lightning.builder.staging import write_batches
from coralord_lightning.builder.tools import Tools
from coralord_lightning.errors import BuildError
from coralord_lightning.spec.manifest import Column, PartitionRecord, Shard, SplitPart
from coralord_lightning.spec.plan import Job

if TYPE_CHECKING:
    from coralord_lightning.builder.refine import Refiner

__all__ = ["Agreement", "Bench", "Extracted", "Shop", "common_forms"]

Forms = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Extracted:
    """One partition whose rows lie in files.

    Args:
        tag: its place among those being built, for a line of output: "3/200".
        label: what a message calls it: "partition 3 of 1000".
        files: split -> its rows as an Arrow IPC stream; nothing for a split without rows.
        locate: (split, row in it) -> the source's name and the row in that; asked on failure only.
    """

    key: str
    tag: str
    label: str
    splits: tuple[str, ...]
    files: Mapping[str, Path]
    unassigned_rows: int
    locate: Callable[[str, int], tuple[str, int] | None]


class Agreement:
    """What all partitions have in common, found out by whichever is first. Shared by threads.

    Args:
        columns: of the partitions that are there already; None where none has a row.
        forms: what decoded values were in them.
    """

    def __init__(self, columns: tuple[Column, ...] | None, forms: Forms) -> None:
        self._lock = threading.Lock()
        self._columns = columns
        self._forms = dict(forms)

    @property
    def columns(self) -> tuple[Column, ...] | None:
        """The columns that a partition must have."""
        with self._lock:
            return self._columns

    @property
    def forms(self) -> Forms:
        """What decoded values must be."""
        with self._lock:
            return dict(self._forms)

    def settle_columns(self, columns: tuple[Column, ...]) -> tuple[Column, ...]:
        """Agree on these, unless others are agreed on; returns those that hold."""
        with self._lock:
            self._columns = self._columns or columns
            return self._columns

    def settle_forms(self, forms: Forms) -> bool:
        """Agree on these, unless others are agreed on; whether they hold."""
        with self._lock:
            self._forms = {**forms, **self._forms}
            return all(self._forms[name] == form for name, form in forms.items())


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """What the benches of one build share.

    Args:
        folder: private, on the store's file system; has `in/`, `out/` and `shards/`.
        sandbox: what every session is to set up, but for `out_dir`; None without a pipeline.
        classes: field -> its classes, of every field with `encode`.
    """

    job: Job
    tools: Tools
    folder: Path
    sandbox: Sandbox | None
    agreement: Agreement
    classes: Mapping[str, tuple[str, ...]]
    numbers: Iterator[int]

    def open_bench(self, stack: ExitStack, started: Started) -> Bench:
        """A bench for the calling thread; `stack` closes it."""
        out_dir = self.folder / "out" / str(next(self.numbers))
        out_dir.mkdir()
        admission = stack.enter_context(Admission(self.folder / "shards"))
        refiner = self._open_refiner(stack)
        session: Session | None = None
        if self.sandbox is not None and self.tools.runner is not None:
            session = stack.enter_context(
                self.tools.runner.open(replace(self.sandbox, out_dir=out_dir), started=started)
            )
        return Bench(shop=self, out_dir=out_dir, admission=admission, refiner=refiner, session=session)

    def _open_refiner(self, stack: ExitStack) -> Refiner | None:
        from coralord_lightning.builder.refine import Refiner, needs_refining

        fields = self.job.plan.selection.fields
        if not needs_refining(fields):
            return None
        from coralord_lightning.builder.decode import Decoder

        decoder = stack.enter_context(Decoder())
        bounds = self.job.plan.batch
        return Refiner(fields, decoder=decoder, bounds=bounds, classes=self.classes, forms=self.agreement.forms)


@dataclass(slots=True, kw_only=True)
class Bench:
    """One worker's tools; a `pool.Worker`."""

    shop: Shop
    out_dir: Path
    admission: Admission
    refiner: Refiner | None
    session: Session | None
    stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def isolation(self) -> Mapping[str, Any] | None:
        """What the sandbox enforces; None without a pipeline."""
        return None if self.session is None else dict(self.session.isolation)

    def stop(self) -> None:
        """End what `make` waits for."""
        self.stopped.set()
        self.admission.stop()
        if self.session is not None:
            self.session.stop()

    def make(self, item: Extracted) -> PartitionRecord:
        """Build one extracted partition and keep it."""
        parts = {split: self._part(item, split) for split in item.splits}
        forms = {} if self.refiner is None else self.refiner.take_forms()
        record = PartitionRecord(
            key=item.key,
            columns=self.shop.agreement.columns if any(part.num_rows for part in parts.values()) else None,
            splits={split: self._keep(part) for split, part in parts.items()},  # all of it, or nothing
            unassigned_rows=item.unassigned_rows,
            forms=forms,
        )
        self._go_on()
        self.shop.tools.store.publish_partition(record)
        return record

    def _part(self, item: Extracted, split: str) -> SplitPart:
        """Refine, run and admit one split of one partition; nothing runs over no rows."""
        label = f"{item.label}, split {split}"
        source = item.files.get(split)
        if source is None:
            return SplitPart()
        rows = self._refined(source, item, split, label)
        if self.session is None:
            return self._admitted(rows, label)
        self._go_on()
        self.session.run(Task(input=rows.name, output=rows.name, label=label, tag=item.tag))
        rows.unlink()
        return self._admitted(self.out_dir / rows.name, label)

    def _refined(self, source: Path, item: Extracted, split: str, label: str) -> Path:
        """The rows as the pipeline gets them."""
        if self.refiner is None:
            return source
        import pyarrow as pa

        from coralord_lightning.builder.refine import Origin

        target = source.with_suffix(".refined.arrow")
        origin = Origin(label=label, locate=lambda row: item.locate(split, row))
        settled = False
        while not settled:  # where another worker's values came first, the second time says which row does not fit
            self.refiner.expect(self.shop.agreement.forms)
            with pa.OSFile(str(source), "rb") as stream, pa.ipc.open_stream(stream) as reader:
                write_batches(self.refiner.refine(reader, origin), target, watch=self._go_on)
            settled = self.shop.agreement.settle_forms(self.refiner.seen)
        source.unlink()
        return target

    def _admitted(self, output: Path, label: str) -> SplitPart:
        self._go_on()
        admitted = self._admit(output, label, self.shop.agreement.columns)
        agreed = self.shop.agreement
        if admitted.part.num_rows and admitted.columns is not None:
            columns = agreed.settle_columns(admitted.columns)
            if columns != admitted.columns:  # another worker's were first, meanwhile
                admitted = self._admit(output, label, columns)
        output.unlink()
        return admitted.part

    def _admit(self, output: Path, label: str, expect: tuple[Column, ...] | None) -> AdmittedPart:
        return self.admission.admit(output, expect=expect, label=label, selected=self.session is None)

    def _keep(self, part: SplitPart) -> SplitPart:
        """Hand finished shards over to the store."""
        return replace(part, shards=tuple(self._keep_shard(shard) for shard in part.shards))

    def _keep_shard(self, shard: Shard) -> Shard:
        temp = self.shop.folder / "shards" / shard.path
        return replace(shard, path=self.shop.tools.store.admit_shard(temp, shard.sha256, shard.size_bytes))

    def _go_on(self) -> None:
        if self.stopped.is_set():
            raise BuildError(self.shop.job.name, "was stopped", remedy="run the same command again")

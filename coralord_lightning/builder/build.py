"""Makes a plan true: builds the partitions that are missing and assembles the version. Owns no byte and no process.

The caller's thread extracts one partition after the other; workers refine, run, check and keep what is extracted. What
it all acts through is handed in as Protocols; `workspace` puts the real ones together.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from coralord_lightning.builder.bench import Agreement, Extracted, Shop, common_forms
from coralord_lightning.builder.pool import Pool
from coralord_lightning.builder.runners.base import Sandbox
from coralord_lightning.builder.staging import stage_code, write_batches
from coralord_lightning.builder.tools import Extractor, PartitionStore, Progress, Tools
from coralord_lightning.errors import EmptySelectionError
from coralord_lightning.spec.digest import content_digest
from coralord_lightning.spec.fingerprint import partition_keys
from coralord_lightning.spec.manifest import Manifest, PartitionRecord, SplitPart
from coralord_lightning.spec.plan import Job
from coralord_lightning.spec.selection import SelectedField
from coralord_lightning.spec.statistics import FieldStatistics, merge_tallies

__all__ = ["Built", "Extractor", "PartitionStore", "Progress", "Tools", "assemble", "build", "common_forms"]


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
    classes = _classes(job, tools)
    keys = _keys(job, classes)
    tools.progress.phase("looking for finished partitions")
    first = {key: index for index, key in reversed(list(enumerate(keys)))}  # slices of the same lines have one key
    records = {key: record for key in first if (record := tools.store.lookup_partition(key)) is not None}
    missing = sorted(index for key, index in first.items() if key not in records)
    isolation: Mapping[str, Any] | None = None
    if missing:
        columns = next((record.columns for record in records.values() if record.columns), None)
        agreement = Agreement(columns, common_forms(records.values()))
        tools.progress.start(len(missing))
        with tools.store.temp_dir() as folder, _open_shop(job, tools, folder, agreement, classes) as (shop, extractor):
            pool = Pool(size=min(tools.jobs, len(missing)), open_worker=shop.open_bench, progress=tools.progress)
            with pool:
                for number, index in enumerate(reversed(missing) if tools.backwards else missing, start=1):
                    pool.room()
                    tools.progress.phase(f"building partition {index + 1} of {len(keys)}")
                    tag = f"{number}/{len(missing)}" if len(missing) > 1 else ""
                    item = _Item(index=index, key=keys[index], tag=tag)
                    pool.put(_extracted(item, shop, extractor, watch=pool.check))
                records |= pool.finish()
            isolation = pool.isolation
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
    )


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


def _keys(job: Job, classes: Mapping[str, tuple[str, ...]]) -> list[str]:
    return list(partition_keys(job.canonical, _found(job, classes)))


@contextmanager
def _open_shop(
    job: Job, tools: Tools, folder: Path, agreement: Agreement, classes: Mapping[str, tuple[str, ...]]
) -> Iterator[tuple[Shop, Extractor]]:
    """What all workers share, and the extractor, in a private folder."""
    for name in ("code", "in", "out", "shards", "spill"):
        (folder / name).mkdir()
    sandbox = _sandbox(job, tools, folder)
    with tools.open_extractor(job, folder / "spill") as extractor:
        shop = Shop(
            job=job, tools=tools, folder=folder, sandbox=sandbox, agreement=agreement, classes=classes,
            numbers=itertools.count(),
        )  # fmt: skip
        yield shop, extractor


def _sandbox(job: Job, tools: Tools, folder: Path) -> Sandbox | None:
    pipeline, environment = job.plan.pipeline, job.plan.environment
    if pipeline is None or environment is None or tools.runner is None:
        return None
    tools.progress.phase("starting the pipeline's environment")
    stage_code(job, folder / "code")
    return Sandbox(
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
        project_dir=job.base_dir,
        files=tuple(job.files),
        processors=tools.processors,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    """One partition that is to be built: its place in the plan, its key, its place among those to build."""

    index: int
    key: str
    tag: str


def _extracted(item: _Item, shop: Shop, extractor: Extractor, *, watch: Callable[[], None]) -> Extracted:
    """Write the rows of one partition to files, a split each."""
    job = shop.job
    partition = job.plan.partitions[item.index]
    extractor.require_disjoint(partition)
    files = {}
    for number, rule in enumerate(job.plan.selection.splits):
        path = shop.folder / "in" / f"{item.index}-{number}.arrow"
        if write_batches(extractor.read(partition, rule.name), path, watch=watch):
            files[rule.name] = path
        else:
            path.unlink()
    return Extracted(
        key=item.key,
        tag=item.tag,
        label=f"partition {item.index + 1} of {len(job.plan.partitions)}",
        splits=tuple(rule.name for rule in job.plan.selection.splits),
        files=files,
        unassigned_rows=extractor.count_unassigned(partition),
        locate=lambda split, row: extractor.place_of(partition, split, row),
    )

"""The plan: a descriptor with every input pinned. Pure values; `to_json` is what is hashed and kept.

A part that is absent is left out of the JSON, so that a new feature keeps old fingerprints. Where inputs lie on this
machine is not part of a plan: that is a `Location`, carried beside it in a `Job`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from coralord_lightning.spec.cuts import Slice
from coralord_lightning.spec.fingerprint import canonical
from coralord_lightning.spec.image_tag import ImageTag
from coralord_lightning.spec.recipe import Recipe
from coralord_lightning.spec.selection import (
    FileFormat,
    Join,
    Reading,
    Refinement,
    SelectedField,
    Selection,
    SplitRule,
)

__all__ = [
    "BATCH_BYTES",
    "BATCH_ROWS",
    "SEMANTICS",
    "BatchBounds",
    "EnvironmentPlan",
    "Job",
    "Limits",
    "LocalFile",
    "Location",
    "Partition",
    "PipelinePlan",
    "Plan",
    "RemoteFile",
    "SourceFile",
]

Json = Any

BATCH_ROWS = 65_536
BATCH_BYTES = 64 * 1024 * 1024
SEMANTICS: Mapping[str, int] = {"batches": 1, "extract": 2, "partitions": 1, "splits": 1}
"""Versions of our own rules; one goes up when the same plan would give other rows."""

Per = Literal["batch", "partition", "dataset"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One pinned input file.

    Args:
        name: stable logical name: the FileObject's @id, or the path beneath the Croissant file's folder with `/`;
            `archive!path` for a file inside an archive.
        format: how it is read; "inline" for rows in the Croissant file.
        identity: {"sha256": hex} for a file read whole; for one read by ranges {"url", "etag", "size"}, or {"lfs" or
            "git": object id, "size"} of a file in a repository at a pinned commit.
        size_bytes: its size, for planning; never fingerprinted beyond `identity`.
        table: alias of the joined table that it belongs to; "" for the selection's own.
        path: its path beneath folder, archive or repository; only where a field reads a file's name.
        slices: where it is cut into partitions; they stand in those.
    """

    name: str
    format: FileFormat | Literal["inline"]
    identity: Mapping[str, str | int]
    size_bytes: int
    table: str = ""
    path: str | None = None
    slices: tuple[Slice, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFile:
    """A source on this machine, read natively; `url` is where it was fetched from, None for one of the work tree."""

    path: Path
    url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A source behind http(s), read through `coral://`; `etag` and `size_bytes` are what the plan pinned."""

    url: str
    etag: str | None
    size_bytes: int


Location = LocalFile | RemoteFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """The unit of building and reuse.

    Args:
        sources: what it reads, as indices into `Plan.sources`, in order.
        window: bytes [start, stop) of the first source, a large Parquet file: the row groups whose middle lies there.
        slice: the stretch of the first source that it reads, of large JSON lines or of rows in the Croissant file.
    """

    sources: tuple[int, ...]
    window: tuple[int, int] | None = None
    slice: Slice | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchBounds:
    """How extracted rows are cut into batches: at most `rows` rows and `bytes` bytes, at least one row."""

    rows: int = BATCH_ROWS
    bytes: int = BATCH_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelinePlan:
    """The user's code, pinned.

    Args:
        file: the pipeline's file, relative to the descriptor's folder, with `/`.
        function: the function in it.
        code: relative path -> SHA-256 of the source without comments, of `file` and every local module it imports.
        files: relative path -> SHA-256, of the extra inputs.
    """

    file: str
    function: str
    per: Per
    params: Mapping[str, Json]
    code: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentPlan:
    """Where the pipeline runs, pinned.

    Args:
        kind: "local" (this interpreter) or "docker".
        identity: local: {"implementation", "python", "platform", "distributions": {name: version}};
            docker: {"image": "sha256:…", "platform"} or, for the shipped default image,
            {"context": sha256, "base": "sha256:…", "build_args": {…}, "platform"}; for a descriptor's Dockerfile
            {"context", "platform"} and, where there are any, "bases" {name: "sha256:…"}, "build_args" and "target".
        image: what the engine is told to run (an ID or name@digest); never fingerprinted by itself; None when local
            or not yet built.
        network: True makes the build not hermetic; in the fingerprint.
        recipe: how the image of a descriptor's Dockerfile is built here; never fingerprinted beyond `identity`.
        tag: of an image that was asked for by tag, what that stood for; never fingerprinted.
    """

    kind: Literal["local", "docker"]
    identity: Mapping[str, Json]
    image: str | None = None
    network: bool = False
    recipe: Recipe | None = None
    tag: ImageTag | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that decides the data, and nothing else.

    Args:
        decoders: library -> version, of those that decode a field.
    """

    selection: Selection
    sources: tuple[SourceFile, ...]
    partitions: tuple[Partition, ...]
    batch: BatchBounds = field(default_factory=BatchBounds)
    pipeline: PipelinePlan | None = None
    environment: EnvironmentPlan | None = None
    decoders: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Json]:
        """The canonical plan: JSON values only, absent parts left out."""
        plan: dict[str, Json] = {
            "format": 1,
            "semantics": dict(SEMANTICS),
            "selection": _selection_json(self.selection),
            "sources": [_source_json(source) for source in self.sources],
            "partitions": [_partition_json(part) for part in self.partitions],
            "batch": {"rows": self.batch.rows, "bytes": self.batch.bytes},
        }
        if self.pipeline is not None:
            plan["pipeline"] = _pipeline_json(self.pipeline)
        if self.environment is not None:
            plan["environment"] = {"kind": self.environment.kind, **self.environment.identity}
            if self.environment.network:
                plan["environment"]["network"] = True
        if self.decoders:
            plan["decoders"] = dict(self.decoders)
        return plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one build may take; recorded, never fingerprinted.

    Args:
        timeout_s: for one task of a pipeline.
        output_bytes: what a pipeline may have in its output directory at one time; None: all but a reserve of the disk.
    """

    memory_bytes: int | None = None
    cpus: float | None = None
    timeout_s: float | None = None
    output_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A plan and where its inputs lie on this machine.

    Args:
        locations: by `SourceFile.name`; nothing for "inline" sources.
        code: relative path -> source text of the pipeline and its local modules.
        files: relative path -> where the extra input lies.
        source_names: relative path -> how to show it to the user in a traceback.
        base_dir: the descriptor's folder.
    """

    name: str
    plan: Plan
    fingerprint: str
    locations: Mapping[str, Location]
    code: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    source_names: Mapping[str, str] = field(default_factory=dict)
    base_dir: Path | None = None

    @property
    def located(self) -> tuple[tuple[SourceFile, Location], ...]:
        """The sources that lie in files, each with its place."""
        return tuple((item, self.locations[item.name]) for item in self.plan.sources if item.name in self.locations)

    @property
    def canonical(self) -> dict[str, Json]:
        """The plan as it is hashed and kept in manifests."""
        return dict(canonical(self.plan.to_json()))


def _partition_json(part: Partition) -> dict[str, Json]:
    out: dict[str, Json] = {"sources": list(part.sources)}
    if part.window is not None:
        out["window"] = list(part.window)
    if part.slice is not None:
        cut = part.slice
        out["slice"] = {"start": cut.start, "stop": cut.stop, "first_row": cut.first_row, "sha256": cut.sha256}
    return out


def _source_json(source: SourceFile) -> dict[str, Json]:
    out: dict[str, Json] = {"name": source.name, "format": source.format, **source.identity}
    if source.table:
        out["table"] = source.table
    if source.path is not None:
        out["path"] = source.path
    return out


def _selection_json(selection: Selection) -> dict[str, Json]:
    out: dict[str, Json] = {
        "fields": [_field_json(item) for item in selection.fields],
        "splits": {rule.name: _split_json(rule) for rule in selection.splits},
    }
    if selection.helpers:
        out["helpers"] = [_field_json(item) for item in sorted(selection.helpers, key=lambda item: item.name)]
    if selection.where is not None:
        out["where"] = selection.where.to_json()
    if selection.order_by:
        out["order_by"] = [{"field": key.field, "descending": key.descending} for key in selection.order_by]
    if selection.limit is not None:
        out["limit"] = selection.limit
    if selection.split_key:
        out["split_key"] = list(selection.split_key)
    if selection.reading != Reading():
        out["reading"] = _reading_json(selection.reading)
    if selection.joins:
        out["joins"] = [_join_json(join) for join in selection.joins]
    return out


def _reading_json(reading: Reading) -> dict[str, Json]:
    out: dict[str, Json] = {"mode": reading.mode}
    if reading.row_path is not None:
        out["row_path"] = reading.row_path
    return out


def _join_json(join: Join) -> dict[str, Json]:
    out: dict[str, Json] = {"alias": join.alias, "on": [_field_json(key) for key in join.on]}
    if join.reading != Reading():
        out["reading"] = _reading_json(join.reading)
    if join.nested:
        out["nested"] = True
    return out


def _field_json(item: SelectedField) -> dict[str, Json]:
    out: dict[str, Json] = {"name": item.name, "column": item.column, "dtype": item.dtype}
    if item.shape:
        out["shape"] = list(item.shape)
    if item.kind != "column":
        out["kind"] = item.kind
    if item.transforms:
        out["transforms"] = [{step.op: step.argument} for step in item.transforms]
    if item.table:
        out["table"] = item.table
    if item.children:
        out["children"] = [_field_json(child) for child in item.children]
    if item.refine is not None:
        out["refine"] = _refine_json(item.refine)
    return out


def _refine_json(refine: Refinement) -> dict[str, Json]:
    said = ((item.name, getattr(refine, item.name)) for item in fields(refine))
    return {name: list(value) if isinstance(value, tuple) else value for name, value in said if value is not None}


def _split_json(rule: SplitRule) -> dict[str, Json]:
    out: dict[str, Json] = {}
    if rule.claims is not None:
        out["claims"] = rule.claims.to_json()
    if rule.of is not None:
        out["of"] = rule.of.to_json()
    if rule.bounds is not None:
        out["bounds"] = [str(bound) for bound in rule.bounds]
    if rule.group_by:
        out["group_by"] = list(rule.group_by)
    if rule.stratify_by:
        out["stratify_by"] = list(rule.stratify_by)
    return out


def _pipeline_json(pipeline: PipelinePlan) -> dict[str, Json]:
    out: dict[str, Json] = {
        "file": pipeline.file,
        "function": pipeline.function,
        "per": pipeline.per,
        "params": dict(pipeline.params),
        "code": dict(pipeline.code),
    }
    if pipeline.files:
        out["files"] = dict(pipeline.files)
    return out

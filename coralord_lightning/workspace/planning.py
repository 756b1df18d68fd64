"""From a descriptor to a job: every input read, hashed and pinned. Decides, builds nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coralord_lightning.errors import (
    CroissantSyntaxError,
    DescriptorNotFoundError,
    DescriptorSyntaxError,
    LockedError,
    PipelineNotFoundError,
    SourceMissingError,
    UsageError,
    nearest,
)
from coralord_lightning.sources import FetchedText, Sources, require_mapped
from coralord_lightning.spec.code import Closure, code_digest, import_closure, require_function
from coralord_lightning.spec.compiler import compile_selection
from coralord_lightning.spec.croissant import parse_croissant
from coralord_lightning.spec.description import Description, describe_selection
from coralord_lightning.spec.descriptor import SubsetDescriptor, descriptor_from_mapping, parse_descriptor
from coralord_lightning.spec.fingerprint import canonical, fingerprint
from coralord_lightning.spec.lock import LockEntry
from coralord_lightning.spec.plan import (
    Job,
    Limits,
    Location,
    PipelinePlan,
    Plan,
)
from coralord_lightning.spec.selection import Selection
from coralord_lightning.workspace.environments import EnvironmentResolver
from coralord_lightning.workspace.files import partitions_of, resolve_files

__all__ = ["DescriptorLike", "Planned", "folder_of", "plan_job", "read_descriptor"]

DescriptorLike = str | os.PathLike[str] | Mapping[str, Any] | SubsetDescriptor
_MAX_DESCRIPTOR_BYTES = 1024 * 1024
_VALUE = "descriptor"
"""The origin of a descriptor that is no file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A job and what of it lies outside the work tree, which a lock pins.

    Args:
        description: what descriptor and Croissant say of the data; stands beside the manifest, never in it.
        croissant: the Croissant text it was planned from; its `url` is None for a local file.
        pins: the lock entry that was obeyed; None where there was none, or none was to be.
    """

    job: Job
    descriptor: SubsetDescriptor
    croissant: FetchedText
    description: Description
    pins: LockEntry | None = None

    @property
    def folder(self) -> Path | None:
        """Where the descriptor's file lies; None for one that was given as a value."""
        return folder_of(self.descriptor)


def folder_of(asked: SubsetDescriptor) -> Path | None:
    """Where a descriptor's file lies; None for one that was given as a value, which has no lock."""
    path = Path(asked.origin)
    return path.parent if asked.origin != _VALUE and path.is_file() else None


def read_descriptor(descriptor: DescriptorLike, *, base_dir: Path | None = None) -> SubsetDescriptor:
    """Whatever names a descriptor, parsed.

    Args:
        base_dir: what relative paths in a mapping start from; default: the current directory.
    Raises:
        DescriptorError: it is not there or cannot be used; names file and line.
    """
    if isinstance(descriptor, SubsetDescriptor):
        return descriptor if base_dir is None else descriptor.at(base_dir)
    if isinstance(descriptor, str | os.PathLike):
        return _read_file(Path(descriptor).expanduser())
    value: Any = descriptor
    if isinstance(value, Mapping) or type(value).__name__ == "DictConfig":  # without importing omegaconf
        return descriptor_from_mapping(value, origin=_VALUE, base_dir=(base_dir or Path.cwd()).absolute())
    raise UsageError(
        "descriptor",
        "is neither a path nor a mapping nor a SubsetDescriptor",
        facts={"got": type(descriptor).__name__},
        remedy='descriptor="digits.yaml"',
    )


def plan_job(
    asked: SubsetDescriptor,
    *,
    sources: Sources,
    environment: EnvironmentResolver,
    pins: LockEntry | None = None,
) -> Planned:
    """Pin every input of a descriptor.

    Args:
        pins: what a lock says of inputs outside the work tree; those are taken as it says.
    Raises:
        CoralError: an input is missing, forbidden, unsupported or not what was declared.
    """
    reference = asked.croissant or "files"
    text = _croissant_text(asked, sources, pins)
    dataset = parse_croissant(_decode(text, reference), origin=reference)
    mapping = asked.mapped
    require_mapped(mapping, dataset.files)
    selection = compile_selection(asked, dataset)
    pinned = pins.sources if pins is not None else ()
    resolved = resolve_files(selection, sources, text=text, pinned=pinned, mapping=mapping)
    files = tuple(source for source, _ in resolved)
    closure, pipeline, extra = _pipeline(asked, sources)
    plan = Plan(
        selection=selection,
        sources=files,
        partitions=partitions_of(selection, files, pipeline),
        pipeline=pipeline,
        environment=None if pipeline is None else environment(asked, closure.imports, pins, sources.hashes),
        decoders=_decoders(selection),
    )
    locations: dict[str, Location] = {source.name: place for source, place in resolved if place is not None}
    job = Job(
        name=asked.name,
        plan=plan,
        fingerprint=fingerprint(canonical(plan.to_json())),
        locations=locations,
        code=closure.code,
        files=extra,
        limits=_limits(asked),
        source_names={name: os.path.relpath(asked.base_dir / name) for name in closure.code},
        base_dir=asked.base_dir,
    )
    description = describe_selection(asked, dataset, selection, sha256=text.sha256, url=text.url)
    return Planned(job=job, descriptor=asked, croissant=text, description=description, pins=pins)


def _read_file(path: Path) -> SubsetDescriptor:
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_DESCRIPTOR_BYTES + 1)
    except (OSError, ValueError) as error:
        raise _missing(path, error) from error
    if len(data) > _MAX_DESCRIPTOR_BYTES:
        raise DescriptorSyntaxError(
            str(path), "is larger than any descriptor", remedy=f"keep {path.name} under 1 MiB; data belongs in files"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DescriptorSyntaxError(
            str(path), "is not UTF-8 text", facts={"got": error}, remedy="save the descriptor as UTF-8 YAML"
        ) from error
    origin = str(path) if str(path) != _VALUE else str(path.absolute())
    return parse_descriptor(text, origin=origin, base_dir=path.absolute().parent)


def _missing(path: Path, error: Exception) -> DescriptorNotFoundError:
    folder = path.parent
    there = sorted(item.name for item in folder.glob("*.y*ml")) if folder.is_dir() else []
    near = nearest(path.name, there)
    if path.is_dir():
        found = sorted(item.name for item in path.glob("*.y*ml"))
        return DescriptorNotFoundError(
            str(path),
            "is a directory, not a descriptor",
            facts={"there": ", ".join(found) or "no YAML file"},
            remedy=str(path / found[0]) if found else "name the descriptor's YAML file",
        )
    return DescriptorNotFoundError(
        str(path),
        "there is no such descriptor" if isinstance(error, FileNotFoundError) else f"cannot be read: {error}",
        facts={"there": ", ".join(there)} if there else {},
        remedy=str(folder / near) if near else "name an existing YAML file, e.g. examples/digits/digits.yaml",
    )


def _croissant_text(asked: SubsetDescriptor, sources: Sources, pins: LockEntry | None) -> FetchedText:
    """The Croissant text; where a lock pins a remote one, that very text."""
    if asked.files:
        from coralord_lightning.workspace.describe import croissant_of

        return croissant_of(asked.files, asked.base_dir, sources=sources)
    reference = str(asked.croissant)
    pinned = pins.croissant if pins is not None else None
    if pinned is None or pinned.url != reference:
        return sources.read_text(reference, base_dir=asked.base_dir)
    text = sources.read_text(reference, base_dir=asked.base_dir, sha256=pinned.sha256)
    if text.sha256 != pinned.sha256:
        raise LockedError(
            asked.name,
            "the Croissant file has changed upstream since coral.lock was written",
            facts={"expected": pinned.sha256, "got": text.sha256},
            remedy=f"coral update {asked.origin}",
        )
    return text


def _decode(text: FetchedText, reference: str) -> Any:
    lines = text.text.split("\n")
    try:
        return json.loads(text.text)
    except json.JSONDecodeError as error:
        raise CroissantSyntaxError(
            f"{reference}:{error.lineno}",
            f"is not JSON: {error.msg}",
            facts={"got": lines[error.lineno - 1][:80] if text.text.strip() else "an empty file"},
            remedy="mend the file there, or name another in `croissant:`",
        ) from error
    except RecursionError as error:
        raise CroissantSyntaxError(
            reference, "is nested too deeply", remedy="name a Croissant file in `croissant:`"
        ) from error
    except ValueError as error:  # of thousands of digits
        raise CroissantSyntaxError(
            reference,
            "has a number that is too long",
            facts={"got": str(error).partition(";")[0]},
            remedy="write a number of that length as a text, in quotes",
        ) from error


def _decoders(selection: Selection) -> dict[str, str]:
    """Versions of the libraries that decode a field; nothing is imported where none does."""
    if not any(item.refine is not None and item.refine.decode for item in selection.fields):
        return {}
    from coralord_lightning.builder.decode import decoder_versions

    return decoder_versions(selection.fields)


def _pipeline(asked: SubsetDescriptor, sources: Sources) -> tuple[Closure, PipelinePlan | None, dict[str, Path]]:
    wanted = asked.pipeline
    if wanted is None:
        return Closure(code={}, imports=frozenset()), None, {}
    file, function = wanted.file, wanted.function
    closure = import_closure(file, lambda name: _read_code(asked.base_dir, name))
    require_function(closure.code[file], file=file, function=function)
    extra = {name: asked.base_dir / name for name in wanted.files}
    plan = PipelinePlan(
        file=file,
        function=function,
        per=wanted.per,
        params=wanted.params,
        code={name: code_digest(text) for name, text in closure.code.items()},
        files={name: _hash_extra(path, name, sources) for name, path in extra.items()},
    )
    return closure, plan, extra


def _hash_extra(path: Path, name: str, sources: Sources) -> str:
    try:
        return sources.hashes.hash_file(path).sha256
    except OSError as error:
        near = nearest(name, [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else [])
        raise SourceMissingError(
            "pipeline.files",
            f"there is no file '{name}' beside the descriptor",
            facts={"expected": path, "got": error.strerror},
            remedy=f"files: [{near}]" if near else f"create {path}, or take it out of pipeline.files",
        ) from error


def _read_code(folder: Path, name: str) -> str | None:
    path = folder / name
    try:
        return path.read_text(encoding="utf-8-sig") if path.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineNotFoundError(
            str(path), "cannot be read as UTF-8 Python", facts={"got": error}, remedy=f"save {path} as UTF-8"
        ) from error


def _limits(asked: SubsetDescriptor) -> Limits:
    environment = asked.environment
    if environment is None:
        return Limits()
    return Limits(
        memory_bytes=environment.memory,
        cpus=environment.cpus,
        timeout_s=environment.timeout,
        output_bytes=environment.output,
    )

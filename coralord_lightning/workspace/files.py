"""The files of a selection: listed, pinned where a row of them can be needed, cut into partitions. Reads no row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from coralord_lightning.errors import EmptySelectionError
from coralord_lightning.sources import Candidate, FetchedText, Sources, pin_all
from coralord_lightning.spec.cuts import windows
from coralord_lightning.spec.lock import LockedSource
from coralord_lightning.spec.plan import Location, Partition, PipelinePlan, SourceFile
from coralord_lightning.spec.selection import InlineData, SelectedField, Selection

__all__ = ["partitions_of", "resolve_files"]

Resolved = tuple[tuple[SourceFile, Location | None], ...]

_GROUP_BYTES = 64 * 1024 * 1024
_GROUP_FILES = 256
"""Files that are one row each, or few lines, share partitions of about so many; see `_groups`. Both are a format."""


def resolve_files(
    selection: Selection,
    sources: Sources,
    *,
    text: FetchedText,
    pinned: Iterable[LockedSource] = (),
    mapping: Mapping[str, Path] | None = None,
) -> Resolved:
    """Pin the files that a selection needs, its own first, then those of every joined table.

    Args:
        text: the Croissant file, which says what paths are relative to.
        pinned: what a lock says of remote files.
        mapping: FileObject @id -> local file or folder that stands for it.
    Raises:
        SourceError: a file is missing, forbidden, not the declared one, or out of reach.
        EmptySelectionError: no file can have a row that a split takes.
    """
    out: list[tuple[SourceFile, Location | None]] = []
    for alias, distribution in [("", selection.distribution), *((j.alias, j.distribution) for j in selection.joins)]:
        if isinstance(distribution, InlineData):
            found = sources.resolve(distribution, base=text.base)
            out += [(replace(source, name=f"inline {alias}".strip(), table=alias), None) for source, _ in found]
            continue
        listed = sources.candidates(distribution, base=text.base, pinned=tuple(pinned), mapping=mapping or {})
        named = _reads_names(selection, alias)
        if not alias and named:
            listed = _needed(selection, listed)
        for candidate, (source, place) in zip(listed, pin_all(listed), strict=True):
            cut = sources.sliced(source, place) if not alias and selection.reading.mode == "rows" else source
            out.append((replace(cut, table=alias, path=candidate.path if named else None), place))
    return tuple(out)


def partitions_of(
    selection: Selection, files: tuple[SourceFile, ...], pipeline: PipelinePlan | None
) -> tuple[Partition, ...]:
    """One partition a file, several of a large one, one of a group of small ones.

    One of everything where selection or pipeline look at the whole. CSV is never cut: only who reads it from the
    beginning knows which line end is in quotes. Every partition has all files of joined tables.
    """
    own = [index for index, file in enumerate(files) if not file.table]
    joined = tuple(index for index, file in enumerate(files) if file.table)
    whole = selection.limit is not None or bool(selection.order_by)
    if whole or (pipeline is not None and pipeline.per == "dataset"):
        return (Partition(sources=(*own, *joined)),)
    if selection.reading.mode == "rows":
        return tuple(part for index in own for part in _cut(files[index], (index, *joined)))
    return tuple(Partition(sources=(*group, *joined)) for group in _groups(own, files))


def _cut(file: SourceFile, sources: tuple[int, ...]) -> Iterator[Partition]:
    """The partitions of one file: windows or slices of it, if it has some."""
    bounds = windows(file.size_bytes) if file.format == "parquet" else ()
    if bounds:
        yield from (Partition(sources=sources, window=window) for window in bounds)
    elif file.slices:
        yield from (Partition(sources=sources, slice=cut) for cut in file.slices)
    else:
        yield Partition(sources=sources)


def _groups(own: list[int], files: tuple[SourceFile, ...]) -> Iterator[list[int]]:
    """Runs of files that end where a hash of the name says so, or at so many bytes: one more file changes one run."""
    group: list[int] = []
    size = 0
    for index in own:
        group.append(index)
        size += files[index].size_bytes
        drawn = int.from_bytes(hashlib.sha256(files[index].name.encode()).digest()[:4], "big")
        if drawn % _GROUP_FILES == 0 or size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _reads_names(selection: Selection, alias: str) -> bool:
    from coralord_lightning.builder.selecting import reads_names

    keys = [key for join in selection.joins for key in join.on]
    every: list[SelectedField] = [*selection.fields, *selection.helpers, *keys]
    return reads_names([item for item in every if item.table == alias])


def _needed(selection: Selection, listed: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
    from coralord_lightning.builder.selecting import needed_files

    files = [SourceFile(name=item.name, format="any", identity={}, size_bytes=0, path=item.path) for item in listed]
    kept = tuple(item for item, needed in zip(listed, needed_files(selection, files), strict=True) if needed)
    if not kept:
        raise EmptySelectionError(
            "selection",
            "no file can have a row that a split takes, by their names",
            facts={"files": ", ".join(item.path for item in listed[:8])},
            remedy="loosen `where` and `splits` in the descriptor, or correct the file names' transform",
        )
    return kept

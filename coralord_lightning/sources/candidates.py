"""Which files a distribution means, and where they lie: containedIn chains, globs, mappings. Pins none by itself.

Source: Croissant 1.1, "FileObject" and "FileSet".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, unquote, urlsplit

from coralord_lightning.errors import (
    DescriptorValueError,
    ForbiddenSourceError,
    UnsupportedCroissantError,
    nearest,
)
from coralord_lightning.sources.archives import ArchiveLimits, member_path
from coralord_lightning.sources.globs import Patterns
from coralord_lightning.sources.hashes import HashCache
from coralord_lightning.sources.local import (
    list_set,
    nothing_matched,
    pin_beneath,
    pin_mapped,
    require_patterns,
    require_relative,
)
from coralord_lightning.sources.pins import LockedPins
from coralord_lightning.sources.trees import FolderTree, Member, Pinned, Tree
from coralord_lightning.sources.unlisted import first, no_listing, no_member, no_repository, not_mapped
from coralord_lightning.spec.lock import LockedSource
from coralord_lightning.spec.plan import LocalFile, Location, SourceFile
from coralord_lightning.spec.selection import Distribution, FileObject, FileSet, InlineData

__all__ = ["Candidate", "Doors", "Lister", "pin_all", "require_mapped"]

_CONTAINERS = frozenset({"zip", "tar", "gzip", "git"})
_REMOTE = re.compile(r"(https?|s3|gs)://", re.IGNORECASE)
_AT_ONCE = 8
_TAR_GZ = (".tar.gz", ".tgz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One file that a distribution may give, listed but not yet pinned.

    Args:
        name: `SourceFile.name`: a FileObject's @id; the path of a FileSet's file; `archive-id!path` inside an archive,
            `repository-id!path` in a repository.
        path: beneath the Croissant file's folder, inside the archive, in the repository, with `/`.
        size_bytes: where known without a request.
        pin: hashes the file or asks the server; a member of an archive is unpacked now, alone.
        remote: pinning may take a request, so that several at once are faster.
    """

    name: str
    path: str
    size_bytes: int | None
    pin: Callable[[], tuple[SourceFile, Location | None]]
    remote: bool = False


class Doors(Protocol):
    """What a lister needs of the sources: who pins what lies elsewhere, who opens what holds files."""

    @property
    def hashes(self) -> HashCache: ...
    def pin_remote(self, node: FileObject, url: str, pinned: Iterable[LockedSource]) -> Pinned:
        """Pin a file at an http(s) or s3 address."""
        ...

    def open_archive(self, container: Candidate, source: SourceFile, place: LocalFile, kind: str) -> Tree:
        """Open an archive that lies on this machine."""
        ...

    def open_repository(self, name: str, url: str, pins: LockedPins) -> Tree:
        """Open a git repository at an address."""
        ...

    def open_hub_file(self, node: FileObject, pins: LockedPins) -> tuple[Tree, str]:
        """The repository of the hub that an `hf://` address lies in, and the path in it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Lister:
    """Lists the files of distributions of one Croissant file.

    Args:
        base: the Croissant file's folder, or its address.
        pins: what a lock says; those are taken as it says.
        mapping: FileObject @id -> a file or folder here that stands for it.
    """

    doors: Doors
    base: str | Path
    pins: LockedPins = field(default_factory=LockedPins)
    mapping: Mapping[str, Path] = field(default_factory=dict)
    limits: ArchiveLimits = field(default_factory=ArchiveLimits)
    _trees: dict[tuple[str, bool], tuple[Tree, ...]] = field(default_factory=dict)

    def list(self, distribution: Distribution) -> tuple[Candidate, ...]:
        """The files of a distribution, sorted.

        Raises:
            SourceError: a container cannot be had, nothing matches, or what matches must not be read.
        """
        assert not isinstance(distribution, InlineData)  # noqa: S101 - rows are no files
        _require_shallow(distribution, self.limits.depth)
        if isinstance(distribution, FileObject):
            return (self._file(distribution),)
        if distribution.within:
            return self._contained_set(distribution)
        return self._set(distribution)

    def _file(self, node: FileObject) -> Candidate:
        url = node.content_url
        mapped = self.mapping.get(node.id)
        if mapped is not None:
            pin = partial(pin_mapped, mapped, node=node, hashes=self.doors.hashes)
            return Candidate(name=node.id, path=mapped.name, size_bytes=_size(mapped), pin=pin)
        if node.within is not None:
            return self._contained_file(node, node.within)
        if url.lower().startswith("hf://"):
            return self._hub_file(node)
        if _REMOTE.match(url) or isinstance(self.base, str):
            address = url if _REMOTE.match(url) else _joined(str(self.base), node)
            path = _path_of(url)
            path = path.rpartition("/")[2] if _REMOTE.match(url) else _normal(path)
            pin = partial(self.doors.pin_remote, node, address, self.pins.files())
            return Candidate(name=node.id, path=path, size_bytes=None, pin=pin, remote=True)
        require_relative(url, subject=node.id, key="contentUrl")
        pin = partial(pin_beneath, self.base, url, name=node.id, node=node, hashes=self.doors.hashes)
        return Candidate(name=node.id, path=_normal(url), size_bytes=_size(self.base / url), pin=pin)

    def _hub_file(self, node: FileObject) -> Candidate:
        tree, path = self.doors.open_hub_file(node, self.pins)
        found = next(iter(tree.members(Patterns.exactly(path))), None)
        if found is None:
            raise no_member(node, path, [tree])
        return _candidate(found, tree, node, node.id)

    def _contained_file(self, node: FileObject, within: FileObject | FileSet) -> Candidate:
        """The one file at a path inside a container; inside several, it must be in one of them only."""
        trees = self._open(within, node)
        if within.format == "gzip" and len(trees) == 1 and trees[0].lone:
            only = next(iter(trees[0].members(Patterns(includes=("**", ".*", "**/.*")))))  # it has no say in its name
            return _candidate(only, trees[0], node, node.id, path=_normal(node.content_url) or only.path)
        path = member_path(
            node.content_url, subject=node.id, limits=self.limits, drop_leading_up=within.format == "zip"
        )  # fmt: skip
        found = [(member, tree) for tree in trees for member in tree.members(Patterns.exactly(path))]
        if not found:
            raise no_member(node, path, trees)
        if len(found) > 1:
            places = ", ".join(tree.name for _, tree in found)
            raise UnsupportedCroissantError(
                node.id,
                "is one file, and is in several archives",
                facts={"got": places},
                remedy="name one of them in containedIn, or make it a FileSet",
            )
        return _candidate(*found[0], node, node.id)

    def _contained_set(self, node: FileSet) -> tuple[Candidate, ...]:
        """The files of a set in its containers: by container, then by path. Plain files in it are those themselves."""
        require_patterns(node)
        out: dict[tuple[str, str], Candidate] = {}
        offered: list[str] = []
        excluded: list[str] = []
        for within in node.within:
            if within.format in _CONTAINERS:
                for tree in self._open(within, node):
                    patterns = _patterns(node, any_folder=tree.any_folder)
                    found = list(tree.members(patterns))
                    out |= {(tree.name, item.path): _member(item, tree, node) for item in found}
                    if not out:
                        offered += first(tree.some_paths(patterns.folder))
                        excluded += [path for path in offered if patterns.include(path)]
            else:
                plain = self.list(replace(within, format=node.format))  # read as the set says
                offered += [item.path for item in plain]
                out |= {("", item.name): item for item in plain if _taken(item, within, node)}
        if not out:
            place = ", ".join(within.id for within in node.within)
            raise nothing_matched(node, place=place, matched=excluded, there=offered)
        return tuple(out[key] for key in sorted(out))

    def _set(self, node: FileSet) -> tuple[Candidate, ...]:
        base = self.base
        if isinstance(base, str):
            raise no_listing(node)
        return tuple(
            Candidate(
                name=name,
                path=name,
                size_bytes=_size(base / name),
                pin=partial(pin_beneath, base, name, name=name, node=node, hashes=self.doors.hashes),
            )
            for name in list_set(node, root=base)
        )

    def _open(self, container: FileObject | FileSet, asks: FileObject | FileSet) -> tuple[Tree, ...]:
        """What a container gives to look into: one tree, or one for each archive of a set."""
        key = (container.id, _asks_whole(asks))
        if key not in self._trees:
            self._trees[key] = tuple(self._opened(container, asks))
        return self._trees[key]

    def _opened(self, container: FileObject | FileSet, asks: FileObject | FileSet) -> Iterator[Tree]:
        mapped = self.mapping.get(container.id)
        if mapped is not None and not mapped.exists():
            raise not_mapped(container, mapped)
        if mapped is not None and mapped.is_dir():
            yield FolderTree(container.id, mapped, self.doors.hashes, any_folder=container.format != "git")
            return
        if container.format == "git":
            if not isinstance(container, FileObject) or container.within is not None or mapped is not None:
                raise no_repository(container, mapped)
            yield self.doors.open_repository(container.id, container.content_url, self.pins)
            return
        if container.format not in _CONTAINERS:
            raise UnsupportedCroissantError(
                container.id,
                "holds other files, and is neither an archive nor a repository",
                facts={"got": f"format {container.format}"},
                remedy='correct its encodingFormat: "application/zip", "application/x-tar", "application/gzip"',
            )
        for candidate in self.list(container):
            source, place = candidate.pin()
            assert isinstance(place, LocalFile)  # noqa: S101 - a container is never read by ranges
            kind: str = container.format
            if kind == "gzip" and candidate.path.lower().endswith(_TAR_GZ) and not _asks_whole(asks):
                kind = "tar"  # whoever asks for the files in `x.tar.gz` means those of the tar
            yield self.doors.open_archive(candidate, source, place, kind)


def pin_all(candidates: Sequence[Candidate]) -> tuple[tuple[SourceFile, Location | None], ...]:
    """Pin files, in their order, several at once where that takes requests; the first error in that order is raised."""
    if sum(item.remote for item in candidates) < 2:
        return tuple(item.pin() for item in candidates)
    with ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="coral-pin") as pool:
        futures = [pool.submit(item.pin) for item in candidates]
        try:
            return tuple(future.result() for future in futures)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def require_mapped(mapping: Mapping[str, Path], known: Iterable[str]) -> None:
    """Check that a descriptor maps FileObjects that there are.

    Args:
        known: @ids of the FileObjects of the Croissant file.
    Raises:
        DescriptorValueError: one is unknown; the error names the nearest.
    """
    ids = sorted(known)
    for name in mapping:
        if name not in ids:
            near = nearest(name, ids)
            raise DescriptorValueError(
                "mapping",
                f"there is no FileObject '{name}'",
                facts={"got": name, "there": ", ".join(ids) or "nothing"},
                remedy=f"mapping: {{{near}: {mapping[name]}}}" if near else f"take '{name}' out of `mapping:`",
            )


def _asks_whole(asks: FileObject | FileSet) -> bool:
    """Whether a node that lies in `x.tar.gz` is the tar itself, and not a file in it."""
    return asks.format == "tar" or (isinstance(asks, FileObject) and not asks.content_url)


def _candidate(
    member: Member, tree: Tree, node: FileObject | FileSet, name: str, *, path: str | None = None
) -> Candidate:
    member.require()
    return Candidate(
        name=name,
        path=member.path if path is None else path,
        size_bytes=member.size_bytes,
        pin=partial(member.pin, node, name),
        remote=tree.remote,
    )


def _member(member: Member, tree: Tree, node: FileSet) -> Candidate:
    return _candidate(member, tree, node, f"{tree.name}!{member.path}")


def _taken(item: Candidate, within: FileObject | FileSet, node: FileSet) -> bool:
    """Whether a set takes a plain file: its patterns speak of paths, and of the @id of a FileObject."""
    patterns = _patterns(node, any_folder=True)
    names = {item.name, item.path} if isinstance(within, FileObject) else {item.path}
    included = [name for name in names if patterns.include(name)]
    return bool(included) and all(patterns.match(name) for name in included)


def _patterns(node: FileSet, *, any_folder: bool) -> Patterns:
    return Patterns(includes=node.includes or ("**",), excludes=node.excludes, any_folder=any_folder)


def _require_shallow(node: Distribution, limit: int) -> None:
    """Refuse chains of containers that go too deep."""
    level: list[FileObject | FileSet] = [] if isinstance(node, InlineData) else [node]
    subject = level[0].id if level else ""
    for _ in range(limit + 1):
        level = list({inner.id: inner for item in level for inner in _containers(item)}.values())
        if not level:
            return
    raise ForbiddenSourceError(
        subject,
        f"lies more than {limit} containers deep",
        facts={"expected": f"containedIn at most {limit} times"},
        remedy="unpack the outer archives, and name the folder: `mapping: {archive: folder}`",
    )


def _containers(node: FileObject | FileSet) -> tuple[FileObject | FileSet, ...]:
    if isinstance(node, FileSet):
        return node.within
    return () if node.within is None else (node.within,)


def _normal(path: str) -> str:
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return None


def _path_of(url: str) -> str:
    """The path in an address; "" of one that cannot be read, which pinning refuses."""
    try:
        return unquote(urlsplit(url).path)
    except ValueError:
        return ""


def _joined(base: str, node: FileObject) -> str:
    """The address of a relative `contentUrl` in a remote Croissant file; it must stay on that site, and no file."""
    from coralord_lightning.sources.address import join

    url = node.content_url
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", url) or "\\" in url or "\0" in url:
        raise ForbiddenSourceError(
            node.id,
            "a remote Croissant file may name http(s) addresses only",
            facts={"got": repr(url)},
            remedy="download the Croissant file and its data into one folder, and name that file in the descriptor",
        )
    return join(base, quote(url, safe="/%?=&:@!$'()*+,;~-._"))

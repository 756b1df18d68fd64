"""What holds files: a folder, an archive, a repository. Lists and pins what is in it; reads no rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from coralord_lightning.sources.archives import Archive
from coralord_lightning.sources.archives.archive import require_plain
from coralord_lightning.sources.globs import Patterns, glob_files
from coralord_lightning.sources.hashes import HashCache, HashedFile
from coralord_lightning.sources.local import pin_beneath, require_declared, source_of
from coralord_lightning.spec.plan import LocalFile, Location, SourceFile
from coralord_lightning.spec.selection import FileObject, FileSet

__all__ = ["ArchiveTree", "FolderTree", "Member", "Pinned", "Tree", "inside"]

Pinned = tuple[SourceFile, Location]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file in a tree.

    Args:
        path: beneath the tree's root, with `/`.
        size_bytes: where known without a request.
        pin: gives the file as the one of a node, under a name.
        require: raises where the file must not be read at all.
    """

    path: str
    size_bytes: int | None
    pin: Callable[[FileObject | FileSet, str], Pinned]
    require: Callable[[], None] = lambda: None


class Tree(Protocol):
    """What files can lie in.

    Args:
        name: what its members' names begin with.
        any_folder: a pattern without `/` means a file name in any folder of it.
        remote: pinning a member may take a request.
        lone: it holds one file, whose name does not matter: it is gzip's.
    """

    @property
    def name(self) -> str: ...
    @property
    def any_folder(self) -> bool: ...
    @property
    def remote(self) -> bool: ...
    @property
    def lone(self) -> bool: ...
    def members(self, patterns: Patterns) -> Iterable[Member]:
        """The files that are meant, in any order.

        Raises:
            SourceError: they cannot be listed.
        """
        ...

    def some_paths(self, folder: str) -> Iterable[str]:
        """Some of its files, for messages; in a folder where that makes it easier."""
        ...


class FolderTree:
    """A folder that a descriptor's `mapping` names, in place of a repository or an archive."""

    remote = False
    lone = False

    def __init__(self, name: str, root: Path, hashes: HashCache, *, any_folder: bool) -> None:
        self.name = name
        self.any_folder = any_folder
        self._root = root
        self._hashes = hashes

    def members(self, patterns: Patterns) -> Iterator[Member]:
        found = {name for pattern in patterns.spread for name in glob_files(self._root, pattern)}
        for path in found:
            if patterns.match(path) and ".git" not in path.split("/"):
                yield Member(path=path, size_bytes=_size(self._root / path), pin=partial(self._pin, path))

    def some_paths(self, folder: str) -> Iterator[str]:  # noqa: ARG002
        return glob_files(self._root, "**")

    def _pin(self, path: str, node: FileObject | FileSet, name: str) -> Pinned:
        return pin_beneath(self._root, path, name=name, node=node, hashes=self._hashes)


class ArchiveTree:
    """An archive that lies on this machine.

    Args:
        url: where it was fetched from; None for one of the work tree.
        sha256: of the archive, which a lock pins.
    """

    any_folder = True
    remote = False

    def __init__(self, archive: Archive, hashes: HashCache, *, url: str | None, sha256: str) -> None:
        self.name = archive.name
        self.lone = archive.kind == "gzip"
        self._archive = archive
        self._hashes = hashes
        self._url = url
        self._sha256 = sha256

    def members(self, patterns: Patterns) -> Iterator[Member]:
        for entry in self._archive.entries:
            if patterns.match(entry.path):
                yield Member(
                    path=entry.path,
                    size_bytes=entry.size_bytes,
                    pin=partial(self._pin, entry.path),
                    require=partial(require_plain, self._archive.name, entry),
                )

    def some_paths(self, folder: str) -> Iterator[str]:  # noqa: ARG002
        return (entry.path for entry in self._archive.entries)

    def _pin(self, path: str, node: FileObject | FileSet, name: str) -> Pinned:
        kept = self._archive.keep(self._archive.by_path[path])
        found = HashedFile(sha256=kept.sha256, size_bytes=kept.size_bytes)
        require_declared(node, found, kept.path, place=f"{self.name}!{path}", hashes=self._hashes)
        url = None if self._url is None else inside(self._url, path, sha256=self._sha256)
        return source_of(name, node, found), LocalFile(path=kept.path, url=url)


def inside(url: str, path: str, **pins: str) -> str:
    """The address of a file inside something at an address, as locks keep it: `url#pin=value!path`.

    Inside what is itself inside something, only the outermost is pinned, and the rest by that.
    """
    if "!" in url.partition("#")[2]:
        return f"{url}!{path}"
    facts = "&".join(f"{key}={value}" for key, value in pins.items())
    return f"{url}{'&' if '#' in url else '#'}{facts}!{path}"


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None

"""Globs as Croissant's FileSet uses them: `*` stays within a folder, `**` crosses. Lists names, never opens a file.

As in a shell, a wildcard does not match a leading dot, so that `._part.parquet` and `.ipynb_checkpoints` stay out.
"""

from __future__ import annotations

import fnmatch
import functools
import glob
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from coralord_lightning.errors import ForbiddenSourceError

__all__ = ["Patterns", "glob_files", "matches"]

_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Patterns:
    """Which paths are meant: what any of `includes` matches, without what any of `excludes` does.

    Args:
        any_folder: a pattern without `/` means a file name in any folder, as inside archives.
    """

    includes: tuple[str, ...]
    excludes: tuple[str, ...] = ()
    any_folder: bool = False

    @classmethod
    def exactly(cls, path: str) -> Self:
        """The one path, whatever characters it has."""
        return cls(includes=(glob.escape(path),))

    def match(self, path: str) -> bool:
        return self.include(path) and not self._any(path, self.excludes)

    def include(self, path: str) -> bool:
        """Whether a path is included, be it excluded or not."""
        return self._any(path, self.includes)

    @property
    def spread(self) -> tuple[str, ...]:
        """`includes` as patterns from the root."""
        return tuple(self._rooted(pattern) for pattern in self.includes)

    @property
    def folder(self) -> str:
        """The deepest folder that every included path lies beneath; "" for the root."""
        folders = [_literal(pattern) for pattern in self.spread]
        shared = 0
        while folders and all(len(parts) > shared and parts[shared] == folders[0][shared] for parts in folders):
            shared += 1
        return "/".join(folders[0][:shared]) if folders else ""

    @property
    def deep(self) -> bool:
        """Whether included paths may lie in folders beneath `folder`."""
        level = self.folder.count("/") + 1 if self.folder else 0
        return any("**" in pattern.split("/") or pattern.count("/") > level for pattern in self.spread)

    def _rooted(self, pattern: str) -> str:
        return f"**/{pattern}" if self.any_folder and "/" not in pattern else pattern

    def _any(self, path: str, patterns: Iterable[str]) -> bool:
        return any(matches(path, self._rooted(pattern)) for pattern in patterns)


def matches(name: str, pattern: str) -> bool:
    """Whether a relative name with `/` is what `pattern` means."""
    return _matches(name.split("/"), _split(pattern))


def _literal(pattern: str) -> list[str]:
    """The folders that a pattern begins with, up to the first wildcard."""
    parts = pattern.split("/")[:-1]
    return parts[: next((at for at, part in enumerate(parts) if _WILD.search(part)), len(parts))]


@functools.lru_cache(maxsize=1024)
def _split(pattern: str) -> tuple[str, ...]:
    """A pattern's parts; of `**/**` one, which says as much: all ways to share folders out would be walked."""
    parts = pattern.split("/")
    parts = [part for at, part in enumerate(parts) if part != "**" or parts[at - 1 : at] != ["**"]]
    return (*parts, "*") if parts[-1] == "**" else tuple(parts)


def _matches(names: list[str], parts: tuple[str, ...]) -> bool:
    """Which beginnings of the pattern fit which beginnings of the name: time is their product, whatever they are."""
    fits = [True] + [False] * len(names)  # by how many names are used up
    for part in parts:
        if part == "**":
            for at, name in enumerate(names):
                fits[at + 1] = fits[at + 1] or (fits[at] and not name.startswith("."))
            continue
        fits = [False] + [fits[at] and _part(part).fullmatch(name) is not None for at, name in enumerate(names)]
    return fits[-1]


def glob_files(root: Path, pattern: str) -> Iterator[str]:
    """Names beneath `root` that `pattern` matches and that are no folders; links are listed, not judged.

    `**` does not enter linked folders, which could lead in circles.
    """
    yield from _expand(root, "", list(_split(pattern)))


def _expand(root: Path, prefix: str, parts: list[str]) -> Iterator[str]:
    head, rest = parts[0], parts[1:]
    if head == "**":
        yield from _expand_deep(root, prefix, rest)
        return
    names = [head] if not _WILD.search(head) else [entry.name for entry in _entries(root, prefix)]
    for name in names:
        if _part(head).fullmatch(name) is None:
            continue
        path = root / prefix / name
        if rest and path.is_dir():
            yield from _expand(root, f"{prefix}{name}/", rest)
        elif not rest and os.path.lexists(path) and not path.is_dir():
            yield f"{prefix}{name}"


def _expand_deep(root: Path, prefix: str, rest: list[str]) -> Iterator[str]:
    yield from _expand(root, prefix, rest)
    for entry in _entries(root, prefix):
        if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
            yield from _expand_deep(root, f"{prefix}{entry.name}/", rest)


def _entries(root: Path, prefix: str) -> list[os.DirEntry[str]]:
    real_root, real = os.path.realpath(root), os.path.realpath(root / prefix)
    if not Path(real).is_relative_to(real_root):
        raise ForbiddenSourceError(
            prefix.rstrip("/"),
            "is a link that leaves the Croissant file's folder",
            facts={"got": f"{prefix} -> {real}", "expected": f"a folder beneath {real_root}"},
            remedy="replace the link with the folder that it leads to, or write a pattern that does not go there",
        )
    try:
        with os.scandir(root / prefix) as found:
            return sorted(found, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []


@functools.lru_cache(maxsize=1024)
def _part(pattern: str) -> re.Pattern[str]:
    """One folder's worth of a pattern as a regular expression."""
    text = fnmatch.translate(pattern)
    return re.compile(rf"(?!\.){text}" if _WILD.match(pattern) else text)

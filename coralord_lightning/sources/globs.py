"""Globs as Croissant's FileSet uses them: `*` stays within a folder, `**` crosses. Lists names, never opens a file.

As in a shell, a wildcard does not match a leading dot, so that `._part.parquet` and `.ipynb_checkpoints` stay out.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator
from pathlib import Path

__all__ = ["glob_files", "matches"]

_WILD = re.compile(r"[*?\[]")


def matches(name: str, pattern: str) -> bool:
    """Whether a relative name with `/` is what `pattern` means."""
    return _matches(name.split("/"), _split(pattern))


def _split(pattern: str) -> list[str]:
    """A pattern's parts; of `**/**` one, which says as much: all ways to share folders out would be walked."""
    parts = pattern.split("/")
    return [part for at, part in enumerate(parts) if part != "**" or parts[at - 1 : at] != ["**"]]


def _matches(names: list[str], parts: list[str]) -> bool:
    if not parts:
        return not names
    if parts[0] == "**":
        rest = parts[1:] or ["*"]
        hidden = next((at for at, name in enumerate(names) if name.startswith(".")), len(names))
        return any(_matches(names[at:], rest) for at in range(min(hidden, len(names) - 1) + 1))
    return bool(names) and _part(parts[0]).fullmatch(names[0]) is not None and _matches(names[1:], parts[1:])


def glob_files(root: Path, pattern: str) -> Iterator[str]:
    """Names beneath `root` that `pattern` matches and that are no folders; links are listed, not judged.

    `**` does not enter linked folders, which could lead in circles.
    """
    yield from _expand(root, "", _split(pattern))


def _expand(root: Path, prefix: str, parts: list[str]) -> Iterator[str]:
    head, rest = parts[0], parts[1:]
    if head == "**":
        yield from _expand_deep(root, prefix, rest or ["*"])
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
    try:
        with os.scandir(root / prefix) as found:
            return sorted(found, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _part(pattern: str) -> re.Pattern[str]:
    """One folder's worth of a pattern as a regular expression."""
    text = fnmatch.translate(pattern)
    return re.compile(rf"(?!\.){text}" if _WILD.match(pattern) else text)

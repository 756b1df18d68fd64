"""Files of a Croissant dataset on this machine, beneath the Croissant file's folder. Never leaves that folder."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import cast

from coralord_lightning.errors import (
    ForbiddenSourceError,
    SourceIntegrityError,
    SourceMissingError,
    nearest,
)
from coralord_lightning.sources.globs import Patterns, glob_files
from coralord_lightning.sources.hashes import HashCache, HashedFile
from coralord_lightning.spec.plan import LocalFile, Location, SourceFile
from coralord_lightning.spec.selection import FileFormat, FileObject, FileSet

__all__ = [
    "file_format",
    "list_set",
    "nothing_matched",
    "pin_beneath",
    "pin_mapped",
    "require_declared",
    "require_patterns",
    "require_relative",
    "require_unchanged",
    "resolve_file",
    "resolve_set",
    "source_of",
    "wrong_hash",
]

_SHOWN = 8
_MAX_PATH = 1024
"""Where paths get too long even to look for the nearest one (macOS; Linux takes 4096)."""


def resolve_file(node: FileObject, *, root: Path, hashes: HashCache) -> tuple[SourceFile, Location]:
    """The one file that a FileObject with a relative `content_url` names.

    Raises:
        ForbiddenSourceError: the path leaves the folder, or is no regular file.
        SourceMissingError: there is no such file; the error names the nearest one.
        SourceIntegrityError: its bytes are not the declared ones.
    """
    require_relative(node.content_url, subject=node.id, key="contentUrl")
    return pin_beneath(root, node.content_url, name=node.id, node=node, hashes=hashes)


def resolve_set(node: FileSet, *, root: Path, hashes: HashCache) -> tuple[tuple[SourceFile, Location], ...]:
    """The files that a FileSet's globs match, pinned, sorted by name.

    Raises:
        SourceError: as `list_set`, or one cannot be read.
    """
    return tuple(pin_beneath(root, name, name=name, node=node, hashes=hashes) for name in list_set(node, root=root))


def list_set(node: FileSet, *, root: Path) -> list[str]:
    """The names that a FileSet's globs match beneath a folder, sorted: all `includes`, without those of `excludes`.

    Source: Croissant 1.1, FileSet.includes and FileSet.excludes.

    Raises:
        ForbiddenSourceError: a pattern leaves the folder.
        SourceMissingError: nothing matches; the error names the patterns and what is there.
    """
    require_patterns(node)
    patterns = Patterns(includes=node.includes, excludes=node.excludes)
    matched = {name for pattern in node.includes for name in glob_files(root, pattern)}
    names = sorted(name for name in matched if patterns.match(name))
    if not names:
        raise nothing_matched(node, place=root, matched=matched, there=_some_names(root))
    for name in names:
        _require_text(name, node.id)
    return names


def require_patterns(node: FileSet) -> None:
    """Refuse patterns that could mean a place outside."""
    for key, patterns in (("includes", node.includes), ("excludes", node.excludes)):
        for pattern in patterns:
            require_relative(pattern, subject=node.id, key=key)


def pin_beneath(
    root: Path, path: str, *, name: str, node: FileObject | FileSet, hashes: HashCache
) -> tuple[SourceFile, Location]:
    """One file beneath a folder, by its hash.

    Raises:
        SourceError: it is missing, leads outside, is no regular file, or not the declared one.
    """
    real, found = _hash_beneath(root, path, subject=name, hashes=hashes, lines=node.format == "jsonl")
    require_declared(node, found, real, place=path, hashes=hashes)
    return source_of(name, node, found), LocalFile(path=real)


def pin_mapped(path: Path, *, node: FileObject, hashes: HashCache) -> tuple[SourceFile, Location]:
    """The file that a descriptor's `mapping` names for a FileObject; it may lie anywhere.

    Raises:
        SourceError: it is missing, no regular file, or not the declared one.
    """
    real = Path(os.path.realpath(path))
    return pin_beneath(real.parent, real.name, name=node.id, node=node, hashes=hashes)


def require_declared(
    node: FileObject | FileSet, found: HashedFile, path: Path, *, place: str, hashes: HashCache
) -> None:
    """Hold a file against the hash that the Croissant file declares for it: SHA-256, or MD5 where there is no other.

    Raises:
        SourceIntegrityError: it is another file.
    """
    if not isinstance(node, FileObject):
        return
    if node.sha256 is not None and node.sha256.lower() != found.sha256:
        raise wrong_hash(node.id, expected=node.sha256.lower(), got=found.sha256, place=place)
    if node.sha256 is None and node.md5 is not None:
        got = hashes.md5_of(path, found.sha256)
        if got != node.md5.lower():
            raise wrong_hash(node.id, expected=node.md5.lower(), got=got, place=place, kind="md5")


def require_unchanged(files: Iterable[tuple[SourceFile, Location]], *, hashes: HashCache) -> None:
    """Check that local files still are what was pinned, e.g. after they were read.

    Raises:
        SourceIntegrityError: one is gone or changed in between.
    """
    for source, location in files:
        if not isinstance(location, LocalFile):
            continue
        try:
            got = hashes.hash_file(location.path).sha256
        except OSError as error:
            got = f"nothing ({error.strerror})"
        if got != source.identity.get("sha256"):
            raise SourceIntegrityError(
                source.name,
                "changed while it was in use",
                facts={"expected": source.identity.get("sha256"), "got": got},
                remedy="run the same command again; it plans with the file as it is now",
            )


def wrong_hash(subject: str, *, expected: str, got: str, place: str, kind: str = "sha256") -> SourceIntegrityError:
    """The error for a file whose bytes are not the declared ones."""
    return SourceIntegrityError(
        subject,
        "is not the file that the Croissant description declares",
        facts={"file": place, "expected": f"{kind} {expected}", "got": f"{kind} {got}"},
        remedy=f'fetch the file again; if it is meant to be new, write "{kind}": "{got}" in the Croissant file',
    )


def source_of(name: str, node: FileObject | FileSet, found: HashedFile) -> SourceFile:
    """A file read whole, known by its hash. What is itself an archive is "any"."""
    return SourceFile(
        name=name, format=file_format(node), identity={"sha256": found.sha256}, size_bytes=found.size_bytes
    )


def file_format(node: FileObject | FileSet) -> FileFormat:
    """How the rows of a node's files are read; "any" for archives and repositories."""
    return "any" if node.format in ("zip", "tar", "gzip", "git") else cast("FileFormat", node.format)


def require_relative(path: str, *, subject: str, key: str) -> None:
    """Refuse what could mean a place outside, whatever the operating system."""
    parts = path.split("/")
    if path and not path.startswith(("/", "~")) and not any(bad in path for bad in ("\\", "\0", "://")):
        drive = len(parts[0]) > 1 and parts[0][1] == ":"
        if not drive and not parts[0].lower().startswith("file:") and ".." not in parts:
            return
    raise ForbiddenSourceError(
        subject,
        f"{key} must be a path beneath the Croissant file's folder, or an http(s) address",
        facts={"got": repr(path), "expected": "a relative path without '..', with '/'"},
        remedy=f"copy the file beneath that folder and write its relative path as {key}",
    )


def _require_text(name: str, subject: str) -> None:
    """Refuse a file name that is not UTF-8: no plan can hold it."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ForbiddenSourceError(
            subject,
            "matches a file whose name is not UTF-8",
            facts={"got": ascii(name), "expected": "a name in UTF-8"},
            remedy="rename that file, or leave it out with excludes",
        ) from error


def _hash_beneath(
    root: Path, name: str, *, subject: str, hashes: HashCache, lines: bool = False
) -> tuple[Path, HashedFile]:
    """Real path and hash of a regular file whose real place is beneath `root`."""
    real_root, real = Path(os.path.realpath(root)), Path(os.path.realpath(root / name))
    if not real.is_relative_to(real_root):
        raise ForbiddenSourceError(
            subject,
            "is a link that leaves the Croissant file's folder",
            facts={"got": f"{name} -> {real}", "expected": f"a file beneath {real_root}"},
            remedy=f"replace the link with the file: cp --remove-destination {str(real)!r} {str(root / name)!r}",
        )
    try:
        known = hashes.recall(real)
        if known is not None:
            return real, known
        descriptor = _open_beneath(real_root, real.relative_to(real_root).parts)
    except (FileNotFoundError, NotADirectoryError) as error:
        if len(name) > _MAX_PATH:
            raise _unreadable(
                subject, Path(name[:80] + "…"), OSError(errno.ENAMETOOLONG, "File name too long")
            ) from error
        raise _missing(subject, root, name) from error
    except OSError as error:
        raise _unreadable(subject, real, error) from error
    try:
        return real, hashes.hash_open(descriptor, real, lines=lines)
    finally:
        os.close(descriptor)


def _open_beneath(root: Path, parts: tuple[str, ...]) -> int:
    """Open a file by walking from `root` one folder at a time, following no link, so that no swap can lead outside."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    folder = os.open(root, flags | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            inner = os.open(part, flags | os.O_DIRECTORY, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(parts[-1] if parts else ".", flags | os.O_NONBLOCK, dir_fd=folder)
    finally:
        os.close(folder)


def _unreadable(subject: str, path: Path, error: OSError) -> ForbiddenSourceError | SourceMissingError:
    kind = ForbiddenSourceError if error.errno == errno.ELOOP else SourceMissingError
    return kind(
        subject,
        "cannot be opened",
        facts={"file": path, "got": error.strerror},
        remedy=f"ls -l {str(path)!r}, and make it readable for you",
    )


def _missing(subject: str, root: Path, name: str) -> SourceMissingError:
    folder = (root / name).parent
    while not folder.is_dir() and folder != root:
        folder = folder.parent
    names = [path.relative_to(root).as_posix() for path in sorted(folder.iterdir())] if folder.is_dir() else []
    near = nearest(name, names)
    return SourceMissingError(
        subject,
        "there is no such data file",
        facts={"expected": root / name, "there": _listing(names)},
        remedy=f"write contentUrl as '{near}', if that is the file" if near else f"put the file at {root / name}",
    )


def nothing_matched(
    node: FileSet, *, place: object, matched: Iterable[str], there: Iterable[str]
) -> SourceMissingError:
    """The error for a FileSet that has no file; `matched` are those that its excludes take away."""
    excluded = sorted(matched)
    shown = _listing(excluded or sorted(there))
    facts: dict[str, object] = {"includes": ", ".join(node.includes), "folder": place, "there": shown}
    if excluded:
        facts["excludes"] = ", ".join(node.excludes)
    return SourceMissingError(
        node.id,
        "every matching file is excluded" if excluded else "no file matches",
        facts=facts,
        remedy="narrow its excludes" if excluded else f"correct its includes, or put the files beneath {place}",
    )


def _some_names(root: Path) -> list[str]:
    """A few files beneath the folder; never a walk over all of a large one."""
    files = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    return sorted(itertools.islice(files, 100))


def _listing(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) + more) or "nothing"

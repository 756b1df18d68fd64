"""Reads, obeys and writes `coral.lock`, which lies beside a descriptor and pins what lies outside the work tree."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from coralord_lightning.errors import LockedError, NotDeterministicError, StoreError
from coralord_lightning.spec.descriptor import SubsetDescriptor
from coralord_lightning.spec.explain import Change
from coralord_lightning.spec.fingerprint import canonical, fingerprint
from coralord_lightning.spec.lock import (
    Lock,
    LockedCroissant,
    LockedSource,
    LockEntry,
    parse_lock,
    print_lock,
    with_entry,
)
from coralord_lightning.spec.plan import Location, RemoteFile, SourceFile
from coralord_lightning.workspace.environments import on_locked_platform
from coralord_lightning.workspace.planning import Planned, folder_of

__all__ = [
    "Update",
    "entry_for",
    "pins_for",
    "read_lock",
    "require_content",
    "require_locked",
    "same_pins",
    "write_entry",
]

Update = Literal["auto", "locked", "offline"] | None
"""None: the lock decides where there is one. auto: the world decides. locked: differing from the lock is an error.
offline: only what lock, descriptor and disk name; the network is ruled out."""

FILE = "coral.lock"


def read_lock(folder: Path | None) -> Lock:
    """The lock in a folder; an empty one where there is none.

    Raises:
        ConfigError: the file is damaged; names its line.
    """
    path = folder / FILE if folder is not None else None
    if path is None or not path.is_file():
        return Lock()
    return parse_lock(path.read_text(encoding="utf-8", errors="replace"), origin=str(path))


def pins_for(asked: SubsetDescriptor, update: Update) -> LockEntry | None:
    """What the lock beside a descriptor says of it, where it is to be obeyed.

    Raises:
        LockedError: `locked`, and there is no entry.
    """
    if update == "auto":
        return None
    folder = folder_of(asked)
    entry = read_lock(folder).entries.get(asked.name)
    if entry is None and update == "locked":
        raise LockedError(
            asked.name,
            "has no entry in coral.lock",
            facts={"looked in": (folder or Path.cwd()) / FILE},
            remedy=f"coral build {asked.origin}   # then commit {FILE}",
        )
    return entry


def require_locked(planned: Planned, entry: LockEntry, changes: tuple[Change, ...]) -> None:
    """Make sure that a plan is the one its lock names.

    Raises:
        LockedError: it is not; names what changed where that is known.
    """
    if entry.fingerprint in (planned.job.fingerprint, _on_locked_platform(planned, entry)):
        return
    told = {"changed": "\n".join(f"{item.what}: {item.was} -> {item.now}" for item in changes)} if changes else {}
    raise LockedError(
        planned.job.name,
        "no longer fits its coral.lock",
        facts={"expected": entry.fingerprint, "got": planned.job.fingerprint, **told},
        remedy=f"coral update {planned.descriptor.origin}   # or undo the change",
    )


def require_content(planned: Planned, content_digest: str) -> None:
    """Make sure that a version has the content that its lock promises, whoever built it where.

    Raises:
        NotDeterministicError: it has another one.
    """
    entry = planned.pins
    if entry is None or entry.fingerprint != planned.job.fingerprint or entry.content_digest in (None, content_digest):
        return
    raise NotDeterministicError(
        planned.job.name,
        "has another content here than where its coral.lock was written, from the same inputs",
        facts={"expected": entry.content_digest, "got": content_digest},
        remedy=f"coral update {planned.descriptor.origin}   # if this is the content you mean",
    )


def entry_for(planned: Planned, content_digest: str | None) -> LockEntry:
    """What a lock keeps of a plan: remote inputs, image, fingerprint, and the digest once it is built."""
    job, text = planned.job, planned.croissant
    environment = job.plan.environment
    image: Mapping[str, object] | None = None
    if environment is not None and environment.kind == "docker":
        image = environment.identity
    pinned = (_locked_source(source, place) for source, place in job.located)
    return LockEntry(
        name=job.name,
        fingerprint=job.fingerprint,
        content_digest=content_digest,
        image=image,
        tag=environment.tag if environment is not None else None,
        croissant=LockedCroissant(url=text.url, sha256=text.sha256) if text.url else None,
        sources=tuple(source for source in pinned if source is not None),
    )


def same_pins(one: LockEntry, other: LockEntry) -> bool:
    """Whether two entries pin the same, whether built or not."""
    texts = (print_lock(with_entry(Lock(), replace(entry, content_digest=None))) for entry in (one, other))
    return len(set(texts)) == 1


def write_entry(planned: Planned, content_digest: str | None, *, move: bool) -> Path | None:
    """Put a plan into the lock beside its descriptor; None where the descriptor is no file.

    Args:
        move: also in place of an entry that names another plan (`coral update`); otherwise an entry is only made where
            there is none, and its content digest filled in (`coral build`).
    Raises:
        StoreError: the folder cannot be written.
    """
    folder = planned.folder
    if folder is None:
        return None
    path, wanted = folder / FILE, entry_for(planned, content_digest)
    if _settled(read_lock(folder), wanted, move=move) is None:
        return path
    try:
        with _alone_in(folder):  # two builds in one folder must not lose each other's entries
            entry = _settled(read_lock(folder), wanted, move=move)
            if entry is not None:
                _replace(path, print_lock(with_entry(read_lock(folder), entry)))
    except OSError as error:
        raise StoreError(
            str(path), f"cannot be written: {error.strerror}", remedy=f"make {path.parent} writable"
        ) from error
    return path


def _on_locked_platform(planned: Planned, entry: LockEntry) -> str:
    """The fingerprint that the plan has where its lock was written: a locked index has an image for each platform."""
    plan = planned.job.plan
    if plan.environment is None:
        return planned.job.fingerprint
    there = replace(plan, environment=on_locked_platform(plan.environment, entry))
    return fingerprint(canonical(there.to_json()))


def _settled(lock: Lock, wanted: LockEntry, *, move: bool) -> LockEntry | None:
    """The entry to write; None where the lock says enough."""
    kept = lock.entries.get(wanted.name)
    if kept is None or move:
        return None if kept == wanted else wanted
    if kept.fingerprint != wanted.fingerprint or kept.content_digest is not None:
        return None
    return replace(kept, content_digest=wanted.content_digest)


def _locked_source(source: SourceFile, place: Location) -> LockedSource | None:
    if isinstance(place, RemoteFile):
        return LockedSource(url=place.url, size_bytes=place.size_bytes, etag=place.etag)
    if place.url is None:
        return None
    return LockedSource(url=place.url, size_bytes=source.size_bytes, sha256=str(source.identity["sha256"]))


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other writers out for a moment; where the file system has no such locks, go on without."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(prefix=".coral.lock-", dir=path.parent)
    temp = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        mask = os.umask(0)
        os.umask(mask)
        temp.chmod(0o666 & ~mask)
        temp.replace(path)
    finally:
        temp.unlink(missing_ok=True)

"""Reads, obeys and writes `coral.lock`, which lies beside a descriptor and pins what lies outside the work tree."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from coralord_lightning.errors import LockedError, StoreError
from coralord_lightning.spec.descriptor import SubsetDescriptor
from coralord_lightning.spec.explain import Change
from coralord_lightning.spec.lock import (
    Lock,
    LockedCroissant,
    LockedSource,
    LockEntry,
    parse_lock,
    print_lock,
    with_entry,
)
from coralord_lightning.spec.plan import RemoteFile
from coralord_lightning.workspace.planning import Planned

__all__ = ["Update", "entry_for", "pins_for", "read_lock", "require_locked", "write_entry"]

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
    return parse_lock(path.read_text(encoding="utf-8"), origin=str(path))


def pins_for(asked: SubsetDescriptor, update: Update) -> LockEntry | None:
    """What the lock beside a descriptor says of it, where it is to be obeyed.

    Raises:
        LockedError: `locked`, and there is no entry.
    """
    if update == "auto":
        return None
    folder = Path(asked.origin).parent if asked.origin and Path(asked.origin).is_file() else None
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
    if planned.job.fingerprint == entry.fingerprint:
        return
    told = {"changed": "\n".join(f"{item.what}: {item.was} -> {item.now}" for item in changes)} if changes else {}
    raise LockedError(
        planned.job.name,
        "no longer fits its coral.lock",
        facts={"expected": entry.fingerprint, "got": planned.job.fingerprint, **told},
        remedy=f"coral update {planned.descriptor.origin}   # or undo the change",
    )


def entry_for(planned: Planned, content_digest: str | None) -> LockEntry:
    """What a lock keeps of a plan: remote inputs, image, fingerprint, and the digest once it is built."""
    job, text = planned.job, planned.croissant
    environment = job.plan.environment
    image: Mapping[str, object] | None = None
    if environment is not None and environment.kind == "docker":
        image = environment.identity
    remote = [place for place in job.locations.values() if isinstance(place, RemoteFile)]
    return LockEntry(
        name=job.name,
        fingerprint=job.fingerprint,
        content_digest=content_digest,
        image=image,
        croissant=LockedCroissant(url=text.url, sha256=text.sha256) if text.url else None,
        sources=tuple(LockedSource(url=place.url, size_bytes=place.size_bytes, etag=place.etag) for place in remote),
    )


def write_entry(planned: Planned, entry: LockEntry) -> Path | None:
    """Put an entry into the lock beside the descriptor; None where the descriptor is no file.

    Raises:
        StoreError: the folder cannot be written.
    """
    if planned.folder is None:
        return None
    path = planned.folder / FILE
    text = print_lock(with_entry(read_lock(planned.folder), entry))
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return path
    try:
        _replace(path, text)
    except OSError as error:
        raise StoreError(
            str(path), f"cannot be written: {error.strerror}", remedy=f"make {path.parent} writable"
        ) from error
    return path


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

"""Moves `coral.lock` to what the world is now. Builds nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coralord_lightning.errors import UsageError
from coralord_lightning.spec.explain import Change, explain
from coralord_lightning.spec.lock import LockEntry
from coralord_lightning.workspace import Workspace
from coralord_lightning.workspace.locking import entry_for, read_lock, same_pins, write_entry
from coralord_lightning.workspace.planning import DescriptorLike, Planned

__all__ = ["LockChange", "update_lock"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LockChange:
    """What an update does to a lock.

    Args:
        was: the fingerprint that the lock named; None where it had no entry.
        moves: whether the lock pins something else than the world is, or nothing.
        changed: what differs, where the version that the lock named is in the store.
        path: the lock written; None for a dry run.
    """

    name: str
    was: str | None
    now: str
    moves: bool
    changed: tuple[Change, ...]
    path: Path | None

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "moves": self.moves,
            "was": self.was,
            "now": self.now,
            "changed": [change.to_json() for change in self.changed],
        }


def update_lock(workspace: Workspace, descriptor: DescriptorLike, *, dry_run: bool = False) -> LockChange:
    """Plan a descriptor against the world and let its lock say so.

    Raises:
        UsageError: the descriptor is no file, so that no lock lies beside it; or an environment is only tried.
    """
    if workspace.environment is not None:
        raise UsageError(
            "--environment", "is for a try, of which no lock is kept", remedy="coral update DESCRIPTOR   # without it"
        )
    planned = workspace.planned(descriptor, update="auto")
    if planned.folder is None:
        raise UsageError(
            planned.job.name,
            "is not a file, so no coral.lock lies beside it",
            remedy="write the descriptor to a YAML file and name that",
        )
    entry = read_lock(planned.folder).entries.get(planned.job.name)
    wanted = entry_for(planned, _known_content(workspace, planned, entry))
    return LockChange(
        name=planned.job.name,
        was=None if entry is None else entry.fingerprint,
        now=planned.job.fingerprint,
        moves=entry is None or not same_pins(entry, wanted),
        changed=() if entry is None else _changes(workspace, planned, entry, wanted),
        path=None if dry_run else write_entry(planned, wanted.content_digest, move=True),
    )


def _known_content(workspace: Workspace, planned: Planned, entry: LockEntry | None) -> str | None:
    """The content digest of the plan, where a build, here or wherever the lock comes from, has said it."""
    built = workspace.store.read_manifest(planned.job.fingerprint)
    if built is not None:
        return built.content_digest
    return entry.content_digest if entry is not None and entry.fingerprint == planned.job.fingerprint else None


def _changes(workspace: Workspace, planned: Planned, entry: LockEntry, wanted: LockEntry) -> tuple[Change, ...]:
    """What differs in the plans, where the old one is known; and the text of a remote Croissant file."""
    old = workspace.store.read_manifest(entry.fingerprint)
    changes = () if old is None else explain(old.plan, planned.job.canonical)
    was, now = (part.croissant.sha256 if part.croissant else None for part in (entry, wanted))
    return changes if was == now else (*changes, Change(what="croissant.sha256", was=was, now=now))

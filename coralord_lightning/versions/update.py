"""Moves `coral.lock` to what the world is now. Builds nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coralord_lightning.errors import UsageError
from coralord_lightning.spec.explain import Change, explain
from coralord_lightning.workspace import Workspace
from coralord_lightning.workspace.locking import entry_for, read_lock, write_entry
from coralord_lightning.workspace.planning import DescriptorLike

__all__ = ["LockChange", "update_lock"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LockChange:
    """What an update does to a lock.

    Args:
        was: the fingerprint that the lock named; None where it had no entry.
        changed: what differs, where the version that the lock named is in the store.
        path: the lock written; None for a dry run.
    """

    name: str
    was: str | None
    now: str
    changed: tuple[Change, ...]
    path: Path | None

    @property
    def moves(self) -> bool:
        """Whether the lock named something else, or nothing."""
        return self.was != self.now

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
        UsageError: the descriptor is no file, so that no lock lies beside it.
    """
    planned = workspace.planned(descriptor, update="auto")
    if planned.folder is None:
        raise UsageError(
            planned.job.name,
            "is not a file, so no coral.lock lies beside it",
            remedy="write the descriptor to a YAML file and name that",
        )
    entry = read_lock(planned.folder).entries.get(planned.job.name)
    old = workspace.store.read_manifest(entry.fingerprint) if entry is not None else None
    built = workspace.store.read_manifest(planned.job.fingerprint)
    path = None
    if not dry_run:
        path = write_entry(planned, entry_for(planned, built.content_digest if built is not None else None))
    return LockChange(
        name=planned.job.name,
        was=None if entry is None else entry.fingerprint,
        now=planned.job.fingerprint,
        changed=() if old is None else explain(old.plan, planned.job.canonical),
        path=path,
    )

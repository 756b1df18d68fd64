"""Is a descriptor's version there, and if not, what changed. Reads; builds and writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from coralord_lightning.errors import ShardMissingError
from coralord_lightning.spec.explain import Change
from coralord_lightning.workspace import Workspace
from coralord_lightning.workspace.locking import Update
from coralord_lightning.workspace.planning import DescriptorLike

__all__ = ["Status", "status"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Where a descriptor stands.

    Args:
        state: fresh: its version is in the store; stale: another version of its name is; missing: none is.
        changed: what differs from the last version under its name; empty when fresh or missing.
    """

    name: str
    state: Literal["fresh", "stale", "missing"]
    fingerprint: str
    changed: tuple[Change, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "state": self.state,
            "fingerprint": self.fingerprint,
            "changed": [change.to_json() for change in self.changed],
        }


def status(
    workspace: Workspace, descriptor: DescriptorLike, *, base_dir: Path | None = None, update: Update = None
) -> Status:
    """Compare a descriptor, with its lock and its tree, with what is built.

    Raises:
        CoralError: the descriptor cannot be planned.
    """
    job = workspace.plan(descriptor, base_dir=base_dir, update=update)
    manifest = workspace.store.read_manifest(job.fingerprint)
    if manifest is not None:
        try:
            workspace.store.check_shards(manifest, mode="stat")
        except ShardMissingError as error:
            damage = Change(what="store", was="complete", now=error.message)
            return Status(name=job.name, state="stale", fingerprint=job.fingerprint, changed=(damage,))
        return Status(name=job.name, state="fresh", fingerprint=job.fingerprint)
    last, changed = workspace.changes(job)
    return Status(
        name=job.name, state="missing" if last is None else "stale", fingerprint=job.fingerprint, changed=changed
    )

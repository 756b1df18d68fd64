"""Is a descriptor's version there, and if not, what changed. Reads; builds and writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from coralord_lightning.errors import ShardMissingError, SourceIntegrityError
from coralord_lightning.spec.explain import Change
from coralord_lightning.spec.fingerprint import plain
from coralord_lightning.workspace import Workspace
from coralord_lightning.workspace.locking import Update
from coralord_lightning.workspace.planning import DescriptorLike, read_descriptor

__all__ = ["Status", "status"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Where a descriptor stands.

    Args:
        state: fresh: its version is in the store; stale: another version of its name is; missing: none is.
        fingerprint: of what is asked for now; of the last version where a damaged data file rules a plan out.
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

    A data file that was built from and no longer is what its Croissant declares makes a version stale, too: what
    changed is known, though no build can follow before file or description is mended.

    Raises:
        CoralError: the descriptor cannot be planned.
    """
    try:
        job = workspace.plan(descriptor, base_dir=base_dir, update=update)
    except SourceIntegrityError as error:
        broken = _broken(workspace, read_descriptor(descriptor, base_dir=base_dir).name, error)
        if broken is None:
            raise
        return broken
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


def _broken(workspace: Workspace, name: str, error: SourceIntegrityError) -> Status | None:
    """The status where the last version has that file as it was declared; None where it has not."""
    last = workspace.store.latest_pin(name)
    manifest = None if last is None else workspace.store.read_manifest(last)
    if manifest is None or "expected" not in error.facts:
        return None
    was, now = (error.facts[label].removeprefix("sha256 ") for label in ("expected", "got"))
    for source in plain(manifest.plan)["sources"]:
        if source.get("sha256") == was:
            change = Change(what=f"sources.{source['name']}.sha256", was=was, now=now)
            return Status(name=name, state="stale", fingerprint=manifest.fingerprint, changed=(change,))
    return None

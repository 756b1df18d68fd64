"""Owns what a run is told of its data: plain values, small, the same for every logger. Knows no logger."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coralord_lightning.errors import UsageError
from coralord_lightning.tracking.repository import RepositoryState

if TYPE_CHECKING:
    from coralord_lightning.workspace import Version

__all__ = ["HPARAMS_KEY", "MAX_ENTRY_BYTES", "Entry", "require_key_is_free"]

HPARAMS_KEY = "coralord"
"""The one key that everything of ours stands under in a run's hyperparameters."""

MAX_ENTRY_BYTES = 4096
"""Of an entry as JSON: what loggers keep beside a run's hyperparameters, and people read there."""

_OPTIONAL = ("splits", "environment", "image_digest", "created_at", "git", "num_rows")
_SHOWN_ROLES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What one run reads.

    Args:
        versions: role -> version; the run's own stands first, whatever its role.
        repository: the state of the user's own code; None where it is in no repository.
    """

    versions: Mapping[str, Version]
    repository: RepositoryState | None = None

    @property
    def version(self) -> Version:
        """The run's own version."""
        return next(iter(self.versions.values()))

    @property
    def others(self) -> dict[str, Version]:
        """Role -> version, of every role but the main one; a mixture has no main one."""
        return {role: version for role, version in self.versions.items() if role != "main"}

    @property
    def identity(self) -> str:
        """What tells this entry from another: which versions have which roles."""
        return " ".join(f"{role}={version.fingerprint}" for role, version in self.versions.items())

    def to_json(self) -> dict[str, Any]:
        """The entry as primitives, at most `MAX_ENTRY_BYTES` as JSON; `omitted` names what had no room."""
        whole = self.version.to_json()
        if self.others:
            whole["versions"] = {role: version.to_json() for role, version in self.others.items()}
        if self.repository is not None:
            whole["git"] = self.repository.to_json()
        return _bounded(whole)


def require_key_is_free(model: Any) -> None:
    """Refuse a model with a hyperparameter of our name: in the loggers it would take the version's place.

    Raises:
        UsageError: it has one.
    """
    if HPARAMS_KEY in getattr(model, "hparams", {}):
        raise UsageError(
            HPARAMS_KEY,
            "is a hyperparameter of the model, and the data version is logged under that name",
            facts={"model": type(model).__name__},
            remedy=f'call it something else, or: self.save_hyperparameters(ignore=["{HPARAMS_KEY}"])',
        )


def _bounded(entry: dict[str, Any]) -> dict[str, Any]:
    """Leave out, of what is too large, first the details of other roles, then what identifies nothing."""
    omitted: list[str] = []
    if _size(entry) > MAX_ENTRY_BYTES and "versions" in entry:
        prints = {role: version["fingerprint"] for role, version in entry["versions"].items()}
        entry = entry | {"versions": dict(list(prints.items())[:_SHOWN_ROLES])}
        omitted.append("versions: all but fingerprints")
        if len(prints) > _SHOWN_ROLES:
            omitted.append(f"versions: {len(prints) - _SHOWN_ROLES} roles")
    for name in _OPTIONAL:
        if _size(entry | {"omitted": omitted}) <= MAX_ENTRY_BYTES:
            break
        if entry.pop(name, None) is not None:
            omitted.append(name)
    if omitted and _size(entry | {"omitted": omitted}) > MAX_ENTRY_BYTES:  # names of roles may be of any length
        entry.pop("versions", None)
        entry["name"] = str(entry["name"])[:512]
        omitted.append("versions")
    return entry | ({"omitted": omitted} if omitted else {})


def _size(value: object) -> int:
    return len(json.dumps(value).encode())

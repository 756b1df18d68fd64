"""Owns the question which commit the user's own code is at; asks git, changes nothing, and never fails a run."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["RepositoryState", "read_repository"]

_TIMEOUT_S = 10.0
_GIT = ("git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryState:
    """The commit of a work tree.

    Args:
        commit: 40 or 64 hex digits.
        dirty: whether a tracked file differs from it; None where git did not say in time.
    """

    commit: str
    dirty: bool | None

    def to_json(self) -> dict[str, str | bool | None]:
        return {"commit": self.commit, "dirty": self.dirty}


def read_repository(folder: Path | None = None) -> RepositoryState | None:
    """The state of the repository that a run's code is in.

    Args:
        folder: where to look; default: the current folder, else that of the script that was started.
    Returns:
        None where there is no repository, no commit in it, or no git.
    """
    for place in [folder] if folder is not None else _places():
        commit = _ask(place, "rev-parse", "--verify", "HEAD^{commit}")
        if commit:
            changes = _ask(place, "status", "--porcelain=v1", "--untracked-files=no")
            return RepositoryState(commit=commit, dirty=None if changes is None else bool(changes))
    return None


def _places() -> list[Path]:
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    return [Path.cwd(), *([Path(script).absolute().parent] if script else [])]


def _ask(folder: Path, *words: str) -> str | None:
    """What git prints; None where it fails."""
    try:
        done = subprocess.run(
            [*_GIT, "-C", str(folder), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None

"""Owns the question which commit the user's own code is at; asks git, changes nothing, and never fails a run."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

__all__ = ["RepositoryState", "read_repository"]

_TIMEOUT_S = 10.0
_GIT = ("git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}")
_ANYONES = ("-c", "safe.directory=*")
"""For a question that runs nothing of the repository: a container often sees the user's files under another owner."""
_NO_FETCH = {"GIT_ALLOW_PROTOCOL": "none", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
"""A partial clone would fetch what it lacks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryState:
    """The commit of a work tree.

    Args:
        commit: 40 or 64 hex digits.
        dirty: whether a tracked file differs from it; None where git did not say, or not in time.
    """

    commit: str
    dirty: bool | None

    def to_json(self) -> dict[str, str | bool | None]:
        return {"commit": self.commit, "dirty": self.dirty}


def read_repository(folder: Path | None = None) -> RepositoryState | None:
    """The state of the repository that a run's code is in.

    Args:
        folder: where to look; default: the current folder, else that of the user's script that was started.
    Returns:
        None where there is no repository, no commit in it, or no git.
    """
    for place in [folder] if folder is not None else _places():
        commit = _ask(place, *_ANYONES, "rev-parse", "--verify", "HEAD")
        if commit:
            words = ("status", "--porcelain=v1", "--untracked-files=no", "--ignore-submodules=dirty")
            changes = _ask(place, *words)  # runs filters that the repository names: only where git trusts its owner
            return RepositoryState(commit=commit, dirty=None if changes is None else bool(changes))
    return None


def _places() -> list[Path]:
    try:
        places = [Path.cwd()]
    except FileNotFoundError:  # somebody has removed it
        places = []
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    if script:
        path = Path(script).absolute()
        if not any(path.is_relative_to(place) for place in sysconfig.get_paths().values()):
            places.append(path.parent)  # a notebook's or a test runner's own script is not the user's
    return places


def _ask(folder: Path, *words: str) -> str | None:
    """What git prints; None where it fails."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            [*_GIT, "-C", str(folder), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environ | _NO_FETCH,  # GIT_DIR and its like would name another repository
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None

"""Who a temporary file belongs to, so that leftovers of dead processes can be told from work in progress.

Names are `<host>-<pid namespace>.<pid>.<start>.<random>`. Only leftovers of this host and pid namespace are judged.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import uuid
from pathlib import Path

__all__ = ["clean_leftovers", "new_name"]

_NAME = re.compile(r"(?P<place>[^.]+)\.(?P<pid>\d+)\.(?P<start>\d+)\.[0-9a-f]{32}.*")


def new_name(suffix: str = "") -> str:
    """A name for a temporary file or folder that no other process will choose."""
    pid = os.getpid()
    return f"{_place()}.{pid}.{_start_time(pid)}.{uuid.uuid4().hex}{suffix}"


def clean_leftovers(folder: Path) -> int:
    """Remove what dead processes of this machine left in a folder; returns how many things went."""
    removed = 0
    for path in list(folder.iterdir()) if folder.is_dir() else []:
        found = _NAME.fullmatch(path.name)
        if found is None or found["place"] != _place() or _is_alive(int(found["pid"]), found["start"]):
            continue
        # two cleaners may meet here; whoever comes second finds nothing left
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()
        removed += not path.exists()
    return removed


def _place() -> str:
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())
    try:
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:  # no procfs, as on macOS
        namespace = 0
    return f"{host}-{namespace}"


def _start_time(pid: int) -> str:
    """When the process began, in ticks since boot; "0" where the platform does not say."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "0"
    return text.rpartition(")")[2].split()[19]


def _is_alive(pid: int, start: str) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's process; it lives
    return _start_time(pid) == start

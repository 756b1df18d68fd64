"""Locks between processes: they save double work, and correctness never depends on them."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from coralord_lightning.errors import LockConflictError
from coralord_lightning.store.disk import Disk

__all__ = ["build_lock", "file_lock"]

_LOG = logging.getLogger("coralord")


@contextlib.contextmanager
def file_lock(disk: Disk, name: str, timeout_s: float) -> Iterator[None]:
    """Hold `locks/<name>.lock`.

    Raises:
        TimeoutError: another process held it all the time.
        StoreError: the home cannot be written.
    """
    import filelock

    path = disk.root / "locks" / f"{name}.lock"
    with disk.explained(path):
        disk.ensure_dir(path.parent)
    # processes that wait together must not wake together
    poll_s = 0.02 + os.getpid() % 50 / 1000
    lock = filelock.FileLock(path, timeout=timeout_s, mode=disk.file_mode, thread_local=False)
    try:
        with disk.explained(path):
            acquired = _acquire(lock, poll_s)
    except NotImplementedError:
        _LOG.warning("%s cannot be locked on this file system; work may be done twice", path)
        yield
        return
    if not acquired:
        raise TimeoutError(str(path))
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: Any, poll_s: float) -> bool:
    import filelock

    try:
        lock.acquire(poll_interval=poll_s)
    except filelock.Timeout:  # an OSError too, but no failure of the disk
        return False
    return True


@contextlib.contextmanager
def build_lock(disk: Disk, fingerprint: str, timeout_s: float, clock: Callable[[], datetime]) -> Iterator[None]:
    """Hold the right to build one version, and say who holds it.

    Raises:
        LockConflictError: another process builds it for longer than `timeout_s`.
    """
    note = disk.root / "locks" / f"{fingerprint}.holder.json"
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(file_lock(disk, fingerprint, timeout_s))
        except TimeoutError as error:
            raise _conflict(fingerprint, timeout_s, _read_holder(note)) from error
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": clock().isoformat(timespec="seconds")}
        disk.note(note, json.dumps(holder).encode())
        yield


def _read_holder(path: Path) -> dict[str, Any]:
    try:
        holder = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _conflict(fingerprint: str, timeout_s: float, holder: dict[str, Any]) -> LockConflictError:
    pid = holder.get("pid")
    known = f"process {pid} on {holder.get('host')} since {holder.get('since')}"
    return LockConflictError(
        fingerprint[:12],
        f"another process has been building this version for {timeout_s:g} seconds",
        facts={"holder": known if holder else "unknown"},
        remedy=f"ps -fp {pid}   # wait for it, or end it, then build again" if holder else "run the same command again",
    )

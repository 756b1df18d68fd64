"""How much a sandbox may leave in its output directory, and a thread that looks. Ends no process itself.

A bind mount has no size of its own, so what the pipeline writes is counted while it writes. Nothing is followed or
opened there: the directory belongs to code that is not trusted.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from coralord_lightning.builder.runners.explain import format_bytes
from coralord_lightning.errors import CoralError, RunnerError, StoreFullError

__all__ = ["Allowance", "Found", "Watch", "allowance_for", "clear", "count", "judge", "overflow"]

MAX_FILES = 10_000
"""Files and directories in the output directory at one time; a task leaves one."""
MAX_DEPTH = 64

_PERIOD_S = 0.5
_RESERVE_BYTES = 2 << 30
_SLACK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What may lie in an output directory.

    Args:
        output_bytes: in all, as allocated.
        asked: whether the user chose `output_bytes`; else it is what the disk has, less a reserve.
        floor_bytes: what must stay free on the disk, whoever takes it.
    """

    output_bytes: int
    asked: bool
    floor_bytes: int
    files: int = MAX_FILES

    @property
    def file_bytes(self) -> int:
        """The largest file: a little more than is allowed, so that who reaches it is over the limit too."""
        return self.output_bytes + _SLACK_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What lies in an output directory, and what is left of its disk."""

    bytes: int
    files: int
    hidden: bool
    free_bytes: int


Verdict = Literal["bytes", "files", "hidden", "disk"]


def allowance_for(out_dir: Path, output_bytes: int | None) -> Allowance:
    """What a sandbox that starts now may write: as asked, else all but a reserve of what is free.

    The reserve is 2 GiB or 5 % of the disk, whichever is more, but never more than half of what is free.
    """
    usage = shutil.disk_usage(out_dir)
    reserve = min(max(_RESERVE_BYTES, usage.total // 20), usage.free // 2)
    allowed = usage.free - reserve
    return Allowance(
        output_bytes=allowed if output_bytes is None else min(output_bytes, allowed),
        asked=output_bytes is not None and output_bytes <= allowed,
        floor_bytes=reserve // 8,
    )


def count(out_dir: Path) -> Found:
    """Look at everything in a directory, following no link and crossing to no other place."""
    size = files = 0
    hidden = False
    folders = [(str(out_dir), 0)]
    while folders and files <= MAX_FILES:
        folder, depth = folders.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    files += 1
                    if files > MAX_FILES:
                        break
                    with contextlib.suppress(FileNotFoundError):
                        state = entry.stat(follow_symlinks=False)
                        size += state.st_blocks * 512
                        if stat.S_ISDIR(state.st_mode):
                            hidden = hidden or depth >= MAX_DEPTH
                            folders.append((entry.path, depth + 1))
        except (FileNotFoundError, NotADirectoryError):  # it went while we looked
            continue
        except OSError as error:  # it must not be possible to hide from us
            if error.errno not in (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP):
                raise
            hidden = True
    return Found(bytes=size, files=files, hidden=hidden, free_bytes=shutil.disk_usage(out_dir).free)


def judge(found: Found, allowance: Allowance) -> Verdict | None:
    """Tell which limit is passed, if any. Pure."""
    if found.bytes > allowance.output_bytes:
        return "bytes"
    if found.files > allowance.files:
        return "files"
    if found.hidden:
        return "hidden"
    return "disk" if found.free_bytes < allowance.floor_bytes else None


def overflow(verdict: Verdict, found: Found, allowance: Allowance, *, label: str, out_dir: Path) -> CoralError:
    """Make the error for a pipeline that wrote too much. Pure."""
    written = f"{_size(found.bytes)} in {found.files:,} files"
    if verdict == "files":
        return RunnerError(
            label,
            "the pipeline left more files in its output directory than it may, and was stopped",
            facts={"allowed": f"{allowance.files:,} files", "written": f"more than {allowance.files:,} files"},
            remedy="return the rows instead of writing files; scratch files belong in /tmp",
        )
    if verdict == "hidden":
        return RunnerError(
            label,
            "the pipeline made directories in its output directory that cannot be looked into, and was stopped",
            facts={"allowed": f"{MAX_DEPTH} levels, readable", "written": written},
            remedy="return the rows instead of writing files; scratch files belong in /tmp",
        )
    if verdict == "bytes" and allowance.asked:
        return RunnerError(
            label,
            "the pipeline wrote more than it may, and was stopped",
            facts={"allowed": f"output {_size(allowance.output_bytes)}", "written": written},
            remedy=f"raise environment.output, e.g. output: {format_bytes(_round_up(2 * found.bytes))}",
        )
    return StoreFullError(
        label,
        "the pipeline would have filled the disk, and was stopped",
        facts={
            "allowed": f"{_size(allowance.output_bytes)} of output, and {_size(allowance.floor_bytes)} left free",
            "written": written,
            "free": f"{_size(found.free_bytes)} on the disk of {out_dir}",
        },
        remedy="free some space there, or keep the store on a larger disk: --home DIR",
    )


class Watch:
    """Looks at an output directory: when asked, and twice a second while its sandbox lives."""

    def __init__(self, out_dir: Path, allowance: Allowance) -> None:
        self._out_dir = out_dir
        self._allowance = allowance
        self._over: tuple[Verdict, Found] | None = None

    @contextmanager
    def while_it_lasts(self, on_overflow: Callable[[], None]) -> Iterator[None]:
        """Look on in a thread of its own.

        Args:
            on_overflow: ends the sandbox; called once at most, in that thread.
        """
        closing = threading.Event()
        thread = threading.Thread(target=self._look_on, args=(closing, on_overflow), name="coral-watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            closing.set()
            thread.join()

    def look(self) -> bool:
        """Count now; true where a limit is or was passed."""
        if self._over is None:
            found = count(self._out_dir)
            verdict = judge(found, self._allowance)
            if verdict is not None:
                self._over = (verdict, found)
        return self._over is not None

    def error(self, label: str) -> CoralError | None:
        """Why the sandbox had to end; None where it was within its limits when last looked at."""
        over = self._over
        return None if over is None else overflow(*over, self._allowance, label=label, out_dir=self._out_dir)

    def sweep(self) -> None:
        """Remove what is there, where it was too much. Nobody may write to it any more."""
        if self._over is not None:
            clear(self._out_dir)

    def _look_on(self, closing: threading.Event, on_overflow: Callable[[], None]) -> None:
        while not closing.wait(_PERIOD_S):
            if self.look():
                on_overflow()
                return


def clear(folder: Path, *, folders_only: bool = False) -> None:
    """Remove what untrusted code left in a directory, however deep, following nothing.

    Args:
        folders_only: leave what lies directly in it and is no directory.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    top = os.open(folder, flags)
    try:
        while waiting := [name for name in os.listdir(top) if not folders_only or _is_folder(top, name)]:  # noqa: PTH208  # of a descriptor
            for name in waiting:
                _remove_one(top, name, flags)
    finally:
        os.close(top)


def _remove_one(top: int, name: str, flags: int) -> None:
    """Remove an entry; of a directory that is not empty, first bring its directories up to the top."""
    if not _is_folder(top, name):
        os.unlink(name, dir_fd=top)
        return
    os.chmod(name, 0o700, dir_fd=top)
    inside = os.open(name, flags, dir_fd=top)
    try:
        for entry in os.listdir(inside):  # noqa: PTH208  # of a descriptor
            if _is_folder(inside, entry):
                os.chmod(entry, 0o700, dir_fd=inside)
                os.rename(entry, f"{secrets.token_hex(8)}", src_dir_fd=inside, dst_dir_fd=top)
            else:
                os.unlink(entry, dir_fd=inside)
    finally:
        os.close(inside)
    os.rmdir(name, dir_fd=top)


def _is_folder(parent: int, name: str) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)


def _size(size: int) -> str:
    """A size for people: at most one digit after the point."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"


def _round_up(size: int) -> int:
    unit = 1 << 20 if size < 1 << 30 else 1 << 30
    return -(-size // unit) * unit

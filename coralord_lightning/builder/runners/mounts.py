"""What a container sees of our disk, and who may read and write it there. Starts nothing.

The container runs as a user that owns nothing, whatever our umask: inputs are made readable to it, the output directory
writable; both go back to how they were when the container is gone.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from coralord_lightning.builder.runners.base import Sandbox
from coralord_lightning.builder.runners.explain import SHARE
from coralord_lightning.builder.runners.protocol import DRIVER
from coralord_lightning.builder.runners.watch import clear
from coralord_lightning.errors import RunnerError

__all__ = ["Mounts"]


class Mounts:
    """The directories of one sandbox while its container lives.

    Args:
        user: the container's numeric user as this machine counts; None where the engine counts otherwise.
    """

    def __init__(self, sandbox: Sandbox, *, user: int | None) -> None:
        self._sandbox = sandbox
        self._user = user
        self._probe = secrets.token_hex(16)
        self.driver = Path()
        self._was: os.stat_result | None = None

    def __enter__(self) -> Self:
        # beside the other directories, so that an engine that sees this one sees them too
        self.driver = Path(tempfile.mkdtemp(prefix="driver-", dir=self._sandbox.out_dir.absolute().parent))
        shutil.copyfile(DRIVER, self.driver / "pipeline.py")
        (self.driver / "probe").write_text(self._probe, encoding="ascii")
        for path in _beneath(self.driver):
            _let_read(path)
        for path in (self._sandbox.in_dir, *_beneath(self._sandbox.code_dir)):  # inputs are let in one by one
            _let_read(path)
        self._was = self._sandbox.out_dir.stat()
        self._let_write(self._sandbox.out_dir)
        return self

    def __exit__(self, *exception: object) -> None:
        shutil.rmtree(self.driver, ignore_errors=True)
        out_dir, was = self._sandbox.out_dir, self._was
        if was is not None and out_dir.exists():
            if os.geteuid() == 0:
                os.chown(out_dir, was.st_uid, was.st_gid)
            out_dir.chmod(stat.S_IMODE(was.st_mode))
            clear(out_dir, folders_only=True)

    def let_in(self, name: str) -> None:
        """Make an input that has just appeared readable inside."""
        with contextlib.suppress(FileNotFoundError):  # `pipeline.py` says so, with the task's name
            _let_read(self._sandbox.in_dir / name)

    def require_shared(self, probe: str) -> None:
        """Make sure that the container looks at this disk, and not at another machine's.

        Raises:
            RunnerError: it does not.
        """
        if not secrets.compare_digest(probe.encode(errors="replace"), self._probe.encode()):
            raise RunnerError(
                "container engine",
                "sees another disk than ours",
                facts={"expected": f"the probe in {self.driver}", "got": probe[:64]},
                remedy=SHARE,
            )

    def _let_write(self, folder: Path) -> None:
        """Give the directory to the container's user; where we may not, open it, which its private parent bounds."""
        if os.geteuid() == 0 and self._user is not None:
            os.chown(folder, self._user, self._user)
            folder.chmod(0o700)
        else:
            folder.chmod(0o777)  # the store's temporary directories are private to their owner


def _beneath(folder: Path) -> Iterator[Path]:
    yield folder
    yield from folder.rglob("*")


def _let_read(path: Path) -> None:
    mode = path.lstat().st_mode
    if stat.S_ISDIR(mode):
        path.chmod(stat.S_IMODE(mode) | 0o555)
    elif stat.S_ISREG(mode):
        path.chmod(stat.S_IMODE(mode) | 0o444)

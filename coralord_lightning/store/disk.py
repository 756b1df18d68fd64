"""The one place that writes to the store: unique temp, fsync, publish without replacing, fsync of the folder.

It knows nothing of manifests or shards. After every effect it calls the crash point that was handed in, with a name
of `CRASH_POINTS`, so that tests can die there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from coralord_lightning.errors import StoreError, StoreFullError
from coralord_lightning.store.scratch import new_name

__all__ = ["CRASH_POINTS", "Disk", "no_op"]

_DOCUMENTS = ("partitions", "manifests", "pins", "runs", "descriptions")
CRASH_POINTS: tuple[str, ...] = (
    *(f"objects.{effect}" for effect in ("synced", "linked", "unlinked", "settled")),
    *(f"{kind}.{effect}" for kind in _DOCUMENTS for effect in ("written", "synced", "linked", "unlinked", "settled")),
    *(f"{kind}.replaced" for kind in ("partitions", "manifests", "runs", "descriptions")),
    "quarantine.moved",
    *(f"catalog.{effect}" for effect in ("locked", "inserted", "committed", "checkpointed", "closed")),
    *(f"catalog.{effect}" for effect in ("rebuilt", "aside", "swapped")),
)
"""Every effect after which a process may die. A name not listed here cannot be passed."""

_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_REFUSED = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


def no_op(_name: str) -> None:
    """Crash nowhere."""


class Disk:
    """Durable, atomic writes beneath one folder.

    Args:
        root: the store's home; made at the first write.
        crash_point: called with a name of `CRASH_POINTS` after that effect.
        link: makes a hard link, failing where the target exists; another one is for tests.
    """

    def __init__(
        self,
        root: Path,
        crash_point: Callable[[str], None] = no_op,
        *,
        link: Callable[[Path, Path], None] = os.link,
    ) -> None:
        self.root = root
        self._crash_point = crash_point
        self._link = link

    @property
    def file_mode(self) -> int:
        """Permissions of every file of ours: who may write to the home's folder may write to them."""
        return self._mode(0o666)

    def passed(self, name: str) -> None:
        """Say that an effect happened."""
        if name not in CRASH_POINTS:
            raise AssertionError(name)
        self._crash_point(name)

    def new_temp(self, suffix: str = "") -> Path:
        """A path under `tmp/` where nothing lies; its folder is there."""
        with self.explained(self.root):
            self.ensure_dir(self.root / "tmp")
        return self.root / "tmp" / new_name(suffix)

    def publish_file(self, kind: str, temp: Path, final: Path) -> bool:
        """Make a finished temporary file appear under its final name; the temporary name is gone afterwards.

        Returns:
            False where something lies there already; it stays as it is.
        """
        try:
            with self.explained(final):
                self._sync_file(kind, temp)
                self.ensure_dir(final.parent)
                published = self._link_new(temp, final)
                if published:
                    self.passed(f"{kind}.linked")
        finally:
            with contextlib.suppress(FileNotFoundError):
                temp.unlink()
        if published:
            self.passed(f"{kind}.unlinked")
            with self.explained(final):
                _sync_dir(final.parent)
            self.passed(f"{kind}.settled")
        return published

    def publish_bytes(self, kind: str, final: Path, data: bytes) -> bool:
        """Write a new file; False where one lies there already."""
        return self.publish_file(kind, self._write_temp(kind, data), final)

    def replace_bytes(self, kind: str, final: Path, data: bytes) -> None:
        """Write a file, in place of what lies there."""
        temp = self._write_temp(kind, data)
        try:
            with self.explained(final):
                self._sync_file(kind, temp)
            self.move(temp, final)
        finally:
            temp.unlink(missing_ok=True)
        self.passed(f"{kind}.replaced")

    def move(self, source: Path, final: Path) -> None:
        """Rename within the home, in place of what lies there, durably."""
        with self.explained(final):
            self.ensure_dir(final.parent)
            source.replace(final)
            _sync_dir(final.parent)

    def quarantine(self, path: Path) -> Path | None:
        """Put a damaged file aside as evidence; None where another process was first."""
        kept = self.root / "quarantine" / new_name(f".{path.name}")
        try:
            self.move(path, kept)
        except StoreError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise
        self.passed("quarantine.moved")
        return kept

    def note(self, path: Path, data: bytes) -> None:
        """Write a hint that nothing depends on; neither atomic nor durable."""
        with contextlib.suppress(OSError):
            path.write_bytes(data)
            self.share(path)

    def share(self, path: Path) -> None:
        """Give a file of ours the home's permissions; another user's has them already."""
        with contextlib.suppress(PermissionError):
            path.chmod(self.file_mode)

    def ensure_dir(self, folder: Path) -> None:
        """Make a folder and its parents, with the home's own permissions."""
        self.root.mkdir(parents=True, exist_ok=True)
        missing = [folder, *folder.parents]
        missing = [path for path in missing[: missing.index(self.root)] if not path.is_dir()]
        for path in reversed(missing):
            with contextlib.suppress(FileExistsError):  # another process made it
                path.mkdir()
                path.chmod(self._mode(0o2777))
                _sync_dir(path.parent)

    @contextlib.contextmanager
    def explained(self, path: Path) -> Iterator[None]:
        """Turn failures of the operating system into store errors.

        Raises:
            StoreFullError: no space left.
            StoreError: the home cannot be written, or anything else went wrong.
        """
        try:
            yield
        except OSError as error:
            raise self._error(path, error) from error

    @contextlib.contextmanager
    def explained_if_full(self, path: Path) -> Iterator[None]:
        """Turn a full disk into a store error; other failures are not ours to explain.

        Raises:
            StoreFullError: no space left.
        """
        try:
            yield
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise self._error(path, error) from error

    def _write_temp(self, kind: str, data: bytes) -> Path:
        temp = self.new_temp()
        try:
            with self.explained(temp), temp.open("xb") as file:
                file.write(data)
        except BaseException:
            temp.unlink(missing_ok=True)
            raise
        self.passed(f"{kind}.written")
        return temp

    def _sync_file(self, kind: str, temp: Path) -> None:
        descriptor = os.open(temp, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if stat.S_IMODE(os.fstat(descriptor).st_mode) != self.file_mode:
                os.fchmod(descriptor, self.file_mode)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self.passed(f"{kind}.synced")

    def _link_new(self, temp: Path, final: Path) -> bool:
        try:
            self._link(temp, final)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return self._rename_new(temp, final)
        return True

    def _rename_new(self, temp: Path, final: Path) -> bool:
        """Without hard links: a folder beside the target is the claim, for making one is atomic everywhere."""
        claim = final.with_name(final.name + ".claim")
        try:
            claim.mkdir()
        except FileExistsError:
            # the claimant died or is about to finish; in doubt the name is taken unless nothing appears there
            if final.exists():
                return False
        try:
            if final.exists():
                return False
            temp.rename(final)
        finally:
            with contextlib.suppress(OSError):
                claim.rmdir()
        return True

    def _mode(self, mask: int) -> int:
        owner = 0o700 if mask & 0o100 else 0o600
        return stat.S_IMODE(self.root.stat().st_mode) & mask | owner

    def _error(self, path: Path, error: OSError) -> StoreError:
        reason = error.strerror or str(error)
        if error.errno in _FULL:
            return StoreFullError(
                str(path),
                "the store's disk is full",
                facts={"free": _free_space(self.root), "home": self.root},
                remedy=f"df -h {self.root}   # make space there, or set CORAL_HOME to a folder on a larger disk",
            )
        if error.errno in _REFUSED:
            return StoreError(
                str(path),
                "the store cannot be written",
                facts={"got": reason, "home": self.root},
                remedy=f"ls -ld {self.root}   # be allowed to write there, or set CORAL_HOME to a folder of your own",
            )
        return StoreError(
            str(path),
            "the store's disk failed",
            facts={"got": reason, "home": self.root},
            remedy=f"ls -la {path.parent}   # and try again; set CORAL_HOME to a folder on a sound disk if it stays",
        )


def _sync_dir(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that cannot sync a folder
            raise
    finally:
        os.close(descriptor)


def _free_space(root: Path) -> str:
    try:
        state = os.statvfs(root)
    except OSError:
        return "unknown"
    return f"{state.f_bavail * state.f_frsize:,} bytes"

"""A file while it is fetched: hashed as it is written, taken up again where that is certain. Never makes a request.

What a process leaves behind when it is killed is used only as far as it was recorded, and only if its bytes still have
the recorded hash; that they belong to the file upstream, the server says when it answers `If-Range`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any, Self

from coralord_lightning.sources.hashes import HashedFile, replace_file

__all__ = ["Partial"]

_CHUNK = 1024 * 1024


class Partial:
    """One file being fetched; a context manager that closes it and keeps what can be taken up again.

    Args:
        folder: where it lies, as `key`; another process that fetches the same at the same time has a file of its own.
        checkpoint_bytes: so often it is recorded how far the file has come.
    """

    def __init__(self, folder: Path, key: str, *, checkpoint_bytes: int) -> None:
        self._folder = folder
        self._key = key
        self._checkpoint_bytes = checkpoint_bytes
        self._note_path: Path | None = folder / f"{key}.json"
        self._digest = hashlib.sha256()
        self._recorded = 0
        self._settled = False
        self.path = folder / key
        self.size = 0
        self.etag: str | None = None
        """The strong ETag of what was written; None: it cannot be taken up again."""

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = _open_alone(self.path)
        if descriptor is None:
            descriptor, name = tempfile.mkstemp(dir=self._folder, prefix=".tmp-")
            self.path, self._note_path = Path(name), None
        self._descriptor = descriptor
        self._take_up()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if not self._settled and self.size and self.etag is not None and self._note_path is not None:
                self.checkpoint()
            elif not self._settled:
                self.discard()
        finally:
            os.close(self._descriptor)

    def restart(self, etag: str | None) -> None:
        """Forget what was written; what comes now has this strong ETag."""
        os.ftruncate(self._descriptor, 0)
        self._forget_note()
        self._digest = hashlib.sha256()
        self.size, self._recorded, self.etag = 0, 0, etag

    def write(self, chunk: bytes) -> None:
        """Append some bytes."""
        view = memoryview(chunk)
        at = self.size
        while view:
            done = os.pwrite(self._descriptor, view, at)
            view, at = view[done:], at + done
        self._digest.update(chunk)
        self.size += len(chunk)
        if self.size - self._recorded >= self._checkpoint_bytes:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Record how far the file has come, if it can be taken up again at all."""
        if self.etag is None or self._note_path is None or self.size == self._recorded:
            return
        os.fsync(self._descriptor)
        note = {"etag": self.etag, "size": self.size, "sha256": self._digest.hexdigest()}
        replace_file(self._note_path, json.dumps(note).encode())
        self._recorded = self.size

    def finish(self) -> HashedFile:
        """All of it is written: what it is."""
        os.fsync(self._descriptor)
        return HashedFile(sha256=self._digest.hexdigest(), size_bytes=self.size)

    def publish(self, place: Path) -> None:
        """Put the finished file in its place, in one step."""
        place.parent.mkdir(parents=True, exist_ok=True)
        self._forget_note()
        self._settled = True  # from here on the name is free for others
        self.path.replace(place)

    def discard(self) -> None:
        """Leave nothing."""
        self._settled = True
        self._forget_note()
        self.path.unlink(missing_ok=True)

    def _take_up(self) -> None:
        """Go on from what was recorded, if the file still begins with it."""
        if self._note_path is None:
            return
        try:
            note: Any = json.loads(self._note_path.read_bytes())
            size, sha256, etag = int(note["size"]), note["sha256"], str(note["etag"])
        except (OSError, ValueError, KeyError, TypeError):
            size, sha256, etag = 0, "", ""
        digest = hashlib.sha256()
        done = 0
        while done < size and (chunk := os.pread(self._descriptor, min(_CHUNK, size - done), done)):
            digest.update(chunk)
            done += len(chunk)
        if not size or done != size or digest.hexdigest() != sha256:
            self.restart(None)
            return
        os.ftruncate(self._descriptor, size)
        self._digest, self.size, self._recorded, self.etag = digest, size, size, etag

    def _forget_note(self) -> None:
        if self._note_path is not None:
            self._note_path.unlink(missing_ok=True)


def _open_alone(path: Path) -> int | None:
    """Open or make a file and lock it; None where another has it, or locks cannot be had."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)  # whoever had it has put it in its place just now

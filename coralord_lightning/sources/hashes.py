"""SHA-256 of local files, remembered by what `stat` says. Never trusts a memory that a quick edit could have outrun."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from coralord_lightning.errors import ForbiddenSourceError, SourceIntegrityError
from coralord_lightning.sources.stamps import StampMemory, replace_file, stamp_of
from coralord_lightning.spec.cuts import CUTS, SLICED_BYTES, LineSlicer, Slice

__all__ = ["HashCache", "HashedFile", "hash_descriptor", "replace_file"]

_CHUNK = 1024 * 1024
_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class HashedFile:
    """What one file held at one moment."""

    sha256: str
    size_bytes: int


class HashCache:
    """Hashes of local files.

    Args:
        directory: made when first needed; where it cannot be written, hashes are just not remembered.
        clock_ns: wall clock in nanoseconds.
    """

    def __init__(self, directory: Path, *, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._directory = directory
        self._clock_ns = clock_ns
        self._memory = StampMemory(directory)

    def recall(self, path: Path) -> HashedFile | None:
        """What is remembered of the file at `path`, which is not opened for it; None of a link, or if it is not known.

        Raises:
            OSError: there is nothing.
        """
        return self._known(path, os.lstat(path))

    def hash_file(self, path: Path) -> HashedFile:
        """Hash of the regular file at `path`.

        Raises:
            OSError: it cannot be opened or read.
            ForbiddenSourceError: it is no regular file.
            SourceIntegrityError: it kept changing while it was read.
        """
        known = self.recall(path)
        if known is not None:
            return known
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return self.hash_open(descriptor, path)
        finally:
            os.close(descriptor)

    def hash_open(self, descriptor: int, path: Path, *, lines: bool = False) -> HashedFile:
        """Hash of an open regular file; stat and bytes come from this one descriptor. `path` is the memory's key.

        Args:
            lines: it holds JSON lines: where it is cut is found in the same reading, for `slices_of`.
        """
        for _ in range(_TRIES):
            began_ns = self._clock_ns()
            state = _regular(os.fstat(descriptor), path)
            known = self._known(path, state)
            if known is not None:
                return known
            slicer = LineSlicer() if lines and state.st_size > SLICED_BYTES else None
            sha256 = hash_descriptor(descriptor, slicer)
            stamp = stamp_of(state)
            if stamp_of(os.fstat(descriptor)) == stamp:
                if slicer is not None:
                    self._note_slices(sha256, slicer.finish())
                if stamp.settled_at(began_ns):
                    self._memory.note(path, stamp, sha256, began_ns)
                return HashedFile(sha256=sha256, size_bytes=stamp.size)
        raise _changing(path, {"got": f"{_TRIES} readings, {_TRIES} different states"})

    def slices_of(self, path: Path, found: HashedFile) -> tuple[Slice, ...]:
        """Where a file of JSON lines is cut; nowhere if it is not large.

        Raises:
            SourceIntegrityError: the file is not what was found any more.
        """
        if found.size_bytes <= SLICED_BYTES:
            return ()
        known = self._recall_slices(found.sha256)
        if known is not None:
            return known
        slicer = LineSlicer()
        with path.open("rb") as file:
            got = hash_descriptor(file.fileno(), slicer)
        if got != found.sha256:
            raise _changing(path, {"expected": f"sha256 {found.sha256}", "got": f"sha256 {got}"})
        slices = slicer.finish()
        self._note_slices(got, slices)
        return slices

    def md5_of(self, path: Path, sha256: str) -> str:
        """MD5 of the file at `path`, whose SHA-256 is known: for files that declare nothing better.

        Raises:
            SourceIntegrityError: the file is not of that SHA-256 any more.
        """
        note = self._directory / "md5" / sha256
        with contextlib.suppress(OSError, ValueError):
            known = note.read_text(encoding="ascii")
            if len(bytes.fromhex(known)) == hashlib.md5(usedforsecurity=False).digest_size:
                return known
        weak, strong = hashlib.md5(usedforsecurity=False), hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                weak.update(chunk)
                strong.update(chunk)
        if strong.hexdigest() != sha256:
            raise _changing(path, {"expected": f"sha256 {sha256}", "got": f"sha256 {strong.hexdigest()}"})
        with contextlib.suppress(OSError):
            replace_file(note, weak.hexdigest().encode())
        return weak.hexdigest()

    def _known(self, path: Path, state: os.stat_result) -> HashedFile | None:
        if not stat.S_ISREG(state.st_mode):
            return None
        sha256 = self._memory.recall(path, stamp_of(state))
        return None if sha256 is None else HashedFile(sha256=sha256, size_bytes=state.st_size)

    def _recall_slices(self, sha256: str) -> tuple[Slice, ...] | None:
        try:
            note: Any = json.loads((self._directory / "slices" / f"{sha256}.json").read_bytes())
            slices = tuple(
                Slice(start=int(start), stop=int(stop), first_row=int(row), sha256=str(own))
                for start, stop, row, own in note["slices"]
            )
            return slices if note["cuts"] == CUTS else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _note_slices(self, sha256: str, slices: tuple[Slice, ...]) -> None:
        note = {"cuts": CUTS, "slices": [astuple(item) for item in slices]}
        with contextlib.suppress(OSError):
            replace_file(self._directory / "slices" / f"{sha256}.json", json.dumps(note).encode())


def hash_descriptor(descriptor: int, slicer: LineSlicer | None = None) -> str:
    """SHA-256 of an open file from its beginning, in hex; the file position does not matter and is left alone.

    Args:
        slicer: is given all bytes too.
    """
    digest = hashlib.sha256()
    offset = 0
    while chunk := os.pread(descriptor, _CHUNK, offset):
        digest.update(chunk)
        if slicer is not None:
            slicer.update(chunk)
        offset += len(chunk)
    return digest.hexdigest()


def _changing(path: Path, facts: dict[str, object]) -> SourceIntegrityError:
    remedy = "wait until whatever writes it is done, then run the same command again"
    return SourceIntegrityError(str(path), "changes while it is read", facts=facts, remedy=remedy)


def _regular(state: os.stat_result, path: Path) -> os.stat_result:
    if not stat.S_ISREG(state.st_mode):
        raise ForbiddenSourceError(
            str(path),
            "is no regular file",
            facts={"got": stat.filemode(state.st_mode), "expected": "a regular file"},
            remedy="put the data there as a plain file",
        )
    return state

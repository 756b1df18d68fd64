"""What `stat` said of files when they were hashed: one file of lines for each folder. Opens none of these files.

A line is appended for each hash, so that several processes can, and none waits for another; the last one holds. A
thousand files are recalled by reading one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Stamp", "StampMemory", "replace_file", "stamp_of"]

_TICK_NS = 2_000_000_000
"""The coarsest clock among file systems we meet (FAT, some network mounts): two edits this close can look alike."""
_SPARE_LINES = 1_000
"""So many lines that no longer hold are kept; with more, and more than hold, a file is written anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What `stat` says of a file; equal stamps a tick apart mean equal bytes."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @property
    def numbers(self) -> tuple[int, ...]:
        """As it is kept."""
        return self.device, self.inode, self.size, self.mtime_ns, self.ctime_ns

    def settled_at(self, moment_ns: int) -> bool:
        """Whether the file's last change is so long ago that the next one shows."""
        return moment_ns - max(self.mtime_ns, self.ctime_ns) > _TICK_NS


@dataclass(frozen=True, slots=True, kw_only=True)
class _Note:
    stamp: tuple[int, ...]
    moment_ns: int
    sha256: str


class StampMemory:
    """Hashes by path and stamp.

    Args:
        directory: made when first needed; where it cannot be written, nothing is remembered.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._folders: dict[str, dict[str, _Note]] = {}
        self._lock = threading.Lock()

    def recall(self, path: Path, stamp: Stamp) -> str | None:
        """The SHA-256 of a file, if it was noted with that stamp."""
        folder, name = os.path.split(path)
        note = self._notes(folder).get(name)
        same = note is not None and note.stamp == stamp.numbers and stamp.settled_at(note.moment_ns)
        return note.sha256 if note is not None and same else None

    def note(self, path: Path, stamp: Stamp, sha256: str, moment_ns: int) -> None:
        """Remember a hash that was made at that moment."""
        folder, name = os.path.split(path)
        note = _Note(stamp=stamp.numbers, moment_ns=moment_ns, sha256=sha256)
        notes, place = self._notes(folder), self._place(folder)
        notes[name] = note
        with contextlib.suppress(OSError):
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                with place.open("ab", buffering=0) as file:
                    file.write(_line(name, note))
            except PermissionError:  # another user's
                replace_file(place, b"".join(_line(*item) for item in notes.items()))

    def _notes(self, folder: str) -> dict[str, _Note]:
        with self._lock:
            known = self._folders.get(folder)
            if known is None:
                known = self._folders[folder] = self._read(folder)
            return known

    def _read(self, folder: str) -> dict[str, _Note]:
        place = self._place(folder)
        try:
            lines = place.read_bytes().splitlines()
        except OSError:
            return {}
        notes = dict(_parsed(lines))
        if len(lines) > 2 * len(notes) + _SPARE_LINES:
            with contextlib.suppress(OSError):
                replace_file(place, b"".join(_line(name, note) for name, note in notes.items()))
        return notes

    def _place(self, folder: str) -> Path:
        key = hashlib.sha256(os.fsencode(folder)).hexdigest()
        return self._directory / key[:2] / f"{key}.lines"


def stamp_of(state: os.stat_result) -> Stamp:
    """The stamp in what `stat` gives."""
    return Stamp(
        device=state.st_dev,
        inode=state.st_ino,
        size=state.st_size,
        mtime_ns=state.st_mtime_ns,
        ctime_ns=state.st_ctime_ns,
    )


def replace_file(path: Path, content: bytes) -> None:
    """Write a small file in one step: readers see the old bytes or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _line(name: str, note: _Note) -> bytes:
    """One note; it begins on a line of its own, whatever half a line a dead process left before it."""
    return b"\n" + json.dumps([name, *note.stamp, note.moment_ns, note.sha256]).encode() + b"\n"


def _parsed(lines: list[bytes]) -> Iterator[tuple[str, _Note]]:
    """The notes of whole lines; what is damaged is forgotten."""
    for line in filter(None, lines):
        with contextlib.suppress(ValueError, TypeError):
            name, *stamp, moment_ns, sha256 = json.loads(line)
            whole = isinstance(name, str) and all(isinstance(number, int) for number in (*stamp, moment_ns))
            if whole and len(bytes.fromhex(sha256)) == hashlib.sha256().digest_size:
                yield name, _Note(stamp=tuple(stamp), moment_ns=moment_ns, sha256=sha256)

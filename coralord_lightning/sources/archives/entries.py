"""What an archive's index says of one member, and the bytes of an archive's file at a place. Interprets none."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from coralord_lightning.sources.archives.limits import damaged
from coralord_lightning.sources.archives.streams import PIECE

__all__ = ["Bytes", "Entry", "settled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One member that is no folder.

    Args:
        path: plain, with `/`.
        size_bytes: unpacked; None where only unpacking tells.
        at: where it begins in the file.
        packed_bytes: how much of the file it takes.
        room: bytes up to what follows it (zip).
        method: how it is packed (zip).
        crc: of what is unpacked (zip).
        problem: why it must not be read; "" for a plain file.
    """

    path: str
    size_bytes: int | None
    at: int = 0
    packed_bytes: int = 0
    room: int = 0
    method: int = 0
    crc: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bytes:
    """An open file, read at places."""

    descriptor: int
    subject: str

    @property
    def size(self) -> int:
        return os.fstat(self.descriptor).st_size

    def read(self, at: int, count: int) -> bytes:
        """Exactly `count` bytes.

        Raises:
            SourceFormatError: the file ends before.
        """
        out = bytearray()
        while len(out) < count and (piece := os.pread(self.descriptor, min(PIECE, count - len(out)), at + len(out))):
            out += piece
        if len(out) < count:
            raise damaged(self.subject, "ends early", f"{self.size} bytes, and more are needed at {at}")
        return bytes(out)

    def chunks(self, at: int = 0, count: int | None = None) -> Iterator[bytes]:
        """A stretch of it, or all from `at`, in pieces."""
        stop = self.size if count is None else at + count
        while at < stop:
            piece = self.read(at, min(PIECE, stop - at))
            at += len(piece)
            yield piece


def settled(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Entries sorted by path; of several with one path one is left, which says so."""
    out: dict[str, Entry] = {}
    for entry in entries:
        known = out.get(entry.path)
        out[entry.path] = entry if known is None else replace(known, problem="stands in it more than once")
    return tuple(out[path] for path in sorted(out))

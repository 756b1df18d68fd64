"""Where large sources are cut into partitions: a function of their size or bytes alone, never of jobs, memory, machine.

Pure. The constants are a format: with others, large sources get other plans, and are built anew.

A Parquet file is cut by its size into *windows* of bytes, so that no footer is read while planning; a row group belongs
to the window in which its middle lies, as in Hadoop's input splits. JSON lines are cut into *slices* at line ends that
their own bytes decide, so that what is appended changes the last slice and what is edited changes its own.
"""

from __future__ import annotations

import hashlib
import itertools
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = [
    "CUTS",
    "SLICED_BYTES",
    "SLICE_BYTES",
    "SLICE_ROWS",
    "WINDOWED_BYTES",
    "WINDOW_BYTES",
    "LineSlicer",
    "Slice",
    "rows_in",
    "windows",
]

CUTS = 1
"""Version of all of this, of what is remembered of files."""
WINDOW_BYTES = 128 * 1024 * 1024
"""Of a Parquet file at least: a few of the row groups that writers make, and some seconds of work for a pipeline."""
WINDOWED_BYTES = 2 * WINDOW_BYTES
"""Parquet files above are cut."""
SLICE_BYTES = 32 * 1024 * 1024
"""Of JSON lines at least: text takes longer to read, and files that grow by lines are common."""
SLICED_BYTES = 2 * SLICE_BYTES
"""Files of JSON lines above are cut."""
SLICE_ROWS = 65_536
"""Of rows that stand in the Croissant file itself; more are cut."""

_SPACING_BYTES = 1024 * 1024
"""Of line ends at which a slice may end, on average, once it is long enough."""
_SLACK_BYTES = 8 * 1024 * 1024
"""So much longer it gets at most, a line aside."""
_LONGEST_LINE = 64 * 1024 * 1024
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A stretch of a source that is read on its own.

    Args:
        start, stop: bytes of JSON lines; rows, where they stand in the Croissant file.
        first_row: number of its first row in the source, from 0.
        sha256: of its bytes; of rows, of their canonical JSON.
    """

    start: int
    stop: int
    first_row: int
    sha256: str


def windows(size_bytes: int) -> tuple[tuple[int, int], ...]:
    """Windows [start, stop) of a Parquet file of that size, as long as one another; none if it is not large."""
    if size_bytes <= WINDOWED_BYTES:
        return ()
    count = size_bytes // WINDOW_BYTES
    bounds = [size_bytes * number // count for number in range(count + 1)]
    return tuple(itertools.pairwise(bounds))


def rows_in(window: tuple[int, int], groups: Iterable[tuple[int, int]], *, size_bytes: int) -> tuple[int, int]:
    """The rows [first, stop) of a window: those of the row groups whose middle byte lies in it.

    A group counts as no earlier than those before it, so that every window is one run of rows in file order and each
    row is in one window, whatever a footer says.

    Args:
        groups: (middle byte, number of rows) of all row groups, in file order.
    """
    row = latest = 0
    first: int | None = None
    stop = 0
    for middle, num_rows in groups:
        latest = max(latest, min(middle, size_bytes - 1))
        if window[0] <= latest < window[1]:
            first, stop = row if first is None else first, row + num_rows
        row += num_rows
    return (0, 0) if first is None else (first, stop)


@dataclass(slots=True, kw_only=True)
class LineSlicer:
    """Cuts JSON lines into slices while their bytes go by.

    A slice ends at the first line end, once it is long enough, whose line is one in so many by its checksum: where a
    line before has got longer or shorter, the cuts after it stay at their lines. Compressed files are not cut, nor
    those with a line longer than any reader takes.
    """

    slice_bytes: int = SLICE_BYTES
    spacing_bytes: int = _SPACING_BYTES
    slack_bytes: int = _SLACK_BYTES
    _slices: list[Slice] = field(default_factory=list)
    _digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    _start: int = 0
    _length: int = 0
    _first_row: int = 0
    _num_rows: int = 0
    _rest: bytearray = field(default_factory=bytearray)
    _given_up: bool = False

    def update(self, data: bytes) -> None:
        """The next bytes."""
        if self._given_up:
            return
        if self._start + self._length + len(self._rest) == 0 and data.startswith(_GZIP):
            self._give_up()
            return
        end = data.rfind(b"\n") + 1
        if end:
            self._take(bytes(self._rest) + data[:end])
            self._rest = bytearray(data[end:])
        else:
            self._rest += data
            if len(self._rest) > _LONGEST_LINE:
                self._give_up()

    def finish(self) -> tuple[Slice, ...]:
        """All slices; none where there would be one only."""
        if self._rest:
            self._take(bytes(self._rest))
        if self._length:
            self._cut()
        return () if self._given_up or len(self._slices) < 2 else tuple(self._slices)

    def _take(self, lines: bytes) -> None:
        """Whole lines."""
        at = 0
        while at < len(lines):
            stop = self._free(lines, at)
            if stop > at:
                self._add(lines[at:stop])
                at = stop
            while at < len(lines) and self._length >= self.slice_bytes:
                line = lines[at : _line_end(lines, at)]
                self._add(line)
                at += len(line)
                if self._ends_with(line):
                    self._cut()

    def _free(self, lines: bytes, at: int) -> int:
        """Up to which line end the slice is too short to end."""
        wanted = self.slice_bytes - self._length
        if wanted <= 0:
            return at
        return len(lines) if at + wanted > len(lines) else _line_end(lines, at + wanted - 1)

    def _ends_with(self, line: bytes) -> bool:
        drawn = zlib.crc32(line) * self.spacing_bytes < len(line) << 32
        return drawn or self._length >= self.slice_bytes + self.slack_bytes

    def _add(self, lines: bytes) -> None:
        self._digest.update(lines)
        self._length += len(lines)
        self._num_rows += _count_rows(lines)

    def _cut(self) -> None:
        stop = self._start + self._length
        sha256 = self._digest.hexdigest()
        self._slices.append(Slice(start=self._start, stop=stop, first_row=self._first_row, sha256=sha256))
        self._start, self._length = stop, 0
        self._first_row, self._num_rows = self._first_row + self._num_rows, 0
        self._digest = hashlib.sha256()

    def _give_up(self) -> None:
        self._given_up = True
        self._rest = bytearray()


def _line_end(lines: bytes, at: int) -> int:
    """Where the line ends that the byte at `at` is in."""
    return lines.find(b"\n", at) + 1 or len(lines)


def _count_rows(lines: bytes) -> int:
    """Lines that are rows: blank ones are none."""
    ends = lines.count(b"\n") - lines.endswith(b"\n")
    if lines.startswith(b"{") and lines.count(b"\n{") == ends:
        return ends + 1
    return sum(1 for line in lines.split(b"\n") if line.strip())

"""Owns advice to the system about pages of shards: what comes next, what is over. Advice: none of it fails a batch.

`shuffle="block"` reads the blocks of a window in any order, and then never again in this epoch: so the next window is
asked for while this one is read. Where a split is larger than half of the memory that this process may use, what is
behind is dropped, so that the page cache neither pushes other things out nor is counted against a container; and a full
shuffle reads no pages around a row that it asked for.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coralord_lightning.errors import CoralError
from coralord_lightning.stream.order import SplitOrder, Window, block_rows_for, lane_starts

if TYPE_CHECKING:
    import numpy.typing as npt

    from coralord_lightning.stream.chunks import Chunk
    from coralord_lightning.stream.order import Order
    from coralord_lightning.stream.permutation import Rows
    from coralord_lightning.stream.shards import ShardMaps

__all__ = ["Advice", "ReadAhead", "advised", "memory_bytes"]

_PIECE = 256 << 10  # Linux reads no more ahead at one call than the device takes at once
_RUN_BLOCKS = 16  # blocks of 4 MiB that are dropped together where the order is the stored one

Pieces = Iterable[tuple[int, int, int]]
"""(shard, first byte, byte after the last)."""


class ReadAhead:
    """Follows the positions that are read, and tells windows as they come and go.

    Args:
        lanes: for each lane its windows, in order.
        starts: the first position of each lane, and the one after the last.
        come: called with a window before it is read.
        go: called with a window that will not be read again; the one before the present one is kept, as batches of it
            may still be under way.
    """

    def __init__(
        self,
        lanes: Sequence[Iterator[Window]],
        starts: npt.NDArray[np.int64],
        *,
        come: Callable[[Window], None],
        go: Callable[[Window], None],
    ) -> None:
        self._lanes = lanes
        self._starts = starts
        self._come = come
        self._go = go
        self._known: list[list[Window]] = [[] for _ in lanes]  # before, present, next

    def follow(self, positions: Rows) -> None:
        """Tell what these positions, about to be read, mean for the windows of their lanes."""
        if not len(positions):
            return
        found = np.searchsorted(self._starts, positions, side="right") - 1
        for lane in np.unique(found).tolist():
            self._reach(lane, int(positions[found == lane].max()))

    def _reach(self, lane: int, position: int) -> None:
        known = self._known[lane]
        while not known or known[-1].start <= position:
            window = next(self._lanes[lane], None)
            if window is None:
                return
            if window.stop <= position:  # a resumed epoch begins in the middle
                known[:] = [window]
                continue
            self._come(window)
            known.append(window)
            while len(known) > 3:
                self._go(known.pop(0))


class Advice:
    """What the system is told about rows of some columns.

    Args:
        fields: the columns that are read.
    """

    def __init__(self, maps: ShardMaps, fields: Sequence[str]) -> None:
        self._maps = maps
        self._fields = fields
        self._random = set[int]()

    def will_need(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Ask for rows; returns before they are there."""
        for shard, start, stop in self._pieces(ranges):
            with _opened(self._maps.paths()[shard]) as fd:
                for first in range(start, stop, _PIECE):
                    if not _is_cached(fd, first):
                        _fadvise(fd, first, min(_PIECE, stop - first), "POSIX_FADV_WILLNEED")

    def drop(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Let pages of rows go: out of this process first, as the cache keeps what is mapped."""
        for shard, start, stop in self._pieces(ranges):
            first, end = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, stop // mmap.PAGESIZE * mmap.PAGESIZE
            if first < end:
                _madvise(self._maps.mapped(shard).buffer.address + first, end - first, "MADV_DONTNEED")
                with _opened(self._maps.paths()[shard]) as fd:
                    _fadvise(fd, first, end - first, "POSIX_FADV_DONTNEED")

    def at_random(self) -> None:
        """Ask for nothing around what is read, in every shard that is open by now."""
        for shard in self._maps.open_numbers():
            if shard not in self._random:
                self._random.add(shard)
                buffer = self._maps.mapped(shard).buffer
                _madvise(buffer.address, buffer.size, "MADV_RANDOM")

    def _pieces(self, ranges: Iterable[tuple[int, int]]) -> Pieces:
        """Where rows lie in their files; about, where values have different lengths."""
        offsets = np.asarray(self._maps.offsets)
        for begin, stop in ranges:
            first = begin
            shard = int(np.searchsorted(offsets, first, side="right")) - 1
            while first < stop:
                start, end = int(offsets[shard]), int(offsets[shard + 1])
                share = (first - start) / (end - start), (min(stop, end) - start) / (end - start)
                yield from ((shard, *piece) for piece in self._columns(shard, *share))
                first, shard = end, shard + 1

    def _columns(self, shard: int, start: float, stop: float) -> Iterator[tuple[int, int]]:
        with self._maps.lock:
            file, batch = self._maps.mapped(shard).buffer, self._maps.read(shard)
        for field in self._fields:
            for buffer in batch.column(field).buffers():
                if buffer is not None and buffer.size:
                    begin = buffer.address - file.address
                    yield begin + int(start * buffer.size), begin + int(np.ceil(stop * buffer.size))


def advised(
    chunks: Iterator[Chunk],
    *,
    maps: ShardMaps,
    fields: Sequence[str],
    order: Order,
    epoch: int,
    memory: int | None = None,
) -> Iterator[Chunk]:
    """The chunks of an epoch; when the next one is asked for, the system is told what having read this one means.

    Args:
        memory: bytes that this process may use; default: as the system says.
    """
    if not hasattr(os, "posix_fadvise") or not maps.num_rows or maps.plain_schema is not maps.schema:
        return chunks
    is_large = maps.size_bytes > (memory_bytes() if memory is None else memory) // 2
    follow = _follower(Advice(maps, fields), maps, order, epoch, is_large=is_large)
    return chunks if follow is None else _followed(chunks, follow)


def _followed(chunks: Iterator[Chunk], follow: Callable[[Rows], None]) -> Iterator[Chunk]:
    for chunk in chunks:
        yield chunk  # the first batch waits for no advice
        # What is wrong with a shard is told where a batch needs it.
        with suppress(CoralError):
            follow(chunk.positions)


def _follower(
    advice: Advice, maps: ShardMaps, order: Order, epoch: int, *, is_large: bool
) -> Callable[[Rows], None] | None:
    if not isinstance(order, SplitOrder) or order.shuffle == "full":
        return (lambda _: advice.at_random()) if is_large else None
    if order.shuffle == "block":
        starts = lane_starts(order.num_rows, order.lanes)
        lanes = [order.windows(epoch, lane) for lane in range(order.lanes)]
    elif is_large:  # the system itself reads ahead what is read in order
        starts, lanes = lane_starts(order.num_rows, 1), [_runs(maps)]
    else:
        return None

    def come(window: Window) -> None:
        if order.shuffle:
            advice.will_need(window.ranges)

    def go(window: Window) -> None:
        if is_large:
            advice.drop(window.ranges)

    return ReadAhead(lanes, starts, come=come, go=go).follow


def memory_bytes(root: Path = Path("/")) -> int:
    """How much memory this process may use: that of the machine, or of its container.

    Args:
        root: where the system's files are.
    """
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, kinds, path = line.split(":", 2)
        base, name = root / "sys/fs/cgroup", "memory.max"
        if kinds:
            base, name = base / "memory", "memory.limit_in_bytes"
        if kinds and "memory" not in kinds.split(","):
            continue
        inner = Path(path.lstrip("/"))  # within a container the group may be the root that is seen
        limits = (_text(base / folder / name).strip() for folder in (inner, *inner.parents, Path()))
        found += [int(limit) for limit in limits if limit.isdigit()]
    return min(found)


def _runs(maps: ShardMaps) -> Iterator[Window]:
    rows = block_rows_for(maps.num_rows, maps.size_bytes) * _RUN_BLOCKS
    bounds = [*range(0, maps.num_rows, rows), maps.num_rows]
    return (Window(start=start, stop=stop, ranges=((start, stop),)) for start, stop in pairwise(bounds))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


class _opened:  # noqa: N801  # used as a word
    """A file descriptor, or -1, which no advice minds."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> int:
        try:
            self._fd = os.open(self._path, os.O_RDONLY)
        except OSError:
            self._fd = -1
        return self._fd

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def _is_cached(fd: int, offset: int) -> bool:
    """Whether a byte can be had without the disk: it takes a hundredth of the time of asking for what is there."""
    try:
        os.preadv(fd, [bytearray(1)], offset, os.RWF_NOWAIT)
    except (OSError, AttributeError):
        return False
    return True


def _fadvise(fd: int, start: int, size_bytes: int, advice: str) -> None:
    try:
        os.posix_fadvise(fd, start, size_bytes, getattr(os, advice))
    except OSError:
        return  # a file system that takes none


def _madvise(address: int, size_bytes: int, advice: str) -> None:
    libc: Any = ctypes.CDLL(None)
    value = getattr(mmap, advice, None)
    if value is not None:
        libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(size_bytes), value)

"""Owns which row stands at which position of an epoch; pure arithmetic, never knows ranks or batches, or touches data.

`Order` is the contract; `SplitOrder` is the order of one split. `mixing` has those of several splits, and of weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from coralord_lightning.stream.permutation import Permutation, Rows

__all__ = [
    "BLOCK_BYTES",
    "ORDER_FORMAT",
    "WINDOW_BLOCKS",
    "Order",
    "Shuffle",
    "SplitOrder",
    "Window",
    "block_rows_for",
    "lane_starts",
]

Shuffle = Literal[False, "full", "block"]

ORDER_FORMAT = 2
"""Goes up when the same key would give another order; it is part of the key and of saved state."""

BLOCK_BYTES = 4 * 2**20
"""About so much lies in one block of `shuffle="block"`: enough that a disk reads it at its full rate."""

WINDOW_BLOCKS = 64
"""So many blocks, or up to twice as many, are mixed with each other by `shuffle="block"`."""


class Order(Protocol):
    """Rows by position: a plain function of values, the same on every machine."""

    @property
    def num_rows(self) -> int:
        """Positions in an epoch."""
        ...

    def at(self, epoch: int, positions: Rows) -> Rows:
        """The rows at these positions of an epoch.

        Args:
            positions: int64[n], each in [0, num_rows).
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Positions that `shuffle="block"` mixes with each other, and where their rows lie.

    Args:
        ranges: (first row, row after the last) of each block, in the order of the permuted blocks.
    """

    start: int
    stop: int
    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitOrder:
    """The canonical order of a split in every epoch: f(content digest, seed, epoch, lanes, block_rows), whoever reads.

    Args:
        shuffle: "full" permutes all rows anew in each epoch; "block" permutes blocks of neighbouring rows, and the rows
            of each window of blocks; False keeps them as they are stored.
        lanes: into so many equal runs of rows a split is cut, each with an order of its own. Position p counts through
            the first lane, then through the second, and so on.
        block_rows: rows in a block of "block".
    """

    num_rows: int
    content_digest: str
    seed: int = 0
    shuffle: Shuffle = "full"
    lanes: int = 1
    block_rows: int = 0

    def at(self, epoch: int, positions: Rows, *, repeat: int = 0) -> Rows:
        """The rows at these positions of an epoch; a `repeat` is a further permutation of the same epoch."""
        if not self.shuffle:
            return positions
        if self.lanes == 1:
            return self._lane_at(0, epoch, repeat, positions)
        starts = lane_starts(self.num_rows, self.lanes)
        lanes = np.searchsorted(starts, positions, side="right") - 1
        rows = np.empty_like(positions)
        for lane in np.unique(lanes):
            chosen = np.flatnonzero(lanes == lane)
            rows[chosen] = self._lane_at(int(lane), epoch, repeat, positions[chosen] - starts[lane]) + starts[lane]
        return rows

    def windows(self, epoch: int, lane: int = 0) -> Iterator[Window]:
        """The windows of a lane in the order of its positions, where `shuffle` is "block"; for reading ahead."""
        start = int(lane_starts(self.num_rows, self.lanes)[lane])
        return (
            Window(
                start=start + window.start,
                stop=start + window.stop,
                ranges=tuple((start + first, start + stop) for first, stop in window.ranges),
            )
            for window in self._blocks(lane, epoch, 0).windows()
        )

    def _lane_at(self, lane: int, epoch: int, repeat: int, positions: Rows) -> Rows:
        if self.shuffle == "block":
            return self._blocks(lane, epoch, repeat).at(positions)
        return Permutation.keyed(self._lane_rows(lane), self._key(lane, epoch, repeat)).at(positions)

    def _blocks(self, lane: int, epoch: int, repeat: int) -> _Blocks:
        key = f"{self._key(lane, epoch, repeat)}\n{self.block_rows}"
        return _Blocks.keyed(self._lane_rows(lane), self.block_rows, key)

    def _lane_rows(self, lane: int) -> int:
        each, rest = divmod(self.num_rows, self.lanes)
        return each + (lane < rest)

    def _key(self, lane: int, epoch: int, repeat: int) -> str:
        return (
            f"coralord order {ORDER_FORMAT}\n{self.content_digest}\n{self.seed}\n{epoch}\n{repeat}\n{lane}/{self.lanes}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Blocks:
    """The block shuffle of one lane: its rows in a circle, cut into blocks from a drawn row on.

    What is left over by the full blocks is another run of rows in each epoch, and comes in the last window.
    """

    num_rows: int
    block_rows: int
    turn: int
    order: Permutation
    key: str

    @classmethod
    def keyed(cls, num_rows: int, block_rows: int, key: str) -> _Blocks:
        turn = int(Permutation.keyed(max(num_rows, 1), f"{key}\nturn").at(np.zeros(1, np.int64))[0])
        order = Permutation.keyed(num_rows // block_rows, f"{key}\nblocks")
        return cls(num_rows=num_rows, block_rows=block_rows, turn=turn, order=order, key=key)

    @property
    def num_windows(self) -> int:
        return max(self.order.num_rows // WINDOW_BLOCKS, 1)

    def bounds(self, window: int) -> tuple[int, int]:
        """The positions of a window."""
        blocks, last = self.order.num_rows, self.num_windows - 1
        stop = self.num_rows if window == last else (window + 1) * blocks // self.num_windows * self.block_rows
        return window * blocks // self.num_windows * self.block_rows, stop

    def at(self, positions: Rows) -> Rows:
        rows = np.empty_like(positions)
        places = np.minimum(positions // self.block_rows, max(self.order.num_rows - 1, 0))
        windows = ((places + 1) * self.num_windows - 1) // max(self.order.num_rows, 1)
        for window in np.unique(windows):
            start, stop = self.bounds(int(window))
            chosen = windows == window
            mixed = Permutation.keyed(stop - start, f"{self.key}\nwindow {window}").at(positions[chosen] - start)
            rows[chosen] = self._rows(mixed + start)
        return rows

    def windows(self) -> Iterator[Window]:
        for window in range(self.num_windows if self.num_rows else 0):
            start, stop = self.bounds(window)
            firsts = np.arange(start, stop, self.block_rows, dtype=np.int64)
            runs = [(int(row), self.block_rows) for row in self._rows(firsts)]
            if stop == self.num_rows and self.num_rows % self.block_rows:
                runs[-1] = (runs[-1][0], self.num_rows % self.block_rows)
            yield Window(start=start, stop=stop, ranges=tuple(self._ranges(runs)))

    def _ranges(self, runs: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        for row, count in runs:
            yield row, min(row + count, self.num_rows)
            if row + count > self.num_rows:  # round the circle
                yield 0, row + count - self.num_rows

    def _rows(self, slots: Rows) -> Rows:
        """Where the permuted blocks lie: slot -> row, for slots of one window."""
        places = slots // self.block_rows
        # A window has few blocks and many rows: each block is looked up once.
        first, last = (int(places.min()), int(places.max())) if len(places) else (0, -1)
        blocks = np.arange(first, last + 1)
        moved = blocks.copy()  # what fills no block stays in the last place
        full = blocks < self.order.num_rows
        moved[full] = self.order.at(blocks[full])
        rows = slots + ((moved - blocks) * self.block_rows)[places - first]
        return (rows + self.turn) % self.num_rows


def lane_starts(num_rows: int, lanes: int) -> npt.NDArray[np.int64]:
    """The first row of each lane, and the row after the last: int64[lanes + 1]; the first lanes may have one more."""
    each, rest = divmod(num_rows, lanes)
    sizes = np.full(lanes, each, np.int64)
    sizes[:rest] += 1
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])


def block_rows_for(num_rows: int, size_bytes: int) -> int:
    """Rows in a block: the power of two that comes nearest to BLOCK_BYTES, so that the layout of shards hardly counts.

    Args:
        size_bytes: of all rows.
    """
    wanted = BLOCK_BYTES * max(num_rows, 1) / max(size_bytes, 1)
    return int(2 ** max(round(float(np.log2(wanted))), 0))

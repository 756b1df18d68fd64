"""Owns which positions of an epoch a rank takes in which step; pure arithmetic, never knows rows or an order.

An epoch is cut into global batches, and these into equal slices, one a rank. With lanes, a global batch takes as many
samples from each lane, the first lane's first: so a rank's slice, and with it a node's, lies in few lanes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from coralord_lightning.stream.order import lane_starts
from coralord_lightning.stream.permutation import Rows

__all__ = ["BatchLayout", "EpochLayout", "RankSteps", "Span", "merge_spans"]

Span = tuple[int, int]
"""Samples of an epoch, counted over all ranks, from the first on and before the second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankSteps:
    """What one rank takes in some steps.

    Args:
        positions: int64[n], those of all steps behind each other.
        sizes: of each step.
        is_padding: bool[n], which of them only fill a batch up.
    """

    positions: Rows
    sizes: tuple[int, ...]
    is_padding: npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class BatchLayout:
    """How any epoch is cut.

    The last global batch may be short. With `drop_last` it is left out; otherwise it is filled with rows from the
    start of the epoch until every rank has equally many, and those are marked as padding.

    Args:
        num_rows: positions in an epoch.
        global_batch: samples in one step over all ranks; a multiple of world_size and of lanes.
        lanes: runs of positions that each global batch takes equal parts of.
    """

    num_rows: int
    global_batch: int
    world_size: int = 1
    drop_last: bool = False
    lanes: int = 1

    @cached_property
    def whole(self) -> EpochLayout:
        """An epoch from its beginning, nothing skipped."""
        return EpochLayout(base=self)

    @property
    def num_batches(self) -> int:
        """Batches in a whole epoch, the same number for every rank."""
        return self.whole.num_batches

    @property
    def is_padded(self) -> bool:
        """Whether the last batch of a whole epoch must be filled up."""
        return self.whole.is_padded

    def spans(self, first: int, last: int) -> list[tuple[int, int, int]]:
        """Where steps of a run lie: (epoch, start, stop) in samples of that epoch.

        Args:
            first: step counted over all whole epochs; the steps before `last` are meant.
        """
        out = []
        for epoch in range(first // self.num_batches, -(-last // self.num_batches)):
            begin = max(first - epoch * self.num_batches, 0)
            end = min(last - epoch * self.num_batches, self.num_batches)
            out.append((epoch, begin * self.global_batch, min(end * self.global_batch, self.num_rows)))
        return out


@dataclass(frozen=True, kw_only=True)
class EpochLayout:
    """How one epoch is cut from a sample on, with some samples left out.

    Args:
        start: samples of the epoch that are over; a multiple of the lanes.
        skipped: spans to leave out, in order and disjoint; they begin and end at multiples of the lanes, or at the end.
    """

    base: BatchLayout
    start: int = 0
    skipped: tuple[Span, ...] = ()

    @cached_property
    def num_batches(self) -> int:
        """Batches from `start` on, the same number for every rank."""
        return self._full + (1 if self._tail_width and not self.base.drop_last else 0)

    @property
    def is_padded(self) -> bool:
        """Whether the last batch must be filled up."""
        if self.base.drop_last or not self._tail_width:
            return False
        return bool(self._longer) or self._tail_width * self.base.lanes % self.base.world_size != 0

    def end_of(self, step: int) -> int | None:
        """Samples of the epoch that are over after a step; None: all."""
        if step >= self.num_batches - 1:
            return None
        over = (step + 1) * self._share
        for begin, end in self._kept:
            if over <= end - begin:
                return (begin + over) * self.base.lanes
            over -= end - begin
        raise AssertionError(step)  # only the last batch may take more than the shortest lane has

    def take(self, first: int, last: int, rank: int) -> RankSteps:
        """What a rank takes in the steps from `first` on and before `last`; 0 <= first <= last <= num_batches."""
        full = range(first, min(last, self._full))
        slots = np.arange(self.base.global_batch // self.base.world_size if full else 0, dtype=np.int64)
        slots += rank * len(slots)
        steps = np.arange(full.start, max(full.stop, full.start), dtype=np.int64)[:, None]
        positions = self._position(slots // self._share, steps * self._share + slots % self._share).reshape(-1)
        padding = np.zeros(len(positions), np.bool_)
        sizes = [len(slots)] * len(steps)
        if last > max(self._full, first):
            tail, marks = self._tail(rank)
            positions, padding = np.concatenate([positions, tail]), np.concatenate([padding, marks])
            sizes.append(len(tail))
        return RankSteps(positions=positions, sizes=tuple(sizes), is_padding=padding)

    @property
    def _share(self) -> int:
        """Samples of one lane in a full global batch."""
        return self.base.global_batch // self.base.lanes

    @cached_property
    def _starts(self) -> npt.NDArray[np.int64]:
        return lane_starts(self.base.num_rows, self.base.lanes)

    @cached_property
    def _kept(self) -> tuple[Span, ...]:
        """What is left of the shortest lane, in samples of a lane, as (first, after the last)."""
        lanes, begin = self.base.lanes, self.start // self.base.lanes
        kept: list[Span] = []
        for start, stop in self.skipped:
            if start // lanes > begin:
                kept.append((begin, start // lanes))
            begin = max(begin, stop // lanes)
        return (*kept, (begin, max(self.base.num_rows // lanes, begin)))

    @cached_property
    def _longer(self) -> int:
        """The lanes, the first ones, that still have one sample more than the others."""
        ends_early = any(stop >= self.base.num_rows for _, stop in self.skipped) or self.start >= self.base.num_rows
        return 0 if ends_early else self.base.num_rows % self.base.lanes

    @cached_property
    def _each(self) -> int:
        """What is left of the shortest lane, in samples."""
        return sum(stop - start for start, stop in self._kept)

    @cached_property
    def _full(self) -> int:
        return self._each // self._share

    @cached_property
    def _tail_width(self) -> int:
        """Samples of the longest lane that fill no global batch."""
        return self._each % self._share + (1 if self._longer else 0)

    def _local(self, kept: Rows) -> Rows:
        """The sample of a lane that the so-manieth kept one is."""
        befores = np.cumsum([0, *(stop - start for start, stop in self._kept[:-1])])
        begins = np.array([start for start, _ in self._kept], np.int64)
        part = np.searchsorted(befores, kept, side="right") - 1 if len(begins) > 1 else 0
        local: Rows = kept - befores[part] + begins[part]
        return local

    def _position(self, lane: Rows, kept: Rows) -> Rows:
        positions: Rows = self._starts[lane] + self._local(kept)
        return positions

    def _tail(self, rank: int) -> tuple[Rows, npt.NDArray[np.bool_]]:
        width, lanes = self._tail_width, self.base.lanes
        # Where several ranks share a lane, each of its samples stays with them: a node opens no other lane's shards.
        sharing = max(self.base.world_size // lanes, 1) if self.base.world_size % lanes == 0 else 1
        wide = -(-width // sharing) * sharing
        count = -(-wide * lanes // self.base.world_size)
        slots = np.arange(rank * count, (rank + 1) * count, dtype=np.int64)
        lane, kept = np.minimum(slots // wide, lanes - 1), self._full * self._share + slots % wide
        left = self._each + (lane < self._longer)
        padding = (slots >= wide * lanes) | (kept >= left)
        positions = self._position(lane, np.maximum(np.minimum(kept, left - 1), 0))
        positions[padding] = self._filling(lane[padding])
        return positions, padding

    def _filling(self, lanes: Rows) -> Rows:
        """Positions that fill a batch up: from the start of the same lane, where it has any."""
        sizes, turns = np.diff(self._starts)[lanes], np.arange(len(lanes))
        filling: Rows = np.where(
            sizes > 0, self._starts[lanes] + turns % np.maximum(sizes, 1), turns % self.base.num_rows
        )
        return filling


def merge_spans(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Spans in order, those that touch made one."""
    merged: list[Span] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return tuple(merged)

"""Owns the orders that draw: from several splits by weight, and from one split by a column; pure, never reads a column.

A mixture is dealt out in blocks of 4,096 positions. How many of a block each source gets is exact over the whole epoch
(never more than one sample off its share; the largest source takes what rounding leaves, less than one sample for each
other source), and where in the block they stand is a keyed permutation: any position is computed alone, so a mixture
resumes like any other order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from coralord_lightning.errors import UsageError
from coralord_lightning.stream.order import ORDER_FORMAT, SplitOrder
from coralord_lightning.stream.permutation import Permutation, Rows

__all__ = ["MixedOrder", "Stopping", "WeightedOrder", "cumulate_weights", "epoch_of_mixture"]

Stopping = Literal["first", "all"]

_DEAL = 4096  # at least the square of the number of sources, so that the largest source's part never shrinks
MAX_SOURCES = 64


@dataclass(frozen=True, kw_only=True)
class MixedOrder:
    """Several splits in one sequence, each with its own order; a source that is exhausted starts a further permutation.

    Args:
        sources: their rows are numbered behind each other.
        weights: one a source, all above 0; their sum is 1.
        num_rows: positions in an epoch.
        key: of the dealing.
    """

    sources: tuple[SplitOrder, ...]
    weights: tuple[Fraction, ...]
    num_rows: int
    key: str

    def at(self, epoch: int, positions: Rows) -> Rows:
        """The rows at these positions of an epoch, in the numbers of all sources together."""
        rows = np.empty_like(positions)
        sources, turns = self.deal(epoch, positions)
        for number, order in enumerate(self.sources):
            chosen = np.flatnonzero(sources == number)
            repeats, places = np.divmod(turns[chosen], max(order.num_rows, 1))
            for repeat in np.unique(repeats):
                here = chosen[repeats == repeat]
                drawn = order.at(epoch, places[repeats == repeat], repeat=int(repeat))
                rows[here] = drawn + self._starts[number]
        return rows

    def source_of(self, rows: Rows) -> tuple[Rows, Rows]:
        """Which source each row is of, and its number there."""
        sources = np.searchsorted(self._starts, rows, side="right") - 1
        return sources, rows - self._starts[sources]

    def deal(self, epoch: int, positions: Rows) -> tuple[Rows, Rows]:
        """Which source each position is dealt to, and how many the source was dealt before it."""
        sources, turns = np.empty_like(positions), np.empty_like(positions)
        # What fills no block is dealt with the last one: in a shorter block the largest source's part could shrink.
        last = max(self.num_rows // _DEAL, 1) - 1
        blocks = np.minimum(positions // _DEAL, last)
        for block in np.unique(blocks).tolist():
            chosen = blocks == block
            before = _dealt(self.weights, block * _DEAL)
            size = _DEAL if block < last else self.num_rows - block * _DEAL
            after = _dealt(self.weights, block * _DEAL + size)
            ends = np.cumsum([stop - start for start, stop in zip(before, after, strict=True)])
            key = f"{self.key}\n{epoch}\nblock {block}"
            cards = Permutation.keyed(size, key).at(positions[chosen] - block * _DEAL)
            dealt_to = np.searchsorted(ends, cards, side="right")
            sources[chosen] = dealt_to
            turns[chosen] = cards - np.concatenate([[0], ends[:-1]])[dealt_to] + np.array(before)[dealt_to]
        return sources, turns

    @cached_property
    def _starts(self) -> npt.NDArray[np.int64]:
        return np.cumsum([0, *(order.num_rows for order in self.sources[:-1])], dtype=np.int64)


def epoch_of_mixture(num_rows: Sequence[int], weights: Sequence[Fraction], stopping: Stopping) -> int:
    """Positions in an epoch of a mixture.

    Args:
        num_rows: of each source.
        stopping: "first": the epoch ends before any source repeats a row; "all": when each row was seen.
    """
    sizes = [Fraction(rows) / weight for rows, weight in zip(num_rows, weights, strict=True)]
    if stopping == "first":
        count = int(min(sizes))
        while any(dealt > rows for dealt, rows in zip(_dealt(weights, count), num_rows, strict=True)):
            count -= 1
        return count
    count = int(max(sizes))
    while any(dealt < rows for dealt, rows in zip(_dealt(weights, count), num_rows, strict=True)):
        count += 1
    return count


def _dealt(weights: Sequence[Fraction], count: int) -> list[int]:
    """How many of the first `count` positions each source gets; never fewer as `count` grows by a block."""
    dealt = [int(weight * count) for weight in weights]
    largest = max(range(len(weights)), key=lambda number: (weights[number], -number))
    dealt[largest] += count - sum(dealt)
    return dealt


@dataclass(frozen=True, kw_only=True)
class WeightedOrder:
    """Rows drawn by weight, with replacement.

    Args:
        cumulated: float64[rows of the split], sums of the weights up to and with each row. It is all the memory an
            order takes: 8 bytes a row.
        num_rows: positions in an epoch: rows drawn.
    """

    cumulated: npt.NDArray[np.float64]
    num_rows: int
    content_digest: str
    seed: int

    def at(self, epoch: int, positions: Rows) -> Rows:
        """The rows at these positions of an epoch."""
        key = f"coralord weights {ORDER_FORMAT}\n{self.content_digest}\n{self.seed}\n{epoch}"
        point = _uniform(positions, key) * self.cumulated[-1]
        last = np.searchsorted(self.cumulated, self.cumulated[-1])  # a product may round up to the sum of all
        rows: Rows = np.minimum(np.searchsorted(self.cumulated, point, side="right"), last).astype(np.int64)
        return rows


def cumulate_weights(weights: npt.NDArray[np.float64], *, column: str) -> npt.NDArray[np.float64]:
    """Sum weights up, in place.

    Raises:
        UsageError: one is negative or no number, or none is above 0.
    """
    bad = np.flatnonzero(~((weights >= 0) & np.isfinite(weights)))
    if bad.size:
        raise UsageError(
            f"weights={column!r}",
            "has a row that cannot be drawn by its weight",
            facts={"got": f"{weights[bad[0]]} in row {bad[0]}", "expected": "a finite number, 0 or more"},
            remedy=f'where: "{column} >= 0"     # or mend the column in the pipeline',
        )
    np.cumsum(weights, out=weights)
    if not weights.size or not weights[-1] > 0 or not np.isfinite(weights[-1]):
        raise UsageError(
            f"weights={column!r}",
            "gives no row a weight above 0, or more than a float64 holds in all",
            remedy="name a column with weights above 0",
        )
    return weights


def _uniform(positions: Rows, key: str) -> npt.NDArray[np.float64]:
    """One number in [0, 1) for each position: the splitmix64 generator, seeked."""
    word = int.from_bytes(hashlib.shake_256(key.encode()).digest(8), "little")
    mixed = positions.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(word)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) * 2.0**-53

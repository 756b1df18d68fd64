"""Owns which row stands at which position of an epoch, and which rank reads it; pure arithmetic, never touches data.

An epoch is one keyed permutation of [0, num_rows), computed at any positions in O(1) memory: a generalised Feistel
network over Z_a x Z_b with a * b >= num_rows, and cycle walking for the few values beyond. Mixed radix stays flat for
every number of rows, where a power-of-two domain walks up to half its values.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = ["MAX_ROWS", "ORDER_FORMAT", "BatchLayout", "Order", "Permutation", "RankBatch", "Shuffle"]

Shuffle = Literal[False, "full"]
Rows = npt.NDArray[np.int64]
_Words = npt.NDArray[np.uint64]

ORDER_FORMAT = 1
"""Goes up when the same key would give another order; it is part of the key and of saved state."""

MAX_ROWS = 2**62
_ROUNDS = 8
_ROUNDS_SMALL, _SMALL = 24, 4096  # few rows need more rounds before pairs are flat, and cost nothing
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True, slots=True, kw_only=True)
class Permutation:
    """A keyed bijection of [0, num_rows) onto itself.

    Args:
        num_rows: 0 <= num_rows <= MAX_ROWS.
        keys: one 64-bit key a round.
    """

    num_rows: int
    keys: tuple[int, ...]

    @classmethod
    def keyed(cls, num_rows: int, key: str) -> Permutation:
        """The permutation that a text names."""
        rounds = _ROUNDS_SMALL if num_rows < _SMALL else _ROUNDS
        words = np.frombuffer(hashlib.shake_256(key.encode()).digest(8 * rounds), dtype="<u8")
        return cls(num_rows=num_rows, keys=tuple(int(word) for word in words))

    def at(self, positions: Rows) -> Rows:
        """The values at these positions.

        Args:
            positions: int64, any shape, each in [0, num_rows).
        """
        values = self._feistel(positions.astype(np.uint64))
        beyond = np.flatnonzero(values >= np.uint64(self.num_rows))
        while beyond.size:
            # Every cycle through the domain comes back to a value below num_rows, so this ends.
            values.flat[beyond] = self._feistel(values.flat[beyond])
            beyond = beyond[values.flat[beyond] >= np.uint64(self.num_rows)]
        return values.view(np.int64)

    def _feistel(self, values: _Words) -> _Words:
        rows = max(self.num_rows, 1)
        height = math.isqrt(rows - 1) + 1
        width = -(-rows // height)
        left = values // np.uint64(width)
        right = values - left * np.uint64(width)
        for number, key in enumerate(self.keys):
            if number % 2 == 0:
                left = _add_modulo(left, _draw(right, key, height), height)
            else:
                right = _add_modulo(right, _draw(left, key, width), width)
        return left * np.uint64(width) + right


def _draw(values: _Words, key: int, bound: int) -> _Words:
    """One number in [0, bound) for each value: the splitmix64 finaliser, scaled by its upper half (bound < 2**32)."""
    mixed = values * _GOLDEN
    mixed += np.uint64(key)
    mixed ^= mixed >> np.uint64(30)
    mixed *= _MIX_1
    mixed ^= mixed >> np.uint64(27)
    mixed *= _MIX_2
    mixed >>= np.uint64(32)
    mixed *= np.uint64(bound)
    mixed >>= np.uint64(32)
    return mixed


def _add_modulo(values: _Words, addend: _Words, bound: int) -> _Words:
    addend += values
    addend -= np.uint64(bound) * (addend >= np.uint64(bound))
    return addend


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The canonical order of a split in every epoch: f(content digest, seed, epoch), whoever reads it.

    Args:
        shuffle: "full" permutes all rows anew in each epoch; False keeps them as they are stored.
    """

    num_rows: int
    content_digest: str
    seed: int = 0
    shuffle: Shuffle = "full"

    def permutation(self, epoch: int) -> Permutation:
        """The permutation of one epoch."""
        key = f"coralord order {ORDER_FORMAT}\n{self.content_digest}\n{self.seed}\n{epoch}"
        return Permutation.keyed(self.num_rows, key)

    def at(self, epoch: int, positions: Rows) -> Rows:
        """The rows at these positions of an epoch; the shape is kept."""
        return self.permutation(epoch).at(positions) if self.shuffle else positions

    def rows(self, start: int, stop: int, *, epoch: int = 0) -> Rows:
        """The rows at positions start to stop of an epoch, 0 <= start <= stop <= num_rows."""
        return self.at(epoch, np.arange(start, stop, dtype=np.int64))

    def batch_rows(self, layout: BatchLayout, *, epoch: int, step: int, rank: int) -> RankBatch:
        """What one rank reads in one step of an epoch.

        Args:
            step: 0 <= step < layout.num_batches.
        """
        positions = layout.positions(step, rank)
        padding = positions >= self.num_rows if layout.is_padded else None
        return RankBatch(rows=self.at(epoch, positions % max(self.num_rows, 1)), is_padding=padding)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankBatch:
    """Rows of one batch, and which of them only fill it up (None: the epoch has no padding)."""

    rows: Rows
    is_padding: npt.NDArray[np.bool_] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLayout:
    """How an epoch is cut into global batches and these into equal slices, one a rank.

    The last global batch may be short. With `drop_last` it is left out; otherwise it is filled with rows from the
    start of the epoch until every rank has equally many, and those are marked as padding.

    Args:
        global_batch: rows in one step over all ranks; a multiple of world_size.
    """

    num_rows: int
    global_batch: int
    world_size: int = 1
    drop_last: bool = False

    @property
    def num_batches(self) -> int:
        """Batches in an epoch, the same number for every rank."""
        full, tail = divmod(self.num_rows, self.global_batch)
        return full + (1 if tail and not self.drop_last else 0)

    @property
    def is_padded(self) -> bool:
        """Whether the last batch must be filled up."""
        return not self.drop_last and self.num_rows % self.global_batch % self.world_size != 0

    def positions(self, step: int, rank: int) -> Rows:
        """The positions of a rank's slice; those from num_rows on are padding and wrap round.

        Returns:
            int64[rows of this rank in this step].
        """
        start = step * self.global_batch
        share = -(-min(self.global_batch, self.num_rows - start) // self.world_size)
        return np.arange(start + rank * share, start + (rank + 1) * share, dtype=np.int64)

"""Owns which shard a row stands in, for many rows at once; never opens one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["ShardIndex"]

Rows = npt.NDArray[np.int64]

_MOST_BUCKETS = 1 << 16  # a table of half a megabyte stays in the cache


class ShardIndex:
    """Finds shards by row number.

    Args:
        offsets: where each shard's rows begin, and where the last one's end; none is empty.
    """

    def __init__(self, offsets: Sequence[int]) -> None:
        self.offsets = np.asarray(offsets, dtype=np.int64)
        sizes = np.diff(self.offsets)
        self._equal = bool(len(sizes) and (sizes[:-1] == sizes[0]).all() and sizes[-1] <= sizes[0])
        self._size = int(sizes[0]) if len(sizes) else 1
        # In a bucket of 2**shift rows at most one shard ends, so that one comparison finds the shard.
        self._shift = int(sizes.min()).bit_length() - 1 if len(sizes) else 0
        buckets = (int(self.offsets[-1]) >> self._shift) + 1
        self._first: Rows | None = None
        if not self._equal and buckets <= _MOST_BUCKETS:
            self._first = self._of(np.arange(buckets, dtype=np.int64) << self._shift)

    def find(self, rows: Rows) -> Rows:
        """The shard of each row: int64[n], for rows within the offsets."""
        if self._equal:
            return rows // self._size
        if self._first is None:
            return self._of(rows)
        shards: Rows = self._first[rows >> self._shift]
        shards += rows >= self.offsets[shards + 1]
        return shards

    def _of(self, rows: Rows) -> Rows:
        shards: Rows = np.searchsorted(self.offsets, rows, side="right") - 1
        return shards

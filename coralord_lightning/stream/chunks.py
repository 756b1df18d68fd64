"""Owns which batches of an epoch are made at once, and which rows stand in them; never reads a row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from coralord_lightning.stream.layout import EpochLayout
    from coralord_lightning.stream.order import Order
    from coralord_lightning.stream.permutation import Rows

__all__ = ["Chunk", "chunks_of"]

_ROWS_AT_FIRST, _ROWS_AT_ONCE = 4096, 131072  # ordered in one go, so that small batches do not pay for numpy's calls


class Chunk(NamedTuple):
    """Some batches behind each other.

    Args:
        rows: int64[sum of sizes].
        sizes: rows in each batch.
        padding: bool[sum of sizes], which rows only fill a batch up.
        positions: int64[sum of sizes], where the rows stand in the epoch.
    """

    rows: Rows
    sizes: tuple[int, ...]
    padding: npt.NDArray[np.bool_]
    positions: Rows


def chunks_of(order: Order, layout: EpochLayout, *, epoch: int, rank: int, batches: int) -> Iterator[Chunk]:
    """What one rank reads in an epoch; few batches at first, so that the first comes soon.

    Args:
        batches: at most so many in a chunk.
    """
    batch_size = max(1, layout.base.global_batch // layout.base.world_size)
    first, ordered, gathered = 0, _ROWS_AT_FIRST, 1
    while first < layout.num_batches:
        last = min(first + max(1, ordered // batch_size), layout.num_batches)
        taken = layout.take(first, last, rank)
        rows, start, number = order.at(epoch, taken.positions), 0, 0
        while number < len(taken.sizes):
            sizes = taken.sizes[number : number + gathered]
            part = slice(start, start + sum(sizes))
            yield Chunk(rows[part], sizes, taken.is_padding[part], taken.positions[part])
            start, number, gathered = part.stop, number + gathered, min(4 * gathered, batches)
        first, ordered = last, _ROWS_AT_ONCE

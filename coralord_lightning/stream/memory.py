"""Owns the memory that batches are gathered into: a block is used again once nobody refers to it, never before.

New memory costs more than the copy into it: the kernel clears each page that is touched for the first time, and a large
block goes back to it as soon as it is freed. Who keeps a batch keeps its block; the next one gets another.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Memory"]

Block = npt.NDArray[np.uint8]

_MOST_BLOCKS = 8
_ALIGNED = 64


class Memory:
    """Blocks of bytes. Pickled or copied, it is empty."""

    def __init__(self) -> None:
        self._blocks: list[Block] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return Memory, ()

    def take(self, size_bytes: int) -> Block:
        """So many bytes of any content, uint8[size_bytes], aligned to 64, kept for as long as anything refers to them.

        Whatever is made of them without a copy counts: slices, tensors and what autograd keeps of these.
        """
        idle = [block for block in _idle(self._blocks) if _room(block) >= size_bytes]
        if idle:
            return _aligned(min(idle, key=len))[:size_bytes]
        block = np.empty(size_bytes + _ALIGNED, np.uint8)
        self._keep(block)
        return _aligned(block)[:size_bytes]

    def _keep(self, block: Block) -> None:
        """Look after a block, in the place of a smaller one that is idle, if there are many."""
        if len(self._blocks) >= _MOST_BLOCKS:
            idle = min(_idle(self._blocks), key=len, default=None)
            if idle is None:
                return  # whoever holds them all holds this one too; it is freed with its last batch
            self._blocks = [kept for kept in self._blocks if kept is not idle]
        self._blocks.append(block)


def _idle(blocks: list[Block]) -> list[Block]:
    return [block for block, count in zip(blocks, _references(blocks), strict=True) if count <= _UNUSED]


def _references(blocks: list[Block]) -> list[int]:
    return [sys.getrefcount(block) for block in blocks]


def _room(block: Block) -> int:
    return len(block) - _ALIGNED


def _aligned(block: Block) -> Block:
    return block[-block.ctypes.data % _ALIGNED :]


# What the counting itself holds, which differs between versions of Python. Without the global lock a count is no more
# than a guess: then no block is ever idle.
_UNUSED = _references([np.empty(0, np.uint8)])[0] if getattr(sys, "_is_gil_enabled", lambda: True)() else -1

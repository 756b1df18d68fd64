"""Memory of batches is used again only when nobody refers to it, however they do."""

from __future__ import annotations

import pickle  # noqa: TID251  # loaders are pickled, and their memory with them
import sys

import numpy as np
import pytest
import torch

from coralord_lightning.stream.memory import Memory

needs_counts = pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="without the global lock no block is used again"
)


def address(block: np.ndarray) -> int:
    return int(block.ctypes.data)


@needs_counts
def test_a_block_that_nobody_refers_to_is_used_again() -> None:
    memory = Memory()
    first = memory.take(1000)
    place = address(first)
    del first

    assert address(memory.take(900)) == place


@pytest.mark.parametrize(
    "hold",
    [
        lambda block: block,
        lambda block: block[10:20],
        lambda block: block.view(np.int32).reshape(25, 10)[3:4, 2:],
        torch.from_numpy,
        lambda block: torch.from_numpy(block[8:16]).view(torch.int64),
        lambda block: torch.from_numpy(block).numpy()[5:],
        memoryview,
        lambda block: torch.from_numpy(block).untyped_storage(),
    ],
)
def test_a_block_that_anything_refers_to_is_left_alone(hold: object) -> None:
    memory = Memory()
    block = memory.take(1000)
    block[:] = 7
    held = hold(block)  # type: ignore[operator]
    place = address(block)
    del block

    others = [memory.take(1000) for _ in range(20)]

    assert place not in [address(other) for other in others]
    assert len({address(other) for other in others}) == 20
    assert held is not None


def test_what_autograd_keeps_is_left_alone() -> None:
    memory = Memory()
    weight = torch.ones(4, requires_grad=True)
    block = memory.take(16)
    block.view(np.float32)[:] = 3
    loss = (weight * torch.from_numpy(block.view(np.float32))).sum()
    del block

    memory.take(16)[:] = 0
    loss.backward()

    assert weight.grad is not None
    assert weight.grad.tolist() == [3.0] * 4


@needs_counts
def test_few_blocks_are_kept_and_the_smallest_goes_first() -> None:
    memory = Memory()
    for size in range(1, 30):
        memory.take(size * 1000)
    assert len(memory._blocks) <= 8
    assert max(len(block) for block in memory._blocks) > 29_000


def test_blocks_are_aligned_and_a_pickle_holds_none() -> None:
    memory = Memory()
    kept = [memory.take(size) for size in (1, 7, 100, 100_000)]

    assert all(address(block) % 64 == 0 for block in kept)
    assert [len(block) for block in kept] == [1, 7, 100, 100_000]
    assert pickle.loads(pickle.dumps(memory))._blocks == []

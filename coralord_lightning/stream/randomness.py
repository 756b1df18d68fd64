"""Owns the random numbers that a user's function draws while it makes a batch; never draws any itself.

They depend on the loader's seed, the epoch, the batch and the rank alone: so a resumed run augments as the
uninterrupted one did, with any number of workers. Python's `random`, NumPy's global generator and torch's CPU generator
are seeded; a generator that the user made is the user's own.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = ["batch_seeds", "seeded"]


def batch_seeds(seed: int, *, epoch: int, rank: int, first: int) -> Iterator[int]:
    """What the global generators are seeded with for each batch of an epoch, 63 bits each.

    Args:
        first: number of the first batch within the epoch.
    """
    for batch in itertools.count(first):
        text = f"coralord transform\n{seed}\n{epoch}\n{rank}\n{batch}"
        yield int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the three global generators, and put them back as they were; some 80 µs.

    Of NumPy's, a second normal number that it holds ready from an earlier draw is dropped.
    """
    import torch

    python, torch_cpu = random.getstate(), torch.default_generator.get_state()
    legacy: Any = np.random  # NumPy's types leave these two out
    numpy = legacy.get_bit_generator()
    legacy.set_bit_generator(_ours())  # its state takes 0.3 ms to read and set
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)  # noqa: NPY002  # the global one is what users' functions draw from
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would also note a stack for each accelerator
    try:
        yield
    finally:
        random.setstate(python)
        legacy.set_bit_generator(numpy)
        torch.default_generator.set_state(torch_cpu)


@functools.cache
def _ours() -> np.random.MT19937:
    return np.random.MT19937(0)

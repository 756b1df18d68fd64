"""Owns what Lightning looks for on a loader: `sampler.set_epoch`, and whether the order is the stored one; no more."""

from __future__ import annotations

from collections.abc import Callable, Sized

from torch.utils.data import SequentialSampler

__all__ = ["ShuffledOrder", "StoredOrder"]


class ShuffledOrder:
    """The part of a shuffling sampler that Lightning, and users of DistributedSampler, call."""

    def __init__(self, set_epoch: Callable[[int], None]) -> None:
        self.set_epoch = set_epoch


class StoredOrder(SequentialSampler):
    """The same, of a kind that Lightning knows to be unshuffled."""

    def __init__(self, rows: Sized, set_epoch: Callable[[int], None]) -> None:
        super().__init__(rows)
        self.set_epoch = set_epoch

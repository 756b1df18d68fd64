"""Owns a split as torch's own kinds of dataset, for code that wants one; never keeps a position.

They cannot resume exactly, as the position of a DataLoader is nobody's: `data.loader` does that.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from coralord_lightning.stream.batches import as_rows
from coralord_lightning.stream.gather import Gatherer
from coralord_lightning.stream.loader import CoralLoader

if TYPE_CHECKING:
    from coralord_lightning.stream.feed import Feed
    from coralord_lightning.stream.options import LoaderOptions

__all__ = ["BatchView", "RowView"]


class RowView(Dataset[dict[str, Any]]):
    """Rows by number, each a dict of field -> value without the batch dimension; any DataLoader can read it.

    Lists of different lengths are tensors of their own lengths, as with `collate="rows"`. A DataLoader that asks for a
    whole batch (`__getitems__`) gets it with one gather. It can be pickled: a worker process maps the shards anew.

    Raises:
        BatchError: a field has no form in a batch, or has nulls.
        ShardMissingError: a shard is gone or damaged.
    """

    def __init__(self, feed: Feed) -> None:
        self._num_rows = feed.maps.num_rows
        self._gatherer = Gatherer(feed.maps, fields=feed.fields, split=feed.split, collate="rows")

    def __len__(self) -> int:
        return self._num_rows

    def __getitem__(self, row: int) -> dict[str, Any]:
        """One row; a negative number counts from the end.

        Raises:
            IndexError: there is no such row.
        """
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Several rows with one gather; torch's DataLoader calls it.

        Raises:
            IndexError: there is no such row.
        """
        numbers = [self._number(row) for row in rows]
        return as_rows(self._gatherer.gather(np.array(numbers, np.int64)))

    def _number(self, row: int) -> int:
        number = operator.index(row)
        if not -self._num_rows <= number < self._num_rows:
            raise IndexError(f"row {number} of {self._num_rows}")
        return number % self._num_rows


class BatchView(IterableDataset[Any]):
    """Batches of a loader, for `DataLoader(view, batch_size=None, num_workers=N)`.

    Worker w of W gives the batches w, w + W, …: torch takes them in turn, which is the loader's own order, each batch
    once. Every iteration is the epoch that `set_epoch` named last, 0 before; with `persistent_workers=True` the workers
    do not hear of it.
    """

    def __init__(self, feed: Feed, options: LoaderOptions) -> None:
        self._loader = CoralLoader(feed, replace(options, num_workers=0))
        self._epoch = 0

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self._loader)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next iteration is."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        loader = copy(self._loader)  # a position of its own
        loader.set_epoch(self._epoch)
        return loader.every(step, first)

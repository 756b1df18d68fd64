"""Owns the copy from memory maps into fresh tensors, vectorised over a whole batch; never decides which rows.

No tensor handed out aliases a map: writing to one would end the process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from coralord_lightning.errors import UnknownFieldError, nearest
from coralord_lightning.stream.columns import ColumnView, ListColumn, require_batchable, view_column

if TYPE_CHECKING:
    import torch

    from coralord_lightning.stream.shards import ShardMaps

__all__ = ["Batch", "Gatherer", "require_fields"]

Rows = npt.NDArray[np.int64]
Batch = Mapping[str, Any]
"""field name -> tensor[batch, *shape], list[str] or list[bytes]."""


class _Run(NamedTuple):
    """Rows of one shard within a batch."""

    shard: int
    rows: Rows  # in the shard
    places: Rows | slice  # in the batch


class Gatherer:
    """Collects rows of one split.

    Args:
        fields: which columns, in the order of the batch.
        split: for messages.
        pin_memory: allocate page-locked memory.
    Raises:
        BatchError: a field can be neither tensor nor list: ragged lists, decimals, structs.
    """

    def __init__(self, maps: ShardMaps, *, fields: Sequence[str], split: str, pin_memory: bool = False) -> None:
        for field in fields:
            require_batchable(maps.schema.field(field).type, field=field)
        self._maps = maps
        self._fields = tuple(fields)
        self._split = split
        self._pin_memory = pin_memory
        self._views: dict[int, dict[str, ColumnView]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_views": {}}

    def gather(self, rows: Rows) -> dict[str, Any]:
        """Collect rows from memory-mapped shards into fresh tensors, in the order of `rows`.

        Args:
            rows: int64[batch], global row numbers in [0, num_rows), at least one; repeats allowed.
        Returns:
            field name -> tensor[batch, *field.shape], dtype of the field; list[str] for text, list[bytes] for binary.
        Raises:
            ShardMissingError: a shard named in the manifest is gone or damaged.
            BatchError: a tensor field has nulls.
        """
        runs = self._runs(rows)
        return {field: self._column(field, runs, len(rows)) for field in self._fields}

    def _runs(self, rows: Rows) -> list[_Run]:
        offsets = np.asarray(self._maps.offsets, dtype=np.int64)
        if len(self._maps) == 1:
            return [_Run(0, rows, slice(0, len(rows)))]
        shards = np.searchsorted(offsets, rows, side="right") - 1
        places = np.argsort(shards, kind="stable")
        found, starts = np.unique(shards[places], return_index=True)
        ends = [*starts[1:], len(rows)]
        in_order = bool(np.all(places[:-1] < places[1:]))
        return [
            _Run(
                int(shard),
                rows[places[start:end]] - offsets[shard],
                slice(int(start), int(end)) if in_order else places[start:end],
            )
            for shard, start, end in zip(found, starts, ends, strict=True)
        ]

    def _column(self, field: str, runs: Sequence[_Run], num_rows: int) -> Any:
        first = self._view(runs[0].shard, field)
        if isinstance(first, ListColumn):
            return self._listed(field, runs, num_rows)
        tensor = self._empty((num_rows, *first.shape), first.dtype)
        out = tensor.numpy()
        for run in runs:
            view = self._view(run.shard, field)
            if isinstance(view, ListColumn):
                raise AssertionError(field)
            start, count = int(run.rows[0]), len(run.rows)
            if isinstance(run.places, slice):
                part = out[run.places]
                if run.rows[-1] - start == count - 1 and bool(np.all(np.diff(run.rows) == 1)):
                    view.slice(start, start + count, part)
                else:
                    view.take(run.rows, part)
            else:
                part = np.empty((count, *view.shape), view.dtype)
                view.take(run.rows, part)
                out[run.places] = part
        return tensor

    def _listed(self, field: str, runs: Sequence[_Run], num_rows: int) -> list[Any]:
        values: list[Any] = [None] * num_rows
        for run in runs:
            view = self._view(run.shard, field)
            if not isinstance(view, ListColumn):
                raise AssertionError(field)
            places = range(run.places.start, run.places.stop) if isinstance(run.places, slice) else run.places
            for place, value in zip(places, view.take(run.rows), strict=True):
                values[place] = value
        return values

    def _view(self, shard: int, field: str) -> ColumnView:
        views = self._views.setdefault(shard, {})
        if field not in views:
            views[field] = view_column(self._maps.batch(shard).column(field), field=field, split=self._split)
        return views[field]

    def _empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> torch.Tensor:
        import torch

        if not self._pin_memory:
            return torch.from_numpy(np.empty(shape, dtype))
        return torch.empty(shape, dtype=getattr(torch, dtype.name), pin_memory=True)


def require_fields(names: Sequence[str], known: Sequence[str], *, subject: str) -> None:
    """Refuse a name that is no field.

    Raises:
        UnknownFieldError: with the nearest field's name.
    """
    for name in names:
        if name not in known:
            near = nearest(name, known)
            raise UnknownFieldError(
                subject,
                f"unknown field '{name}'",
                facts={"fields": ", ".join(known)},
                remedy=f"write '{near}' for '{name}'" if near else "name one of these fields",
            )

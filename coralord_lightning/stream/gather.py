"""Owns the copy from memory maps into fresh batches, vectorised over several of them; never decides which rows.

No tensor handed out aliases a map: writing to one would end the process. Tensors of different batches share no torch
storage, so that saving one saves no other, and a change of one in place is no change of another to autograd. They may
share the memory block that was allocated for all of them: it is freed with the last of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from coralord_lightning.errors import BatchError, UnknownFieldError, UsageError, nearest
from coralord_lightning.stream.columns import Node, Plan
from coralord_lightning.stream.objects import gather_objects
from coralord_lightning.stream.places import PlaceTable, Spot
from coralord_lightning.stream.ragged import Collate, extra_names, gather_ragged, require_choice

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from coralord_lightning.stream.shards import ShardMaps

__all__ = ["CHUNK_BYTES", "Batch", "Gatherer", "fields_of", "require_fields"]

Rows = npt.NDArray[np.int64]
Batch = Mapping[str, Any]
"""field name -> tensor[batch, *shape], or a list of Python objects."""

CHUNK_BYTES = 32 << 20
"""How much to gather at once where batches are smaller. Torch's threads fall asleep between two calls, and waking them
takes as long as copying a megabyte."""

_LISTED_BYTES = 64  # a guess at one value that is no tensor


class Gatherer:
    """Collects rows of one split.

    Args:
        fields: which columns, in the order of the batch.
        split: for messages.
        pin_memory: allocate page-locked memory.
        collate: the form of lists of different lengths: "pad", "offsets", or "rows": a list of tensors.
    Raises:
        BatchError: a field has no form in a batch, has lists of different lengths and `collate` does not say which
            form they take, or a field beside it has a name that is taken.
        UsageError: `collate` is none of these.
    """

    def __init__(
        self,
        maps: ShardMaps,
        *,
        fields: Sequence[str],
        split: str,
        pin_memory: bool = False,
        collate: Collate | None = None,
    ) -> None:
        _require_collate(collate)
        for field in fields:
            maps.require_alike(field)
        self._plan = Plan({field: maps.plain_schema.field(field).type for field in fields})
        for field, node in self._plan.roots.items():
            require_choice(field, node, collate)
        self.names = _names(self._plan.roots, collate)
        self._collate = collate
        self._pin_memory = pin_memory
        self._maps = maps
        self._table = PlaceTable(maps, self._plan, split=split)

    @property
    def row_bytes(self) -> int:
        """About how many bytes a row has in a batch, at least 1."""
        dense, is_exact = 0, True
        for node in self._plan.roots.values():
            if node.is_tensor:
                dense += node.dtype.itemsize * int(np.prod(node.shape, dtype=np.int64))
            else:
                dense, is_exact = dense + _LISTED_BYTES, False
        if is_exact or not self._maps.num_rows:
            return max(dense, 1)
        return max(dense, self._maps.size_bytes // self._maps.num_rows)

    def gather(self, rows: Rows) -> dict[str, Any]:
        """Collect rows from memory-mapped shards into fresh tensors, in the order of `rows`.

        Args:
            rows: int64[batch], global row numbers in [0, num_rows); repeats allowed.
        Returns:
            field name -> tensor[batch, *field.shape], dtype of the field; list[str] for text, list[bytes] for binary;
            other types as `docs/batches.md` says.
        Raises:
            ShardMissingError: a shard named in the manifest is gone or damaged.
            BatchError: a tensor field has nulls.
            IndexError: a row number is none of this split's.
        """
        return self.gather_many(rows, [len(rows)])[0]

    def gather_many(self, rows: Rows, sizes: Sequence[int]) -> list[dict[str, Any]]:
        """Collect several batches with one vectorised copy a column; about `CHUNK_BYTES` at once is fastest.

        Args:
            rows: int64[sum of sizes], the rows of all batches, one behind the other.
            sizes: rows in each batch.
        Returns:
            what `gather` returns, for each batch.
        Raises:
            ShardMissingError, BatchError, IndexError: as `gather`.
        """
        rows = np.ascontiguousarray(rows, dtype=np.int64)
        ends = np.cumsum([0, *sizes]).tolist()
        if ends[-1] != len(rows):
            raise ValueError(f"{len(rows)} rows are no batches of {ends[-1]} rows")
        with self._maps.lock:
            return self._gathered(rows, list(pairwise(ends)))

    def _gathered(self, rows: Rows, bounds: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
        spot = self._table.require(rows)
        batches: list[dict[str, Any]] = [{} for _ in bounds]
        for field, node in self._plan.roots.items():
            if node.is_tensor:
                for batch, tensor in zip(batches, self._dense(node, spot, bounds), strict=True):
                    batch[field] = tensor
            else:
                for batch, part in zip(batches, self._listed(field, node, spot, bounds), strict=True):
                    batch.update(part)
        return batches

    def _dense(self, node: Node, spot: Spot, bounds: Sequence[tuple[int, int]]) -> list[torch.Tensor]:
        if self._pin_memory and node.form == "numbers":
            return [self._pinned(node, spot, start, end) for start, end in bounds]
        values = self._table.tensor(node, spot)
        return self._tensors([values[start:end] for start, end in bounds])

    def _listed(
        self, field: str, node: Node, spot: Spot, bounds: Sequence[tuple[int, int]]
    ) -> Iterable[dict[str, Any]]:
        if not node.depth:
            objects = gather_objects(self._table, node, spot)
            return ({field: objects[start:end]} for start, end in bounds)
        if self._collate is None:
            raise AssertionError(field)  # require_choice came first
        parts = gather_ragged(self._table, node, spot, field=field, bounds=bounds, collate=self._collate)
        return (dict(zip(part, self._tensors(list(part.values())), strict=True)) for part in parts)

    def _tensors(self, arrays: Sequence[Any]) -> list[Any]:
        """Arrays, or lists of them, as tensors; from_numpy on each gives it a storage, which a slice of one has not."""
        import torch

        made = [self._tensors(array) if isinstance(array, list) else torch.from_numpy(array) for array in arrays]
        if not self._pin_memory:
            return made
        return [tensor if isinstance(tensor, list) else tensor.pin_memory() for tensor in made]

    def _pinned(self, node: Node, spot: Spot, start: int, end: int) -> torch.Tensor:
        """A batch in page-locked memory of its own: only so does CUDA know when a copy from it is done."""
        import torch

        count = end - start
        unit = getattr(torch, {1: "uint8", 2: "int16", 4: "int32", 8: "int64"}[node.unit])
        out = torch.empty((count, node.width), dtype=unit, pin_memory=True, device="cpu")
        if node.width:
            self._table.numbers(node, spot.part(start, end), out=out)
        return out.view(getattr(torch, node.dtype.name)).view(count, *node.shape)


def _require_collate(collate: object) -> None:
    if collate not in (None, "pad", "offsets", "rows"):
        raise UsageError(
            "collate",
            "has a value that is none of its choices",
            facts={"got": repr(collate), "choices": "None, 'pad', 'offsets', 'rows'"},
            remedy='collate="pad"',
        )


def _names(roots: Mapping[str, Node], collate: Collate | None) -> tuple[str, ...]:
    """What a batch's fields are called, those beside ragged ones included."""
    names = list[str]()
    for field, node in roots.items():
        extra = extra_names(field, node.depth, collate) if collate is not None and node.depth else ()
        names += [field, *extra]
    clash = next((name for name in names if names.count(name) > 1), None)
    if clash is not None:
        raise BatchError(
            clash,
            f'is a field of the dataset, and collate="{collate}" needs that name for the lists beside it',
            facts={"fields": ", ".join(roots)},
            remedy=f"leave '{clash}' out: batch_as=[…]; or call the field something else",
        )
    return tuple(names)


def fields_of(names: Sequence[str], schema: pa.Schema, collate: Collate | None = None) -> list[str]:
    """Which fields to gather for a batch to have these names: `x` for `x_lengths`; unknown names are left out."""
    plan = Plan({name: schema.field(name).type for name in schema.names if _is_asked(name, names)})
    made = {
        extra: field
        for field, node in plan.roots.items()
        if collate is not None and node.depth
        for extra in extra_names(field, node.depth, collate)
    }
    wanted = (name if name in schema.names else made.get(name) for name in names)
    return list(dict.fromkeys(name for name in wanted if name is not None))


def _is_asked(field: str, names: Sequence[str]) -> bool:
    """Whether one of the names may come of a field; so that no other field's type matters."""
    return any(name == field or name.startswith(f"{field}_") for name in names)


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

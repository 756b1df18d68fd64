"""Owns where the values of each mapped shard lie, and their copy by row number; never decides the form of a batch.

This is where memory is read that nothing guards (see `window.py`), so this is where every number is checked first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from coralord_lightning.errors import BatchError, ShardMissingError
from coralord_lightning.stream.columns import (
    DATA,
    LENGTH,
    NULLS,
    SIZE,
    VALID,
    VALUES,
    Node,
    Plan,
    find_strict_null,
    read_places,
)
from coralord_lightning.stream.locate import ShardIndex
from coralord_lightning.stream.memory import Memory
from coralord_lightning.stream.window import FIRST, copy_bits, copy_items, copy_run, dtype_of

if TYPE_CHECKING:
    import torch

    from coralord_lightning.stream.shards import ShardMaps

__all__ = ["PlaceTable", "Run", "Spot"]

Rows = npt.NDArray[np.int64]
Values = npt.NDArray[Any]

_CHECKED_AT_ONCE = 64  # files whose size is looked at before a copy, some 3 µs each
_LEAST_RUN = 16  # rows side by side, on average, that are copied as one piece


class Run(NamedTuple):
    """Rows side by side in one shard."""

    shard: int
    row: int
    num_rows: int
    place: int  # in the batch


class Spot(NamedTuple):
    """Where elements stand: rows of the split, or elements of a level of lists within their shards.

    Args:
        at: int64[n], row numbers, or numbers of elements in their shard.
        shards: int64[n]; 0 where there is only one.
        runs: the same as few pieces, if they are few.
    """

    at: Rows
    shards: Rows | int
    runs: Sequence[Run] | None = None

    def part(self, start: int, end: int) -> Spot:
        """Some of these ones."""
        return Spot(self.at[start:end], self.shards if isinstance(self.shards, int) else self.shards[start:end])

    def inside(self, at: Rows, times: Rows | int) -> Spot:
        """Elements within these ones: so many (each) of them."""
        return Spot(at, self.shards if isinstance(self.shards, int) else np.repeat(self.shards, times))


class PlaceTable:
    """Places of a plan's nodes in all shards, filled in as shards are mapped.

    Args:
        split: for messages.
    """

    def __init__(self, maps: ShardMaps, plan: Plan, *, split: str) -> None:
        self._maps = maps
        self._plan = plan
        self._split = split
        self._index = ShardIndex(maps.offsets)
        self._known: dict[bytes, tuple[int, Rows]] = {}
        self._cursor = 0
        self._memory = Memory()
        self._clear()

    def __getstate__(self) -> dict[str, Any]:
        # Addresses and maps are this process's own.
        return {name: value for name, value in self.__dict__.items() if name not in ("_table", "_is_open", "_known")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._known = {}
        self._clear()

    def _clear(self) -> None:
        self._table = np.zeros((self._plan.num_slots, max(len(self._maps), 1)), dtype=np.int64)
        self._is_open = np.zeros(len(self._maps), dtype=np.bool_)

    def require(self, rows: Rows) -> Spot:
        """Check rows, and map and check the shards they stand in.

        Raises:
            IndexError: a row number is none of this split's.
            ShardMissingError: a shard is gone, cut or damaged.
            BatchError: a tensor field has nulls in one of them.
        """
        # As unsigned numbers, negative ones are too large.
        if len(rows) and int(rows.view(np.uint64).max()) >= self._maps.num_rows:
            raise IndexError(f"rows are numbered from 0 to {self._maps.num_rows - 1}")
        if len(self._maps) <= 1:
            touched, shards = np.zeros(min(len(rows), 1), dtype=np.int64), np.zeros(0, dtype=np.int64)
        else:
            shards = self._index.find(rows)
            flags = np.zeros(len(self._maps), dtype=np.bool_)
            flags[shards] = True
            touched = np.flatnonzero(flags)
        self._check(touched)
        for number in touched[~self._is_open[touched]].tolist():
            self._open(number)
        one = len(self._maps) <= 1
        return Spot(rows, 0 if one else shards, self._runs(rows, None if one else shards))

    def _check(self, touched: Rows) -> None:
        numbers = touched[self._is_open[touched]]
        if len(numbers) > _CHECKED_AT_ONCE:
            numbers = numbers[(self._cursor + np.arange(_CHECKED_AT_ONCE)) % len(numbers)]
            self._cursor = (self._cursor + _CHECKED_AT_ONCE) % (1 << 31)
        self._maps.check(numbers.tolist())

    def _open(self, number: int) -> None:
        mapped, num_rows = self._maps.mapped(number), self._maps.offsets[number + 1] - self._maps.offsets[number]
        # Equal heads mean equal places, and a file's size is known to be right; so one shard is read for many.
        key = mapped.head + mapped.buffer.size.to_bytes(8, "little")
        rows, places = self._known.get(key, (-1, None))
        if places is None or rows != num_rows:
            batch = self._maps.read(number)
            try:
                places = read_places(self._plan, batch, mapped.buffer)
            except (ValueError, TypeError) as error:
                raise self._maps.damaged(number, error) from error
            self._require_no_nulls(places)
            if mapped.head:
                self._known[key] = (num_rows, places)
        start = mapped.buffer.address - FIRST
        self._table[:, number] = self._plan.rebased(places, start=start, first_row=self._maps.offsets[number])
        self._is_open[number] = True

    def _require_no_nulls(self, places: Rows) -> None:
        found = find_strict_null(self._plan, places)
        if found is None:
            return
        field, node, nulls = found
        root = self._plan.roots[field]
        fills = f'fields: {{{field}: {{nulls: fill, fill: 0}}}}     # or mask, or `where: "{field} is not null"`'
        raise BatchError(
            field,
            f"has nulls in split '{self._split}', and a tensor has no place for them",
            facts={"got": f"{nulls} nulls or more"} | ({"level": node.kind} if node is not root else {}),
            remedy=fills if root.is_tensor else f'where: "{field} is not null"     # or fill the nulls in the pipeline',
        )

    def _runs(self, rows: Rows, shards: Rows | None) -> Sequence[Run] | None:
        """The rows as pieces that lie side by side, unless they are many."""
        if len(rows) < _LEAST_RUN:
            return None
        breaks = rows[1:] - rows[:-1] != 1
        if shards is not None:
            breaks |= shards[1:] != shards[:-1]
        if np.count_nonzero(breaks) > len(rows) // _LEAST_RUN:
            return None
        starts = [0, *(np.flatnonzero(breaks) + 1).tolist()]
        ends = [*starts[1:], len(rows)]
        return [
            Run(0 if shards is None else int(shards[start]), int(rows[start]), end - start, start)
            for start, end in zip(starts, ends, strict=True)
        ]

    def known(self, node: Node, slot: int, spot: Spot) -> Any:
        """A number of a node in the shards of a spot: int64[n], or one for all."""
        return self._table[node.slot + slot][spot.shards]

    def numbers(self, node: Node, spot: Spot, *, out: torch.Tensor | None = None) -> Values:
        """Values of fixed width.

        Args:
            out: integers of `unit` bytes, [n, width], to copy into.
        Returns:
            [n, width] of integers of `unit` bytes, in fresh memory.
        """
        if spot.runs is None:
            places = spot.at * node.width if node.width != 1 else spot.at
            return copy_items(places + self.known(node, VALUES, spot), unit=node.unit, width=node.width, out=out)
        values = np.empty((len(spot.at), node.width), dtype_of(node.unit)) if out is None else out.numpy()
        flat = values.reshape(-1)
        for run in spot.runs:
            place = run.row * node.width + int(self._table[node.slot + VALUES, run.shard])
            part = flat[run.place * node.width : (run.place + run.num_rows) * node.width]
            copy_run(place, len(part), unit=node.unit, out=part)
        return values

    def tensor(self, node: Node, spot: Spot) -> Values:
        """Numbers or bits as they are in a batch: [n, *shape]."""
        num, shape = len(spot.at), node.shape
        if node.form == "bits":
            places = (spot.at * node.width + self.known(node, VALUES, spot))[:, None]
            return copy_bits(places + np.arange(node.width, dtype=np.int64)).reshape(num, *shape)
        if not node.width:
            return np.empty((num, *shape), node.dtype)
        return self.numbers(node, spot, out=self._fresh(node, num)).reshape(-1).view(node.dtype).reshape(num, *shape)

    def _fresh(self, node: Node, num: int) -> torch.Tensor:
        import torch

        block = self._memory.take(num * node.width * node.unit)
        return torch.from_numpy(block.view(dtype_of(node.unit)).reshape(num, node.width))

    def spans(self, node: Node, spot: Spot) -> tuple[Rows, Rows]:
        """Where the elements of lists, or the bytes of texts, begin and end, within their shard.

        Raises:
            ShardMissingError: they would lie outside of it.
        """
        places = spot.at + self.known(node, VALUES, spot)
        pairs = copy_items(places, unit=4, width=2).astype(np.int64)
        starts, ends = np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])
        # Read before they are checked, used only after: they decide which memory is read next.
        wrong = (starts < 0) | (ends < starts) | (ends > self.known(node, SIZE, spot))
        if wrong.any():
            raise self.damaged(spot, int(np.flatnonzero(wrong)[0]), "offsets of a list or text point outside of it")
        return starts, ends

    def text_starts(self, node: Node, spot: Spot) -> Any:
        """Where the bytes of each one's shard begin in the window: int64[n], or one for all."""
        return self.known(node, DATA, spot)

    def valid(self, node: Node, spot: Spot) -> npt.NDArray[np.bool_] | None:
        """Which elements are no nulls: bool[n]; None where there is none in these shards."""
        has_nulls = np.broadcast_to(np.asarray(self.known(node, NULLS, spot) > 0), (len(spot.at),))
        if not has_nulls.any():
            return None
        places = spot.at + self.known(node, VALID, spot)
        valid = np.ones(len(spot.at), dtype=np.bool_)
        valid[has_nulls] = copy_bits(places[has_nulls])  # a shard without nulls has no bits to look at
        return valid

    def lengths(self, node: Node) -> Rows:
        """Elements of a node in each shard: int64[shards]."""
        lengths: Rows = self._table[node.slot + LENGTH]
        return lengths

    def damaged(self, spot: Spot, number: int, got: object) -> ShardMissingError:
        """The error for the shard of one element."""
        return self._maps.damaged(spot.shards if isinstance(spot.shards, int) else int(spot.shards[number]), got)

"""Owns what, besides the rows, makes the sequence of a run: a recipe of plain values; pure, never touches data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from coralord_lightning.stream.layout import BatchLayout, EpochLayout, Span, merge_spans
from coralord_lightning.stream.mixing import MixedOrder, WeightedOrder
from coralord_lightning.stream.order import ORDER_FORMAT, Order, Shuffle, SplitOrder

__all__ = ["Recipe", "SourceFacts", "content_digest_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFacts:
    """One split that a run reads: what its order depends on.

    Args:
        name: of the source in a mixture; None outside of one.
        weight: in a mixture, as a fraction of all: "7/10".
    """

    fingerprint: str
    content_digest: str
    num_rows: int
    split: str
    name: str | None = None
    weight: str | None = None

    def to_json(self) -> dict[str, Any]:
        """In plain values."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SourceFacts:
        """Raises KeyError, TypeError or ValueError where it is none."""
        if int(value["num_rows"]) < 0 or (value["weight"] is not None and Fraction(value["weight"]) <= 0):
            raise ValueError(f"{value['split']} has {value['num_rows']} rows and weight {value['weight']}")
        return cls(
            fingerprint=str(value["fingerprint"]),
            content_digest=str(value["content_digest"]),
            num_rows=int(value["num_rows"]),
            split=str(value["split"]),
            name=value["name"],
            weight=value["weight"],
        )


def content_digest_of(sources: Sequence[SourceFacts]) -> str:
    """What stands for the values of all sources: a split's own digest, or one of those of a mixture and its weights."""
    if len(sources) == 1 and sources[0].weight is None:
        return sources[0].content_digest
    text = "\n".join(f"{source.content_digest} {source.split} {source.weight}" for source in sources)
    return hashlib.sha256(f"coralord mixture\n{text}".encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How rows become a sequence of global batches; the same recipe over the same rows is the same sequence.

    Args:
        num_rows: positions in an epoch.
        block_rows: 0 where nothing is shuffled in blocks.
        skip: (epoch, start, stop) in samples of that epoch, over all ranks.
        limit: batches after which an epoch is left, as with `limit_train_batches`.
        weights: the column that rows are drawn by.
    """

    num_rows: int
    seed: int
    shuffle: Shuffle
    global_batch: int
    lanes: int = 1
    block_rows: int = 0
    drop_last: bool = False
    skip: tuple[tuple[int, int, int], ...] = ()
    limit: int | None = None
    weights: str | None = None

    def order(self, sources: Sequence[SourceFacts], cumulated: npt.NDArray[np.float64] | None = None) -> Order:
        """The order of any epoch.

        Args:
            cumulated: sums of the weights, where rows are drawn by weight.
        """
        if cumulated is not None:
            digest = content_digest_of(sources)
            return WeightedOrder(cumulated=cumulated, num_rows=self.num_rows, content_digest=digest, seed=self.seed)
        orders = tuple(self._split_order(source) for source in sources)
        if sources[0].weight is None:
            return orders[0]
        return MixedOrder(
            sources=orders,
            weights=tuple(Fraction(source.weight or 0) for source in sources),
            num_rows=self.num_rows,
            key=f"coralord mixture {ORDER_FORMAT}\n{content_digest_of(sources)}\n{self.seed}",
        )

    def _split_order(self, source: SourceFacts) -> SplitOrder:
        return SplitOrder(
            num_rows=source.num_rows,
            content_digest=source.content_digest,
            seed=self.seed,
            shuffle=self.shuffle,
            lanes=self.lanes,
            block_rows=self.block_rows,
        )

    def layout(self, world_size: int = 1) -> BatchLayout:
        """How any epoch is cut into batches."""
        return BatchLayout(
            num_rows=self.num_rows,
            global_batch=self.global_batch,
            world_size=world_size,
            drop_last=self.drop_last,
            lanes=self.lanes,
        )

    def epoch(self, base: BatchLayout, epoch: int, start: int) -> EpochLayout:
        """How one epoch is cut from a sample on."""
        return EpochLayout(base=base, start=start, skipped=self.skipped(epoch))

    def skipped(self, epoch: int) -> tuple[Span, ...]:
        """The samples of an epoch that are left out."""
        return merge_spans([(start, stop) for number, start, stop in self.skip if number == epoch])

    def to_json(self) -> dict[str, Any]:
        """In plain values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return values | {"skip": [list(span) for span in self.skip]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Recipe:
        """Raises KeyError, TypeError or ValueError where it is none."""
        shuffle: dict[Any, Shuffle] = {False: False, "full": "full", "block": "block"}
        least = {"num_rows": 0, "global_batch": 1, "lanes": 1, "block_rows": 1 if value["shuffle"] == "block" else 0}
        for name, bound in least.items():
            if int(value[name]) < bound:
                raise ValueError(f"{name} is {value[name]}")
        return cls(
            num_rows=int(value["num_rows"]),
            seed=int(value["seed"]),
            shuffle=shuffle[value["shuffle"]],
            global_batch=int(value["global_batch"]),
            lanes=int(value["lanes"]),
            block_rows=int(value["block_rows"]),
            drop_last=bool(value["drop_last"]),
            skip=tuple((int(epoch), int(start), int(stop)) for epoch, start, stop in value["skip"]),
            limit=None if value["limit"] is None else int(value["limit"]),
            weights=value["weights"],
        )

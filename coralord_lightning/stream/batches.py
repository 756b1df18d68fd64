"""Owns what is done to rows until they are the batch that a user gets; picklable, never decides which rows."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from coralord_lightning.errors import BatchError, UsageError
from coralord_lightning.stream.gather import Gatherer, fields_of, require_fields
from coralord_lightning.stream.prefetch import one_ahead
from coralord_lightning.stream.randomness import seeded

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from coralord_lightning.stream.chunks import Chunk
    from coralord_lightning.stream.feed import Feed
    from coralord_lightning.stream.permutation import Rows

__all__ = ["PADDING", "BatchMaker", "Collate", "Transform", "as_rows", "batch_maker"]

Transform = Callable[[Any], Any]
Collate = Literal["pad", "offsets", "rows"] | Callable[[list[dict[str, Any]]], Any]

PADDING = "is_padding"
"""The field that marks wrapped rows, bool[batch], in every batch of a padded epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchMaker:
    """Gathers rows, and finishes batches with what the user gave.

    Args:
        marked: whether batches say which of their rows are padding.
        collate: called with a batch as a list of rows, each a dict of values without the batch dimension.
    """

    gatherer: Gatherer
    marked: bool
    batch_as: tuple[str, ...] | None
    transform: Transform | None
    collate: Callable[[list[dict[str, Any]]], Any] | None

    def gather(self, rows: Rows, sizes: Sequence[int], padding: npt.NDArray[np.bool_]) -> list[dict[str, Any]]:
        """Several batches as they are stored; rows and padding of all of them behind each other."""
        batches = self.gatherer.gather_many(rows, sizes)
        if self.marked:
            import torch

            start = 0
            for batch, size in zip(batches, sizes, strict=True):
                batch[PADDING] = torch.from_numpy(padding[start : start + size].copy())
                start += size
        return batches

    def batches(self, chunks: Iterable[Chunk], seeds: Iterator[int], *, ahead: bool = False) -> Generator[Any]:
        """What the user gets of each batch, in this process.

        Args:
            ahead: gather the next chunk in a thread while this one is used; the user's functions are called here.
        """
        gathered = (self.gather(chunk.rows, chunk.sizes, chunk.padding) for chunk in chunks)
        with closing(one_ahead(gathered)) if ahead else nullcontext(gathered) as made:
            for batches in made:
                if self.transform is None and self.collate is None:
                    yield from batches if self.batch_as is None else map(self._finish, batches)
                else:
                    for batch in batches:
                        yield self.finish(batch, next(seeds))

    def finish(self, batch: dict[str, Any], seed: int) -> Any:
        """What the user gets of one batch: collated, transformed, as a tuple.

        Args:
            seed: of what the user's functions draw; the generators that they draw from are put back.
        """
        if self.transform is None and self.collate is None:
            return self._finish(batch)
        with seeded(seed):
            return self._finish(batch)

    def _finish(self, batch: dict[str, Any]) -> Any:
        done: Any = batch if self.collate is None else self.collate(as_rows(batch))
        if self.transform is not None:
            done = self.transform(done)
        if self.batch_as is None:
            return done
        if not isinstance(done, Mapping):
            name = "collate" if self.transform is None else "transform"
            raise BatchError(
                name,
                "must return a dict where batch_as is given",
                facts={"got": type(done).__name__},
                remedy=f"return a dict from the {name}, or leave batch_as out",
            )
        require_fields(self.batch_as, list(done), subject="batch_as")
        return tuple(done[name] for name in self.batch_as)


def batch_maker(
    feed: Feed,
    *,
    marked: bool,
    batch_as: Sequence[str] | None,
    transform: Transform | None,
    collate: Collate | None,
    pin_memory: bool,
) -> BatchMaker:
    """Make the maker of a feed's batches.

    Raises:
        UnknownFieldError: `batch_as` names no field.
        UsageError: a field has the name that padding needs, or `collate` is nothing that collates.
        BatchError: a field has no form in a batch.
    """
    if marked and PADDING in feed.fields:
        raise UsageError(
            PADDING,
            "is a field of the dataset, and this epoch needs that name for the rows that fill the last batch",
            remedy="drop_last=True, or call the field something else",
        )
    form: Any = "rows" if callable(collate) else collate
    needed: Sequence[str] = feed.fields
    if batch_as is not None and transform is None and not callable(collate):
        needed = fields_of(batch_as, feed.maps.schema, form)
    gatherer = Gatherer(feed.maps, fields=needed, split=feed.split, pin_memory=pin_memory, collate=form)
    if batch_as is not None and transform is None and not callable(collate):
        require_fields(batch_as, [*gatherer.names, *feed.fields, PADDING], subject="batch_as")
    return BatchMaker(
        gatherer=gatherer,
        marked=marked,
        batch_as=None if batch_as is None else tuple(batch_as),
        transform=transform,
        collate=collate if callable(collate) else None,
    )


def as_rows(batch: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A batch row by row, each a dict of values without the batch dimension."""
    return [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]

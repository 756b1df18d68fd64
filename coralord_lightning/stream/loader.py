"""Owns batches in order, and the position in them that a resumed run starts at; never resolves or builds a version."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from coralord_lightning.errors import CoralWarning, UsageError
from coralord_lightning.stream.batches import PADDING, batch_maker
from coralord_lightning.stream.chunks import chunks_of
from coralord_lightning.stream.gather import CHUNK_BYTES
from coralord_lightning.stream.options import LoaderOptions, recipe_of, require_epochs, require_int, skip_what_is_new
from coralord_lightning.stream.randomness import batch_seeds
from coralord_lightning.stream.readahead import advised
from coralord_lightning.stream.state import Chapter, LoaderState, Position
from coralord_lightning.stream.workers import Workers, require_sendable

if TYPE_CHECKING:
    from coralord_lightning.stream.chunks import Chunk
    from coralord_lightning.stream.feed import Feed
    from coralord_lightning.stream.layout import BatchLayout, EpochLayout
    from coralord_lightning.stream.order import Order
    from coralord_lightning.stream.recipe import Recipe
    from coralord_lightning.stream.sampler import ShuffledOrder, StoredOrder

__all__ = ["CoralLoader", "require_batches"]

_AHEAD_BYTES = 4 << 20
"""Batches from this size on are gathered in a thread; smaller ones come sooner without one."""


class CoralLoader:
    """Batches of a feed, in the order that (content digest, seed, epoch) gives, for one rank.

    Iterating yields one epoch; the next iteration yields the next one. `sampler.set_epoch(e)` says which comes next;
    `state_dict()` says where it stands, the same for every rank, and `load_state_dict()` goes on exactly there.

    Raises:
        UsageError: the options mean nothing for these rows.
        UnknownFieldError: a name in them is no field.
        BatchError: a field has no form in a batch.
    """

    batch_sampler: None = None
    """Lightning asks for it wherever there is a `sampler`."""

    def __init__(self, feed: Feed, options: LoaderOptions) -> None:
        options.require_valid()
        self.options = options
        self.feed = feed
        recipe = recipe_of(feed, options)
        self._cumulated = None if options.weights is None else feed.cumulate(options.weights)
        self._state = LoaderState(sources=feed.sources, chapters=(Chapter(since=Position(), recipe=recipe),))
        self._follow(recipe)
        pin_memory = options.pin_memory and _accelerated()
        self._maker = batch_maker(
            feed,
            marked=self.layout.is_padded or PADDING in (options.batch_as or ()),
            batch_as=options.batch_as,
            transform=options.transform,
            collate=options.collate,
            pin_memory=pin_memory and not options.num_workers,
        )
        self._workers = Workers(options.num_workers, pin_memory=pin_memory)
        if options.num_workers:
            require_sendable(transform=options.transform, collate=options.collate)
        self._position = Position()
        self._begun = False
        self._handed_out: tuple[Position, EpochLayout, int] | None = None

    @property
    def fingerprint(self) -> str:
        """Of what is read."""
        return " + ".join(source.fingerprint for source in self.feed.sources)

    @property
    def sampler(self) -> ShuffledOrder | StoredOrder:
        """What Lightning and DistributedSampler's users call `set_epoch` on."""
        from coralord_lightning.stream.sampler import ShuffledOrder, StoredOrder

        if self.recipe.shuffle:
            return ShuffledOrder(self.set_epoch)
        return StoredOrder(range(self.order.num_rows), self.set_epoch)

    @property
    def recipe(self) -> Recipe:
        """What makes the sequence that is read, besides the rows."""
        return self._state.recipe

    @property
    def position(self) -> Position:
        """Where the run stands: the next sample of which epoch."""
        self._settle()
        return self._position

    def __len__(self) -> int:
        """Batches in the epoch that the run stands in, the same on every rank; those that are over count too."""
        return self.position.batches + self._layout(self._position).num_batches

    def __iter__(self) -> Iterator[Any]:
        # A generator: nothing happens before the first `next`, so that a mere `iter()` starts no epoch.
        return self._epoch()

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next; a loaded position within that same epoch is kept.

        Raises:
            UsageError: it is no number, or below 0.
        """
        require_int("epoch", epoch, 0)
        self._settle()
        if not self._begun and self._position.batches and epoch != self._position.epoch:
            warnings.warn(_left(self._position, epoch), CoralWarning, stacklevel=2)
        if self._begun or epoch != self._position.epoch:
            self._jump(Position(epoch=epoch, step=self._position.step))

    def limit_batches(self, batches: int | None) -> None:
        """Say that whoever iterates leaves each epoch after so many batches, so that the state tells the next epoch."""
        if batches is not None and batches >= max(self.layout.num_batches, len(self)):
            batches = None
        self._state = replace(self._state, position=self.position).go_on(replace(self.recipe, limit=batches))
        self._leave_what_is_over()

    def state_dict(self) -> dict[str, Any]:
        """Where the run stands, in plain values that hold for any rank."""
        return replace(self._state, position=self.position).to_json()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another loader stood.

        Raises:
            DataVersionMismatchError: it read other data.
            UsageError: it stood inside an epoch of another order or other global batches, or what both skip leaves
                nothing of an epoch.
        """
        saved = LoaderState.from_json(state)
        rebatch = self.options.resume_batch == "rebatch"
        mine = self._state.go_on(skip_what_is_new(self.recipe, self.options.skip or (), saved.recipe))
        resumed = saved.resumed_by(mine, world_size=self.options.world_size, rebatch=rebatch)
        require_epochs(resumed.recipe, since=resumed.position)
        self._state, self._position, self._begun, self._handed_out = resumed, resumed.position, False, None
        self._follow(resumed.recipe)
        self._leave_what_is_over()
        # The rest of an epoch, or one with skipped samples, may need padding where a whole one does not.
        uneven = [self.recipe.epoch(self.layout, epoch, 0) for epoch, _, _ in self.recipe.skip]
        if any(layout.is_padded for layout in (self._layout(self._position), *uneven)):
            self._maker = replace(self._maker, marked=True)

    def _leave_what_is_over(self) -> None:
        """An epoch that has no batch left is followed by the next one."""
        left = self._layout(self._position).num_batches
        if self._is_over(self._position) or (self._position.batches and not left):
            self._position, self._begun = self._position.next_epoch(), False

    def _follow(self, recipe: Recipe) -> None:
        self.order: Order = recipe.order(self.feed.sources, self._cumulated)
        self.layout: BatchLayout = recipe.layout(self.options.world_size)

    def _layout(self, position: Position) -> EpochLayout:
        return self.recipe.epoch(self.layout, position.epoch, position.global_samples)

    def _is_over(self, position: Position) -> bool:
        return self.recipe.limit is not None and position.batches >= self.recipe.limit

    def _jump(self, position: Position) -> None:
        """Go to another epoch than the sequence comes to; `state_dict` keeps that it was so."""
        self._state = replace(self._state, position=self._position).jump(position)
        self._position, self._begun = position, False

    def _epoch(self) -> Iterator[Any]:
        self._settle()
        if self._begun:  # the last one was left early
            self._jump(self._position.next_epoch())
        start = self._position
        layout = self._layout(start)
        self.feed.maps.check()
        with closing(self._batches(start, layout)) as batches:
            for step, batch in enumerate(batches, 1):
                # Counted when handed out, never when computed ahead; what that means is worked out when asked for.
                self._handed_out = start, layout, step
                yield batch

    def _settle(self) -> None:
        """Stand after the batches that were handed out; a finished epoch is the next one's beginning."""
        if self._handed_out is None:
            return
        start, layout, step = self._handed_out
        self._handed_out = None
        over = layout.end_of(step - 1)
        self._position = Position(
            epoch=start.epoch, global_samples=over or 0, batches=start.batches + step, step=start.step + step
        )
        self._begun = over is not None and not self._is_over(self._position)
        if not self._begun:
            self._position = self._position.next_epoch()

    def every(self, step: int, first: int) -> Generator[Any]:
        """Each so-manieth batch of the epoch from one on, for one of several readers; the position stays."""
        start = self.position
        chunks = self._chunks(start, self._layout(start), batches=1)
        return self._maker.batches(islice(chunks, first, None, step), islice(self._seeds(start), first, None, step))

    def _batches(self, start: Position, layout: EpochLayout) -> Generator[Any]:
        """The rest of an epoch, finished; more of it may be under way than is handed out."""
        if self._workers.count:
            return self._workers.batches(self._maker, self._chunks(start, layout, batches=1), self._seeds(start))
        batch_bytes = self._maker.gatherer.row_bytes * self.options.batch_size
        at_once = max(1, CHUNK_BYTES // batch_bytes)
        maps, chunks = self.feed.maps, self._chunks(start, layout, batches=at_once)
        fields = [name for name in self._maker.gatherer.names if name in self.feed.fields]
        chunks = advised(chunks, maps=maps, fields=fields, order=self.order, epoch=start.epoch)
        return self._maker.batches(chunks, self._seeds(start), ahead=batch_bytes >= _AHEAD_BYTES)

    def _chunks(self, start: Position, layout: EpochLayout, *, batches: int) -> Iterator[Chunk]:
        return chunks_of(self.order, layout, epoch=start.epoch, rank=self.options.rank, batches=batches)

    def _seeds(self, start: Position) -> Iterator[int]:
        return batch_seeds(self.recipe.seed, epoch=start.epoch, rank=self.options.rank, first=start.batches)


def _left(position: Position, epoch: int) -> str:
    return (
        f"the loaded position is batch {position.batches} of epoch {position.epoch}, and epoch {epoch} comes next: the "
        f"rest of that epoch is not read"
    )


def require_batches(loader: CoralLoader, split: str) -> None:
    """Refuse to train on nothing: rows that `drop_last` leaves out to the last one.

    Raises:
        UsageError: the split has rows, and no batch.
    """
    layout = loader.layout
    if layout.num_rows and not layout.num_batches:
        raise UsageError(
            "drop_last",
            f"leaves no batch of split '{split}'",
            facts={"rows": layout.num_rows, "global batch": layout.global_batch},
            remedy=f"drop_last=False, or batch_size={max(layout.num_rows // layout.world_size, 1)} or less",
        )


def _accelerated() -> bool:
    import torch

    if torch.cuda.is_available():
        return True
    warnings.warn("pin_memory=True has no effect without a CUDA device", CoralWarning, stacklevel=4)
    return False

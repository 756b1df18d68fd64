"""Owns how a split is handed out: what a loader's options may be, and the recipe that they make of rows. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from coralord_lightning.errors import UsageError
from coralord_lightning.stream.order import Shuffle, block_rows_for
from coralord_lightning.stream.recipe import Recipe

if TYPE_CHECKING:
    from coralord_lightning.stream.batches import Collate, Transform
    from coralord_lightning.stream.feed import Feed
    from coralord_lightning.stream.state import Position

__all__ = ["LoaderOptions", "recipe_of", "require_epochs", "require_int", "skip_what_is_new"]

_SHUFFLES: dict[Any, Shuffle] = {False: False, True: "full", "full": "full", "block": "block"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderOptions:
    """How a split is handed out.

    Args:
        batch_size: rows in a batch of one rank.
        shuffle: False keeps the stored order; True or "full" permutes all rows in each epoch; "block" permutes blocks
            of about 4 MiB and mixes the rows of 64 to 127 blocks with each other: for data larger than memory.
        seed: of everything that is drawn.
        drop_last: leave out the rows that fill no global batch.
        batch_as: names; batches are tuples in that order instead of dicts. "is_padding" may be among them.
        transform: called with each batch, a dict, before `batch_as`. What it draws from the global generators of
            Python, NumPy and torch depends on (seed, epoch, batch, rank) alone, with any number of workers; the
            generators of this process are put back afterwards.
        collate: the form of lists of different lengths, "pad" | "offsets" | "rows"; or called with each batch as a list
            of rows, as torch's `collate_fn`.
        pin_memory: page-locked tensors, where there is an accelerator.
        num_workers: processes that make the batches; worth it where `transform` or a `collate` function is slow, which
            must be a function of a module then. 0: they run here; a thread gathers large
            batches ahead.
        lanes: runs of rows that each global batch takes equal parts of, so that a node reads only some of them.
        skip: (start, stop) of steps to leave out, counted over the whole run from 0.
        resume_batch: "rebatch": a saved run may go on inside an epoch with global batches of another size.
        weights: a column; rows are drawn by it, with replacement.
        epoch_size: rows drawn in an epoch, with `weights` or a mixture.
    """

    batch_size: int
    shuffle: bool | str = False
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    drop_last: bool = False
    batch_as: Sequence[str] | None = None
    transform: Transform | None = None
    collate: Collate | None = None
    pin_memory: bool = False
    num_workers: int = 0
    lanes: int = 1
    skip: Sequence[Sequence[int]] | None = None
    resume_batch: Literal["rebatch"] | None = None
    weights: str | None = None
    epoch_size: int | None = None

    def require_valid(self) -> None:
        """Refuse what no loader can mean.

        Raises:
            UsageError: a number is out of range or of another kind, or two options exclude each other.
        """
        for name, least in {"batch_size": 1, "world_size": 1, "rank": 0, "num_workers": 0, "lanes": 1}.items():
            require_int(name, getattr(self, name), least)
        require_int("seed", self.seed, None)
        if self.epoch_size is not None:
            require_int("epoch_size", self.epoch_size, 1)
        if self.rank >= self.world_size:
            raise _usage("rank", f"{self.rank} of {self.world_size}", f"rank=0 … rank={self.world_size - 1}")
        for name, is_fit, remedy in self._choices():
            if not is_fit:
                raise _usage(name, repr(getattr(self, name)), remedy)
        if self.weights is not None and not self.shuffle:
            raise _usage("weights", "shuffle=False", "shuffle=True     # weights draw rows")
        _require_spans(self.skip or ())
        self._require_lanes()

    def _choices(self) -> Iterator[tuple[str, bool, str]]:
        """Option, whether it is of its kind, and what to write."""
        names = [self.batch_as] if isinstance(self.batch_as, str) else ["image", "label"]
        collates = self.collate is None or callable(self.collate) or self.collate in ("pad", "offsets", "rows")
        yield "shuffle", _is_shuffle(self.shuffle), "shuffle=True, shuffle=False or shuffle='block'"
        yield "resume_batch", self.resume_batch in (None, "rebatch"), 'resume_batch="rebatch"'
        yield "batch_as", self.batch_as is None or _is_names(self.batch_as), f"batch_as={names!r}"
        yield "collate", collates, 'collate="pad"     # or "offsets", "rows", or a function'
        yield (
            "transform",
            self.transform is None or callable(self.transform),
            "transform=f     # called with each batch",
        )
        yield "weights", self.weights is None or isinstance(self.weights, str), 'weights="column"'
        for name in ("drop_last", "pin_memory"):
            yield name, isinstance(getattr(self, name), bool), f"{name}=True or {name}=False"

    def _require_lanes(self) -> None:
        if self.lanes == 1:
            return
        if self.weights is not None:
            raise _usage("lanes", f"{self.lanes} with weights", "lanes=1     # weights draw from all rows")
        total = self.batch_size * self.world_size
        if total % self.lanes:
            near = -(-total // self.lanes) * self.lanes
            raise UsageError(
                "lanes",
                "must divide the global batch: each batch takes as many rows from each lane",
                facts={"lanes": self.lanes, "global batch": total},
                remedy=f"a global batch of {near}, or lanes=1",
            )


def recipe_of(feed: Feed, options: LoaderOptions) -> Recipe:
    """What the options make of a feed's rows.

    Raises:
        UsageError: they mean nothing for this feed: lanes of a mixture, an epoch that `skip` leaves nothing of.
    """
    if options.lanes > 1 and feed.is_mixture:
        raise _usage("lanes", f"{options.lanes} with a mixture", "lanes=1")
    if options.weights is not None and feed.is_mixture:
        raise _usage("weights", "with a mixture", "leave weights= out; the sources of a mixture have weights")
    shuffle = _SHUFFLES[options.shuffle]
    recipe = Recipe(
        num_rows=feed.positions(epoch_size=options.epoch_size, weights=options.weights),
        seed=options.seed,
        shuffle=shuffle,
        global_batch=options.batch_size * options.world_size,
        lanes=options.lanes,
        block_rows=block_rows_for(feed.maps.num_rows, feed.maps.size_bytes) if shuffle == "block" else 0,
        drop_last=options.drop_last,
        weights=options.weights,
    )
    return _skipping(recipe, options.skip or ())


def _skipping(recipe: Recipe, skip: Sequence[Sequence[int]]) -> Recipe:
    base = recipe.layout()
    if not skip or not base.num_batches:
        return recipe
    for start, stop in skip:
        epoch = -(-start // base.num_batches)
        if (epoch + 1) * base.num_batches <= stop:  # before any list is made of what may be billions of epochs
            raise _nothing_left(epoch, base.num_batches)
    spans = [span for start, stop in skip for span in base.spans(start, stop)]
    skipping = replace(recipe, skip=tuple(dict.fromkeys(spans)))
    require_epochs(skipping)
    return skipping


def skip_what_is_new(recipe: Recipe, skip: Sequence[Sequence[int]], saved: Recipe) -> Recipe:
    """The recipe of a resumed run that is told to skip what its saved run skips already, in that one's steps.

    Args:
        recipe: with the steps of `skip` in its own global batches.
        saved: of the run that it goes on with.
    """
    if not skip or recipe.global_batch == saved.global_batch:
        return recipe
    meant = _skipping(replace(recipe, skip=(), global_batch=saved.global_batch), skip).skip
    return replace(recipe, skip=()) if set(meant) <= set(saved.skip) else recipe


def require_epochs(recipe: Recipe, since: Position | None = None) -> None:
    """Refuse to skip all of an epoch.

    Args:
        since: where a run stands; what lies before it is over.
    Raises:
        UsageError: an epoch that is to come has no batch.
    """
    base = recipe.layout()
    for epoch in sorted({epoch for epoch, _, _ in recipe.skip}):
        is_over = since is not None and (epoch < since.epoch or (epoch == since.epoch and since.batches > 0))
        if base.num_batches and not is_over and not recipe.epoch(base, epoch, 0).num_batches:
            raise _nothing_left(epoch, base.num_batches)


def _nothing_left(epoch: int, num_batches: int) -> UsageError:
    return UsageError(
        "skip",
        f"leaves no batch of epoch {epoch}",
        facts={"batches in an epoch": num_batches},
        remedy=f"skip fewer steps than {epoch * num_batches} to {(epoch + 1) * num_batches - 1}",
    )


def _is_names(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(name, str) for name in value)


def _is_shuffle(value: object) -> bool:
    return isinstance(value, bool | str) and value in _SHUFFLES


def _require_spans(skip: object) -> None:
    if isinstance(skip, str) or not isinstance(skip, Sequence):
        raise _usage("skip", repr(skip), "skip=[(1000, 1010)]     # steps 1000 to 1009")
    for span in skip:
        _require_span(span)


def _require_span(span: object) -> None:
    ends = list(span) if isinstance(span, list | tuple) else []
    if len(ends) != 2 or not all(isinstance(end, int) and not isinstance(end, bool) for end in ends):
        raise _usage("skip", repr(span), "skip=[(1000, 1010)]     # steps 1000 to 1009")
    if not 0 <= ends[0] < ends[1]:
        raise _usage("skip", repr(span), "skip=[(1000, 1010)]     # from 0 on, the first below the second")


def require_int(name: str, value: object, least: int | None) -> None:
    """Refuse what is no whole number, or too small a one; None: any will do.

    Raises:
        UsageError: with what to write.
    """
    if isinstance(value, int) and not isinstance(value, bool) and (least is None or value >= least):
        return
    raise _usage(name, repr(value), f"{name}={least or 0}" + ("" if least is None else " or more"))


def _usage(name: str, got: str, remedy: str) -> UsageError:
    return UsageError(name, "has a value that no loader can use", facts={"got": got}, remedy=remedy)

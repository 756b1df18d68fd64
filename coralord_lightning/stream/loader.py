"""Owns batches in order, and the position in them that a resumed run starts at; never resolves or builds a version."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coralord_lightning.errors import (
    BatchError,
    CoralWarning,
    NotYetSupportedError,
    SplitNotFoundError,
    UsageError,
    nearest,
)
from coralord_lightning.spec.columns import arrow_schema
from coralord_lightning.spec.manifest import Manifest
from coralord_lightning.stream.gather import Gatherer, require_fields
from coralord_lightning.stream.order import BatchLayout, Order, Rows
from coralord_lightning.stream.shards import ShardMaps
from coralord_lightning.stream.state import LoaderState, Position

if TYPE_CHECKING:
    from coralord_lightning.stream.sampler import ShuffledOrder, StoredOrder

__all__ = ["PADDING", "CoralLoader", "LoaderOptions", "open_maps", "require_batches", "require_split"]

Transform = Callable[[Any], Any]

PADDING = "is_padding"
"""The field that marks wrapped rows, bool[batch], in every batch of a padded epoch."""

_ROWS_AT_ONCE = 8192  # permuted in one go, so that small batches do not pay for numpy's calls


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderOptions:
    """How a split is handed out.

    Args:
        batch_size: rows in a batch of one rank.
        shuffle: False keeps the stored order, True or "full" permutes all rows in each epoch.
        drop_last: leave out the rows that fill no global batch.
        batch_as: names; batches are tuples in that order instead of dicts. "is_padding" may be among them.
        transform: called with each batch, a dict, before `batch_as`.
        pin_memory: page-locked tensors, where there is an accelerator.
        num_workers: 0.
    """

    batch_size: int
    shuffle: bool | str = False
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    drop_last: bool = False
    batch_as: Sequence[str] | None = None
    transform: Transform | None = None
    pin_memory: bool = False
    num_workers: int = 0

    def require_valid(self) -> None:
        """Refuse what no loader can mean.

        Raises:
            UsageError: a number is out of range or of another kind.
            NotYetSupportedError: `shuffle="block"`, workers.
        """
        for name, least in {"batch_size": 1, "world_size": 1, "rank": 0, "num_workers": 0}.items():
            _require_int(name, getattr(self, name), least)
        _require_int("seed", self.seed, None)
        if self.rank >= self.world_size:
            raise _usage("rank", f"{self.rank} of {self.world_size}", f"rank=0 … rank={self.world_size - 1}")
        if self.shuffle not in (False, True, "full", "block"):
            raise _usage("shuffle", repr(self.shuffle), "shuffle=True or shuffle=False")
        if isinstance(self.batch_as, str):
            raise _usage("batch_as", repr(self.batch_as), f"batch_as=[{self.batch_as!r}]")
        if self.shuffle == "block":
            raise _not_yet("shuffle", "block", "shuffle=True")
        if self.num_workers:
            raise _not_yet("num_workers", self.num_workers, "num_workers=0; gathering needs no workers")


class CoralLoader:
    """Batches of one split, in the order that (content digest, seed, epoch) gives, for one rank.

    Iterating yields one epoch; the next iteration yields the next one. `sampler.set_epoch(e)` says which comes next;
    `state_dict()` says where it stands, the same for every rank, and `load_state_dict()` goes on exactly there.
    """

    batch_sampler: None = None
    """Lightning asks for it wherever there is a `sampler`."""

    def __init__(self, manifest: Manifest, home: Path, split: str, options: LoaderOptions) -> None:
        options.require_valid()
        require_split(split, manifest)
        self.options = options
        self.fingerprint = manifest.fingerprint
        self.order = Order(
            num_rows=manifest.rows_of(split),
            content_digest=manifest.content_digest,
            seed=options.seed,
            shuffle="full" if options.shuffle else False,
        )
        self.layout = BatchLayout(
            num_rows=self.order.num_rows,
            global_batch=options.batch_size * options.world_size,
            world_size=options.world_size,
            drop_last=options.drop_last,
        )
        known = [column.name for column in manifest.columns]
        self._mark = self.layout.is_padded or PADDING in (options.batch_as or ())
        if self._mark and PADDING in known:
            raise UsageError(
                PADDING,
                "is a field of the dataset, and this epoch needs that name for the rows that fill the last batch",
                remedy="drop_last=True, or call the field something else",
            )
        self._gatherer = Gatherer(
            open_maps(manifest, home, split),
            fields=self._fields(known),
            split=split,
            pin_memory=options.pin_memory and _accelerated(),
        )
        self._position = Position()
        self._begun = False

    @property
    def sampler(self) -> ShuffledOrder | StoredOrder:
        """What Lightning and DistributedSampler's users call `set_epoch` on."""
        from coralord_lightning.stream.sampler import ShuffledOrder, StoredOrder

        if self.order.shuffle:
            return ShuffledOrder(self.set_epoch)
        return StoredOrder(range(self.order.num_rows), self.set_epoch)

    @property
    def position(self) -> Position:
        """Where the run stands: the next sample of which epoch."""
        return self._position

    def __len__(self) -> int:
        """Batches in a whole epoch, the same on every rank."""
        return self.layout.num_batches

    def __iter__(self) -> Iterator[Any]:
        # A generator: nothing happens before the first `next`, so that a mere `iter()` starts no epoch.
        return self._epoch()

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next; a loaded position within that same epoch is kept."""
        if self._begun or epoch != self._position.epoch:
            self._position = Position(epoch=epoch)
            self._begun = False

    def state_dict(self) -> dict[str, Any]:
        """Where the run stands, in plain values that hold for any rank."""
        return self._state(self._position).to_json()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another loader stood.

        Raises:
            DataVersionMismatchError: it read other data.
            UsageError: it stood inside an epoch of another order or other global batches.
        """
        saved = LoaderState.from_json(state)
        saved.require_fits(self._state(self._position), world_size=self.options.world_size)
        self._position = saved.position
        self._begun = False

    def _state(self, position: Position) -> LoaderState:
        return LoaderState(
            fingerprint=self.fingerprint,
            content_digest=self.order.content_digest,
            position=position,
            seed=self.order.seed,
            shuffle=self.order.shuffle,
            global_batch=self.layout.global_batch,
        )

    def _epoch(self) -> Iterator[Any]:
        start = Position(epoch=self._position.epoch + 1) if self._begun else self._position
        step = start.global_samples // self.layout.global_batch
        while step < len(self):
            for rows, padding in self._chunk(start.epoch, step):
                batch = self._batch(rows, padding)
                step += 1
                # Counted when handed out, never when computed ahead; a finished epoch is the next one's beginning.
                self._begun = step < len(self)
                self._position = (
                    Position(epoch=start.epoch, global_samples=step * self.layout.global_batch)
                    if self._begun
                    else Position(epoch=start.epoch + 1)
                )
                yield batch

    def _chunk(self, epoch: int, step: int) -> Iterator[tuple[Rows, Any]]:
        """Rows and padding of the next batches from `step` on, their order computed at once."""
        count = max(1, _ROWS_AT_ONCE // self.options.batch_size)
        steps = range(step, min(step + count, len(self)))
        positions = [self.layout.positions(number, self.options.rank) for number in steps]
        ends = np.cumsum([len(part) for part in positions])[:-1]
        flat = np.concatenate(positions)
        rows = self.order.at(epoch, flat % max(self.order.num_rows, 1))
        return zip(np.split(rows, ends), np.split(flat >= self.order.num_rows, ends), strict=True)

    def _batch(self, rows: Rows, padding: Any) -> Any:
        batch: Any = self._gatherer.gather(rows)
        if self._mark:
            import torch

            batch[PADDING] = torch.from_numpy(padding.copy())
        if self.options.transform is not None:
            batch = self.options.transform(batch)
        if self.options.batch_as is None:
            return batch
        if not isinstance(batch, Mapping):
            raise BatchError(
                "transform",
                "must return a dict where batch_as is given",
                facts={"got": type(batch).__name__},
                remedy="return a dict from the transform, or leave batch_as out",
            )
        require_fields(self.options.batch_as, list(batch), subject="batch_as")
        return tuple(batch[name] for name in self.options.batch_as)

    def _fields(self, known: Sequence[str]) -> Sequence[str]:
        """Which columns to gather: all that a transform may want, else only those that `batch_as` names."""
        wanted = self.options.batch_as
        if wanted is None or self.options.transform is not None:
            return known
        require_fields(wanted, [*known, PADDING], subject="batch_as")
        return list(dict.fromkeys(name for name in wanted if name != PADDING))


def open_maps(manifest: Manifest, home: Path, split: str) -> ShardMaps:
    """The shards of a split as one run of rows; maps nothing yet."""
    require_split(split, manifest)
    return ShardMaps(home, manifest.shards(split), arrow_schema(manifest.columns))


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


def require_split(split: str, manifest: Manifest) -> None:
    """Refuse a split that the version has not.

    Raises:
        SplitNotFoundError: with the nearest split's name.
    """
    if split in manifest.splits:
        return
    near = nearest(split, manifest.splits)
    raise SplitNotFoundError(
        split,
        "is no split of this version",
        facts={"splits": ", ".join(manifest.splits)},
        remedy=f"write '{near}'" if near else "name one of these splits, or add it under `splits:`",
    )


def _accelerated() -> bool:
    import torch

    if torch.cuda.is_available():
        return True
    warnings.warn("pin_memory=True has no effect without a CUDA device", CoralWarning, stacklevel=4)
    return False


def _require_int(name: str, value: object, least: int | None) -> None:
    if isinstance(value, int) and not isinstance(value, bool) and (least is None or value >= least):
        return
    raise _usage(name, repr(value), f"{name}={least or 0}" + ("" if least is None else " or more"))


def _usage(name: str, got: str, remedy: str) -> UsageError:
    return UsageError(name, "has a value that no loader can use", facts={"got": got}, remedy=remedy)


def _not_yet(name: str, value: object, remedy: str) -> NotYetSupportedError:
    return NotYetSupportedError(
        name, "is documented, but not in this release yet", facts={"got": repr(value)}, remedy=remedy
    )

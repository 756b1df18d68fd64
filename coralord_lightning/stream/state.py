"""Owns what a loader's saved position is and when it may be resumed; plain values, the same for every rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from coralord_lightning.errors import DataVersionMismatchError, UsageError
from coralord_lightning.stream.order import ORDER_FORMAT, Shuffle

__all__ = ["MARKER", "LoaderState", "Position", "saved_state"]

MARKER = "coralord_state"
"""The key that tells our state from others' in a checkpoint; its value is the format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The next sample of a run.

    Args:
        global_samples: rows of this epoch handed out, over all ranks; a multiple of the global batch.
    """

    epoch: int = 0
    global_samples: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderState:
    """A position, and everything that it means something against."""

    fingerprint: str
    content_digest: str
    position: Position = field(default_factory=Position)
    seed: int
    shuffle: Shuffle
    global_batch: int
    lanes: int = 1
    format: int = ORDER_FORMAT

    def to_json(self) -> dict[str, Any]:
        """As it stands in a checkpoint."""
        return {
            "format": self.format,
            "fingerprint": self.fingerprint,
            "content_digest": self.content_digest,
            "epoch": self.position.epoch,
            "global_samples": self.position.global_samples,
            "seed": self.seed,
            "shuffle": self.shuffle,
            "lanes": self.lanes,
            "global_batch": self.global_batch,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LoaderState:
        """Read a saved state.

        Raises:
            UsageError: it is none, or a later release wrote it.
        """
        try:
            if value["format"] != ORDER_FORMAT:
                raise ValueError(f"format {value['format']}; this release reads {ORDER_FORMAT}")
            return cls(
                fingerprint=str(value["fingerprint"]),
                content_digest=str(value["content_digest"]),
                position=Position(epoch=int(value["epoch"]), global_samples=int(value["global_samples"])),
                seed=int(value["seed"]),
                shuffle="full" if value["shuffle"] else False,
                global_batch=int(value["global_batch"]),
                lanes=int(value["lanes"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(
                "loader state",
                "is not one that this release can resume",
                facts={"got": repr(error)},
                remedy="load the state_dict() of a CoralLoader, or start without it",
            ) from error

    def require_fits(self, live: LoaderState, *, world_size: int) -> None:
        """Refuse to resume this state in a loader that would go on with other samples.

        Args:
            live: the state of that loader.
        Raises:
            DataVersionMismatchError: the data are other.
            UsageError: inside an epoch, the order or the global batches are other.
        """
        if self.content_digest != live.content_digest:
            raise DataVersionMismatchError(
                "saved state",
                "belongs to other data than what is loaded",
                facts={"saved": self.fingerprint, "loaded": live.fingerprint},
                remedy=f'pin="{self.fingerprint}"     # in CoralDataModule(…) or load(…): the data of the saved run',
            )
        if self.position.global_samples == 0:
            return  # at the beginning of an epoch any order may follow
        for name in ("seed", "shuffle", "global_batch", "lanes"):
            saved, loaded = getattr(self, name), getattr(live, name)
            if saved != loaded:
                raise UsageError(
                    name,
                    f"the saved run stood inside epoch {self.position.epoch} with another value",
                    facts={"saved": saved, "loaded": loaded},
                    remedy=_remedy(name, saved, world_size),
                )


def _remedy(name: str, saved: object, world_size: int) -> str:
    if name != "global_batch":
        return f"{name}={saved!r}"
    per_rank, rest = divmod(int(str(saved)), world_size)
    return f"global_batch_size={saved}" + ("" if rest else f", or batch_size={per_rank} with {world_size} process(es)")


def saved_state(checkpoint: object) -> Mapping[str, Any] | None:
    """Find our part of a checkpoint, whatever the class was called that saved it; None where there is none."""
    if not isinstance(checkpoint, Mapping):
        return None
    for value in checkpoint.values():
        if isinstance(value, Mapping) and MARKER in value:
            return value
    return None

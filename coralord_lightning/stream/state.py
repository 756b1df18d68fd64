"""Owns what a loader's saved position is and when it may be resumed; plain values, the same for every rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import lcm
from typing import Any

from coralord_lightning.errors import DataVersionMismatchError, UsageError
from coralord_lightning.stream.order import ORDER_FORMAT
from coralord_lightning.stream.recipe import Recipe, SourceFacts, content_digest_of

__all__ = ["MARKER", "Chapter", "LoaderState", "Position", "saved_state"]

MARKER = "coralord_state"
"""The key that tells our state from others' in a checkpoint; its value is the format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The next sample of a run.

    Args:
        global_samples: samples of this epoch that are over, over all ranks.
        batches: handed out in this epoch.
        step: batches handed out in the whole run.
    """

    epoch: int = 0
    global_samples: int = 0
    batches: int = 0
    step: int = 0

    def next_epoch(self) -> Position:
        """The beginning of the epoch after this one."""
        return Position(epoch=self.epoch + 1, step=self.step)

    def to_json(self) -> dict[str, Any]:
        """In plain values."""
        return {
            "epoch": self.epoch, "global_samples": self.global_samples, "batches": self.batches, "step": self.step
        }  # fmt: skip

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Position:
        """Raises KeyError, TypeError or ValueError where it is none."""
        position = cls(**{name: int(value[name]) for name in ("epoch", "global_samples", "batches", "step")})
        if min(position.epoch, position.global_samples, position.batches, position.step) < 0:
            raise ValueError(f"{position} counts below 0")
        return position


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """A part of a run that went on regularly, with one recipe, from a position on."""

    since: Position
    recipe: Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderState:
    """A position, everything that it means something against, and how the run came there.

    Args:
        sources: one split, or those of a mixture.
        chapters: at least one; the last is the one that goes on.
    """

    sources: tuple[SourceFacts, ...]
    chapters: tuple[Chapter, ...]
    position: Position = field(default_factory=Position)

    @property
    def recipe(self) -> Recipe:
        """Of the chapter that goes on."""
        return self.chapters[-1].recipe

    def go_on(self, recipe: Recipe) -> LoaderState:
        """The same position with another recipe; the same recipe goes on with the same chapter."""
        if recipe == self.recipe:
            return self
        begun = self.chapters if self.chapters[-1].since != self.position else self.chapters[:-1]
        return replace(self, chapters=(*begun, Chapter(since=self.position, recipe=recipe)))

    def jump(self, position: Position) -> LoaderState:
        """Another position, with the same recipe, than the sequence would come to from this one."""
        begun = self.chapters if self.chapters[-1].since != self.position else self.chapters[:-1]
        return replace(self, position=position, chapters=(*begun, Chapter(since=position, recipe=self.recipe)))

    def to_json(self) -> dict[str, Any]:
        """As it stands in a checkpoint."""
        return {
            "format": ORDER_FORMAT,
            "fingerprint": " + ".join(source.fingerprint for source in self.sources),
            "content_digest": content_digest_of(self.sources),
            **self.position.to_json(),
            **self.recipe.to_json(),
            "sources": [source.to_json() for source in self.sources],
            "since": self.chapters[-1].since.to_json(),
            "chapters": [
                {"since": chapter.since.to_json(), **chapter.recipe.to_json()} for chapter in self.chapters[:-1]
            ],
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
            chapters = [*value["chapters"], {**value, "since": value["since"]}]
            if not value["sources"]:
                raise ValueError("it names no source")
            return cls(
                sources=tuple(SourceFacts.from_json(source) for source in value["sources"]),
                chapters=tuple(
                    Chapter(since=Position.from_json(chapter["since"]), recipe=Recipe.from_json(chapter))
                    for chapter in chapters
                ),
                position=Position.from_json(value),
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, IndexError) as error:
            raise UsageError(
                "loader state",
                "is not one that this release can resume",
                facts={"got": repr(error)},
                remedy="load the state_dict() of a CoralLoader, or start without it",
            ) from error

    def resumed_by(self, live: LoaderState, *, world_size: int, rebatch: bool = False) -> LoaderState:
        """The state of a live loader that goes on where this one, the saved one, stood.

        Args:
            live: of a loader that has not begun.
            rebatch: whether global batches of another size may go on within an epoch.
        Raises:
            DataVersionMismatchError: the data are other.
            UsageError: a mixture draws in another proportion; in an epoch, the order or the global batches are other.
        """
        saved, mine = content_digest_of(self.sources), content_digest_of(live.sources)
        if saved != mine:
            raise _mismatch(self, live)
        splits = [[source.split for source in state.sources] for state in (self, live)]
        if splits[0] != splits[1]:
            raise UsageError(
                "split",
                "is another one of the same data than the saved run read",
                facts={"saved": ", ".join(splits[0]), "loaded": ", ".join(splits[1])},
                remedy=f'load it into a loader of split "{splits[0][0]}"',
            )
        recipe = self._merged(live.recipe)
        if self.position.global_samples:  # at the beginning of an epoch any order may follow
            for name in ("seed", "shuffle", "global_batch", "lanes", "weights", "num_rows"):
                if getattr(self.recipe, name) != getattr(recipe, name) and not (name == "global_batch" and rebatch):
                    raise _other(self, recipe, name, world_size)
        return replace(self, sources=live.sources).go_on(recipe)

    def _merged(self, mine: Recipe) -> Recipe:
        """The live recipe, with what a saved run hands on to it."""
        spans = (*self.recipe.skip, *(span for span in mine.skip if span not in self.recipe.skip))
        same_blocks = mine.shuffle == "block" == self.recipe.shuffle
        return replace(mine, skip=spans, block_rows=self.recipe.block_rows if same_blocks else mine.block_rows)


def _mismatch(saved: LoaderState, live: LoaderState) -> DataVersionMismatchError | UsageError:
    if [source.content_digest for source in saved.sources] == [source.content_digest for source in live.sources]:
        return _other_shares(saved, live)
    facts = {
        word: " + ".join(source.fingerprint for source in state.sources)
        for word, state in (("saved", saved), ("loaded", live))
    }
    pin = f'pin="{facts["saved"]}"     # in CoralDataModule(…) or load(…): the data of the saved run'
    if len(saved.sources) > 1:
        pins = ", ".join(f'"{source.name}": {{"pin": "{source.fingerprint}", …}}' for source in saved.sources)
        pin = f"mixture={{{pins}}}     # the data of the saved run"
    return DataVersionMismatchError("saved state", "belongs to other data than what is loaded", facts=facts, remedy=pin)


def _other_shares(saved: LoaderState, live: LoaderState) -> UsageError:
    shown = {
        word: ", ".join(f"{source.weight or 'all'} of {source.name or source.split}" for source in state.sources)
        for word, state in (("saved", saved), ("loaded", live))
    }
    whole = lcm(*(Fraction(source.weight or 1).denominator for source in saved.sources))
    parts = {
        source.name: {"weight": int(Fraction(source.weight or 1) * whole), "split": source.split}
        for source in saved.sources
    }
    return UsageError(
        "mixture",
        "the saved run drew from the same data in another proportion, or from other splits",
        facts=shown,
        remedy="leave mixture= out" if saved.sources[0].weight is None else f"mixture={parts}     # as saved",
    )


def _other(saved: LoaderState, recipe: Recipe, name: str, world_size: int) -> UsageError:
    was, now = getattr(saved.recipe, name), getattr(recipe, name)
    return UsageError(
        name,
        f"the saved run stood inside epoch {saved.position.epoch} with another value",
        facts={"saved": was, "loaded": now},
        remedy=_remedy(name, was, world_size),
    )


def _remedy(name: str, saved: object, world_size: int) -> str:
    if name == "num_rows":
        return f"epoch_size={saved}"
    if name != "global_batch":
        return f"{name}={saved!r}"
    per_rank, rest = divmod(int(str(saved)), world_size)
    same = f"global_batch_size={saved}" + ("" if rest else f", or batch_size={per_rank} with {world_size} process(es)")
    return f'{same}; or resume_batch="rebatch"'


def saved_state(checkpoint: object) -> Mapping[str, Any] | None:
    """Find our part of a checkpoint, whatever the class was called that saved it; None where there is none."""
    if not isinstance(checkpoint, Mapping):
        return None
    for value in checkpoint.values():
        if isinstance(value, Mapping) and MARKER in value:
            return value
    return None

"""Owns which rows any step of a saved run saw or will see, from its state alone; pure, never opens a version."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coralord_lightning.errors import UsageError
from coralord_lightning.stream.layout import EpochLayout
from coralord_lightning.stream.mixing import MixedOrder
from coralord_lightning.stream.permutation import Rows
from coralord_lightning.stream.recipe import Recipe
from coralord_lightning.stream.state import Chapter, LoaderState, Position

__all__ = ["Cumulate", "StepRows", "chapter_of", "rows_of_step"]

Cumulate = Callable[[str], npt.NDArray[np.float64]]
"""Column of weights -> their sums, float64[rows]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRows:
    """What one step reads over all ranks, without padding.

    Args:
        batch: of the epoch, from 0.
        rows: int64[n], in the order of the ranks, numbered as in the table of their split.
        sources: int64[n], which of the state's sources each row is of.
    """

    step: int
    epoch: int
    batch: int
    rows: Rows
    sources: Rows


def rows_of_step(state: LoaderState, step: int, *, cumulate: Cumulate | None = None) -> StepRows:
    """Tell which rows a step of the run sees.

    Args:
        step: batches from the beginning of the run, from 0; it may lie in the future.
        cumulate: gives sums of a column of the split, which is asked for where rows are drawn by it.
    Raises:
        UsageError: the run never comes to that step, the state does not reach back to it, or the rows are drawn by
            weight and nobody gives the weights.
    """
    if step < 0:
        raise UsageError("step", "counts from 0", facts={"got": step}, remedy="step=0 or more")
    chapter = chapter_of(state, step)
    if chapter is None:
        begun = state.chapters[0].since.step
        raise UsageError("step", "lies before what the state knows", facts={"got": step}, remedy=f"step={begun}")
    cumulated = None
    if chapter.recipe.weights is not None and cumulate is not None:
        cumulated = cumulate(chapter.recipe.weights)
    elif chapter.recipe.weights is not None:
        raise UsageError(
            "weights",
            "rows were drawn by a column, which is needed to name them",
            facts={"column": chapter.recipe.weights},
            remedy="load the version first: coral show <fingerprint>     # says whether it is in this home",
        )
    position = _walk(chapter, step)
    recipe = chapter.recipe
    layout = recipe.epoch(recipe.layout(), position.epoch, position.global_samples)
    taken = layout.take(0, 1, 0)
    order = recipe.order(state.sources, cumulated)
    rows = order.at(position.epoch, taken.positions[~taken.is_padding])
    sources = np.zeros_like(rows)
    if isinstance(order, MixedOrder):
        sources, rows = order.source_of(rows)
    return StepRows(step=step, epoch=position.epoch, batch=position.batches, rows=rows, sources=sources)


def chapter_of(state: LoaderState, step: int) -> Chapter | None:
    """The part of a run that a step lies in; None where the state does not reach back to it."""
    return next((chapter for chapter in reversed(state.chapters) if chapter.since.step <= step), None)


def _walk(chapter: Chapter, step: int) -> Position:
    """The position in front of a step of a chapter."""
    recipe, position = chapter.recipe, chapter.since
    base = recipe.layout()
    last_uneven = max((epoch for epoch, _, _ in recipe.skip), default=-1)
    whole = _batches(recipe, base.whole, 0)
    if not whole:
        raise UsageError(
            "step",
            f"an epoch has no batch of {recipe.global_batch} rows",
            facts={"rows": recipe.num_rows},
            remedy=f"batch_size={max(recipe.num_rows, 1)} or less, or drop_last=False",
        )
    while True:
        layout = recipe.epoch(base, position.epoch, position.global_samples)
        count = _batches(recipe, layout, position.batches)
        if step < position.step + count:
            done = step - position.step
            samples = layout.start if not done else layout.end_of(done - 1) or recipe.num_rows
            return Position(epoch=position.epoch, global_samples=samples, batches=position.batches + done, step=step)
        position = Position(epoch=position.epoch + 1, step=position.step + count)
        if position.epoch > last_uneven:  # from here on all epochs are alike
            epochs = (step - position.step) // whole
            position = Position(epoch=position.epoch + epochs, step=position.step + epochs * whole)


def _batches(recipe: Recipe, layout: EpochLayout, done: int) -> int:
    """Batches of an epoch that a run still takes after `done` ones."""
    limit = layout.num_batches if recipe.limit is None else max(recipe.limit - done, 0)
    return min(layout.num_batches, limit)

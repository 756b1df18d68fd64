"""Owns what a Trainer must be helped with: to resume, and to count epochs of different lengths.

A callback without state, put into every Trainer we meet; never knows a version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from coralord_lightning.datamodule.bases import Callback
from coralord_lightning.stream.loader import CoralLoader

__all__ = ["Adopting", "help_resume"]


@runtime_checkable
class Adopting(Protocol):
    """A data module that finds its own state in a whole checkpoint."""

    def adopt(self, checkpoint: Mapping[str, Any]) -> None:
        """Load our state, whatever the class was called that saved it."""
        ...


class _ResumeHelper(Callback):
    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Hand on the whole checkpoint: Lightning looks for a data module's state by the name of its class only."""
        if isinstance(trainer.datamodule, Adopting):
            trainer.datamodule.adopt(checkpoint)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """Begin the next epoch where a checkpoint was saved at the end of one, or after its last batch.

        With `max_steps`, Lightning 2.6 goes through an epoch that ended again: it skips an epoch of data, or trains
        on one batch of it only. With `max_epochs` it does not; this takes the same way in both. After a last batch it
        begins the next epoch without counting that it does, so that a further resume finds none begun.
        """
        loop = trainer.fit_loop
        if not isinstance(trainer.datamodule, Adopting):
            return
        if getattr(loop, "restarted_on_epoch_end", False):
            _go_on(loop)
            loop.reset()
        elif _stopped_after_last_batch(loop):  # `loop.reset` counted that epoch as over already
            loop.max_batches = loop.epoch_loop.batch_progress.current.ready
            loop.epoch_loop.reset()
            _go_on(loop)
            loop.reset_restart_stage()
            loop.epoch_loop.reset_restart_stage()
        _count_batches(trainer)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """Count the batches of this epoch; the sampler was told which one it is just before."""
        _count_batches(trainer)


def help_resume(trainer: Any) -> None:
    """Put the helper into a Trainer, once; called in `setup`, before anything is restored."""
    if not any(isinstance(callback, _ResumeHelper) for callback in trainer.callbacks):
        trainer.callbacks.insert(0, _ResumeHelper())


def _go_on(loop: Any) -> None:
    """Say that nothing restarts: what comes next begins regularly."""
    loop._restarting = False  # noqa: SLF001  # its setter turns False into True with max_steps
    loop.epoch_loop.restarting = False


def _stopped_after_last_batch(loop: Any) -> bool:
    return (
        getattr(loop, "restarted_mid_epoch", False)
        and getattr(loop.epoch_loop, "restarted_on_train_batch_end", False)
        and loop.epoch_loop.batch_progress.is_last_batch
    )


def _count_batches(trainer: Any) -> None:
    """Tell the Trainer how long the epoch is that it begins, and our loaders where the Trainer will leave it.

    Lightning 2.6 counts once, in `FitLoop.setup_data`, but an epoch that steps are left out of, and one that went on
    with other global batches, is shorter or longer than others: its last batch would not be known as the last.
    """
    loop = trainer.fit_loop
    combined = loop._combined_loader  # noqa: SLF001  # the one place where the limits are kept
    if combined is None or not any(isinstance(loader, CoralLoader) for loader in combined.flattened):
        return
    limits = list(combined.limits)
    for number, loader in enumerate(combined.flattened):
        if isinstance(loader, CoralLoader):
            length = len(loader)
            limits[number] = _limited(length, trainer.limit_train_batches)
            loader.limit_batches(limits[number] if limits[number] < length else None)
    combined.limits = limits
    combined._iterator.limits = limits  # noqa: SLF001  # made in setup_data, for an epoch that may have been another
    progress = loop.epoch_loop.batch_progress
    stands_at_end = loop.epoch_loop.restarting and progress.is_last_batch  # the loaders are in the next epoch already
    loop.max_batches = progress.current.ready if stands_at_end else len(combined)
    loop._data_fetcher.length = loop.max_batches  # noqa: SLF001
    if isinstance(trainer.val_check_interval, float) and getattr(trainer, "_val_check_time_interval", None) is None:
        trainer.val_check_batch = max(1, int(loop.max_batches * trainer.val_check_interval))


def _limited(length: int, limit: float) -> int:
    """As Lightning counts `limit_train_batches`: an int is batches, a float a share; never nothing of something."""
    return min(length, limit) if isinstance(limit, int) else max(int(length * limit), min(length, 1))

"""Owns what a resumed Trainer must be helped with; a callback without state, put into every Trainer we meet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from coralord_lightning.datamodule.bases import Callback

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
        """Begin the next epoch where a checkpoint was saved at the end of one.

        With `max_steps`, Lightning 2.6 goes through the finished epoch again: it skips an epoch of data, or trains
        on one batch of it only. With `max_epochs` it does not; this takes the same way in both.
        """
        loop = trainer.fit_loop
        if isinstance(trainer.datamodule, Adopting) and getattr(loop, "restarted_on_epoch_end", False):
            loop._restarting = False  # noqa: SLF001  # its setter turns False into True with max_steps
            loop.epoch_loop.restarting = False
            loop.reset()


def help_resume(trainer: Any) -> None:
    """Put the helper into a Trainer, once; called in `setup`, before anything is restored."""
    if not any(isinstance(callback, _ResumeHelper) for callback in trainer.callbacks):
        trainer.callbacks.insert(0, _ResumeHelper())

"""Owns who is told what: finds the words of each kind of logger, tells each once, and outlives what fails."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from coralord_lightning.errors import CoralWarning
from coralord_lightning.tracking.entry import HPARAMS_KEY, Entry
from coralord_lightning.tracking.repository import read_repository

if TYPE_CHECKING:
    from coralord_lightning.workspace import Version

__all__ = ["log_version"]

_SHOWN_CHARS = 1000
_LOGGED = "_coralord_logged"
_PACKAGES = ("lightning", "pytorch_lightning")
_KINDS = {
    "CometLogger": "comet",
    "LitLogger": "litlogger",
    "MLFlowLogger": "mlflow",
    "TensorBoardLogger": "tensorboard",
    "WandbLogger": "wandb",
}
"""Lightning's class -> the module of this room that speaks to it. Others take the entry as hyperparameters."""


def log_version(version: Version, loggers: Iterable[Any], versions: Mapping[str, Version] | None = None) -> None:
    """Tell every logger which data the run reads, unless it was told already.

    Args:
        version: the run's own.
        loggers: of a Trainer; any object with Lightning's `log_hyperparams`.
        versions: role -> version, of all that the run reads; the run's own is one of them.

    Warns:
        CoralWarning: a logger failed.
    """
    roles = dict(versions or {"main": version})
    entry = Entry(versions=roles)
    untold = [logger for logger in loggers if getattr(logger, _LOGGED, None) != entry.identity]
    if not untold:
        return
    entry = replace(entry, repository=read_repository())
    for logger in untold:
        try:
            _words_of(logger)(logger, entry)
            setattr(logger, _LOGGED, entry.identity)
        except Exception as error:  # noqa: BLE001  # loggers talk to servers: anything may come, and training goes on
            warnings.warn(
                f"{type(logger).__name__} did not take the data version {version.fingerprint}: {_shown(error)}",
                CoralWarning,
                stacklevel=2,
            )


def _shown(error: Exception) -> str:
    """What a client said, bounded, and without the secrets of the addresses in it."""
    from coralord_lightning.sources.address import without_secrets

    return str(without_secrets(repr(error)))[:_SHOWN_CHARS]


def _words_of(logger: Any) -> Callable[[Any, Entry], None]:
    for base in type(logger).__mro__:
        if base.__name__ in _KINDS and base.__module__.split(".")[0] in _PACKAGES:
            module = importlib.import_module(f"coralord_lightning.tracking.{_KINDS[base.__name__]}")
            words: Callable[[Any, Entry], None] = module.tell
            return words
    return _tell_any


def _tell_any(logger: Any, entry: Entry) -> None:
    logger.log_hyperparams({HPARAMS_KEY: entry.to_json()})

"""Owns how a version reaches the loggers of a run: once each, on rank zero; a failing logger never ends training."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from coralord_lightning.errors import CoralWarning, UsageError

if TYPE_CHECKING:
    from coralord_lightning.workspace import Version

__all__ = ["HPARAMS_KEY", "log_version", "require_key_is_free"]

HPARAMS_KEY = "coralord"
"""The one key that everything of ours stands under in a run's hyperparameters."""

_LOGGED = "_coralord_logged"


def require_key_is_free(model: Any) -> None:
    """Refuse a model with a hyperparameter of our name: in the loggers it would take the version's place.

    Raises:
        UsageError: it has one.
    """
    if HPARAMS_KEY in getattr(model, "hparams", {}):
        raise UsageError(
            HPARAMS_KEY,
            "is a hyperparameter of the model, and the data version is logged under that name",
            facts={"model": type(model).__name__},
            remedy=f'call it something else, or: self.save_hyperparameters(ignore=["{HPARAMS_KEY}"])',
        )


def log_version(version: Version, loggers: Iterable[Any], versions: Mapping[str, Version] | None = None) -> None:
    """Tell every logger which data the run reads, unless it was told already.

    Args:
        version: the run's own.
        loggers: of a Trainer; any object with Lightning's `log_hyperparams`.
        versions: role -> version, of all that the run reads; those of other roles than "main" are told too, under
            `versions` in the same entry.

    Warns:
        CoralWarning: a logger failed.
    """
    others = {role: other.to_json() for role, other in (versions or {}).items() if role != "main"}
    entry = version.to_json() | ({"versions": others} if others else {})
    told = " ".join([version.fingerprint, *(f"{role}={other['fingerprint']}" for role, other in others.items())])
    for logger in loggers:
        if getattr(logger, _LOGGED, None) == told:
            continue
        try:
            _log(logger, {HPARAMS_KEY: entry})
            setattr(logger, _LOGGED, told)
        except Exception as error:  # noqa: BLE001  # loggers talk to servers: anything may come, and training goes on
            warnings.warn(
                f"{type(logger).__name__} did not take the data version {version.fingerprint}: {error!r}",
                CoralWarning,
                stacklevel=2,
            )


def _log(logger: Any, params: dict[str, Any]) -> None:
    if _is_tensorboard(logger):
        # Without metrics it keeps the values for `hparams.yaml` and writes no `hp_metric`, which is the user's.
        # It is not told to save: the file is never overwritten, and the model's hyperparameters are still to come.
        logger.log_hyperparams(params, metrics={})
    else:
        logger.log_hyperparams(params)


def _is_tensorboard(logger: Any) -> bool:
    return any(
        base.__name__ == "TensorBoardLogger" and base.__module__.split(".")[0] in ("lightning", "pytorch_lightning")
        for base in type(logger).__mro__
    )

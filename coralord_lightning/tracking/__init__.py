"""How a version reaches the loggers of a run: once each, on rank zero; a failing logger never ends training."""

from coralord_lightning.tracking.entry import HPARAMS_KEY, require_key_is_free
from coralord_lightning.tracking.telling import log_version

__all__ = ["HPARAMS_KEY", "log_version", "require_key_is_free"]

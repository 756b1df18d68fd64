"""The words of Comet: parameters, and the dataset panel of the experiment."""

from __future__ import annotations

from typing import Any

from coralord_lightning.tracking.entry import HPARAMS_KEY, Entry

__all__ = ["tell"]


def tell(logger: Any, entry: Entry) -> None:
    """Write the entry to a CometLogger."""
    logger.log_hyperparams({HPARAMS_KEY: entry.to_json()})
    version = entry.version
    logger.experiment.log_dataset_info(
        name=version.name or "pinned", version=version.fingerprint, path=version.manifest_path.absolute().as_uri()
    )

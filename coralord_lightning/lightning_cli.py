"""Owns `python -m coralord_lightning.lightning_cli`: Lightning's own command line over any model and our data.

Lightning does everything; a descriptor may stand in its YAML file, and its keys on the command line.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from coralord_lightning.errors import CoralError, UsageError

__all__ = ["main"]


def main(args: list[str] | None = None) -> Any:
    """Run LightningCLI with the model that `--model` names and `CoralDataModule`; either Lightning package will do.

    Args:
        args: the words of the command line; None: those of this process.
    Raises:
        UsageError: jsonargparse is not installed.
    """
    try:
        importlib.import_module("jsonargparse")
    except ModuleNotFoundError as error:
        raise UsageError(
            "lightning_cli",
            "needs jsonargparse, which is not installed",
            remedy="pip install 'coralord-lightning[cli]'",
        ) from error
    from pytorch_lightning import LightningModule
    from pytorch_lightning.cli import LightningCLI

    from coralord_lightning.datamodule import CoralDataModule

    return LightningCLI(LightningModule, CoralDataModule, subclass_mode_model=True, subclass_mode_data=False, args=args)


if __name__ == "__main__":
    try:
        main()
    except CoralError as error:
        print(error, file=sys.stderr)  # noqa: T201  # a command's last word
        sys.exit(error.exit_code)

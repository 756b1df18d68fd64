"""Lightning: `CoralDataModule`. Start reading at `module`."""

from __future__ import annotations

from coralord_lightning.datamodule.module import CoralDataModule

__all__ = ["CoralDataModule"]

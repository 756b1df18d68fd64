"""LightningCLI over a model of one's own: `python train.py fit --config digits.yaml`."""

from __future__ import annotations

from digits_model import DigitsModel
from pytorch_lightning.cli import LightningCLI

from coralord_lightning import CoralDataModule


def main() -> None:
    LightningCLI(DigitsModel, CoralDataModule)


if __name__ == "__main__":
    main()

"""A small network for the digits."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional


class DigitsNet(pl.LightningModule):
    """Two linear layers over [batch, 8, 8] images.

    Args:
        width: of the layer between them.
        learning_rate: of Adam.
    """

    def __init__(self, width: int = 64, learning_rate: float = 3e-3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.learning_rate = learning_rate
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        loss = functional.cross_entropy(self.net(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        self._log_accuracy("val_accuracy", batch)

    def test_step(self, batch: tuple[Tensor, Tensor]) -> None:
        self._log_accuracy("test_accuracy", batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)

    def _log_accuracy(self, name: str, batch: tuple[Tensor, Tensor]) -> None:
        x, y = batch
        hits = (self.net(x).argmax(dim=1) == y).float()
        self.log(name, hits.mean(), batch_size=len(y), prog_bar=True)

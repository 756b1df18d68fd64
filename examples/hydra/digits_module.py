"""A small network for the digits, in the form that Hydra's templates have: its optimizer is handed in."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional


class DigitsModule(pl.LightningModule):
    """Two convolutions and a linear layer over [batch, 8, 8] images.

    Args:
        width: channels of the first convolution.
        optimizer: makes an optimizer of parameters.
    """

    def __init__(self, width: int, optimizer: Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer]) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False, ignore=["optimizer"])  # a function: no checkpoint could be read again
        self.make_optimizer = optimizer
        self.net = nn.Sequential(
            nn.Unflatten(1, (1, 8)), nn.BatchNorm2d(1),
            nn.Conv2d(1, width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(32 * width, 10),
        )  # fmt: skip

    def forward(self, image: Tensor) -> Tensor:
        return self.net(image.float())

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        loss = functional.cross_entropy(self(x), y.long())
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, ...]) -> None:
        self._log_accuracy("val_accuracy", batch)

    def test_step(self, batch: tuple[Tensor, ...]) -> None:
        self._log_accuracy("test_accuracy", batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.make_optimizer(self.parameters())

    def _log_accuracy(self, name: str, batch: tuple[Tensor, ...]) -> None:
        x, y = batch[:2]
        hits = (self(x).argmax(dim=1) == y).float()
        self.log(name, hits.mean(), batch_size=len(y), sync_dist=True)

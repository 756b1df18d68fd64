"""Trains a small network on the digits, and says which data it was trained on."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor, nn
from torch.nn import functional

from coralord_lightning import CoralDataModule

HERE = Path(__file__).resolve().parent


class Digits(pl.LightningModule):
    """Two convolutions and a linear layer over [batch, 8, 8] images with ink in 0..1."""

    def __init__(self, learning_rate: float = 3e-3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.learning_rate = learning_rate
        self.net = nn.Sequential(
            nn.Unflatten(1, (1, 8)),
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Dropout(0.2), nn.Linear(512, 10),
        )  # fmt: skip

    def forward(self, image: Tensor) -> Tensor:
        return self.net(image)

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        image, label = batch
        loss = functional.cross_entropy(self(image), label)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        self._log_accuracy("val_accuracy", batch)

    def test_step(self, batch: tuple[Tensor, Tensor]) -> None:
        self._log_accuracy("test_accuracy", batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)

    def _log_accuracy(self, name: str, batch: tuple[Tensor, Tensor]) -> None:
        image, label = batch
        hits = (self(image).argmax(dim=1) == label).float()
        self.log(name, hits.mean(), batch_size=len(label), prog_bar=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("descriptor", nargs="?", type=Path, default=HERE / "digits.yaml")
    parser.add_argument("--logs", type=Path, default=Path("logs"), help="where loggers and checkpoints write")
    parser.add_argument("--epochs", type=int, default=12)
    arguments = parser.parse_args()

    started = datetime.now(UTC).replace(microsecond=0)
    torch.set_num_threads(1)  # so small a network only waits for more
    pl.seed_everything(0, workers=True, verbose=False)
    data = CoralDataModule(descriptor=arguments.descriptor, batch_size=64, batch_as=["image", "label"], seed=0)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=arguments.epochs,
        deterministic=True,
        log_every_n_steps=10,
        enable_model_summary=False,
        default_root_dir=arguments.logs,
        logger=[CSVLogger(arguments.logs, name="csv"), TensorBoardLogger(arguments.logs, name="tensorboard")],
    )
    model = Digits()
    trainer.fit(model, datamodule=data)
    (result,) = trainer.test(model, datamodule=data, verbose=False)

    print(f"test accuracy   {result['test_accuracy']:.4f}")
    print(f"data version    {data.version.fingerprint}")
    print(f"content digest  {data.version.content_digest}")
    print(f"rebuilt         {'yes' if data.version.created_at >= started else 'no: nothing was rebuilt'}")
    print(f"logged in       {', '.join(logger.log_dir for logger in trainer.loggers)}")
    print(f"checkpoint      {trainer.checkpoint_callback.best_model_path}")


if __name__ == "__main__":
    main()

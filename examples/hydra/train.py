"""A whole training from a configuration: data, model, callbacks, loggers and Trainer are what `configs/` says.

    python examples/hydra/train.py subset=digits_even
    python examples/hydra/train.py 'subset.where="label < 5"'
    python examples/hydra/train.py -m subset=pages_1,pages_2,pages_3

Each run's output folder has `data_version.json`: which data it was trained on.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import hydra
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig

from coralord_lightning import CoralDataModule

os.environ.setdefault("PROJECT_ROOT", str(Path(__file__).resolve().parents[2]))


def instantiate_each(config: DictConfig | None) -> list:
    """What `callbacks` and `logger` name."""
    return [hydra.utils.instantiate(item) for item in (config or {}).values()]


def write_version(data: CoralDataModule, folder: Path) -> None:
    """Say beside a run's results which data it had; `data.pin=<fingerprint>` asks for the same again."""
    folder.mkdir(parents=True, exist_ok=True)
    versions = {role: version.to_json() for role, version in data.versions.items()}
    (folder / "data_version.json").write_text(json.dumps(versions, indent=2) + "\n", encoding="utf-8")


def train(config: DictConfig) -> float | None:
    """One run; what it returns is what a sweeper compares."""
    torch.set_num_threads(1)  # so small a network only waits for more
    pl.seed_everything(config.seed, workers=True, verbose=False)
    data: CoralDataModule = hydra.utils.instantiate(config.data)
    model: pl.LightningModule = hydra.utils.instantiate(config.model)
    trainer: pl.Trainer = hydra.utils.instantiate(
        config.trainer, callbacks=instantiate_each(config.callbacks), logger=instantiate_each(config.logger)
    )
    if config.train:
        trainer.fit(model, datamodule=data, ckpt_path=config.ckpt_path)
    if config.test:
        trainer.test(model, datamodule=data, verbose=False, ckpt_path=None if config.train else config.ckpt_path)
    if trainer.is_global_zero:
        write_version(data, Path(config.paths.output_dir))
        print(f"{data.version.name}  {data.version.fingerprint[:12]}  {config.paths.output_dir}")
    accuracy = trainer.callback_metrics.get("test_accuracy")
    return None if accuracy is None else float(accuracy)


@hydra.main(version_base="1.3", config_path="../../configs", config_name="train.yaml")
def main(config: DictConfig) -> float | None:
    return train(config)


if __name__ == "__main__":
    main()

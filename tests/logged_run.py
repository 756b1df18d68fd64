"""A training with every logger at once, offline, as a process of its own: python logged_run.py DESCRIPTOR HOME OUT.

It runs apart because the clients start threads and services, and read the environment when they are imported.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.loggers import (
    CometLogger,
    CSVLogger,
    LitLogger,
    MLFlowLogger,
    TensorBoardLogger,
    WandbLogger,
)

from coralord_lightning import CoralDataModule
from toy_runs import toy_model


def loggers(out: Path) -> list:
    """One of each. CometLogger(online=False) logs nothing at all in Lightning 2.6: COMET_START_ONLINE=0 is offline."""
    return [
        CSVLogger(out / "csv"),
        TensorBoardLogger(out / "tb"),
        WandbLogger(offline=True, save_dir=out / "wandb", project="toy"),
        MLFlowLogger(experiment_name="toy", tracking_uri=f"sqlite:///{out / 'mlflow.db'}"),
        CometLogger(offline_directory=str(out / "comet"), api_key="none"),
        LitLogger(root_dir=str(out / "lit"), name="toy", save_logs=False),
    ]


def main(descriptor: str, home: str, out: str) -> None:
    folder = Path(out)
    data = CoralDataModule(descriptor=descriptor, home=home, batch_size=4, val=descriptor)
    told = loggers(folder)
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=told, enable_progress_bar=False, enable_model_summary=False,
        log_every_n_steps=1, default_root_dir=folder,
    )  # fmt: skip
    model = toy_model("pytorch_lightning", width=3)
    trainer.fit(model, datamodule=data)
    trainer.test(model, datamodule=data, verbose=False)
    told[4].experiment.end()
    told[2].experiment.finish()
    facts = {"fingerprint": data.version.fingerprint, "run_id": told[3].run_id, "log_dir": told[1].log_dir}
    (folder / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Owns our own contestants: versions built the public way, their loaders, a Lightning fit, first batches, the order."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

from workloads import Workload, write_parquet

__all__ = ["build", "descriptor", "first_batch_s", "fit_rates", "loader", "order_us"]


def descriptor(workload: Workload, folder: Path, shards: int) -> tuple[dict[str, Any], Path]:
    """A descriptor over so many Parquet files, each of which becomes one shard; and the home for its version."""
    files = write_parquet(workload, folder, shards)
    return {"name": f"{workload.name}-{shards}", "files": f"{files.name}/*.parquet"}, folder / "home"


def build(workload: Workload, folder: Path, shards: int) -> float:
    """Build the version, or find it; returns the seconds that took."""
    from coralord_lightning import load

    described, home = descriptor(workload, folder, shards)
    began = time.perf_counter()
    data = load(described, home=home, base_dir=folder)
    if (found := len(list(data.version.manifest.shards("train")))) != shards:
        raise SystemExit(f"{found} shards, not {shards}")
    return time.perf_counter() - began


def loader(workload: Workload, folder: Path, shards: int, *, shuffle: bool) -> Any:
    """What `data.loader(…)` gives, as it is."""
    from coralord_lightning import load

    described, home = descriptor(workload, folder, shards)
    data = load(described, home=home, base_dir=folder, build=False)
    batches = data.loader("train", batch_size=workload.batch, shuffle=shuffle)
    return lambda: batches


def first_batch_s(workload: Workload, folder: Path, shards: int) -> float:
    """Seconds from the end of `setup` on a hit to the first batch; torch is in already. Needs a process of its own."""
    import torch

    from coralord_lightning import CoralDataModule

    torch.ones(8).index_select(0, torch.tensor([1]))  # torch starts its threads
    described, home = descriptor(workload, folder, shards)
    module = CoralDataModule(
        descriptor=described, home=home, base_dir=folder, batch_size=workload.batch, shuffle=True, build=False
    )
    module.prepare_data()
    module.setup("fit")
    began = time.perf_counter()
    next(iter(module.train_dataloader()))
    return time.perf_counter() - began


def fit_rates(workload: Workload, folder: Path, *, epochs: int) -> dict[str, float]:
    """Batches/s of a Lightning fit of one linear layer: ours, and an in-memory TensorDataset; medians over epochs."""
    import warnings

    import pytorch_lightning as pl
    import torch
    from torch.utils.data import DataLoader, TensorDataset
    from workloads import columns

    from coralord_lightning import CoralDataModule

    warnings.filterwarnings("ignore")
    described, home = descriptor(workload, folder, 8)
    values = columns(workload, folder)
    memory = TensorDataset(*(torch.from_numpy(column) for column in values.values()))

    class OneLayer(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(values[workload.main][0].size, 10)
            self.taken: list[float] = []

        def training_step(self, batch, _):
            inputs, labels = batch
            return torch.nn.functional.cross_entropy(self.layer(inputs.flatten(1).float()), labels)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1e-3)

        def on_train_epoch_start(self):
            self.began = time.perf_counter()

        def on_train_epoch_end(self):
            self.taken.append(self.trainer.num_training_batches / (time.perf_counter() - self.began))

    def fit(**data: Any) -> float:
        model = OneLayer()
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = pl.Trainer(max_epochs=epochs + 1, accelerator="cpu", enable_model_summary=False, **quiet)
        trainer.fit(model, **data)
        return statistics.median(model.taken[1:])

    names = [workload.main, "label"]
    module = CoralDataModule(
        descriptor=described, home=home, base_dir=folder, batch_size=workload.batch, shuffle=True, batch_as=names
    )
    return {
        "coral": fit(datamodule=module),
        "TensorDataset": fit(train_dataloaders=DataLoader(memory, batch_size=workload.batch, shuffle=True)),
    }


def order_us(num_rows: int, batch: int, *, batches: int) -> float:
    """Microseconds that the order of one batch takes, at random places of an epoch of so many virtual rows."""
    import numpy as np

    from coralord_lightning.stream.order import SplitOrder

    order = SplitOrder(num_rows=num_rows, content_digest="0" * 64, shuffle="full")
    starts = np.random.default_rng(0).integers(0, num_rows - batch, batches)
    taken = []
    for start in starts:
        positions = np.arange(start, start + batch, dtype=np.int64)
        began = time.perf_counter()
        order.at(0, positions)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1e6

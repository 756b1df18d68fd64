"""A toy dataset and a toy model for real Trainers of either Lightning package."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coralord_lightning import CoralDataModule

PACKAGES = ("pytorch_lightning", "lightning.pytorch")

ROWS = {"train": 20, "val": 6, "test": 5}

THIRD_PARTY_WARNINGS = [
    # Lightning, of a machine with few cores or of short epochs; neither is about what is tested.
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*Checkpoint directory .* exists and is not empty.*"),
    # Lightning 2.6 with torch 2.13
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning"),
    # torch's own schedulers, called by Lightning
    pytest.mark.filterwarnings("ignore:.*`lr_scheduler.step\\(\\)` before `optimizer.step\\(\\)`.*"),
]

_CONTEXT = {
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "recordSet": "cr:recordSet",
    "field": "cr:field",
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "source": "cr:source",
    "extract": "cr:extract",
    "column": "cr:column",
    "fileObject": "cr:fileObject",
}

_KINDS = {"row": "cr:Int64", "x": "cr:Float32", "w": "cr:Int64", "part": "sc:Text"}

_CROISSANT = {
    "@context": _CONTEXT,
    "@type": "sc:Dataset",
    "name": "toy",
    "conformsTo": "http://mlcommons.org/croissant/1.0",
    "distribution": [
        {
            "@type": "cr:FileObject",
            "@id": "rows",
            "name": "rows",
            "contentUrl": "rows.parquet",
            "encodingFormat": "application/vnd.apache.parquet",
        }
    ],
    "recordSet": [
        {
            "@type": "cr:RecordSet",
            "@id": "toy",
            "name": "toy",
            "field": [
                {
                    "@type": "cr:Field",
                    "@id": f"toy/{name}",
                    "name": f"toy/{name}",
                    "dataType": kind,
                    "source": {"fileObject": {"@id": "rows"}, "extract": {"column": name}},
                }
                for name, kind in _KINDS.items()
            ],
        }
    ],
}

_DESCRIPTOR = """\
name: toy
croissant: croissant.json
fields: [{fields}]
splits:
"""


def toy_project(
    folder: Path, *, rows: dict[str, int] | None = None, first: int = 0, fields: str = "row, x", extra: str = ""
) -> Path:
    """A descriptor whose rows are numbered from `first` in each split; returns its path.

    Column `w` is 0 in every third row and 1 or 2 in the others.
    """
    rows = ROWS if rows is None else rows
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table(
        {
            "row": [first + row for count in rows.values() for row in range(count)],
            "x": pa.array([row / 10 for count in rows.values() for row in range(count)], pa.float32()),
            "w": [row % 3 for count in rows.values() for row in range(count)],
            "part": [name for name, count in rows.items() for _ in range(count)],
        }
    )
    pq.write_table(table, folder / "rows.parquet")
    (folder / "croissant.json").write_text(json.dumps(_CROISSANT))
    splits = "".join(f"  {name}: {{where: \"part = '{name}'\"}}\n" for name in rows)
    (folder / "toy.yaml").write_text(_DESCRIPTOR.format(fields=fields) + splits + extra)
    return folder / "toy.yaml"


def lightning(package: str) -> ModuleType:
    """One of the Lightning packages."""
    return importlib.import_module(package)


def toy_model(package: str, *, one_cycle: bool = False, **hparams: Any) -> Any:
    """A linear model that remembers, for each step, the rows it trained on and how Lightning counted it."""
    import torch

    pl = lightning(package)

    class Toy(pl.LightningModule):  # type: ignore[name-defined,misc]
        def __init__(self, **hparams: Any) -> None:
            super().__init__()
            if hparams:
                self.save_hyperparameters(hparams)
            self.layer = torch.nn.Linear(1, 1)
            self.seen: list[list[int]] = []
            self.counted: list[tuple[int, int, int, bool]] = []
            self.evaluated: list[int] = []

        def training_step(self, batch: Any, index: int) -> Any:
            self.seen.append(batch["row"].tolist())
            self.counted.append((self.current_epoch, index, self.global_step, self.trainer.is_last_batch))
            return self.layer(batch["x"][:, None]).mean()

        def validation_step(self, batch: Any, index: int) -> None:
            self.evaluated.extend(batch["row"].tolist())

        test_step = validation_step

        def predict_step(self, batch: Any, index: int) -> Any:
            return self.layer(batch["x"][:, None])

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            if not one_cycle:
                return optimizer
            steps = int(self.trainer.estimated_stepping_batches)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    return Toy(**hparams)


def toy_trainer(package: str, folder: Path, **options: Any) -> Any:
    """A quiet Trainer on one CPU."""
    quiet: dict[str, Any] = {
        "accelerator": "cpu", "devices": 1, "max_epochs": 2, "logger": False, "enable_progress_bar": False,
        "enable_model_summary": False, "enable_checkpointing": False, "log_every_n_steps": 1,
        "default_root_dir": folder,
    }  # fmt: skip
    return lightning(package).Trainer(**(quiet | options))


def example_module(project: Path, home: Path, kind: type[CoralDataModule] = CoralDataModule, **changes: Any) -> Any:
    """A data module over a toy project."""
    return kind(**({"descriptor": project, "batch_size": 4, "home": home} | changes))


def fit(
    package: str, folder: Path, dm: Any, *, ckpt: Path | None = None, one_cycle: bool = False, **options: Any
) -> Any:
    """Train; returns the model, which remembers its rows."""
    model = toy_model(package, one_cycle=one_cycle)
    toy_trainer(package, folder, **options).fit(model, datamodule=dm, ckpt_path=ckpt)
    return model

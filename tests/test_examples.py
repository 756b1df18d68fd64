"""The digits example: its data, its description, its pipeline, its training script, its Hydra configuration."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parent.parent
DIGITS = ROOT / "examples" / "digits"


def _load(name: str, monkeypatch):
    monkeypatch.syspath_prepend(str(DIGITS))
    spec = importlib.util.spec_from_file_location(f"digits_{name}", DIGITS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_data_is_what_make_data_writes(monkeypatch):
    assert pq.read_table(DIGITS / "digits.parquet").equals(_load("make_data", monkeypatch).digits_table())


def test_the_description_names_the_committed_bytes():
    croissant = json.loads((DIGITS / "croissant.json").read_text())
    (file,) = croissant["distribution"]
    data = (DIGITS / "digits.parquet").read_bytes()
    assert file["sha256"] == hashlib.sha256(data).hexdigest()
    assert file["contentSize"] == f"{len(data)} B"
    assert "creativecommons.org/licenses/by/4.0" in croissant["license"]
    assert "Alpaydin" in croissant["citeAs"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_mlcroissant_accepts_the_description_and_reads_the_same_rows():
    import mlcroissant

    dataset = mlcroissant.Dataset(str(DIGITS / "croissant.json"))
    assert not dataset.metadata.issues.errors
    assert not dataset.metadata.issues.warnings
    rows = list(dataset.records("digits"))
    table = pq.read_table(DIGITS / "digits.parquet").to_pydict()
    assert len(rows) == 1797
    assert [int(row["digits/label"]) for row in rows] == table["label"]
    assert np.array_equal(np.array([row["digits/image"] for row in rows]), np.array(table["image"]))


def test_the_pipeline_scales_ink_to_one(monkeypatch):
    pipeline = _load("pipeline", monkeypatch)
    batch = pq.read_table(DIGITS / "digits.parquet", columns=["image", "label"]).to_batches()[0]
    scaled = pipeline.scale(batch, max=16)
    assert scaled.schema.field("image").type == pa.list_(pa.list_(pa.float32(), 8), 8)
    assert scaled.schema.field("label").type == pa.int64()
    assert np.array_equal(np.array(scaled["image"].to_pylist()) * 16, np.array(batch["image"].to_pylist()))


def test_the_two_descriptors_differ_in_name_and_environment_only():
    def meaning(name: str) -> list[str]:
        lines = (DIGITS / name).read_text().splitlines()
        return [line for line in lines if not line.startswith(("#", "name:", "environment:"))]

    assert meaning("digits.yaml") == meaning("digits-docker.yaml")
    assert "environment" not in (DIGITS / "digits-docker.yaml").read_text().split("\n", 1)[1]


@pytest.mark.slow
def test_training_reaches_its_accuracy_and_the_second_run_rebuilds_nothing(tmp_path):
    first, second = (_train(tmp_path) for _ in range(2))
    assert float(first["test accuracy"]) >= 0.95
    assert re.fullmatch("[0-9a-f]{64}", first["data version"])
    assert first["rebuilt"] == "yes"
    assert second["rebuilt"].startswith("no")
    same = ("test accuracy", "data version", "content digest")
    assert [first[key] for key in same] == [second[key] for key in same]
    for run in (first, second):
        for folder in run["logged in"].split(", "):
            assert run["data version"] in (tmp_path / folder / "hparams.yaml").read_text()
        assert (tmp_path / run["checkpoint"]).is_file()


def _train(folder: Path) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", DIGITS / "train.py", "--logs", "logs"],
        cwd=folder, env=os.environ | {"CORAL_HOME": str(folder / "home")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(re.findall(r"^(\w+(?: \w+)?)  +(.+)$", done.stdout, flags=re.MULTILINE))

"""Whole trainings of the Hydra example: two processes that start elsewhere, and a run that goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hydra", reason="hydra-core is not installed")

from coralord_lightning.dataset import read_saved_state

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.slow


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("configs", "examples/hydra"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def _train(project: Path, run: str, *words: str) -> tuple[Path, dict[str, Any]]:
    """Train one epoch; returns the run's folder and the versions that it says it had."""
    folder = project / "runs" / run
    command = [sys.executable, "-W", "ignore", "examples/hydra/train.py", f"hydra.run.dir={folder}", "subset=pages_1"]
    env = {name: value for name, value in os.environ.items() if name != "PROJECT_ROOT"}
    done = subprocess.run(
        [*command, "trainer.max_epochs=1", *words], cwd=project, env=env | {"CORAL_HOME": str(project / "home")},
        capture_output=True, text=True, check=False, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, json.loads((folder / "data_version.json").read_text())


def test_two_processes_read_one_version_wherever_hydra_went(project):
    folder, versions = _train(project, "two", "trainer=ddp_sim", "hydra.job.chdir=true")
    state = read_saved_state(folder / "checkpoints" / "last.ckpt")
    assert state["version"] == versions["main"]
    (saved,) = (folder / "csv" / "version_0").glob("hparams.yaml")
    assert saved.read_text().count(versions["main"]["fingerprint"]) == 1  # though the model saves its own for no logger
    assert {path.name for path in folder.parent.iterdir()} == {"two"}


def test_a_run_goes_on_from_a_checkpoint_and_its_own_version_can_be_asked_for_again(project):
    folder, first = _train(project, "first")
    checkpoint = folder / "checkpoints" / "last.ckpt"
    _, second = _train(project, "second", "trainer.max_epochs=2", f"ckpt_path='{checkpoint}'")
    _, pinned = _train(project, "third", "subset=pages_2", f"data.pin={first['main']['fingerprint'][:12]}")
    assert second["main"]["fingerprint"] == pinned["main"]["fingerprint"] == first["main"]["fingerprint"]

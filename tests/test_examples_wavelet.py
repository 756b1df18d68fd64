"""The digits example with an image of its own: a library that the host does not have, installed from wheels."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from coralord_lightning import load
from coralord_lightning.errors import PipelineNotFoundError
from coralord_lightning.versions.status import status
from coralord_lightning.workspace import open_workspace

ROOT = Path(__file__).resolve().parent.parent
DIGITS = ROOT / "examples" / "digits"


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """The example's descriptor, in a copy of its tracked files."""
    folder = tmp_path / "digits"
    shutil.copytree(DIGITS, folder, ignore=shutil.ignore_patterns("wheels", "coral.lock", "__pycache__"))
    return folder / "digits-wavelet.yaml"


@pytest.fixture
def with_wheels(digits: Path) -> Path:
    wheels = os.environ.get("CORAL_TEST_DIGITS_WHEELS")
    if not wheels:
        if os.environ.get("CORAL_REQUIRE_DOCKER"):
            pytest.fail("CORAL_REQUIRE_DOCKER is set, but CORAL_TEST_DIGITS_WHEELS is not", pytrace=False)
        pytest.skip("needs the example's wheels: bash .ci/engine.sh up DIR && source DIR/env")
    shutil.copytree(wheels, digits.parent / "wheels")
    return digits


def denoised(images: np.ndarray, threshold: float) -> np.ndarray:
    """What the pipeline is to make, by matrices: two levels of Haar's transform, all bands but the coarsest shrunk."""
    coarse, clean = images.astype(np.float64), []
    for size in (8, 4):
        step = np.zeros((size, size))
        for pair in range(size // 2):
            step[pair, [2 * pair, 2 * pair + 1]] = np.sqrt(0.5)
            step[size // 2 + pair, [2 * pair, 2 * pair + 1]] = np.sqrt(0.5), -np.sqrt(0.5)
        bands = step @ coarse @ step.T
        half = size // 2
        shrunk = np.sign(bands) * np.maximum(np.abs(bands) - threshold, 0)
        clean.append((step, shrunk, half))
        coarse = bands[:, :half, :half]
    for step, shrunk, half in reversed(clean):
        shrunk[:, :half, :half] = coarse
        coarse = step.T @ shrunk @ step
    return (np.clip(coarse, 0, 16) / 16).astype(np.float32)


def test_the_host_lacks_the_library():
    assert importlib.util.find_spec("pywt") is None


@pytest.mark.docker
@pytest.mark.slow
def test_the_image_is_built_from_wheels_and_gives_what_the_library_gives(docker_config, with_wheels):
    workspace = open_workspace(docker_config)
    outcome = workspace.ensure(with_wheels, lock=True)
    assert outcome.built
    rows = pq.read_table(DIGITS / "digits.parquet")
    test = rows.filter(pc.equal(rows["part"], "test"))
    expected = denoised(np.array(test["image"].to_pylist()), threshold=2.0)
    given = load(with_wheels, home=docker_config.home).table("test")
    assert np.allclose(np.array(given["image"].to_pylist()), expected, atol=1e-6)
    assert given["label"].to_pylist() == test["label"].to_pylist()
    (with_wheels.parent / "README.md").write_text("other words")
    (with_wheels.parent / "denoise.py").write_text((DIGITS / "denoise.py").read_text() + "# a comment\n")
    assert status(workspace, with_wheels).state == "fresh"
    elsewhere = open_workspace(replace(docker_config, docker_host="unix:///nowhere/docker.sock"))
    assert not elsewhere.ensure(with_wheels).built


def test_without_its_image_the_library_is_missed_by_name(tmp_path, digits, docker_config):
    text = digits.read_text()
    assert "environment: {dockerfile: Dockerfile}" in text
    digits.write_text(text.replace("environment: {dockerfile: Dockerfile}", "environment: local"))
    with pytest.raises(PipelineNotFoundError, match="'pywt'") as caught:
        open_workspace(docker_config).ensure(digits)
    assert "environment: {dockerfile: Dockerfile}" in caught.value.remedy


def test_the_wheels_that_make_fetches_are_what_the_dockerfile_installs():
    wanted = (DIGITS / "requirements.txt").read_text().split()
    assert all("==" in line for line in wanted)
    shown = subprocess.run(
        ["make", "-n", "-o", ".venv/.ready", "digits-wheels"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert "-d examples/digits/wheels -r examples/digits/requirements.txt" in shown
    ignored = subprocess.run(["git", "check-ignore", "examples/digits/wheels/a.whl"], cwd=ROOT, check=False)
    assert ignored.returncode == 0

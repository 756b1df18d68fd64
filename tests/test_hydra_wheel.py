"""An installed wheel, outside the repository: Hydra, LightningCLI and a plain Trainer through a real shell."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytest.importorskip("hydra", reason="hydra-core is not installed")

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A project folder with the examples, and `venv` with our wheel in it, over the libraries of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", folder / "dist", ROOT], check=True, cwd=folder)
    (wheel,) = (folder / "dist").glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    site = sysconfig.get_path("purelib", vars={"base": str(folder / "venv"), "platbase": str(folder / "venv")})
    # a path within a .pth file brings libraries, but not the .pth of our own editable installation
    (Path(site) / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    subprocess.run([*pip, "--python", python, "install", "-q", "--no-deps", "--no-index", "-I", wheel], check=True)
    for name in ("configs", "examples"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "coral.lock", "logs"))
    return folder


def _shell(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PROJECT_ROOT")}
    env |= {"CORAL_HOME": str(folder / "home"), "PATH": f"{folder / 'venv' / 'bin'}:{env['PATH']}"}
    return subprocess.run(
        ["/bin/sh", "-c", command], cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=280
    )


def test_a_sweep_over_three_subsets_builds_what_they_share_once(installed):
    words = "paths.log_dir=$PWD/logs trainer.max_epochs=1"
    done = _shell(installed, f"python -W ignore examples/hydra/train.py -m subset=pages_1,pages_2,pages_3 {words}")
    assert done.returncode == 0, done.stderr
    found = [json.loads(path.read_text()) for path in sorted((installed / "logs").rglob("data_version.json"))]
    assert [version["main"]["name"] for version in found] == ["pages-1", "pages-2", "pages-3"]
    assert len({version["main"]["fingerprint"] for version in found}) == 3
    assert len([path for path in (installed / "home" / "partitions").rglob("*") if path.is_file()]) == 3


def test_an_override_through_a_shell_reaches_the_version(installed):
    words = "paths.log_dir=$PWD/one trainer.max_epochs=1"
    done = _shell(installed, f"""python -W ignore examples/hydra/train.py {words} 'subset.where="label < 5"'""")
    assert done.returncode == 0, done.stderr
    (found,) = (json.loads(path.read_text()) for path in (installed / "one").rglob("data_version.json"))
    assert found["main"]["num_rows"] == 901


def test_a_misspelt_field_or_key_fails_with_its_remedy(installed):
    done = _shell(
        installed, """python -W ignore examples/hydra/train.py paths.log_dir=$PWD/no 'subset.where="lable < 5"'"""
    )
    assert done.returncode != 0
    assert 'try:      where: "label < 5"' in done.stderr
    done = _shell(installed, "python -W ignore examples/hydra/train.py paths.log_dir=$PWD/no subset.wher=x")
    assert done.returncode != 0
    assert "Key 'wher' not in 'Subset (keys: name," in done.stderr


QUIET = "--trainer.max_epochs 1 --trainer.enable_progress_bar false --trainer.default_root_dir logs"


@pytest.mark.parametrize(
    "program",
    ["train.py fit --config digits.yaml", "-m coralord_lightning.lightning_cli fit --config any_model.yaml"],
    ids=["own script", "module"],
)
def test_lightning_cli_takes_a_subset_from_the_shell(installed, program):
    pytest.importorskip("jsonargparse", reason="jsonargparse is not installed")
    command = f"cd examples/lightning_cli && python -W ignore {program} {QUIET} --data.descriptor.where 'label < 5'"
    done = _shell(installed, f"rm -rf examples/lightning_cli/logs && {command}")
    assert done.returncode == 0, done.stderr
    (logged,) = (installed / "examples" / "lightning_cli" / "logs").rglob("hparams.yaml")
    assert "num_rows: 901" in logged.read_text()
    failed = _shell(installed, command.replace("label <", "lable <"))
    assert failed.returncode == 1
    assert 'try:      where: "label < 5"' in failed.stderr


@pytest.mark.parametrize(("where", "rows"), [("label < 5", 901), ("lable < 5", None)])
def test_a_plain_trainer_takes_a_subset_from_the_shell(installed, where, rows):
    edit = f"sed 's/^record_set: digits$/where: {where}/' digits.yaml > low.yaml"
    done = _shell(installed, f"cd examples/digits && {edit} && python -W ignore train.py low.yaml --epochs 1")
    if rows is None:
        assert done.returncode == 1
        assert 'try:      where: "label < 5"' in done.stderr
        return
    assert done.returncode == 0, done.stderr
    known = {version["fingerprint"]: version for version in json.loads(_shell(installed, "coral list --json").stdout)}
    (trained,) = (line.split()[-1] for line in done.stdout.splitlines() if line.startswith("data version"))
    assert known[trained]["num_rows"] == rows

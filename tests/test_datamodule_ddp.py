"""Real processes with gloo: one build, the same versions, each row once, one error on all, one sequence for any."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from toy_runs import PACKAGES, THIRD_PARTY_WARNINGS, example_module, fit, toy_project

pytestmark = THIRD_PARTY_WARNINGS

SCRIPT = """
import json, os, sys, warnings
from pathlib import Path

warnings.simplefilter("ignore")
package, project, folder, mode = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
rank = os.environ.get("LOCAL_RANK", "0")

from toy_runs import lightning, toy_model, toy_trainer
from coralord_lightning import CoralDataModule

options = {"batch_size": 4, "home": folder / "home"} | json.loads(sys.argv[5])
run = {"devices": 2, "max_epochs": 2} | json.loads(sys.argv[6])
ckpt = run.pop("ckpt", None)
dm = CoralDataModule(project, **options)
dm.prepare_data_per_node = mode != "per run"
if mode == "differs" and rank == "1":  # as on a node of its own, with other data
    dm.prepare_data = lambda: None
    dm._prepared = CoralDataModule(project.parents[1] / "other" / "toy.yaml", **options)._resolve(build=True)
if mode == "differs in val" and rank == "1":
    val = CoralDataModule(project.parents[1] / "other" / "toy.yaml", **options)._resolve(build=True)["main"]
    dm.prepare_data = lambda: None
    dm._prepared = CoralDataModule(project, **options)._resolve(build=True) | {"val": val}
if mode == "foreign":
    def fail(build):
        raise ZeroDivisionError("of someone else")
    dm._resolve = fail
if mode == "unprepared":
    dm.prepare_data = lambda: None

told = []
class Unguarded(lightning(package + ".loggers").Logger):  # most loggers ignore all ranks but zero by themselves
    name, version = "unguarded", 0
    def log_hyperparams(self, params, *args, **kwargs):
        told.extend(key for key in params if key == "coralord")
    def log_metrics(self, metrics, step=None):
        pass

class Saver(lightning(package).Callback):
    def on_train_batch_end(self, trainer, model, *rest):
        trainer.save_checkpoint(folder / f"{len(model.seen)}.ckpt")

model = toy_model(package)
callbacks = [Saver()] if mode == "saving" else []
trainer = toy_trainer(package, folder, strategy="ddp", logger=Unguarded(), callbacks=callbacks, **run)
out = {}
try:
    trainer.fit(model, datamodule=dm, ckpt_path=ckpt)
    if mode not in ("saving", "resumed"):
        trainer.test(model, datamodule=dm, verbose=False)
except BaseException as error:
    out = {"error": type(error).__name__, "text": str(error)}
else:
    out = {"version": dm.version.fingerprint, "name": dm.version.name, "train": model.seen, "val": model.evaluated}
    out["versions"] = {role: version.fingerprint for role, version in dm.versions.items()}
    out |= {"state": dm.state_dict(), "told": told}
(folder / f"rank{rank}.json").write_text(json.dumps(out))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_ddp(
    package: str, project: Path, folder: Path, mode: str = "", *, run: dict[str, Any] | None = None, **options: Any
) -> list[dict[str, Any]]:
    """What each of two processes, or of as many as `run` says, wrote down."""
    folder.mkdir(exist_ok=True)
    script = folder / "train.py"
    script.write_text(SCRIPT)
    environment = {
        **{name: value for name, value in os.environ.items() if name not in ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE")},
        "PYTHONPATH": str(Path(__file__).parent),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = [
        sys.executable,
        str(script),
        package,
        str(project),
        str(folder),
        mode,
        json.dumps(options),
        json.dumps(run or {}),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=150, check=False)
    found = [folder / f"rank{rank}.json" for rank in range((run or {}).get("devices", 2))]
    assert all(path.exists() for path in found), done.stderr.decode()[-3000:]
    return [json.loads(path.read_text()) for path in found]


@pytest.mark.parametrize("package", PACKAGES)
def test_both_ranks_read_one_build_and_each_row_once(package: str, tmp_path: Path) -> None:
    project = toy_project(tmp_path / "project", rows={"train": 21, "val": 6, "test": 5})

    zero, one = run_ddp(package, project, tmp_path / "run", global_batch_size=6, batch_size=None)

    assert zero["version"] == one["version"]
    assert zero["name"] == one["name"] == "toy"
    assert zero["state"]["version"] == one["state"]["version"]
    assert (zero["told"], one["told"]) == (["coralord"], []), "the version is logged once, on rank zero"
    assert len(list((tmp_path / "run" / "home" / "manifests").glob("*.json"))) == 1
    steps = 4
    for epoch in range(2):
        seen = [rank["train"][epoch * steps : (epoch + 1) * steps] for rank in (zero, one)]
        assert [len(batch) for batch in seen[0]] == [len(batch) for batch in seen[1]] == [3, 3, 3, 2]
        rows = [row for rank in seen for batch in rank for row in batch]
        assert len(rows) == 22  # one row fills the last batch up
        assert set(rows) == set(range(21))
    assert zero["train"][:steps] != zero["train"][steps:]


@pytest.mark.parametrize("mode", ["", "per run"])
def test_an_error_while_preparing_is_raised_on_both_ranks(mode: str, tmp_path: Path) -> None:
    zero, one = run_ddp(PACKAGES[0], tmp_path / "absent.yaml", tmp_path / "run", mode)

    assert zero["error"] == one["error"] == "DescriptorNotFoundError"
    assert zero["text"] == one["text"]


def test_an_error_that_is_not_ours_reaches_the_other_rank_too(tmp_path: Path) -> None:
    zero, one = run_ddp(PACKAGES[1], toy_project(tmp_path / "project"), tmp_path / "run", "foreign")

    assert zero["error"] == one["error"] == "CoralError"
    assert "failed on rank 0" in one["text"]
    assert "ZeroDivisionError('of someone else')" in one["text"]


@pytest.mark.parametrize(("mode", "subject"), [("differs", "version:"), ("differs in val", "val:")])
def test_ranks_with_different_versions_are_told_so(mode: str, subject: str, tmp_path: Path) -> None:
    toy_project(tmp_path / "other", rows={"train": 9})
    project = toy_project(tmp_path / "project")
    val = {"val": str(toy_project(tmp_path / "val", rows={"val": 4}))} if "val" in mode else {}

    zero, one = run_ddp(PACKAGES[1], project, tmp_path / "run", mode, **val)

    assert subject in one["text"]
    assert zero["error"] == one["error"] == "DataVersionMismatchError"
    assert "rank 0" in one["text"]
    assert "rank 1" in one["text"]


def test_a_global_batch_that_no_share_fits_is_refused_on_both(tmp_path: Path) -> None:
    zero, one = run_ddp(
        PACKAGES[0], toy_project(tmp_path / "project"), tmp_path / "run", batch_size=None, global_batch_size=5
    )

    assert zero["error"] == one["error"] == "UsageError"
    assert "global_batch_size=4" in zero["text"]


def test_without_prepare_data_nothing_is_built_in_setup(tmp_path: Path) -> None:
    zero, one = run_ddp(PACKAGES[1], toy_project(tmp_path / "project"), tmp_path / "run", "unprepared")

    assert zero["error"] == one["error"] == "StaleError"
    assert not list((tmp_path / "run" / "home").rglob("*.arrow"))


def test_a_run_of_two_goes_on_with_one_and_with_four_in_the_same_sequence(tmp_path: Path) -> None:
    """With several data, of which only rank 0 resolves any; the others open what it tells them."""
    project = toy_project(tmp_path / "a", rows={"train": 40})
    other = toy_project(tmp_path / "b", rows={"train": 24}, first=1000)
    val = toy_project(tmp_path / "c", rows={"val": 7}, first=2000)
    options: dict[str, Any] = {
        "batch_size": None, "global_batch_size": 8, "home": str(tmp_path / "home"), "val": str(val),
        "mixture": {str(project): {"weight": 2}, str(other): {"weight": 1}}, "epoch_size": 40, "skip": [[6, 7]],
    }  # fmt: skip
    two = run_ddp(PACKAGES[0], project, tmp_path / "two", "saving", **options)
    whole = steps_of(two)

    four = run_ddp(
        PACKAGES[0], project, tmp_path / "four", "resumed",
        run={"devices": 4, "ckpt": str(tmp_path / "two" / "3.ckpt")}, **options,
    )  # fmt: skip
    ones = {
        done: fit(PACKAGES[1], tmp_path, example_module(project, **options), ckpt=tmp_path / "two" / f"{done}.ckpt")
        for done in (3, 5, 7)
    }

    assert len(whole) == 9
    assert steps_of(four) == whole[3:]
    assert {done: [sorted(step) for step in one.seen] for done, one in ones.items()} == {
        done: [sorted(step) for step in whole[done:]] for done in ones
    }
    assert all(rank["versions"] == two[0]["versions"] for rank in (*two, *four))
    assert set(two[0]["versions"]) == {"main", "val", f"mixture.{project}", f"mixture.{other}"}
    assert sorted({row for rank in two for row in rank["val"][-4:]}) == list(range(2000, 2007))


def steps_of(ranks: list[dict[str, Any]]) -> list[list[int]]:
    """The rows of each step, in the order of the ranks."""
    return [[row for rows in step for row in rows] for step in zip(*(rank["train"] for rank in ranks), strict=True)]

"""One training with every logger at once, offline: each one's own files name the version, once, in its own reader."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from coralord_lightning import load
from lit_cloud import LitCloud, lit_cloud
from toy_runs import THIRD_PARTY_WARNINGS, toy_project
from wandb_files import records

pytestmark = [
    *THIRD_PARTY_WARNINGS,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*noload:DeprecationWarning"),  # MLflow's own use of SQLAlchemy 2.1
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # MLflow leaves its database open
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # the same, told late
]

TESTS = Path(__file__).resolve().parent


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run that has ended, and where its loggers wrote."""

    out: Path
    home: Path
    facts: dict[str, str]
    cloud: LitCloud
    repository: Path

    @property
    def fingerprint(self) -> str:
        return self.facts["fingerprint"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("logged")
    descriptor = toy_project(folder / "project")
    load(descriptor, home=folder / "home")
    (folder / "project" / "tracked.txt").write_text("1")
    git(folder / "project", "init", "-q")
    git(folder / "project", "add", "tracked.txt")
    git(folder / "project", "-c", "user.name=T", "-c", "user.email=t@example.org", "commit", "-qm", "one")
    with lit_cloud() as cloud:
        environ = {
            **os.environ,
            **cloud.environ,
            "PYTHONPATH": str(TESTS),
            "HOME": str(folder),
            "WANDB_MODE": "offline",
            "COMET_START_ONLINE": "0",
            "COMET_INTERNAL_SENTRY_DSN": "",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "1",
        }
        words = [str(descriptor), str(folder / "home"), str(folder / "out")]
        done = subprocess.run(
            [sys.executable, str(TESTS / "logged_run.py"), *words],
            cwd=folder / "project", env=environ, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-4000:]
        assert "did not take the data version" not in done.stderr
        facts = json.loads((folder / "out" / "facts.json").read_text())
        yield Run(out=folder / "out", home=folder / "home", facts=facts, cloud=cloud, repository=folder / "project")


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True, text=True).stdout.strip()


def hparams(folder: Path) -> dict[str, Any]:
    (path,) = folder.rglob("hparams.yaml")
    return yaml.safe_load(path.read_text())


def test_csv_and_tensorboard_keep_it_beside_the_hyperparameters_of_the_model(run: Run) -> None:
    for name in ("csv", "tb"):
        values = hparams(run.out / name)
        assert values["coralord"]["fingerprint"] == run.fingerprint
        assert values["coralord"]["versions"]["val"]["fingerprint"] == run.fingerprint
        assert values["coralord"]["git"] == {"commit": git(run.repository, "rev-parse", "HEAD"), "dirty": False}
        assert values["width"] == 3


def test_tensorboard_shows_one_table(run: Run) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    texts = []
    for path in (run.out / "tb").rglob("events.*"):
        events = EventAccumulator(str(path))
        events.Reload()
        for tag in events.Tags()["tensors"]:
            if tag.startswith("coralord"):
                texts += [item.tensor_proto.string_val[0].decode() for item in events.Tensors(tag)]
    (table,) = texts
    assert f"| fingerprint | `{run.fingerprint}` |" in table
    assert "| rows | 31 |" in table


def test_weights_and_biases_keep_a_config_and_a_used_artifact(run: Run) -> None:
    (path,) = (run.out / "wandb").rglob("*.wandb")
    artifacts, configs = [], []
    for record in records(path):
        if record.WhichOneof("record_type") == "artifact":
            artifacts.append(record.artifact)
        said = [*record.config.update, *record.run.config.update]
        configs += [item.value_json for item in said if "coralord" in (item.key, *item.nested_key[:1])]
    (config,) = configs
    assert json.loads(config)["fingerprint"] == run.fingerprint
    (artifact,) = artifacts
    assert (artifact.type, artifact.name, artifact.use_after_commit) == ("dataset", "toy", True)
    assert json.loads(artifact.metadata)["fingerprint"] == run.fingerprint
    (entry,) = artifact.manifest.contents
    assert entry.ref == (run.home / "manifests" / f"{run.fingerprint}.json").as_uri()


def test_mlflow_finds_the_run_by_its_tag_and_its_dataset(run: Run) -> None:
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{run.out / 'mlflow.db'}")
    tag = f"tags.`coralord.fingerprint` = '{run.fingerprint}'"
    (found,) = mlflow.search_runs(experiment_names=["toy"], filter_string=tag, output_format="list")
    (same,) = mlflow.search_runs(
        experiment_names=["toy"], filter_string=f"dataset.digest = '{run.fingerprint[:36]}'", output_format="list"
    )
    assert found.info.run_id == same.info.run_id == run.facts["run_id"]
    (used,) = found.inputs.dataset_inputs
    assert [tag.value for tag in used.tags] == ["training"]
    assert json.loads(used.dataset.profile) == {"num_rows": 31, "splits": {"test": 5, "train": 20, "val": 6}}
    assert [item["name"] for item in json.loads(used.dataset.schema)["mlflow_colspec"]] == ["row", "x"]
    assert used.dataset.source.count(run.fingerprint) == 1
    assert run.fingerprint not in json.dumps(found.data.params)


def test_comet_keeps_parameters_and_a_dataset(run: Run) -> None:
    (path,) = (run.out / "comet").glob("*.zip")
    with zipfile.ZipFile(path) as archive:
        lines = archive.read("messages.json").decode().splitlines()
    named = [json.loads(line) for line in lines if run.fingerprint in line]
    kinds = Counter(message["type"] for message in named)
    told = [message["payload"] for message in named]
    names = [item.get("param", {}).get("paramName") or item.get("log_other", {}).get("key") for item in told]
    assert kinds["parameter_msg"] == 2, names  # of the run, and of its validation data
    assert kinds["log_other"] == 1, names


def test_litlogger_keeps_it_among_the_tags_of_the_experiment(run: Run) -> None:
    tags = Counter(run.cloud.tags)
    assert tags["coralord.fingerprint", run.fingerprint] == 1
    assert tags["coralord.versions.val.fingerprint", run.fingerprint] == 1
    assert ("coralord.git.dirty", "False") in tags


def test_nothing_is_said_twice_to_the_store_of_mlflow(run: Run) -> None:
    import sqlite3

    with sqlite3.connect(run.out / "mlflow.db") as connection:
        (count,) = connection.execute("select count(*) from datasets").fetchone()
    connection.close()
    assert count == 1

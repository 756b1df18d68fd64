"""A run that goes on in the same logger's store, several data modules, other ranks: told once, and nothing raises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from coralord_lightning import load
from coralord_lightning.errors import CoralWarning
from coralord_lightning.tracking import log_version
from coralord_lightning.tracking.entry import MAX_ENTRY_BYTES, Entry
from coralord_lightning.tracking.mlflow import DIGEST_CHARS
from coralord_lightning.tracking.repository import RepositoryState
from coralord_lightning.workspace import Version
from toy_runs import PACKAGES, THIRD_PARTY_WARNINGS, example_module, lightning, toy_model, toy_project, toy_trainer

pytestmark = [
    *THIRD_PARTY_WARNINGS,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # MLflow leaves its database open
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # the same, told late
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow.*"),
    pytest.mark.filterwarnings("ignore::FutureWarning:mlflow.*"),
]


@pytest.fixture(scope="module")
def version(project: Path, home: Path) -> Version:
    return load(project, home=home).version


class Recorder:
    """Any logger: what it was told."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.told.append(params)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_run_of_mlflow_that_goes_on_holds_one_dataset(
    package: str, project: Path, home: Path, version: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    kind = lightning(package).loggers.MLFlowLogger
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    first = kind(experiment_name="toy", tracking_uri=uri)
    log_version(version, [first], {"main": version, "val": version})

    again = kind(experiment_name="toy", tracking_uri=uri, run_id=first.run_id)
    other = load(toy_project(tmp_path / "other", rows={"train": 7}), home=home).version
    log_version(version, [again], {"main": version, "val": version})
    trainer = toy_trainer(package, tmp_path, logger=again, max_epochs=1)
    trainer.fit(toy_model(package, width=3), datamodule=example_module(project, home))

    (used,) = again.experiment.get_run(first.run_id).inputs.dataset_inputs
    assert used.dataset.digest == version.fingerprint[:DIGEST_CHARS]
    assert again.experiment.get_run(first.run_id).data.tags["coralord.fingerprint"] == version.fingerprint
    log_version(other, [again])
    found = again.experiment.get_run(first.run_id)
    assert found.data.tags["coralord.fingerprint"] == other.fingerprint
    assert {item.dataset.digest for item in found.inputs.dataset_inputs} == {
        version.fingerprint[:DIGEST_CHARS],
        other.fingerprint[:DIGEST_CHARS],
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_two_data_modules_over_one_version_are_told_once(
    package: str, project: Path, home: Path, version: Version, tmp_path: Path
) -> None:
    logger = lightning(package).loggers.CSVLogger(tmp_path)
    told: list[Any] = []
    kept = logger.log_hyperparams
    logger.log_hyperparams = lambda params: (told.append(dict(params)), kept(params))
    trainer = toy_trainer(package, tmp_path, logger=logger, max_epochs=1)

    trainer.fit(toy_model(package), datamodule=example_module(project, home))
    trainer.validate(toy_model(package), datamodule=example_module(project, home), verbose=False)
    trainer.test(toy_model(package), datamodule=example_module(project, home), verbose=False)

    assert [one["coralord"]["fingerprint"] for one in told if "coralord" in one] == [version.fingerprint]


def test_other_ranks_tell_nothing(project: Path, home: Path, tmp_path: Path) -> None:
    logger = lightning(PACKAGES[0]).loggers.CSVLogger(tmp_path)
    trainer = toy_trainer(PACKAGES[0], tmp_path, logger=logger)
    dm = example_module(project, home)
    dm.trainer = _OtherRank(trainer)
    dm.prepare_data()
    dm.setup("fit")

    assert not hasattr(logger, "_coralord_logged")
    assert not list(tmp_path.rglob("hparams.yaml"))


class _OtherRank:
    """A Trainer that says it is not on rank zero."""

    is_global_zero = False

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trainer, name)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_subclass_of_a_logger_is_spoken_to_as_its_kind(package: str, version: Version, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    class Mine(lightning(package).loggers.TensorBoardLogger):  # type: ignore[name-defined,misc]
        pass

    logger = Mine(tmp_path)
    log_version(version, [logger])
    logger.experiment.flush()

    events = EventAccumulator(str(logger.log_dir))
    events.Reload()
    assert [tag for tag in events.Tags()["tensors"] if tag.startswith("coralord")] == ["coralord/text_summary"]


def test_a_class_of_that_name_from_elsewhere_is_any_logger(version: Version) -> None:
    logger = type("MLFlowLogger", (Recorder,), {})()

    log_version(version, [logger])

    assert logger.told[0]["coralord"]["fingerprint"] == version.fingerprint


def test_one_that_fails_is_told_again_next_time(version: Version) -> None:
    logger = Recorder()
    kept, logger.log_hyperparams = logger.log_hyperparams, _refuse  # type: ignore[method-assign]
    with pytest.warns(CoralWarning, match="did not take the data version"):
        log_version(version, [logger])
    logger.log_hyperparams = kept  # type: ignore[method-assign]

    log_version(version, [logger])

    assert len(logger.told) == 1


def _refuse(*args: Any, **kwargs: Any) -> None:
    raise ConnectionError("no route to the server")


@pytest.mark.parametrize("roles", [1, 12, 3000])
@pytest.mark.parametrize("length", [3, 3000])
def test_an_entry_is_at_most_four_kilobytes_and_says_what_it_leaves_out(
    roles: int, length: int, version: Version
) -> None:
    named = Version(manifest=version.manifest, home=version.home, name="n" * length)
    versions = {"main": named} | {f"mixture.{'r' * length}{number}": named for number in range(roles)}
    entry = Entry(versions=versions, repository=RepositoryState(commit="0" * 40, dirty=True)).to_json()

    assert len(json.dumps(entry).encode()) <= MAX_ENTRY_BYTES
    assert entry["fingerprint"] == version.fingerprint
    assert ("omitted" in entry) == (roles > 1 or length > 3)

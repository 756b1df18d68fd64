"""The version of a run reaches every logger once, whole, and never ends training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from coralord_lightning import load
from coralord_lightning.errors import CoralWarning, UsageError
from coralord_lightning.tracking import log_version
from toy_runs import PACKAGES, THIRD_PARTY_WARNINGS, example_module, lightning, toy_model, toy_project, toy_trainer

pytestmark = THIRD_PARTY_WARNINGS


def loggers(package: str, folder: Path) -> list[Any]:
    kinds = lightning(package).loggers
    return [kinds.CSVLogger(folder / "csv"), kinds.TensorBoardLogger(folder / "tb")]


def hparams(folder: Path) -> list[dict[str, Any]]:
    found = [*(folder / "csv").rglob("hparams.yaml"), *(folder / "tb").rglob("hparams.yaml")]
    return [yaml.safe_load(path.read_text()) for path in found]


def flat(values: Any) -> list[Any]:
    return [leaf for item in values.values() for leaf in flat(item)] if isinstance(values, dict) else [values]


def without_git(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != "git"}


class Recorder:
    """Any logger: what it was told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.told.append(params)


@pytest.mark.parametrize("autolog", [True, False])
@pytest.mark.parametrize("model", [{}, {"width": 3, "batch_size": 99}], ids=["no hparams", "hparams"])
@pytest.mark.parametrize("package", PACKAGES)
def test_csv_and_tensorboard_hold_the_whole_version(
    package: str, model: dict[str, int], autolog: bool, project: Path, home: Path, tmp_path: Path
) -> None:
    dm = example_module(project, home)
    trainer = toy_trainer(
        package, tmp_path, logger=loggers(package, tmp_path), max_epochs=1, enable_autolog_hparams=autolog
    )

    network = toy_model(package, **model)

    trainer.fit(network, datamodule=dm)
    trainer.test(network, datamodule=dm, verbose=False)

    written = hparams(tmp_path)
    assert len(written) == 2
    for values in written:
        assert without_git(values["coralord"]) == dm.version.to_json()
        assert dm.version.fingerprint in flat(values)
        assert dm.version.content_digest in flat(values)
        assert ({name: values[name] for name in model} == model) if autolog else set(values) == {"coralord"}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_users_hp_metric_is_left_alone(package: str, project: Path, home: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer = toy_trainer(
        package, tmp_path, logger=loggers(package, tmp_path), max_epochs=1, enable_autolog_hparams=False
    )
    trainer.fit(toy_model(package), datamodule=example_module(project, home))

    events = EventAccumulator(str(trainer.loggers[1].log_dir))
    events.Reload()
    assert "hp_metric" not in events.Tags()["scalars"]


def custom_logger(package: str) -> Any:
    class Custom(lightning(package).loggers.Logger):  # type: ignore[name-defined,misc]
        name, version = "custom", 0

        def __init__(self) -> None:
            super().__init__()
            self.told: list[Any] = []

        def log_metrics(self, metrics: Any, step: Any = None) -> None:
            pass

        def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
            self.told.append(params)

    return Custom()


@pytest.mark.parametrize("package", PACKAGES)
def test_any_logger_is_told_once_over_fit_and_test(package: str, project: Path, home: Path, tmp_path: Path) -> None:
    logger, dm = custom_logger(package), example_module(project, home)
    trainer = toy_trainer(package, tmp_path, logger=logger, max_epochs=1)

    trainer.fit(toy_model(package), datamodule=dm)
    trainer.test(toy_model(package), datamodule=dm, verbose=False)
    trainer.fit(toy_model(package), datamodule=dm)

    told = [told["coralord"] for told in logger.told if "coralord" in told]
    assert [without_git(one) for one in told] == [dm.version.to_json()]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_failing_logger_warns_and_training_goes_on(package: str, project: Path, home: Path, tmp_path: Path) -> None:
    logger, other = custom_logger(package), custom_logger(package)
    logger.log_hyperparams = broken

    model = toy_model(package)
    trainer = toy_trainer(package, tmp_path, logger=[logger, other], max_epochs=1, enable_autolog_hparams=False)
    with pytest.warns(CoralWarning, match="Custom did not take the data version .*: OSError"):
        trainer.fit(model, datamodule=example_module(project, home))

    assert len(model.seen) == 5
    assert len(other.told) == 1


def broken(*args: Any, **kwargs: Any) -> None:
    raise OSError("no route to the server")


def test_another_version_is_told_too_and_another_logger_hears_of_both(tmp_path: Path) -> None:
    first = load(toy_project(tmp_path / "a"), home=tmp_path / "home").version
    second = load(toy_project(tmp_path / "b", rows={"train": 3}), home=tmp_path / "home").version
    one, other = Recorder(), Recorder()

    log_version(first, [one])
    log_version(first, [one, other])
    log_version(second, [one, other])

    assert one.told == other.told
    assert [without_git(told["coralord"]) for told in one.told] == [first.to_json(), second.to_json()]


def test_what_is_logged_is_small_and_plain(project: Path, home: Path) -> None:
    told = load(project, home=home).version.to_json()

    assert len(yaml.safe_dump(told)) < 4096
    assert all(isinstance(leaf, str | int | float | bool | None) for leaf in flat(told))


def test_a_model_that_would_hide_the_version_in_its_loggers_is_refused(
    project: Path, home: Path, tmp_path: Path
) -> None:
    model = toy_model(PACKAGES[0], coralord="mine")
    with pytest.raises(UsageError, match="hyperparameter of the model"):
        toy_trainer(PACKAGES[0], tmp_path).fit(model, datamodule=example_module(project, home))

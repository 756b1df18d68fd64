"""Real Trainers of both Lightning packages: resume sees the same rows, or names the versions that differ."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from coralord_lightning import CoralDataModule
from coralord_lightning.errors import (
    CoralWarning,
    DataVersionMismatchError,
)
from coralord_lightning.stream.state import saved_state
from toy_runs import (
    PACKAGES,
    THIRD_PARTY_WARNINGS,
    example_module,
    fit,
    lightning,
    toy_model,
    toy_project,
    toy_trainer,
)
from toy_transforms import tenfold

pytestmark = THIRD_PARTY_WARNINGS


class Renamed(CoralDataModule):
    """A user's subclass."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    toy_project(folder / "other", rows={"train": 9}, first=1000, fields="row, x, w")
    return toy_project(folder, fields="row, x, w")


HOOKS = ("on_train_batch_end", "on_train_epoch_end", "on_validation_end")


def saver(package: str, folder: Path, *hooks: str) -> Any:
    """A callback that saves a checkpoint at each call of these hooks: files `<batches trained>-<hook>.ckpt`."""
    pl = lightning(package)

    def save(hook: str) -> Any:
        def called(self: Any, trainer: Any, model: Any, *rest: Any) -> None:
            if not trainer.sanity_checking:
                trainer.save_checkpoint(folder / f"{len(model.seen)}-{hook}.ckpt")

        return called

    return type("Saver", (pl.Callback,), {hook: save(hook) for hook in hooks})()


@pytest.mark.parametrize("package", PACKAGES)
def test_trains_tests_predicts_and_resumes_in_the_trainer_of(
    package: str, project: Path, home: Path, tmp_path: Path
) -> None:
    dm = example_module(project, home)
    whole = fit(package, tmp_path, dm)
    assert sorted(row for batch in whole.seen[:5] for row in batch) == list(range(20))
    assert whole.seen[:5] != whole.seen[5:]
    assert whole.evaluated[:6] == list(range(6))

    checkpoints = lightning(package).callbacks.ModelCheckpoint(dirpath=tmp_path, filename="run")
    fit(package, tmp_path, dm, max_epochs=1, enable_checkpointing=True, callbacks=[checkpoints])
    again = lightning(package).callbacks.ModelCheckpoint(dirpath=tmp_path, filename="run")
    resumed = fit(
        package, tmp_path, example_module(project, home), ckpt=tmp_path / "run.ckpt", enable_checkpointing=True,
        callbacks=[again],
    )  # fmt: skip
    assert resumed.seen == whole.seen[5:]

    trainer = toy_trainer(package, tmp_path)
    model = toy_model(package)
    trainer.test(model, datamodule=dm, verbose=False)
    assert model.evaluated == list(range(5))


ROUNDS: dict[str, Any] = {"max_epochs": 2}

SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # arguments of the data module, and of the Trainer
    "epochs": ({}, ROUNDS),
    "one cycle": ({}, ROUNDS | {"one_cycle": True}),
    "steps": ({}, {"max_steps": 8, "max_epochs": -1}),
    "limited": ({}, ROUNDS | {"limit_train_batches": 3}),
    "limited by a share": ({}, ROUNDS | {"limit_train_batches": 0.7, "one_cycle": True}),
    "validated within": ({}, ROUNDS | {"val_check_interval": 2}),
    "validated by share": ({"skip": [(6, 8)]}, ROUNDS | {"val_check_interval": 0.5}),
    "one cycle of limited steps": ({}, {"max_steps": 8, "limit_train_batches": 3, "one_cycle": True}),
    "accumulated": ({}, ROUNDS | {"accumulate_grad_batches": 2}),
    "block": ({"shuffle": "block"}, ROUNDS),
    "weights": ({"weights": "w", "epoch_size": 18}, ROUNDS | {"one_cycle": True}),
    "skipped": ({"skip": [(1, 3), (7, 8)]}, {"max_steps": 9, "max_epochs": -1}),
    "mixture": ({"stopping": "all"}, ROUNDS),
    "mixture of so many": ({"epoch_size": 18}, {"max_steps": 8, "limit_train_batches": 4}),
    "workers": ({"num_workers": 2, "transform": tenfold}, ROUNDS),
    "workers of limited steps": (
        {"num_workers": 2, "transform": {"train": tenfold}, "skip": [(6, 7)]},
        {"max_steps": 8, "max_epochs": -1, "limit_train_batches": 4, "one_cycle": True},
    ),
    "reloaded": ({}, ROUNDS | {"reload_dataloaders_every_n_epochs": 1}),
}


def settled(setting: str, project: Path, home: Path) -> Any:
    """A data module of a setting."""
    changes = dict(SETTINGS[setting][0])
    if setting.startswith("mixture"):
        changes["mixture"] = {
            str(project): {"weight": 3},
            "others": {"weight": 2, "descriptor": str(project.parent / "other" / "toy.yaml")},
        }
    return example_module(project, home, **changes)


@pytest.mark.parametrize("setting", SETTINGS)
def test_resume_from_any_checkpoint_sees_the_rows_of_the_uninterrupted_run(
    setting: str, project: Path, home: Path, tmp_path: Path
) -> None:
    options = SETTINGS[setting][1]
    package = PACKAGES[list(SETTINGS).index(setting) % 2]
    whole = fit(package, tmp_path, settled(setting, project, home), **options)
    fit(package, tmp_path, settled(setting, project, home), callbacks=[saver(package, tmp_path, *HOOKS)], **options)

    checkpoints = {path: int(path.stem.partition("-")[0]) for path in tmp_path.glob("*.ckpt")}
    assert set(checkpoints.values()) == set(range(1, len(whole.seen) + 1))
    for path, done in checkpoints.items():
        resumed = fit(package, tmp_path, settled(setting, project, home), ckpt=path, **options)
        assert resumed.seen == whole.seen[done:], path.name
        assert resumed.counted == whole.counted[done:], path.name


class Died(Exception):
    """A run that ended."""


@pytest.mark.parametrize("setting", ["epochs", "steps", "limited", "validated by share", "skipped"])
def test_a_run_that_dies_after_every_batch_sees_the_rows_of_one_that_does_not(
    setting: str, project: Path, home: Path, tmp_path: Path
) -> None:
    options = SETTINGS[setting][1]
    package = PACKAGES[list(SETTINGS).index(setting) % 2]

    class Dying(lightning(package).Callback):  # type: ignore[name-defined,misc]
        def on_train_batch_end(self, trainer: Any, model: Any, *rest: Any) -> None:
            trainer.save_checkpoint(tmp_path / "last.ckpt")
            lives.append(model)
            raise Died

    whole = fit(package, tmp_path, settled(setting, project, home), **options)
    lives: list[Any] = []
    for last in [None] + [tmp_path / "last.ckpt"] * (len(whole.seen) - 1):
        with pytest.raises(Died):
            fit(package, tmp_path, settled(setting, project, home), ckpt=last, callbacks=[Dying()], **options)
    over = fit(package, tmp_path, settled(setting, project, home), ckpt=tmp_path / "last.ckpt", **options)

    assert [life.seen for life in lives] == [[batch] for batch in whole.seen]
    assert [life.counted for life in lives] == [[count] for count in whole.counted]
    assert over.seen == []


KILLED = """
import os, sys
from pathlib import Path
from toy_runs import example_module, fit, lightning
from toy_transforms import tenfold

package, project, home, folder, hook, batches, workers = sys.argv[1:]

class Kill(lightning(package).Callback):
    pass

def kill(self, trainer, model, *rest):
    if len(model.seen) == int(batches):
        trainer.save_checkpoint(Path(folder) / "last.ckpt")
        os.kill(os.getpid(), 9)

setattr(Kill, hook, kill)
dm = example_module(project, home, num_workers=int(workers), transform={"train": tenfold})
fit(package, folder, dm, callbacks=[Kill()], one_cycle=True)
"""


@pytest.mark.parametrize(
    ("hook", "batches", "workers"),
    [
        ("on_train_batch_end", 3, 2),
        ("on_train_batch_end", 5, 0),
        ("on_train_epoch_end", 5, 2),
        ("on_validation_end", 10, 0),
    ],
)
def test_a_killed_run_goes_on_in_another_process(
    hook: str, batches: int, workers: int, project: Path, home: Path, tmp_path: Path
) -> None:
    package = PACKAGES[batches % 2]

    def module() -> Any:
        return example_module(project, home, num_workers=workers, transform={"train": tenfold})

    whole = fit(package, tmp_path, module(), one_cycle=True).seen

    killed = subprocess.run(
        [sys.executable, "-c", KILLED, package, project, home, tmp_path, hook, str(batches), str(workers)],
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        timeout=120,
    )
    assert killed.returncode == -9, killed.stderr.decode()

    resumed = fit(package, tmp_path, module(), ckpt=tmp_path / "last.ckpt", one_cycle=True)
    assert resumed.seen == whole[batches:]


@pytest.mark.parametrize("package", PACKAGES)
def test_state_is_found_by_a_class_of_another_name(package: str, project: Path, home: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"one_cycle": True}
    whole = fit(package, tmp_path, example_module(project, home), **options).seen
    hook = saver(package, tmp_path, "on_train_batch_end")
    fit(package, tmp_path, example_module(project, home, Renamed), callbacks=[hook], **options)

    resumed = fit(
        package, tmp_path, example_module(project, home), ckpt=tmp_path / "3-on_train_batch_end.ckpt", **options
    )

    assert resumed.seen == whole[3:]


@pytest.mark.parametrize("weights_only", [False, True])
def test_a_checkpoint_holds_the_version_in_plain_values(
    weights_only: bool, project: Path, home: Path, tmp_path: Path
) -> None:
    package = PACKAGES[1]
    dm = example_module(project, home, transform=_same)
    trainer = toy_trainer(package, tmp_path, max_epochs=1)
    trainer.fit(toy_model(package, batch_size=99), datamodule=dm)
    trainer.save_checkpoint(tmp_path / "run.ckpt", weights_only=weights_only)

    checkpoint = torch.load(tmp_path / "run.ckpt", weights_only=True)

    state = saved_state(checkpoint)
    assert state is not None
    assert state["version"] == dm.version.to_json()
    assert state["version"]["fingerprint"] == dm.version.fingerprint
    assert state["version"]["content_digest"] == dm.version.content_digest
    assert checkpoint["datamodule_hyper_parameters"]["batch_size"] == 4
    assert checkpoint["hyper_parameters"]["batch_size"] == 99
    assert "transform" not in checkpoint["datamodule_hyper_parameters"]


def _same(batch: Any) -> Any:
    return batch


@pytest.fixture
def moved(project: Path, home: Path, tmp_path: Path) -> Callable[[], Path]:
    """Trains on the project, changes its data, and returns the checkpoint of before."""

    def move() -> Path:
        fit(
            PACKAGES[0], tmp_path, example_module(tmp_path / "toy.yaml", home),
            callbacks=[saver(PACKAGES[0], tmp_path, "on_train_batch_end")],
        )  # fmt: skip
        toy_project(tmp_path, rows={"train": 24, "val": 6, "test": 5})
        return tmp_path / "3-on_train_batch_end.ckpt"

    toy_project(tmp_path, rows={"train": 20, "val": 6, "test": 5})
    return move


@pytest.mark.parametrize("kind", [CoralDataModule, Renamed])
def test_resume_on_other_data_names_both_versions_and_the_pin(
    kind: type[CoralDataModule], moved: Callable[[], Path], home: Path, tmp_path: Path
) -> None:
    checkpoint = moved()
    dm = example_module(tmp_path / "toy.yaml", home, kind)
    state = saved_state(torch.load(checkpoint, weights_only=True))
    assert state is not None

    with pytest.raises(DataVersionMismatchError) as caught:
        fit(PACKAGES[0], tmp_path, dm, ckpt=checkpoint)

    assert caught.value.facts == {"saved": state["version"]["fingerprint"], "loaded": dm.version.fingerprint}
    assert state["version"]["fingerprint"] in caught.value.remedy


@pytest.mark.parametrize("pin", ["fingerprint", "prefix", "checkpoint"])
def test_a_pin_trains_on_that_version_whatever_the_descriptor_says(
    pin: str, moved: Callable[[], Path], home: Path, tmp_path: Path
) -> None:
    checkpoint = moved()
    fingerprint = saved_state(torch.load(checkpoint, weights_only=True))["version"]["fingerprint"]  # type: ignore[index]
    value = {"fingerprint": fingerprint, "prefix": fingerprint[:12], "checkpoint": checkpoint}[pin]

    dm = example_module(tmp_path / "toy.yaml", home, pin=value)
    resumed = fit(PACKAGES[0], tmp_path, dm, ckpt=checkpoint)

    assert dm.version.fingerprint == fingerprint
    assert len(resumed.seen) == 7


@pytest.mark.parametrize("kind", [CoralDataModule, Renamed])
def test_load_from_checkpoint_pins_the_version_of_the_run(
    kind: type[CoralDataModule], moved: Callable[[], Path], home: Path, tmp_path: Path
) -> None:
    checkpoint = moved()

    dm = kind.load_from_checkpoint(checkpoint, weights_only=True)
    model = fit(PACKAGES[0], tmp_path, dm)

    assert dm.version.splits["train"] == 20
    assert (dm.batch_size, dm.version.name) == (4, "toy")
    assert sorted(row for batch in model.seen[:5] for row in batch) == list(range(20))


def test_load_from_checkpoint_without_that_version_anywhere_names_both(
    moved: Callable[[], Path], tmp_path: Path
) -> None:
    dm = CoralDataModule.load_from_checkpoint(moved(), home=tmp_path / "elsewhere")

    with pytest.raises(DataVersionMismatchError):
        dm.prepare_data()


def test_evaluating_on_other_data_than_trained_on_warns(moved: Callable[[], Path], home: Path, tmp_path: Path) -> None:
    checkpoint = moved()
    trainer = toy_trainer(PACKAGES[0], tmp_path)

    with pytest.warns(CoralWarning, match="was trained on version"):
        trainer.test(
            toy_model(PACKAGES[0]), datamodule=example_module(tmp_path / "toy.yaml", home), ckpt_path=checkpoint,
            verbose=False,
        )  # fmt: skip

"""Epochs of different lengths in real Trainers, by steps left out or other global batches: Lightning counts right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coralord_lightning.errors import CoralWarning, UsageError
from coralord_lightning.stream.state import saved_state
from toy_runs import PACKAGES, THIRD_PARTY_WARNINGS, example_module, lightning, toy_model, toy_trainer

pytestmark = THIRD_PARTY_WARNINGS

QUIET: dict[str, Any] = {"num_sanity_val_steps": 0, "max_epochs": 3}


def watched(package: str, folder: Path, dm: Any, *, ckpt: Path | None = None, **options: Any) -> dict[str, Any]:
    """Train, saving after every batch; returns what each epoch saw, when it validated, how long it was said to be."""
    epochs: list[dict[str, Any]] = []

    class Watch(lightning(package).Callback):  # type: ignore[name-defined,misc]
        def on_train_start(self, trainer: Any, model: Any) -> None:
            if trainer.fit_loop.restarted_mid_epoch:
                epochs.append({"length": trainer.num_training_batches, "from": len(model.seen), "validated": []})

        def on_train_epoch_start(self, trainer: Any, model: Any) -> None:
            epochs.append({"length": trainer.num_training_batches, "from": len(model.seen), "validated": []})

        def on_validation_end(self, trainer: Any, model: Any) -> None:
            epochs[-1]["validated"].append(len(model.seen) - epochs[-1]["from"])

        def on_train_batch_end(self, trainer: Any, model: Any, *rest: Any) -> None:
            trainer.save_checkpoint(folder / f"{len(model.seen)}.ckpt")

        def on_train_epoch_end(self, trainer: Any, model: Any) -> None:
            epochs[-1]["to"] = len(model.seen)

    model = toy_model(package)
    trainer = toy_trainer(package, folder, callbacks=[Watch()], **QUIET | options)
    trainer.fit(model, datamodule=dm, ckpt_path=ckpt)
    assert all(last == (step + 1 in [epoch["to"] for epoch in epochs]) for step, (*_, last) in enumerate(model.counted))
    return {
        "rows": [sorted(row for step in model.seen[e["from"] : e["to"]] for row in step) for e in epochs],
        "steps": [e["to"] - e["from"] for e in epochs],
        "lengths": [e["length"] for e in epochs],
        "validated": [e["validated"] for e in epochs],
        "model": model,
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_epochs_that_steps_are_left_out_of_are_shorter_and_validate(
    package: str, project: Path, home: Path, tmp_path: Path
) -> None:
    whole = watched(package, tmp_path, example_module(project, home))["model"].seen

    run = watched(package, tmp_path, example_module(project, home, skip=[(1, 3), (9, 11)]))

    assert run["lengths"] == run["steps"] == [3, 4, 4]
    assert run["validated"] == [[3], [4], [4]]
    assert run["model"].seen == [step for number, step in enumerate(whole) if number not in (1, 2, 9, 10)]


@pytest.mark.parametrize(
    ("options", "steps", "validated"),
    [
        ({"limit_train_batches": 4}, [3, 4, 4], [[3], [4], [4]]),
        ({"limit_train_batches": 0.5}, [1, 2, 2], [[1], [2], [2]]),
        ({"val_check_interval": 0.5}, [3, 4, 5], [[1, 2, 3], [2, 4], [2, 4]]),
        ({"val_check_interval": 2}, [3, 4, 5], [[2], [2, 4], [2, 4]]),
        ({"val_check_interval": 5, "check_val_every_n_epoch": None}, [3, 4, 5], [[], [2], [3]]),
    ],
)
def test_limits_and_validation_go_by_the_length_of_each_epoch(
    options: dict[str, Any], steps: list[int], validated: list[list[int]], project: Path, home: Path, tmp_path: Path
) -> None:
    run = watched(PACKAGES[1], tmp_path, example_module(project, home, skip=[(1, 3), (9, 10)]), **options)

    assert run["lengths"] == run["steps"] == steps
    assert run["validated"] == validated


def test_a_resumed_run_goes_on_leaving_out_what_it_was_started_with(project: Path, home: Path, tmp_path: Path) -> None:
    whole = watched(PACKAGES[0], tmp_path, example_module(project, home, skip=[(1, 3), (9, 11)]))["model"]

    resumed = watched(PACKAGES[0], tmp_path / "again", example_module(project, home), ckpt=tmp_path / "2.ckpt")
    further = watched(
        PACKAGES[0], tmp_path / "more", example_module(project, home, skip=[(13, 14)]), ckpt=tmp_path / "2.ckpt"
    )

    assert resumed["model"].seen == whole.seen[2:]
    assert resumed["steps"] == [1, 4, 4]
    assert further["steps"] == [1, 4, 3], "what is given is left out too"


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8, 20])
@pytest.mark.parametrize("done", [1, 3, 4, 5])
def test_another_global_batch_repeats_and_loses_nothing_of_the_epoch(
    done: int, batch_size: int, project: Path, home: Path, tmp_path: Path
) -> None:
    package = PACKAGES[done % 2]
    before = watched(package, tmp_path, example_module(project, home), max_epochs=1)["model"].seen[:done]

    dm = example_module(project, home, batch_size=batch_size, resume_batch="rebatch")
    run = watched(package, tmp_path / "again", dm, ckpt=tmp_path / f"{done}.ckpt")

    rest, whole = -(-(20 - 4 * done) // batch_size), -(-20 // batch_size)
    if done < 5:
        assert sorted([row for step in before for row in step] + run["rows"][0]) == list(range(20))
        assert run["lengths"] == [done + rest, whole, whole]
        assert run["steps"] == [rest, whole, whole]
        assert run["validated"] == [[rest], [whole], [whole]]
    else:
        assert run["lengths"] == run["steps"] == [whole, whole]
    assert run["rows"][1] == list(range(20))
    steps = [count[:3] for count in run["model"].counted]
    expected = [(0, done + step, done + step) for step in range(rest)]
    expected += [(epoch, step, done + rest + (epoch - 1) * whole + step) for epoch in (1, 2) for step in range(whole)]
    assert steps == expected


@pytest.mark.parametrize(
    ("options", "steps", "validated"),
    [
        ({"limit_train_batches": 4}, [2, 4, 4], [[2], [4], [4]]),
        ({"limit_train_batches": 0.5}, [2, 5, 5], [[2], [5], [5]]),
        ({"val_check_interval": 0.5}, [6, 10, 10], [[2, 6], [5, 10], [5, 10]]),
        ({"accumulate_grad_batches": 3}, [6, 10, 10], [[6], [10], [10]]),
    ],
)
def test_limits_and_validation_go_by_the_new_batches(
    options: dict[str, Any], steps: list[int], validated: list[list[int]], project: Path, home: Path, tmp_path: Path
) -> None:
    watched(PACKAGES[0], tmp_path, example_module(project, home), max_epochs=1)

    dm = example_module(project, home, batch_size=2, resume_batch="rebatch")
    run = watched(PACKAGES[0], tmp_path / "again", dm, ckpt=tmp_path / "2.ckpt", **options)

    assert run["steps"] == steps
    assert run["validated"] == validated


def test_a_run_that_changed_its_batch_resumes_again(project: Path, home: Path, tmp_path: Path) -> None:
    def module() -> Any:
        return example_module(project, home, batch_size=3, resume_batch="rebatch")

    watched(PACKAGES[0], tmp_path, example_module(project, home), max_epochs=1)
    whole = watched(PACKAGES[0], tmp_path / "one", module(), ckpt=tmp_path / "2.ckpt")["model"]

    for done in range(1, len(whole.seen)):
        resumed = watched(PACKAGES[0], tmp_path / "two", module(), ckpt=tmp_path / "one" / f"{done}.ckpt")["model"]
        assert resumed.seen == whole.seen[done:]
        assert resumed.counted == whole.counted[done:]


def test_another_global_batch_is_refused_within_an_epoch_unless_asked_for(
    project: Path, home: Path, tmp_path: Path
) -> None:
    watched(PACKAGES[0], tmp_path, example_module(project, home), max_epochs=1)

    with pytest.raises(UsageError, match="stood inside epoch 0") as caught:
        watched(PACKAGES[0], tmp_path, example_module(project, home, batch_size=2), ckpt=tmp_path / "3.ckpt")

    assert caught.value.facts == {"saved": "4", "loaded": "2"}
    assert caught.value.remedy == 'global_batch_size=4, or batch_size=4 with 1 process(es); or resume_batch="rebatch"'
    at_the_end = watched(
        PACKAGES[0], tmp_path / "again", example_module(project, home, batch_size=2), ckpt=tmp_path / "5.ckpt"
    )
    assert at_the_end["steps"] == [10, 10]


def test_a_limited_epoch_is_over_in_the_saved_state(project: Path, home: Path, tmp_path: Path) -> None:
    import torch

    watched(PACKAGES[0], tmp_path, example_module(project, home), limit_train_batches=3, max_epochs=2)

    found = [saved_state(torch.load(tmp_path / f"{done}.ckpt", weights_only=True)) for done in range(1, 7)]
    positions = [(state["loader"]["epoch"], state["loader"]["batches"], state["loader"]["step"]) for state in found]  # type: ignore[index]
    assert positions == [(0, 1, 1), (0, 2, 2), (1, 0, 3), (1, 1, 4), (1, 2, 5), (2, 0, 6)]


def test_steps_that_would_leave_an_epoch_empty_are_refused_before_training(
    project: Path, home: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="leaves no batch of epoch 1"):
        watched(PACKAGES[0], tmp_path, example_module(project, home, skip=[(4, 10)]))


@pytest.mark.parametrize("package", PACKAGES)
def test_a_run_that_ended_inside_an_epoch_tells_what_lightning_leaves_out_when_it_resumes(
    package: str, project: Path, home: Path, tmp_path: Path
) -> None:
    model = toy_model(package)
    trainer = toy_trainer(package, tmp_path, max_steps=3, max_epochs=-1, num_sanity_val_steps=0)
    trainer.fit(model, datamodule=example_module(project, home))
    trainer.save_checkpoint(tmp_path / "ended.ckpt")

    again = toy_trainer(package, tmp_path, max_steps=8, max_epochs=-1, num_sanity_val_steps=0)
    with pytest.warns(CoralWarning, match="batch 3 of epoch 0, and epoch 1 comes next"):
        again.fit(toy_model(package), datamodule=example_module(project, home), ckpt_path=tmp_path / "ended.ckpt")

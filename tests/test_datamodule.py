"""`CoralDataModule` in real Trainers of both Lightning packages: trains, saves, resumes, and touches nothing early."""

from __future__ import annotations

import pickle  # noqa: TID251  # others pickle data modules: spawned processes
from pathlib import Path
from typing import Any

import pytest
import torch

from coralord_lightning import CoralDataModule, load
from coralord_lightning.errors import (
    DescriptorNotFoundError,
    NotYetSupportedError,
    StaleError,
    UsageError,
    VersionNotFoundError,
)
from toy_runs import (
    PACKAGES,
    THIRD_PARTY_WARNINGS,
    example_module,
    fit,
    toy_model,
    toy_project,
    toy_trainer,
)

pytestmark = THIRD_PARTY_WARNINGS


def _same(batch: Any) -> Any:
    return batch


@pytest.mark.parametrize("package", PACKAGES)
def test_predicts_on_the_split_of_that_name(package: str, tmp_path: Path) -> None:
    project = toy_project(tmp_path, rows={"train": 4, "predict": 3})
    dm = example_module(project, tmp_path / "home")

    out = toy_trainer(package, tmp_path).predict(toy_model(package), datamodule=dm)

    assert [len(batch) for batch in out] == [3]
    assert dm.val_dataloader() == []


def test_overfit_batches_are_the_same_in_each_epoch(project: Path, home: Path, tmp_path: Path) -> None:
    model = fit(PACKAGES[0], tmp_path, example_module(project, home), overfit_batches=2)

    assert model.seen[:2] == model.seen[2:] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_constructing_printing_and_pickling_touch_nothing(tmp_path: Path) -> None:
    dm = CoralDataModule(tmp_path / "absent.yaml", batch_size=4, home=tmp_path / "home")

    again = pickle.loads(pickle.dumps(dm))

    assert repr(again) == str(dm) == f"CoralDataModule('{tmp_path}/absent.yaml', not resolved yet)"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="is not resolved yet"):
        _ = dm.version
    with pytest.raises(UsageError, match="comes after setup"):
        dm.train_dataloader()
    with pytest.raises(DescriptorNotFoundError):
        dm.prepare_data()


def test_a_module_that_was_set_up_is_pickled_with_its_version(project: Path, home: Path) -> None:
    dm = example_module(project, home)
    dm.setup()
    next(iter(dm.train_dataloader()))

    again = pickle.loads(pickle.dumps(dm))

    assert again.version.fingerprint == dm.version.fingerprint
    assert again.version.fingerprint[:12] in repr(again)


def test_setup_again_keeps_the_version_though_the_data_changed(tmp_path: Path) -> None:
    project = toy_project(tmp_path)
    dm = example_module(project, tmp_path / "home")
    dm.prepare_data()
    dm.setup("fit")
    before = dm.version
    toy_project(tmp_path, rows={"train": 3})

    dm.prepare_data()
    dm.setup("test")

    assert dm.version is before


def test_build_false_names_the_command(tmp_path: Path) -> None:
    dm = example_module(toy_project(tmp_path), tmp_path / "home", build=False)

    with pytest.raises(StaleError, match="coral build"):
        dm.prepare_data()


def test_a_missing_pin_is_named(project: Path, home: Path, tmp_path: Path) -> None:
    with pytest.raises(VersionNotFoundError):
        example_module(project, home, pin="abcdef").prepare_data()
    with pytest.raises(UsageError, match="neither a fingerprint nor a checkpoint"):
        example_module(project, home, pin="lost.ckpt").prepare_data()
    (tmp_path / "noise.ckpt").write_bytes(b"noise")
    with pytest.raises(UsageError, match="cannot be read as a checkpoint"):
        example_module(project, home, pin=tmp_path / "noise.ckpt").prepare_data()
    torch.save({"epoch": 1}, tmp_path / "other.ckpt")
    with pytest.raises(UsageError, match="without a data version"):
        example_module(project, home, pin=tmp_path / "other.ckpt").prepare_data()


def test_loaders_without_a_trainer(project: Path, home: Path) -> None:
    dm = example_module(
        project, home, batch_size=8, eval_batch_size=3, shuffle=False, drop_last=True, batch_as=["row", "x"],
        transform={"val": lambda batch: batch | {"row": batch["row"] + 100}},
    )  # fmt: skip
    dm.setup()

    assert [row.tolist() for row, _ in dm.train_dataloader()] == [list(range(8)), list(range(8, 16))]
    assert [row.tolist() for row, _ in dm.val_dataloader()] == [[100, 101, 102], [103, 104, 105]]
    assert [len(row) for row, _ in dm.test_dataloader()] == [3, 2]
    assert dm.predict_dataloader() == []
    assert dict(dm.classes) == {}
    assert dm.stats["x"].count == dm.version.splits["train"]


def test_a_loop_without_a_trainer_resumes_through_the_module(project: Path, home: Path) -> None:
    dm, again = example_module(project, home), example_module(project, home)
    dm.setup()
    loader = iter(dm.train_dataloader())
    next(loader)
    state = dm.state_dict()
    again.setup()
    again.load_state_dict(state)

    assert [b["row"].tolist() for b in again.train_dataloader()] == [b["row"].tolist() for b in loader]
    assert again.load_state_dict({"someone": "else's"}) is None


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"batch_size": None}, UsageError, "give either batch_size"),
        ({"global_batch_size": 8}, UsageError, "give either batch_size"),
        ({"batch_size": 0}, UsageError, "batch_size"),
        ({"shuffle": "half"}, UsageError, "shuffle"),
        ({"transform": {"trian": _same}}, UsageError, "write 'train'"),
        ({"batch_size": None, "global_batch_size": "8"}, UsageError, "global_batch_size"),
        ({"collate": "pda"}, UsageError, 'collate="pad"     # or "offsets"'),
        ({"batch_as": "row"}, UsageError, r"batch_as=\['row'\]"),
        ({"resume_batch": "again"}, UsageError, 'resume_batch="rebatch"'),
        ({"skip": [(3, 3)]}, UsageError, "the first below the second"),
        ({"skip": [4, 8]}, UsageError, r"skip=\[\(1000, 1010\)\]"),
        ({"lanes": 0}, UsageError, "lanes=1 or more"),
        ({"lanes": 3, "batch_size": None, "global_batch_size": 8}, UsageError, "a global batch of 9, or lanes=1"),
        ({"lanes": 2, "weights": "w"}, UsageError, "lanes=1"),
        ({"lanes": 2, "mixture": {"a": {"weight": 1}}}, UsageError, "do not go with a mixture"),
        ({"weights": "w", "shuffle": False}, UsageError, "shuffle=True"),
        ({"weights": "w", "mixture": {"a": {"weight": 1}}}, UsageError, "weights=None"),
        ({"epoch_size": 8}, UsageError, "limit_train_batches"),
        ({"epoch_size": 0, "weights": "w"}, UsageError, "epoch_size=1 or more"),
        ({"stopping": "first"}, UsageError, "leave stopping= out"),
        ({"stopping": "last", "mixture": {"a": {"weight": 1}}}, UsageError, 'stopping="first"'),
        ({"stopping": "all", "epoch_size": 8, "mixture": {"a": {"weight": 1}}}, UsageError, "leave one of them out"),
        ({"mixture": ["a", "b"]}, UsageError, "with its weight"),
        ({"mixture": {}}, UsageError, "name 1 to 64 sources"),
        ({"mixture": {"a": 0.5}}, UsageError, "with its weight"),
        ({"mixture": {"a": {"weigth": 1}}}, UsageError, "write 'weight'"),
        ({"mixture": {"a": {"weight": 0}}}, UsageError, "must be a number above 0"),
        ({"mixture": {"a": {}}}, UsageError, "weight: 1.0"),
        ({"mixture": {"a": {"weight": 1, "split": 3}}}, UsageError, "split: train"),
        ({"descriptor": None}, UsageError, "names no data"),
        ({"checkpoint_code": True}, NotYetSupportedError, "checkpoint_code"),
    ],
)
def test_arguments_are_refused_when_they_are_given(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        example_module(Path("toy.yaml"), Path("home"), **changes)


@pytest.mark.parametrize("changes", [{"update": "lokced"}, {"verify": "rad"}])
def test_a_mistyped_choice_is_refused_with_the_nearest(changes: dict[str, Any], project: Path, home: Path) -> None:
    with pytest.raises(UsageError, match=r'try: +(update="locked"|verify="read")'):
        example_module(project, home, **changes).prepare_data()


@pytest.mark.parametrize("form", ["mapping", "omegaconf", "model"])
def test_a_descriptor_in_any_form_survives_the_checkpoint(form: str, project: Path, home: Path, tmp_path: Path) -> None:
    omegaconf = pytest.importorskip("omegaconf")
    from coralord_lightning.spec.descriptor import parse_descriptor

    text = project.read_text()
    config = omegaconf.OmegaConf.create(text)
    descriptor = {
        "mapping": omegaconf.OmegaConf.to_container(config),
        "omegaconf": config,
        "model": parse_descriptor(text, origin="toy.yaml", base_dir=project.parent),
    }[form]
    base_dir = {} if form == "model" else {"base_dir": project.parent}
    dm = example_module(project, home, descriptor=descriptor, **base_dir)
    trainer = toy_trainer(PACKAGES[0], tmp_path, max_epochs=1)
    trainer.fit(toy_model(PACKAGES[0]), datamodule=dm)
    trainer.save_checkpoint(tmp_path / "run.ckpt")

    again = CoralDataModule.load_from_checkpoint(tmp_path / "run.ckpt", weights_only=True)
    again.setup()

    assert again.version.fingerprint == dm.version.fingerprint == load(project, home=home).version.fingerprint


def test_a_training_split_without_a_whole_batch_is_refused(project: Path, home: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leaves no batch") as caught:
        fit(PACKAGES[0], tmp_path, example_module(project, home, batch_size=64, drop_last=True))
    assert caught.value.remedy == "drop_last=False, or batch_size=20 or less"

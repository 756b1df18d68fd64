"""A run over several data, other descriptors for parts of it or mixtures: each version is resolved, kept, compared."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from coralord_lightning import CoralDataModule, load
from coralord_lightning.errors import (
    BatchError,
    CoralError,
    CoralWarning,
    DataVersionMismatchError,
    DescriptorNotFoundError,
    SplitNotFoundError,
    UnknownFieldError,
    UsageError,
)
from coralord_lightning.spec.descriptor import parse_descriptor
from coralord_lightning.stream.state import saved_state
from toy_runs import PACKAGES, THIRD_PARTY_WARNINGS, example_module, fit, toy_model, toy_project, toy_trainer

pytestmark = THIRD_PARTY_WARNINGS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Descriptors: `main` (20 train, 6 val, 5 test), `held` (7 val, 3 test), `only` (4 in one split), `more` (9)."""
    folder = tmp_path_factory.mktemp("projects")
    toy_project(folder / "main", fields="row, x, w")
    toy_project(folder / "held", rows={"val": 7, "test": 3}, first=100)
    toy_project(folder / "only", rows={"everything": 4}, first=200)
    toy_project(folder / "more", rows={"train": 9, "dev": 2}, first=1000, fields="row, x, w")
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Path:
    home = tmp_path_factory.mktemp("store")
    for name in ("main", "held", "only", "more"):
        load(folder / name / "toy.yaml", home=home)
    return home


def at(folder: Path, name: str) -> str:
    return str(folder / name / "toy.yaml")


def mixed(folder: Path, **changes: Any) -> dict[str, Any]:
    """A mixture of `main` and `more`."""
    return {
        at(folder, "main"): {"weight": 0.7},
        "more": {"weight": 0.3, "descriptor": at(folder, "more")} | changes,
    }


def rows_of(batches: Any) -> list[int]:
    return [row for batch in batches for row in batch["row"].tolist()]


@pytest.mark.parametrize("package", PACKAGES)
def test_other_descriptors_give_validation_test_and_prediction(
    package: str, folder: Path, home: Path, tmp_path: Path
) -> None:
    dm = example_module(
        folder / "main" / "toy.yaml", home, val=at(folder, "held"), test=at(folder, "only"), predict=at(folder, "only")
    )

    model = fit(package, tmp_path, dm, max_epochs=1, num_sanity_val_steps=0)
    tested = toy_model(package)
    toy_trainer(package, tmp_path).test(tested, datamodule=dm, verbose=False)
    predicted = toy_trainer(package, tmp_path).predict(toy_model(package), datamodule=dm)

    assert sorted(rows_of_steps(model.seen)) == list(range(20))
    assert model.evaluated == list(range(100, 107)), "its split of that name"
    assert tested.evaluated == list(range(200, 204)), "its only split"
    assert sum(len(batch) for batch in predicted) == 4
    assert list(dm.versions) == ["main", "val", "test", "predict"]
    assert dm.version.fingerprint == dm.versions["main"].fingerprint != dm.versions["val"].fingerprint
    assert dm.versions["test"].fingerprint == dm.versions["predict"].fingerprint


def rows_of_steps(steps: list[list[int]]) -> list[int]:
    return [row for step in steps for row in step]


@pytest.mark.parametrize("form", ["mapping", "omegaconf", "model"])
def test_other_data_in_any_form_survive_the_checkpoint(form: str, folder: Path, home: Path, tmp_path: Path) -> None:
    omegaconf = pytest.importorskip("omegaconf")

    def other(name: str) -> Any:
        text, base_dir = (folder / name / "toy.yaml").read_text(), folder / name
        if form == "model":
            return parse_descriptor(text, origin="toy.yaml", base_dir=base_dir)
        config = omegaconf.OmegaConf.create(text)
        config.base_dir = str(base_dir)
        return config if form == "omegaconf" else omegaconf.OmegaConf.to_container(config)

    mixture: Any = {
        "one": {"weight": 1, "descriptor": other("main")},
        "two": {"weight": 2, "descriptor": other("more")},
    }
    if form == "omegaconf":
        mixture = omegaconf.OmegaConf.create(mixture)
    dm = CoralDataModule(batch_size=4, home=home, val=other("held"), mixture=mixture, skip=[[0, 1]])
    trainer = toy_trainer(PACKAGES[0], tmp_path, max_epochs=1)
    trainer.fit(toy_model(PACKAGES[0]), datamodule=dm)
    trainer.save_checkpoint(tmp_path / "run.ckpt")

    again = CoralDataModule.load_from_checkpoint(tmp_path / "run.ckpt", weights_only=True)
    again.setup()

    fingerprints = {role: version.fingerprint for role, version in again.versions.items()}
    assert fingerprints == {
        "mixture.one": load(at(folder, "main"), home=home).version.fingerprint,
        "mixture.two": load(at(folder, "more"), home=home).version.fingerprint,
        "val": load(at(folder, "held"), home=home).version.fingerprint,
    }
    loader = again.train_dataloader()
    assert loader.recipe.skip == ((0, 0, 4),)
    first = example_module(None, home, mixture=mixture)
    first.setup()
    second_epoch = first.train_dataloader()
    second_epoch.set_epoch(1)
    assert rows_of(loader) == rows_of(second_epoch)


def test_a_mixture_draws_from_all_sources_and_needs_no_descriptor(folder: Path, home: Path) -> None:
    dm = example_module(None, home, mixture=mixed(folder), epoch_size=40, batch_size=8)
    dm.setup()

    rows = rows_of(dm.train_dataloader())

    assert len(rows) == 40
    assert sum(row < 1000 for row in rows) == 28
    assert list(dm.versions) == [f"mixture.{at(folder, 'main')}", "mixture.more"]
    assert dm.version.splits["train"] == 20, "the first source's"
    assert dm.val_dataloader() == dm.test_dataloader() == dm.predict_dataloader() == []


def test_beside_a_mixture_the_descriptor_gives_what_is_evaluated_on(folder: Path, home: Path) -> None:
    dm = example_module(folder / "held" / "toy.yaml", home, mixture=mixed(folder, split="dev"), epoch_size=20)
    dm.setup()

    rows = rows_of(dm.train_dataloader())

    assert {row for row in rows if row >= 1000} == {1000, 1001}
    assert rows_of(dm.val_dataloader()) == list(range(100, 107))
    assert rows_of(dm.test_dataloader()) == [100, 101, 102]
    assert dm.version.splits == {"val": 7, "test": 3}


def test_a_mixture_ends_with_its_first_source_or_with_all(folder: Path, home: Path) -> None:
    lengths = {}
    for stopping in ("first", "all"):
        dm = example_module(None, home, mixture=mixed(folder), stopping=stopping, drop_last=True, batch_size=1)
        dm.setup()
        rows = rows_of(dm.train_dataloader())
        lengths[stopping] = len(rows)
        seen_once = [row for row in set(rows) if rows.count(row) == 1]
        assert (len(seen_once) == len(rows)) == (stopping == "first")
        assert (set(rows) >= {*range(20), *range(1000, 1009)}) == (stopping == "all")
    assert lengths["first"] < 29 < lengths["all"]


def test_weights_draw_rows_by_a_column(folder: Path, home: Path) -> None:
    dm = example_module(folder / "main" / "toy.yaml", home, weights="w", epoch_size=400, batch_size=40)
    dm.setup()

    rows = rows_of(dm.train_dataloader())

    assert len(rows) == 400
    assert {row % 3 for row in rows} == {1, 2}, "a row of weight 0 is never drawn"
    assert sum(row % 3 == 2 for row in rows) > 200


@pytest.mark.parametrize("changes", [{"weights": "w"}, {"mixture": True}], ids=["weights", "mixture"])
def test_overfit_batches_draw_nothing(changes: dict[str, Any], folder: Path, home: Path, tmp_path: Path) -> None:
    changes = {"mixture": mixed(folder)} if "mixture" in changes else changes

    model = fit(PACKAGES[0], tmp_path, example_module(at(folder, "main"), home, **changes), overfit_batches=2)

    assert model.seen[:2] == model.seen[2:] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_evaluation_reads_in_stored_order_whatever_training_does(folder: Path, home: Path) -> None:
    orders = []
    for changes in ({}, {"seed": 7, "weights": "w", "skip": [(0, 1)]}, {"lanes": 2, "shuffle": "block"}):
        dm = example_module(at(folder, "main"), home, **changes)
        dm.setup()
        loader = dm.val_dataloader()
        loader.set_epoch(3)
        batches = list(loader)
        assert sorted(rows_of(batches)) == list(range(6))
        orders.append(rows_of(batches))
    assert orders[0] == orders[1] == list(range(6))
    assert orders[2] == [0, 1, 3, 4, 2, 5], "each batch takes as many rows from each lane"


def test_the_state_and_the_loggers_hold_every_version(folder: Path, home: Path, tmp_path: Path) -> None:
    from test_tracking import custom_logger, without_git

    logger = custom_logger(PACKAGES[0])
    dm = example_module(at(folder, "main"), home, val=at(folder, "held"), mixture=mixed(folder))
    trainer = toy_trainer(PACKAGES[0], tmp_path, max_epochs=1, logger=logger)
    trainer.fit(toy_model(PACKAGES[0]), datamodule=dm)
    trainer.save_checkpoint(tmp_path / "run.ckpt")

    state = saved_state(torch.load(tmp_path / "run.ckpt", weights_only=True))

    assert state is not None
    assert json.loads(json.dumps(state)) == state
    assert state["version"] == dm.version.to_json()
    assert state["versions"] == {role: version.to_json() for role, version in dm.versions.items()}
    told = [without_git(params["coralord"]) for params in logger.told if "coralord" in params]
    others = {role: version.to_json() for role, version in dm.versions.items() if role != "main"}
    assert told == [dm.version.to_json() | {"versions": others}]


@pytest.fixture
def run(home: Path, tmp_path: Path) -> dict[str, Any]:
    """A run whose validation data and second source have changed since its checkpoint was saved."""
    for name, rows in (("val", {"val": 5}), ("more", {"train": 9})):
        toy_project(tmp_path / name, rows=rows, first=300)
    toy_project(tmp_path / "main")
    arguments = {
        "home": home,
        "val": at(tmp_path, "val"),
        "mixture": {"main": {"weight": 1, "descriptor": at(tmp_path, "main")}, "more": {
            "weight": 1, "descriptor": at(tmp_path, "more")}},
    }  # fmt: skip
    trainer = toy_trainer(PACKAGES[0], tmp_path, max_epochs=1)
    dm = example_module(at(tmp_path, "main"), **arguments)
    trainer.fit(toy_model(PACKAGES[0]), datamodule=dm)
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    return {"arguments": arguments, "ckpt": tmp_path / "run.ckpt", "dm": dm, "folder": tmp_path}


def fingerprints(dm: CoralDataModule) -> dict[str, str]:
    return {role: version.fingerprint for role, version in dm.versions.items()}


@pytest.mark.parametrize(("changed", "role"), [("val", "val"), ("more", "mixture.more")])
def test_resume_on_other_data_of_any_role_names_it_and_both_versions(
    changed: str, role: str, run: dict[str, Any]
) -> None:
    toy_project(run["folder"] / changed, rows={"train" if changed == "more" else "val": 6}, first=300)
    dm = example_module(at(run["folder"], "main"), **run["arguments"])

    with pytest.raises(DataVersionMismatchError) as caught:
        fit(PACKAGES[0], run["folder"], dm, ckpt=run["ckpt"])

    assert caught.value.facts == {
        "saved": fingerprints(run["dm"])[role], "loaded": fingerprints(dm)[role], "data of": role,
    }  # fmt: skip
    if role == "mixture.more":
        assert f'"more": {{"pin": "{fingerprints(run["dm"])[role]}"' in caught.value.remedy
    else:
        assert "load_from_checkpoint" in caught.value.remedy
    with pytest.warns(CoralWarning, match="was trained on version"):
        toy_trainer(PACKAGES[0], run["folder"]).validate(
            toy_model(PACKAGES[0]), datamodule=dm, ckpt_path=run["ckpt"], verbose=False
        )


@pytest.mark.parametrize("way", ["load_from_checkpoint", "pin"])
def test_a_checkpoint_pins_the_data_of_all_roles(way: str, run: dict[str, Any]) -> None:
    for name, rows in (("val", {"val": 6}), ("more", {"train": 8}), ("main", {"train": 7})):
        toy_project(run["folder"] / name, rows=rows, first=300)

    if way == "pin":
        dm = example_module(at(run["folder"], "main"), pin=run["ckpt"], **run["arguments"])
    else:
        dm = CoralDataModule.load_from_checkpoint(run["ckpt"], weights_only=True)
    resumed = fit(PACKAGES[0], run["folder"], dm, ckpt=run["ckpt"])

    assert fingerprints(dm) == fingerprints(run["dm"])
    assert resumed.counted[0][0] == 1


def test_a_source_is_pinned_by_its_fingerprint_and_then_needs_no_descriptor(folder: Path, home: Path) -> None:
    fingerprint = load(at(folder, "more"), home=home).version.fingerprint
    dm = example_module(None, home, mixture={"gone": {"weight": 1, "pin": fingerprint[:12]}})
    dm.setup()

    assert dm.versions["mixture.gone"].fingerprint == fingerprint
    assert sorted(rows_of(dm.train_dataloader()))[:9] == sorted({*range(1000, 1009)})[:9]


def test_resume_of_a_mixture_in_other_proportions_says_the_saved_ones(folder: Path, home: Path) -> None:
    dm = example_module(None, home, mixture=mixed(folder))
    dm.setup()
    next(iter(dm.train_dataloader()))
    other = example_module(None, home, mixture=mixed(folder, weight=0.4))
    other.setup()
    other.load_state_dict(dm.state_dict())

    with pytest.raises(UsageError, match="in another proportion") as caught:
        other.train_dataloader()

    assert caught.value.facts["saved"] == f"7/10 of {at(folder, 'main')}, 3/10 of more"
    saved = eval(caught.value.remedy.partition("#")[0].removeprefix("mixture="))
    saved["more"]["descriptor"] = at(folder, "more")
    again = example_module(None, home, mixture=saved)
    again.setup()
    again.load_state_dict(dm.state_dict())
    assert again.train_dataloader().position.batches == 1


def wrong_uses(folder: Path) -> dict[str, tuple[type[CoralError], dict[str, Any], tuple[str, ...]]]:
    """Name -> the error, the arguments, and what its text says."""
    main, only, more = at(folder, "main"), at(folder, "only"), at(folder, "more")
    return {
        "val without its split": (
            SplitNotFoundError, {"descriptor": main, "val": more},
            ("val: there is no split 'val'", "splits:   dev, train", "call one of these splits 'val'"),
        ),
        "a source without train": (
            SplitNotFoundError, {"mixture": {"held": {"weight": 1, "descriptor": at(folder, "held")}}},
            ("mixture.held: there is no split 'train'", '"held": {"split": "test", …}'),
        ),
        "a source's mistyped split": (
            SplitNotFoundError, {"mixture": {"a": {"weight": 1, "descriptor": main, "split": "trian"}}},
            ("mixture.a.split: there is no split 'trian'", '"a": {"split": "train", …}'),
        ),
        "an absent descriptor for a part": (
            DescriptorNotFoundError, {"descriptor": main, "test": str(folder / "absent.yaml")}, ("data of:  test",),
        ),
        "a source that names no file": (
            DescriptorNotFoundError, {"mixture": {"web": {"weight": 1}}},
            ("data of:  mixture.web", '"web": {"descriptor": '),
        ),
        "nothing to train on": (SplitNotFoundError, {"descriptor": at(folder, "held")}, (
            "splits:   test, val", f'mixture={{"{at(folder, "held")}": {{"weight": 1, "split": "test"}}}}',
        )),
        "a pin of nothing": (
            UsageError, {"mixture": {"a": {"weight": 1, "descriptor": only}}, "pin": "abcdef"},
            ("pin: pins the data of descriptor=", 'mixture={"a": {"pin": "abcdef", …}}'),
        ),
        "weights of no column": (UnknownFieldError, {"descriptor": main, "weights": "v"}, ("unknown field 'v'",)),
        "batch_as of no field": (UnknownFieldError, {"descriptor": main, "batch_as": ["rwo"]}, ("write 'row'",)),
        "steps that leave nothing": (
            UsageError, {"descriptor": main, "skip": [(5, 12)]},
            ("skip: leaves no batch of epoch 1", "skip fewer steps than 5 to 9"),
        ),
        "an epoch of no batch": (
            UsageError, {"descriptor": main, "batch_size": 64, "drop_last": True}, ("batch_size=20 or less",),
        ),
    }  # fmt: skip


def train(dm: CoralDataModule) -> None:
    dm.setup()
    dm.train_dataloader()


@pytest.mark.parametrize("use", wrong_uses(Path()))
def test_a_wrong_use_is_told_with_what_to_do(use: str, folder: Path, home: Path) -> None:
    kind, changes, texts = wrong_uses(folder)[use]
    dm = CoralDataModule(**({"batch_size": 4, "home": home} | changes))

    with pytest.raises(kind) as caught:
        train(dm)

    for text in texts:
        assert text in str(caught.value), str(caught.value)


def test_a_transform_that_loses_the_batch_is_told(folder: Path, home: Path) -> None:
    dm = example_module(at(folder, "main"), home, collate=len, batch_as=["row"])
    dm.setup()

    with warnings.catch_warnings(), pytest.raises(BatchError, match="return a dict from the collate"):
        next(iter(dm.train_dataloader()))

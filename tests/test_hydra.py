"""Hydra: what is composed, that a typo is an error then, and which paths come out. Real Hydra, no Trainer."""

from __future__ import annotations

import dataclasses
import inspect
import json
import pickle  # noqa: TID251  # what launchers of Hydra do
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("hydra", reason="hydra-core is not installed")

from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from coralord_lightning import CoralDataModule, SubsetDescriptor
from coralord_lightning.config.schemas import (
    CoralDataModuleSchema,
    PipelineSchema,
    SplitSchema,
    SubsetSchema,
    base_dir,
    shipped,
)
from coralord_lightning.errors import UnknownFieldError, UsageError
from coralord_lightning.spec.descriptor import PipelineOptions, SplitOptions

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
SUBSETS = ["digits", "digits_even", "digits_odd", "digits_low", "digits_scaled", "pages_1", "pages_2", "pages_3"]

# a template as others have it: nothing of ours in it but one word
FOREIGN = "defaults: [_self_, {data: coralord/digits}]\nseed: 1\n"


@pytest.fixture
def project(monkeypatch):
    monkeypatch.setenv("PROJECT_ROOT", str(ROOT))
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        yield lambda *words: compose("train", overrides=list(words))


@pytest.fixture
def foreign(tmp_path):
    (tmp_path / "train.yaml").write_text(FOREIGN)
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        yield lambda *words: compose("train", overrides=list(words))


def _reason(error: BaseException | None) -> str:
    texts = []
    while error is not None:
        texts.append(str(error))
        error = error.__cause__
    return "\n".join(texts)


def _data(config, home) -> CoralDataModule:
    return instantiate(config.data, home=str(home))


def _keys(schema) -> set[str]:
    return {item.name for item in dataclasses.fields(schema) if not item.name.startswith("_")}


def test_the_schemas_have_every_argument_and_every_key():
    arguments = inspect.signature(CoralDataModule).parameters
    assert _keys(CoralDataModuleSchema) == set(arguments)
    assert _keys(SubsetSchema) == {*SubsetDescriptor.model_fields, "base_dir"}
    assert _keys(PipelineSchema) == set(PipelineOptions.model_fields)
    assert _keys(SplitSchema) == {info.alias or name for name, info in SplitOptions.model_fields.items()}
    for item in dataclasses.fields(CoralDataModuleSchema):
        assert item.name.startswith("_") or item.default == arguments[item.name].default, item.name


@pytest.mark.parametrize("subset", SUBSETS)
def test_every_subset_is_a_descriptor(project, subset, tmp_path):
    data = _data(project(f"subset={subset}"), tmp_path)
    said = data.hparams["descriptor"]
    assert None not in said.values()
    folder = Path(said["base_dir"])
    assert folder.is_absolute()
    assert (folder / said["croissant"]).is_file() if "croissant" in said else (folder / said["files"][0]).is_file()


@pytest.mark.parametrize(
    "path", sorted(path for path in CONFIGS.rglob("*.yaml") if path.parent.name not in ("configs", "subset")), ids=str
)
def test_every_configuration_of_the_project_composes(project, path):
    group, name = path.parent.name, path.stem
    word = f"hydra={name}" if group == "hydra" else f"{group}={name}"
    config = project() if group == "hydra" else project(word)
    assert config.data["_target_"] == "coralord_lightning.CoralDataModule"


def test_a_template_takes_the_shipped_digits_by_one_word(foreign, tmp_path):
    config = foreign("subset=digits_even", 'subset.where="label < 5 AND label % 2 = 0"')
    data = _data(config, tmp_path / "home")
    data.prepare_data()
    data.setup("fit")
    x, y = next(iter(data.train_dataloader()))
    assert x.shape == (64, 8, 8)
    assert set(y.tolist()) == {0, 2, 4}
    assert data.version.name == "digits-even"


def test_a_users_own_file_wins_over_the_shipped_one(tmp_path):
    (tmp_path / "train.yaml").write_text(FOREIGN)
    (tmp_path / "subset").mkdir()
    (tmp_path / "subset" / "digits.yaml").write_text("name: mine\nfiles: a.csv\n")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        assert compose("train").subset.name == "mine"


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("subset.wher=x", "Key 'wher' not in 'Subset (keys: name, croissant, files, record_set, fields, where,"),
        ("subset.splits.train.fractoin=0.5", "Key 'fractoin' not in 'Split (keys: where, source, from, fraction,"),
        ("subset.limit=many", "could not be converted to Integer"),
        ("data.batchsize=3", "Key 'batchsize' not in 'CoralDataModule (keys: descriptor, batch_size,"),
        ("subset=digits_evn", "digits_even"),
    ],
)
def test_a_typo_in_an_override_is_an_error_when_composed(project, word, says):
    with pytest.raises(ConfigCompositionException) as caught:
        project(word)
    assert says in _reason(caught.value)


def test_a_typo_in_a_subset_file_is_an_error_when_composed(tmp_path):
    (tmp_path / "train.yaml").write_text("defaults: [_self_, {subset: mine}, {data: coralord/descriptor}]\n")
    (tmp_path / "subset").mkdir()
    (tmp_path / "subset" / "mine.yaml").write_text("defaults: [/subset/schema@_here_, _self_]\nname: a\nfile: a.csv\n")
    with initialize_config_dir(str(tmp_path), version_base="1.3"), pytest.raises(ConfigCompositionException) as caught:
        compose("train")
    assert "Key 'file' not in 'Subset (keys: name, croissant, files," in _reason(caught.value)


def test_a_misspelt_field_is_an_error_with_its_remedy(project, tmp_path):
    data = _data(project('subset.where="lable < 5"'), tmp_path / "home")
    with pytest.raises(UnknownFieldError) as caught:
        data.prepare_data()
    assert caught.value.remedy == 'where: "label < 5"'


def test_schemas_can_be_pickled_as_launchers_do(project):
    config = project()
    assert pickle.loads(pickle.dumps(config)) == config


def test_a_relative_base_dir_starts_where_the_program_was_started(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert base_dir("data") == str(tmp_path / "data")
    assert base_dir() == str(tmp_path)


def test_data_that_are_not_shipped_are_told():
    assert (Path(shipped("digits")) / "digits.parquet").is_file()
    with pytest.raises(UsageError, match="names no data") as caught:
        shipped("digit")
    assert caught.value.remedy == "${coralord.shipped:digits}"


def test_the_search_path_word_of_earlier_habits_works_too(tmp_path):
    (tmp_path / "train.yaml").write_text(f"hydra: {{searchpath: ['pkg://coralord_lightning.configs']}}\n{FOREIGN}")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        config = compose("train", overrides=["subset=digits_odd"])
    assert OmegaConf.to_container(config.subset)["name"] == "digits-odd"


def test_the_plugin_imports_nothing_heavy():
    code = (
        "import hydra_plugins.coralord_lightning_searchpath, sys, json\n"
        "print(json.dumps([n for n in ('torch', 'lightning', 'pytorch_lightning', 'pyarrow', 'duckdb', 'pydantic')"
        " if n in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(done.stdout) == []

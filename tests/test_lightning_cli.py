"""LightningCLI of both packages over our data module: what it reads, what its help says, and whole runs."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jsonargparse", reason="jsonargparse is not installed")

from coralord_lightning import CoralDataModule, load
from coralord_lightning.dataset import read_saved_state
from coralord_lightning.errors import DescriptorValueError
from coralord_lightning.lightning_cli import main
from toy_runs import PACKAGES, THIRD_PARTY_WARNINGS, lightning, toy_project

pytestmark = [
    *THIRD_PARTY_WARNINGS,
    pytest.mark.filterwarnings("ignore:No seed found:UserWarning"),  # of LightningCLI
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),  # of Lightning's use
    pytest.mark.filterwarnings("ignore:The dirpath has changed from:UserWarning"),  # each run has a folder of its own
    pytest.mark.parametrize("package", PACKAGES),
]

QUIET = [
    "--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.max_epochs=1", "--trainer.logger=false",
    "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.log_every_n_steps=1",
]  # fmt: skip
MAPPING = """
data:
  descriptor:
    name: digits
    croissant: croissant.json
    where: label < 8
    pipeline: {entrypoint: "pipeline.py:scale", params: {max: 16}}
  base_dir: somewhere
  batch_size: 64
"""
MODEL = """
import torch
from PACKAGE import LightningModule

class Net(LightningModule):
    def __init__(self, width: int = 1):
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(width, 1)

    def training_step(self, batch, index):
        return self.layer(batch["x"][:, None]).mean()

    def validation_step(self, batch, index):
        self.layer(batch["x"][:, None])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
"""


def _cli(package: str, *words: object, data: Any = CoralDataModule, run: bool = False, **options: Any) -> Any:
    pl = lightning(package)
    cli = importlib.import_module(f"{package}.cli").LightningCLI
    model = type("Model", (pl.LightningModule,), {})
    return cli(model, data, run=run, args=[str(word) for word in words], save_config_callback=None, **options)


def _asked(package: str, *words: object, **options: Any) -> Any:
    return _cli(package, *words, **options).datamodule._roles.asked["main"]


@pytest.fixture(autouse=True)
def _no_other_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py"])  # LightningCLI warns of those of pytest


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text(MAPPING)
    return tmp_path / "config.yaml"


@pytest.fixture
def model(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The class path of a model of that package."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("CORAL_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    name = f"net_of_{package.replace('.', '_')}"
    (tmp_path / f"{name}.py").write_text(MODEL.replace("PACKAGE", package))
    yield f"{name}.Net"
    sys.modules.pop(name, None)


def test_the_help_says_of_every_argument_what_it_is(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = re.sub(r"\s+", " ", _cli(package, "--data.batch_size=4", "--data.descriptor=a.yaml").parser.format_help())
    ours = text.partition("The data of a run:")[2]
    for name in list(inspect.signature(CoralDataModule).parameters):
        assert re.search(rf"--data\.{name}[ {{][^(]*[a-zA-Z`\"][^(]*\w[^(]*\(", ours), name
    assert "--data.update UPDATE None: the committed `coral.lock` if there is one" in ours
    assert "SubsetDescriptor" not in ours
    assert "PathLike[str], Mapping" not in ours


def test_a_path_stays_a_path_so_that_its_folder_and_lock_count(package: str, tmp_path: Path) -> None:
    project = toy_project(tmp_path / "toy")
    asked = _asked(package, "--data.descriptor", project, "--data.batch_size=4")
    assert asked.descriptor == str(project)


def test_a_mapping_stays_a_mapping_and_the_shell_goes_over_its_keys(package: str, config: Path) -> None:
    asked = _asked(package, "--config", config)
    assert asked.descriptor["pipeline"] == {"entrypoint": "pipeline.py:scale", "params": {"max": 16}}
    assert asked.base_dir == "somewhere"
    words = ["--data.descriptor.where", "label < 5", "--data.descriptor.limit", 9, "--data.descriptor.fields=[image]"]
    other = _asked(package, "--config", config, *words)
    assert other.descriptor == {**asked.descriptor, "where": "label < 5", "limit": 9, "fields": ["image"]}


@pytest.mark.parametrize("words", [("wher", "label < 5"), ("pipeline.params.max", "8")])
def test_a_key_that_is_none_is_an_error_of_the_descriptor(package: str, config: Path, words: tuple[str, str]) -> None:
    name, value = words
    cli = _cli(package, "--config", config, f"--data.descriptor.{name}", value)
    with pytest.raises(DescriptorValueError, match="unknown key"):
        cli.datamodule.prepare_data()


def test_a_misspelt_argument_ends_the_command_with_what_is_wrong(package: str, config: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        _cli(package, "--config", config, "--data.batch_szie", 5)
    assert ended.value.code == 2
    assert "--data.batch_szie" in capsys.readouterr().err


def test_in_subclass_mode_the_class_is_named(package: str, config: Path) -> None:
    words = ["--data=coralord_lightning.CoralDataModule", "--data.init_args.batch_size=4"]
    asked = _asked(package, *words, '--data.init_args.descriptor={"name": "a", "files": "a.csv"}', data=None, run=False)
    assert asked.descriptor == {"name": "a", "files": "a.csv"}


def test_other_parts_mixtures_and_transforms_are_read(package: str, tmp_path: Path) -> None:
    project, home = toy_project(tmp_path / "toy"), tmp_path / "home"
    words = [f"--data.val={project}", "--data.transform=toy_transforms.tenfold", f"--data.home={home}"]
    mixture = f'--data.mixture={{"{project}": {{"weight": 0.7}}}}'
    data = _cli(package, mixture, *words, "--data.batch_size=4", "--data.skip=[[1, 2]]").datamodule
    assert set(data._roles.asked) == {f"mixture.{project}", "val"}
    assert data._transforms["train"].__name__ == "tenfold"


def test_a_run_goes_on_from_its_checkpoint_and_is_pinned_to_its_data(
    package: str, model: str, tmp_path: Path, capsys: Any
) -> None:
    project = toy_project(tmp_path / "toy")
    words = ["fit", f"--model={model}", f"--data.descriptor={project}", "--data.batch_size=4", *QUIET]
    main([*words, "--trainer.default_root_dir=first"])
    (checkpoint,) = Path("first").rglob("*.ckpt")
    first = read_saved_state(checkpoint)["version"]["fingerprint"]
    assert CoralDataModule.load_from_checkpoint(checkpoint).hparams["descriptor"] == str(project)

    main([*words, "--trainer.max_epochs=2", f"--ckpt_path={checkpoint}", "--trainer.default_root_dir=second"])
    toy_project(tmp_path / "toy", first=100)
    assert load(project, home=tmp_path / "home").version.fingerprint != first
    main([*words, f"--data.pin={first[:12]}", "--trainer.default_root_dir=third"])
    for folder in ("second", "third"):
        (checkpoint,) = Path(folder).rglob("*.ckpt")
        assert read_saved_state(checkpoint)["version"]["fingerprint"] == first


def test_a_configuration_file_names_the_model_and_an_error_of_ours_the_remedy(
    package: str, model: str, tmp_path: Path, capsys: Any
) -> None:
    toy_project(tmp_path / "toy")
    data = "data: {descriptor: toy/tony.yaml, batch_size: 4}"
    (tmp_path / "run.yaml").write_text(f"model: {{class_path: {model}}}\n{data}\n")
    with pytest.raises(SystemExit) as ended:
        main(["fit", "-c", "run.yaml", *QUIET])
    assert ended.value.code == 1
    assert "try:      toy/toy.yaml" in capsys.readouterr().err

"""Every command's `--json`, its help and its examples; an error is one JSON value on standard output too."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest

from command_line import Digits, coral, coral_json
from coralord_lightning import load
from coralord_lightning.cli.examples import EXAMPLES, FIRST, GROUPS
from coralord_lightning.cli.parser import COMMANDS

NEEDS_MORE = {"croissant": "the export of a Croissant has tests of its own"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A project with a store in which the digits are built, a checkpoint and plain files."""
    import torch

    folder = Digits.copy_to(tmp_path_factory.mktemp("json") / "digits").folder
    (folder / "digits-docker.yaml").unlink()
    (folder / "digits-wavelet.yaml").unlink(missing_ok=True)
    (folder / "data.csv").write_text("a,b\n1,x\n2,y\n")
    (folder / "parts").mkdir()
    (folder / "digits.parquet").read_bytes()
    (folder / "parts" / "1.parquet").write_bytes((folder / "digits.parquet").read_bytes())
    data = load(folder / "digits.yaml", home=folder / "home")
    loader = data.loader("train", batch_size=8)
    torch.save({"model": {}, "data": loader.state_dict()}, folder / "last.ckpt")
    coral("update", folder / "digits.yaml", "--home", folder / "home")
    return folder


@pytest.fixture
def here(folder, monkeypatch) -> Path:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CORAL_HOME", str(folder / "home"))
    return folder


def _fingerprint() -> str:
    return coral_json("list")[0]["fingerprint"]


def _words(line: str, folder: Path) -> list[str]:
    """The words that a shell would hand to `coral`."""
    words = shlex.split(line.partition(" > ")[0].replace("3f2a9c1b", _fingerprint()[:8]))
    assert words.pop(0) == "coral"
    return [each for word in words for each in (sorted(map(str, folder.glob(word))) if word == "*.yaml" else [word])]


@pytest.mark.parametrize(
    "line", [*(line for line, _ in FIRST), *(line for lines in EXAMPLES.values() for line, _ in lines)]
)
def test_the_examples_of_help_run(here, line):
    words = _words(line, here)
    if words[1:2] == ["croissant"]:
        pytest.skip(NEEDS_MORE["croissant"])
    if "-o" in words:
        words.append("--force")
    code, out, err = coral(*words)
    assert code == 0, err
    if "--json" in words:
        json.loads(out)


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_prints_one_json_value(here, command):
    words = _words(EXAMPLES[command][0][0], here)
    code, out, err = coral(*words, *(() if "--json" in words else ("--json",)))
    assert code == 0, err
    assert isinstance(json.loads(out), dict | list)


@pytest.mark.parametrize(
    ("words", "code", "exit_code"),
    [
        (["build", "none.yaml"], "CORAL-E0201", 1),
        (["show", "ffffff"], "CORAL-E0605", 1),
        (["buld"], "CORAL-E0102", 2),
        (["status"], "CORAL-E0102", 2),
        (["query", "selct"], "CORAL-E0606", 1),
        (["completion", "tcsh"], "CORAL-E0102", 2),
    ],
)
def test_an_error_is_a_json_object_on_standard_output_and_text_on_the_other(here, words, code, exit_code):
    error = coral_json(*words, code=exit_code)["error"]
    assert sorted(error) == ["code", "facts", "message", "remedy", "subject"]
    assert error["code"] == code
    _, _, err = coral(*words, "--json")
    assert err.startswith(code)


def test_every_command_has_a_group_and_examples():
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(COMMANDS) == sorted(EXAMPLES)


@pytest.mark.parametrize("width", [200, 80, 40, 20, 1])
@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_fits_the_terminal(monkeypatch, capsys, width, command):
    monkeypatch.setenv("COLUMNS", str(width))
    with pytest.raises(SystemExit):
        coral(*([command] if command else []), "--help")
    text = capsys.readouterr().out
    assert "examples:" in text
    examples = [line for line, _ in (EXAMPLES[command] if command else FIRST)]
    longest = max(len(line) for line in text.partition("\n\n")[2].splitlines() if line.strip() not in examples)
    if width >= 40:
        assert longest <= width
    for line in examples:
        assert f"  {line}" in text


def test_help_names_every_command_once_in_its_group(capsys):
    with pytest.raises(SystemExit):
        coral("--help")
    text = capsys.readouterr().out
    for group, names in GROUPS.items():
        part = text.partition(f"{group}:\n")[2].partition("\n\n")[0]
        assert [line.split()[0] for line in part.splitlines() if line.startswith("  ") and line[2] != " "] == list(
            names
        )


def test_a_wrong_number_of_jobs_in_the_environment_names_its_variable(here, monkeypatch):
    monkeypatch.setenv("CORAL_JOBS", "many")
    code, _, err = coral("list")
    assert code == 1
    assert err.startswith("CORAL-E0101 CORAL_JOBS")
    assert "try:      export CORAL_JOBS=2\n" in err


def test_a_folder_of_settings_that_may_not_be_entered_is_an_error_with_a_remedy(tmp_path, monkeypatch):
    from coralord_lightning.config import config_files
    from coralord_lightning.errors import ConfigError

    closed = tmp_path / "closed"
    (closed / "coralord").mkdir(parents=True)
    closed.chmod(0)
    try:
        if os.access(closed, os.X_OK):  # root may enter all
            real = Path.is_file
            monkeypatch.setattr(Path, "is_file", lambda it: _refuse(it) if closed in it.parents else real(it))
        with pytest.raises(ConfigError, match="may not enter") as caught:
            config_files(project_dir=tmp_path, environ={"XDG_CONFIG_HOME": str(closed)})
        assert "chmod u+x" in caught.value.remedy
    finally:
        closed.chmod(0o700)


def _refuse(path: Path) -> bool:
    raise PermissionError(13, "Permission denied", str(path))

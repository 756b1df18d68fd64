"""Completion in real shells: the words that a person would be offered after TAB."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from command_line import Digits, coral, coral_json
from many_types import published

BIN = Path(sys.executable).parent
_BASH = """
source coral.bash
COMP_LINE="$1"; COMP_POINT=${#1}; COMP_TYPE=9; COMP_WORDS=($1); COMPREPLY=()
_python_argcomplete coral 2>/dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with descriptors and a store with one version, and the scripts of all shells."""
    folder = Digits.copy_to(tmp_path_factory.mktemp("completion") / "digits").folder
    (folder / "subset.jsonld").write_text("{}")
    (folder / "parts").mkdir()
    (folder / ".hidden.yaml").write_text("")
    published(folder / "home")
    for shell in ("bash", "zsh", "fish"):
        code, out, err = coral("completion", shell)
        assert (code, err) == (0, "")
        (folder / f"coral.{shell}").write_text(out)
    return folder


def _shell(name: str, folder: Path, *words: str) -> list[str]:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    if not (BIN / "coral").exists():
        pytest.skip("coral is not installed beside this Python")
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "CORAL_HOME": str(folder / "home")}
    environment |= {"HOME": str(folder), "TERM": "xterm"}
    done = subprocess.run([name, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def _bash(folder: Path, line: str) -> list[str]:
    return _shell("bash", folder, "-c", _BASH, "bash", line)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("coral bu", ["build"]),
        ("coral build --lo", ["--locked"]),
        ("coral build --verify ", ["stat", "read"]),
        ("coral build digits-d", ["digits-docker.yaml"]),
        ("coral build sub", ["subset.jsonld"]),
        ("coral build par", ["parts/"]),
        ("coral status digits.yaml sub", ["subset.jsonld"]),
        ("coral export cro", ["croissant"]),
        ("coral completion z", ["zsh"]),
    ],
)
def test_bash_completes_commands_options_and_descriptors(folder, line, offered):
    assert _bash(folder, line) == offered


def test_bash_offers_descriptors_only(folder):
    offered = _bash(folder, "coral build ")
    assert {"digits.yaml", "subset.jsonld", "parts/"} <= set(offered)
    assert not {"digits.parquet", "croissant.json", "pipeline.py", ".hidden.yaml"} & set(offered)


def test_bash_offers_the_fingerprints_of_the_store(folder, tmp_path):
    (entry,) = coral_json("verify", "--home", folder / "home")
    assert _bash(folder, "coral show ") == [entry["fingerprint"][:12]]
    assert _bash(folder, f"coral verify --deep {entry['fingerprint'][:20]}") == [entry["fingerprint"]]
    assert _bash(folder, f"coral --home {tmp_path / 'none'} show ") == []
    assert not (tmp_path / "none").exists()


def test_bash_offers_the_names_of_the_store(tmp_path):
    digits = Digits.copy_to(tmp_path / "digits")
    coral_json("build", digits.descriptor, "--home", digits.folder / "home")
    (digits.folder / "coral.bash").write_text(coral("completion", "bash")[1])
    assert _bash(digits.folder, "coral log ") == ["digits"]


def test_a_home_that_cannot_be_completes_to_nothing_and_says_nothing(folder):
    assert _bash(folder, "coral --home s3://bucket show ") == []


def test_fish_completes_with_what_each_word_means(folder):
    said = _shell(
        "fish", folder, "-c", "source coral.fish; complete -C 'coral comp'; complete -C 'coral build digits-d'"
    )
    assert [line.split("\t")[0] for line in said] == ["completion", "digits-docker.yaml"]


def test_zsh_takes_the_script(folder):
    said = _shell(
        "zsh", folder, "-f", "-c", "autoload -U compinit; compinit -u -D; source coral.zsh; print $_comps[coral]"
    )
    assert said == ["_python_argcomplete"]


def test_json_holds_the_script():
    found = coral_json("completion", "fish")
    assert found["shell"] == "fish"
    assert "complete --command coral" in found["script"]


def test_what_completes_is_not_imported_by_a_command(tmp_path):
    code = "import sys\nfrom coralord_lightning.cli import main\nmain(['list', '--home', 'nowhere'])\n"
    code += "assert 'argcomplete' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=tmp_path)

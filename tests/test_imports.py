"""What is imported when, what is public, and how long files are."""

from __future__ import annotations

import ast
import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "coralord_lightning"
HEAVY = ("torch", "lightning", "pytorch_lightning", "pandas", "mlcroissant", "datasets", "tensorboard")
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if path.name != "__main__.py"
)
PYTHON_FILES = [
    path
    for folder in (PACKAGE, ROOT / "tests", ROOT / "benchmarks", ROOT / "examples")
    for path in sorted(folder.rglob("*.py"))
]


@pytest.fixture(scope="module")
def built_digits(tmp_path_factory):
    """A copy of the digits, and a home in which they are built."""
    folder = tmp_path_factory.mktemp("hit")
    shutil.copytree(ROOT / "examples" / "digits", folder / "digits")
    _python(folder, _main("build", "digits/digits.yaml"))
    return folder


def _main(*argv: str) -> str:
    words = [*argv, "--home", "home", "--json"]
    return f"from coralord_lightning.cli import main\nassert main({words!r}) == 0"


def _python(folder: Path, code: str) -> list[str]:
    """The modules that are there after `code` has run in a process of its own."""
    script = f"{code}\nimport json, sys\nprint('MODULES', json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.rpartition("MODULES ")[2])


@pytest.mark.parametrize("name", ["datamodule", "dataset", "stream.loader"])
def test_torch_is_where_it_belongs(name):
    assert f"coralord_lightning.{name}" in MODULES


@pytest.mark.parametrize(
    "argv", [("status", "digits/digits.yaml"), ("build", "digits/digits.yaml"), ("list",), ("verify", "--deep")]
)
def test_a_hit_on_the_command_line_imports_nothing_heavy(built_digits, argv):
    modules = _python(built_digits, _main(*argv))
    assert not set(HEAVY) & set(modules)


def test_a_hit_in_process_imports_nothing_heavy(built_digits):
    code = (
        "from coralord_lightning.config import load_config\n"
        "from coralord_lightning.workspace import open_workspace\n"
        "outcome = open_workspace(load_config(home='home')).ensure('digits/digits.yaml')\n"
        "assert not outcome.built"
    )
    assert not {*HEAVY, "docker", "rich"} & set(_python(built_digits, code))


def test_the_package_itself_imports_nothing_of_others(tmp_path):
    modules = _python(tmp_path, "import coralord_lightning")
    assert not {*HEAVY, "numpy", "pyarrow", "duckdb", "pydantic", "rich", "docker", "httpx"} & set(modules)


def test_help_imports_the_standard_library_only(tmp_path):
    code = "from coralord_lightning.cli.parser import parse\nparse(['status', 'x.yaml'])"
    assert not {*HEAVY, "numpy", "pyarrow", "duckdb", "pydantic", "rich", "docker", "httpx"} & set(
        _python(tmp_path, code)
    )


@pytest.mark.parametrize("name", MODULES)
def test_public_names_are_sorted_and_there(name):
    tree = ast.parse((ROOT / Path(*name.split("."))).with_suffix(".py").read_text() if _is_file(name) else _init(name))
    listed = [node for node in tree.body if isinstance(node, ast.Assign) and _names(node) == ["__all__"]]
    if not listed:
        return
    public = ast.literal_eval(listed[0].value)
    assert public == sorted(public, key=_rank)
    module = importlib.import_module(name)
    assert [word for word in public if not hasattr(module, word)] == []


@pytest.mark.parametrize("path", PYTHON_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_over_400_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def _rank(word: str) -> tuple[int, str]:
    """Constants, then classes, then functions: the order that ruff keeps."""
    return (0 if word.isupper() else 1 if word[0].isupper() else 2, word)


def _is_file(name: str) -> bool:
    return (ROOT / Path(*name.split("."))).with_suffix(".py").is_file()


def _init(name: str) -> str:
    return (ROOT / Path(*name.split(".")) / "__init__.py").read_text(encoding="utf-8")


def _names(node: ast.Assign) -> list[str]:
    return [target.id for target in node.targets if isinstance(target, ast.Name)]

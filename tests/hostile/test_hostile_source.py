"""What the package's own source may not hold: ways to run data as code, and SQL quoted by hand."""

# ruff: noqa: E501  # attacks are long

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "coralord_lightning"
SOURCES = sorted(PACKAGE.rglob("*.py"))

MODULES = frozenset({"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"})
CALLS = frozenset(
    {"eval", "exec", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "shutil.unpack_archive",
     "torch.load", "numpy.load", "np.load", "pandas.read_pickle", "subprocess.getoutput", "subprocess.getstatusoutput"}
)  # fmt: skip
METHODS = frozenset({"extractall"})
MAY_RUN_CODE = {
    "builder/pipeline.py": {"exec"},
    "cli/completion.py": {"shellcode(shell=…)"},
    "stream/transport.py": {"pickle"},
    "stream/worker.py": {"pickle"},
    "stream/workers.py": {"pickle"},
}
"""Whose work it is: to run the user's pipeline, inside the sandbox; to talk with workers that this process started; to
name the shell that a script is for."""
QUOTED_BY_HAND = re.compile(r"'\{[^}]*\}'|\"\{[^}]*\}\"")


def forbidden(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from ((node.lineno, name) for name in names if name.partition(".")[0] in MODULES)
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name == "torch.load" and "weights_only=True" in ast.unparse(node):
                continue
            if name in CALLS or name.rpartition(".")[2] in METHODS:
                yield node.lineno, name
            yield from ((node.lineno, f"{name}(shell=…)") for key in node.keywords if key.arg == "shell")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_nothing_runs_data_as_code(path: Path) -> None:
    allowed = MAY_RUN_CODE.get(path.relative_to(PACKAGE).as_posix(), set())
    found = [item for item in forbidden(ast.parse(path.read_bytes())) if item[1] not in allowed]
    assert found == []


@pytest.mark.parametrize(
    "code",
    ["import pickle", "from dill import x", "eval('1')", "os.system('x')", "yaml.load(x)", "t.extractall(p)",
     "subprocess.run('x', shell=True)"],
)  # fmt: skip
def test_the_search_finds_what_it_looks_for(code: str) -> None:
    assert list(forbidden(ast.parse(code)))


SQL = re.compile(r"\b(SELECT|FROM|WHERE|SET|COPY|read_parquet|read_csv|read_json|CAST|regexp_\w+|struct_extract)\b")


def quoted_by_hand(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """f-strings of SQL in which a value stands between quotes that nobody doubled."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.JoinedStr):
            continue
        literal = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        if SQL.search(literal) and QUOTED_BY_HAND.search(literal.replace("{}", "{x}")):
            yield node.lineno, literal


CONSTANTS = {"builder/duck.py": 1, "builder/observe.py": 2, "builder/scans.py": 1, "builder/split_sql.py": 2}
"""How many such f-strings hold a constant of ours, no one's text."""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_sql_is_quoted_in_one_place(path: Path) -> None:
    found = list(quoted_by_hand(ast.parse(path.read_bytes())))
    assert len(found) <= CONSTANTS.get(path.relative_to(PACKAGE).as_posix(), 0), found


def test_quoting_by_hand_is_found() -> None:
    assert list(quoted_by_hand(ast.parse("""f"SELECT * FROM read_csv('{path}')" """)))
    assert not list(quoted_by_hand(ast.parse("""f"SELECT * FROM read_csv({quote_literal(path)})" """)))

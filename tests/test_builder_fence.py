"""The local runner and the user's project: what is not declared cannot be used, and the message says what to write."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from coralord_lightning.builder.runners.base import Sandbox, Task
from coralord_lightning.builder.runners.local import LocalRunner, project_of
from coralord_lightning.builder.runners.undeclared import declare
from coralord_lightning.config import Config
from coralord_lightning.errors import CoralError, PipelineFailedError
from coralord_lightning.workspace import open_workspace
from projects import edit, example_project

BATCH = pa.record_batch({"x": pa.array([1, 2, 3], pa.int64())})
TASK = Task(input="a", output="b", label="partition 1 of 1")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A work tree with a descriptor's folder in it, and things that the descriptor does not declare."""
    folder = tmp_path / "tree" / "digits"
    (folder / "words").mkdir(parents=True)
    (tmp_path / "tree" / ".git").mkdir()
    (folder / "vocab.json").write_text("{}")
    (folder / "words" / "a.txt").write_text("a")
    (tmp_path / "tree" / "shared.py").write_text("VALUE = 1\n")
    (tmp_path / "tree" / "pyproject.toml").write_text("")
    return folder


def sandbox_of(project: Path, code: str, **changes: Any) -> Sandbox:
    stage = project.parents[1] / "stage"
    for name in ("code", "in", "out"):
        (stage / name).mkdir(exist_ok=True, parents=True)
    (stage / "code" / "pipeline.py").write_text(textwrap.dedent(code))
    with pa.OSFile(str(stage / "in" / "a"), "wb") as sink, pa.ipc.new_stream(sink, BATCH.schema) as writer:
        writer.write_batch(BATCH)
    values: dict[str, Any] = {
        "code_dir": stage / "code", "in_dir": stage / "in", "out_dir": stage / "out", "file": "pipeline.py",
        "function": "run", "per": "batch", "params": {}, "batch_rows": 65_536, "project_dir": project,
        "source_names": {"pipeline.py": "digits/pipeline.py"},
    }  # fmt: skip
    return Sandbox(**values | changes)


def run(sandbox: Sandbox) -> None:
    with LocalRunner(echo=lambda line: None).open(sandbox) as session:
        session.run(TASK)


def failure(sandbox: Sandbox) -> CoralError:
    with pytest.raises(CoralError) as caught:
        run(sandbox)
    return caught.value


USES = {
    "open": ("read", "open({vocab!r}).read()"),
    "bytes": ("read", "open({vocab!r}.encode()).read()"),
    "pathlib": ("read", "__import__('pathlib').Path({vocab!r}).read_text()"),
    "os.open": ("read", "os.open({vocab!r}, os.O_RDONLY)"),
    "by a link": ("read", "os.symlink({vocab!r}, tmp + '/l'), open(tmp + '/l').read()"),
    "by a hard link": ("read", "os.link({vocab!r}, tmp + '/h')"),
    "after chdir": ("read", "os.chdir({folder!r}), open('vocab.json').read()"),
    "sqlite": ("read", "__import__('sqlite3').connect({vocab!r})"),
    "sqlite address": ("read", "__import__('sqlite3').connect('file:' + {vocab!r} + '?mode=ro', uri=True)"),
    "listdir": ("listed", "os.listdir({words!r})"),
    "scandir": ("listed", "list(os.scandir({words!r}))"),
    "walk": ("listed", "list(os.walk({folder!r}))"),
    "folder's descriptor": ("listed", "os.open({words!r}, os.O_RDONLY | os.O_DIRECTORY)"),
    "import": ("loaded", "sys.path.append({tree!r}), __import__('shared')"),
    "library": ("loaded", "__import__('ctypes').CDLL({vocab!r})"),
    "write": ("tried to change", "open({folder!r} + '/new', 'w')"),
    "append": ("tried to change", "open({vocab!r}, 'a')"),
    "delete": ("tried to change", "os.remove({vocab!r})"),
    "rename": ("tried to change", "os.rename({vocab!r}, tmp + '/v')"),
    "make a folder": ("tried to change", "os.mkdir({folder!r} + '/d')"),
    "mode": ("tried to change", "os.chmod({vocab!r}, 0)"),
}
PROGRAM = """
    import os, sys, tempfile
    tmp = tempfile.mkdtemp()
    def run(batch):
        {use}
        return batch
"""


def use_of(name: str, project: Path) -> str:
    vocab, words = str(project / "vocab.json"), str(project / "words")
    return USES[name][1].format(vocab=vocab, words=words, folder=str(project), tree=str(project.parent))


@pytest.mark.parametrize("name", USES)
def test_an_undeclared_use_of_the_project_is_an_error_that_names_it(name, project):
    before = sorted(project.rglob("*"))
    error = failure(sandbox_of(project, PROGRAM.format(use=use_of(name, project))))
    assert isinstance(error, PipelineFailedError)
    assert f"the pipeline {USES[name][0]} a file of your project" in error.message
    assert error.subject == "digits/pipeline.py:5"
    assert error.facts["file"].startswith(str(project.parent))
    assert sorted(project.rglob("*")) == before


@pytest.mark.parametrize("name", ["open", "import", "delete"])
def test_an_error_that_is_swallowed_fails_the_task_at_its_end(name, project):
    use = f"try: {use_of(name, project)}\n        except BaseException: pass"
    error = failure(sandbox_of(project, PROGRAM.format(use=use)))
    assert "your project" in error.message


def test_the_session_goes_on_after_it(project):
    code = f"seen = []\ndef run(batch):\n    seen or seen.append(1) or open({str(project / 'vocab.json')!r})\n"
    sandbox = sandbox_of(project, code + "    return batch\n")
    with LocalRunner().open(sandbox) as session:
        with pytest.raises(PipelineFailedError):
            session.run(TASK)
        session.run(TASK)


def test_the_remedy_is_the_whole_list_with_the_new_file(project):
    code = f"def run(batch):\n    open({str(project / 'vocab.json')!r})\n"
    error = failure(sandbox_of(project, code, files=("b.txt",)))
    assert error.remedy == "files: [b.txt, vocab.json]  # beneath pipeline:\nand open it as 'vocab.json'"
    assert error.facts["declared"] == "b.txt"


MISSING = {
    "open": "open('vocab.json')",
    "arrow": "__import__('pyarrow').memory_map('vocab.json')",
    "wrapped": "wrapped()",
    "absolute": "open(os.path.join(os.getcwd(), 'vocab.json'))",
}


@pytest.mark.parametrize("how", MISSING)
def test_a_file_that_lies_beside_the_descriptor_undeclared_is_named_when_it_is_missing_inside(how, project):
    code = f"""
        import os
        def wrapped():
            try:
                open('vocab.json')
            except OSError as error:
                raise ValueError('no vocabulary') from error
        def run(batch):
            {MISSING[how]}
    """
    error = failure(sandbox_of(project, code, files=("b.txt",)))
    assert error.remedy == "files: [b.txt, vocab.json]  # beneath pipeline:"
    assert "vocab.json: beside the descriptor" in error.facts["undeclared"]


def test_of_a_folder_that_is_missing_inside_the_files_are_named(project):
    error = failure(sandbox_of(project, "import os\ndef run(batch):\n    os.listdir('words')\n"))
    assert error.remedy == "files: [words/a.txt]  # beneath pipeline:"


def test_a_file_that_is_nowhere_is_an_error_of_the_pipeline(project):
    error = failure(sandbox_of(project, "def run(batch):\n    open('nowhere')\n"))
    assert error.remedy == "mend digits/pipeline.py:2"


def test_a_name_that_yaml_would_read_otherwise_is_quoted(project):
    assert declare(("a, b.txt",), sandbox_of(project, "")) == 'files: ["a, b.txt"]  # beneath pipeline:'


def test_a_module_of_the_project_says_how_to_bring_it(project):
    error = failure(sandbox_of(project, PROGRAM.format(use=use_of("import", project))))
    assert error.facts["file"] == str(project.parent / "shared.py")
    assert error.remedy.startswith(f"pip install {project.parent} (without -e)")


def test_what_lies_outside_the_project_may_be_used(project, tmp_path):
    (tmp_path / "elsewhere").write_text("x")
    code = f"""
        import os, sys, tempfile, json.tool, importlib.metadata, sqlite3, ctypes
        def run(batch):
            open({str(tmp_path / "elsewhere")!r}).read()
            with tempfile.TemporaryDirectory() as folder:
                open(folder + '/x', 'w').write('x')
                os.listdir(folder)
                sqlite3.connect(folder + '/db').execute('create table t (x)')
            sqlite3.connect(':memory:')
            ctypes.CDLL(None)
            importlib.metadata.version('pyarrow')
            os.listdir('/proc/self/fd'), os.listdir('.'), open('/dev/null').read()
            return batch
    """
    run(sandbox_of(project, code))


def test_a_store_inside_the_project_is_no_obstacle(project, monkeypatch):
    sandbox = sandbox_of(project, "import helper\ndef run(batch):\n    return batch\n")
    (sandbox.code_dir / "helper.py").write_text("")
    run(Sandbox(**{name: getattr(sandbox, name) for name in sandbox.__slots__} | {"project_dir": project.parents[1]}))


def test_an_environment_inside_the_project_is_no_obstacle(project):
    venv = project / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--symlinks", str(venv)], check=True)
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    (venv / "lib" / f"python3.{sys.version_info[1]}" / "site-packages" / "all.pth").write_text(
        f"{packages}\n{Path(__file__).parents[1]}\n{project.parent}\n"  # the last as for an editable install
    )
    (venv / "lib" / f"python3.{sys.version_info[1]}" / "site-packages" / "inner.py").write_text("VALUE = 1\n")
    sandbox = sandbox_of(project, "import inner, numpy\ndef run(batch):\n    return batch\n")
    program = f"""
        from pathlib import Path
        from coralord_lightning.builder.runners.base import Sandbox, Task
        from coralord_lightning.builder.runners.local import LocalRunner
        stage = Path({str(sandbox.code_dir.parent)!r})
        sandbox = Sandbox(code_dir=stage / "code", in_dir=stage / "in", out_dir=stage / "out", file="pipeline.py",
                          function="run", per="batch", params={{}}, batch_rows=1, project_dir=Path({str(project)!r}))
        with LocalRunner().open(sandbox) as session:
            session.run(Task(input="a", output="b", label="t"))
    """
    python = [str(venv / "bin" / "python"), "-c", textwrap.dedent(program)]
    ended = subprocess.run(python, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    (sandbox.out_dir / "b").unlink()
    sandbox = sandbox_of(project, "import shared\ndef run(batch):\n    return batch\n")
    ended = subprocess.run(python, capture_output=True, text=True, check=False)
    assert "loaded a file of your project" in ended.stderr


def test_the_project_is_the_work_tree_unless_that_is_the_home(project, monkeypatch):
    assert project_of(project) == project.parent
    assert project_of(None) is None
    monkeypatch.setenv("HOME", str(project.parent))
    assert project_of(project) == project
    assert project_of(Path(os.sep)) == Path(os.sep)


def test_the_version_records_what_is_watched(project):
    with LocalRunner().open(sandbox_of(project, "def run(batch): ...\n")) as session:
        assert "child processes and native code are not" in session.isolation["undeclared_files"]
    with LocalRunner().open(sandbox_of(project, "def run(batch): ...\n", project_dir=None)) as session:
        assert session.isolation["undeclared_files"] == "not watched"


def test_a_build_tells_the_whole_list_to_write(tmp_path):
    descriptor = example_project(tmp_path / "project")
    folder, space = descriptor.parent, open_workspace(Config(home=tmp_path / "home"))
    (folder / "vocab.json").write_text("{}")
    edit(folder / "pipeline.py", "import shapes\n", "import shapes\nopen('vocab.json').read()\n")
    edit(descriptor, "environment: local", "  files: [other.txt]\nenvironment: local")
    (folder / "other.txt").write_text("")
    line = "files: [other.txt, vocab.json]  # beneath pipeline:"
    for where, remedy in (
        ("'vocab.json'", line),
        (repr(str(folder / "vocab.json")), line + "\nand open it as 'vocab.json'"),
    ):
        edit(folder / "pipeline.py", "open('vocab.json')", f"open({where})")
        with pytest.raises(PipelineFailedError) as caught:
            space.ensure(descriptor)
        assert caught.value.remedy == remedy
    edit(folder / "pipeline.py", f"open({str(folder / 'vocab.json')!r})", "open('vocab.json')")
    edit(descriptor, "files: [other.txt]", "files: [other.txt, vocab.json]")
    assert space.ensure(descriptor)


def test_a_library_that_looks_at_the_source_of_its_callers_reads_no_undeclared_file(project: Path) -> None:
    code = "import inspect\nSTACK = inspect.stack(3)\ndef run(batch):\n    return batch\n"
    run(sandbox_of(project, code, project_dir=Path(__file__).parents[1]))

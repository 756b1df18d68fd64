"""How a sandbox ends badly: time, memory, death, a full disk; and what pins the local interpreter."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from coralord_lightning.builder import pipeline as driver
from coralord_lightning.builder.runners import process
from coralord_lightning.builder.runners.base import Sandbox, Task
from coralord_lightning.builder.runners.explain import explain, format_bytes
from coralord_lightning.builder.runners.local import LocalRunner, identity
from coralord_lightning.builder.runners.protocol import DRIVER, MAX_ANSWER, Conversation
from coralord_lightning.errors import (
    CoralError,
    PipelineFailedError,
    PipelineNotFoundError,
    RunnerError,
    StoreFullError,
)
from coralord_lightning.spec.plan import Limits

BATCH = pa.record_batch({"x": pa.array([1, 2, 3], pa.int64())})


def sandbox_of(folder: Path, code: str, **changes: Any) -> Sandbox:
    for name in ("code", "in", "out"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "code" / "pipeline.py").write_text(textwrap.dedent(code))
    with pa.OSFile(str(folder / "in" / "a"), "wb") as sink, pa.ipc.new_stream(sink, BATCH.schema) as writer:
        writer.write_batch(BATCH)
    values: dict[str, Any] = {
        "code_dir": folder / "code", "in_dir": folder / "in", "out_dir": folder / "out", "file": "pipeline.py",
        "function": "run", "per": "batch", "params": {}, "batch_rows": 65_536,
    }  # fmt: skip
    return Sandbox(**values | changes)


TASK = Task(input="a", output="b", label="partition 1 of 1")


def failure(folder: Path, code: str, **changes: Any) -> CoralError:
    sandbox = sandbox_of(folder, code, **changes)
    with pytest.raises(CoralError) as caught, LocalRunner(echo=lambda line: None).open(sandbox) as session:
        session.run(TASK)
    return caught.value


class ScriptedWire:
    """Answers what it was given."""

    tag = ""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.killed = False

    def send(self, line: bytes) -> None:
        json.loads(line)

    def receive(self, timeout_s: float | None) -> bytes:
        return self.answers.pop(0)

    def post_mortem(self, label: str) -> CoralError:
        return RunnerError(label, "it is gone", remedy="none")

    def kill(self) -> None:
        self.killed = True


def converse(folder: Path, *answers: bytes) -> Conversation:
    sandbox = sandbox_of(folder, "")
    return Conversation(ScriptedWire(*answers), sandbox, code_dir="/code", in_dir="/in", out_dir="/out")


@pytest.mark.parametrize(
    ("action", "ended"),
    [("os._exit(7)", "with exit code 7"), ("os.kill(os.getpid(), 9)", "by signal SIGKILL"), ("os.abort()", "SIGABRT")],
)
def test_a_death_is_told_with_the_last_lines(action, ended, tmp_path):
    code = f"import os\ndef run(batch):\n    print('last words', flush=True)\n    {action}\n"
    error = failure(tmp_path, code, limits=Limits(memory_bytes=8 << 30))
    assert isinstance(error, RunnerError)
    assert ended in error.facts["ended"]
    assert "last words" in error.facts["last"]


def test_a_pipeline_that_closes_the_pipe_and_lives_is_ended(tmp_path, monkeypatch):
    code = "import os, time\ndef run(batch):\n    os.closerange(0, 64)\n    time.sleep(600)\n"
    monkeypatch.setattr(process, "GRACE_S", 1.0)
    assert failure(tmp_path, code).facts["ended"] == "not: it closed its end of the pipe and went on"


@pytest.mark.parametrize("answer", [b"garbage\n", b"[1]\n", b"x" * (MAX_ANSWER + 2)])
def test_forged_answers_are_refused(answer, tmp_path):
    with pytest.raises(RunnerError, match="what is no answer"):
        converse(tmp_path, answer).greet()


def test_an_output_that_is_not_there_is_noticed(tmp_path):
    conversation = converse(tmp_path, b'{"ok": true}\n')
    with pytest.raises(RunnerError, match="its output is not here"):
        conversation.run(TASK)


def test_the_end_of_the_other_side_is_told_by_its_post_mortem(tmp_path):
    with pytest.raises(RunnerError, match="it is gone"):
        converse(tmp_path, b"").greet()


KINDS = {
    "disk_full": (StoreFullError, "--home DIR"),
    "pyarrow_missing": (RunnerError, "pip install pyarrow"),
    "input_missing": (RunnerError, "--home DIR"),
    "never heard of": (RunnerError, "report it"),
    "failed": (PipelineFailedError, "mend pipeline.py"),
    "memory": (RunnerError, "memory: 8g"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_answer_has_an_error_with_a_remedy(kind, tmp_path):
    error = explain({"kind": kind, "frames": ["hostile"], "names": 3}, sandbox_of(tmp_path, ""), "task")
    assert isinstance(error, KINDS[kind][0])
    assert KINDS[kind][1] in error.remedy


def test_a_missing_module_in_a_container_is_a_matter_of_the_image(tmp_path):
    sandbox = sandbox_of(tmp_path, "", image="sha256:" + "0" * 64)
    error = explain({"kind": "failed", "missing": "scipy"}, sandbox, "task")
    assert "environment.image" in error.remedy


@pytest.mark.parametrize(
    ("size", "text"), [(4 << 30, "4g"), (3 << 29, "1.5g"), (512 << 20, "512m"), (256 * 10**6, "256MB"), (1000, "1000")]
)
def test_sizes_are_printed_as_descriptors_take_them(size, text):
    assert format_bytes(size) == text


def test_a_full_disk_is_told_from_other_trouble(tmp_path):
    for number, kind in ((28, "disk_full"), (13, "output_unwritable")):
        with pytest.raises(driver.Refusal) as caught, driver._disk(tmp_path / "x"):
            raise OSError(number, "text")
        assert caught.value.answer["kind"] == kind


def test_an_input_that_is_not_there_or_no_stream_is_told(tmp_path):
    sandbox = sandbox_of(tmp_path, "def run(batch):\n    return batch\n")
    (tmp_path / "in" / "junk").write_bytes(b"junk" * 100)
    with LocalRunner().open(sandbox) as session:
        with pytest.raises(RunnerError, match="cannot read its input"):
            session.run(Task(input="nope", output="b", label="t"))
        with pytest.raises(RunnerError, match="could not do its task"):
            session.run(Task(input="junk", output="b", label="t"))


def test_output_through_a_planted_link_is_refused(tmp_path):
    (tmp_path / "victim").write_text("precious")
    code = f"import os\nos.symlink({str(tmp_path / 'victim')!r}, {str(tmp_path / 'out' / 'b')!r})\n"
    code += "def run(batch):\n    return batch\n"
    assert isinstance(failure(tmp_path, code), RunnerError)
    assert (tmp_path / "victim").read_text() == "precious"


def test_the_program_ends_when_its_asker_dies(tmp_path):
    sandbox = sandbox_of(tmp_path, "import time\nprint('up', flush=True)\ntime.sleep(600)\n")
    hello = {"code_dir": str(sandbox.code_dir), "in_dir": "/in", "out_dir": "/out", "file": "pipeline.py"}
    hello |= {"function": "run", "per": "batch", "params": {}, "batch_rows": 1}
    process = subprocess.Popen(
        [sys.executable, str(DRIVER)], stdin=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    with process:
        process.stdin.write(json.dumps(hello).encode() + b"\n")
        process.stdin.flush()
        assert process.stderr.readline() == b"up\n"
        process.stdin.close()
        assert process.wait(timeout=30) == -signal.SIGKILL


def test_the_program_is_python_3_9():
    ast.parse(DRIVER.read_text(), feature_version=(3, 9))


def test_the_program_imports_the_standard_library_and_pyarrow_only():
    imported = set()
    for node in ast.walk(ast.parse(DRIVER.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.split(".")[0])
    assert imported - sys.stdlib_module_names == {"pyarrow"}


def test_identity_pins_interpreter_and_distributions():
    found = identity(["numpy", "json"])
    assert found["implementation"] == "cpython"
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["platform"].startswith(sys.platform)
    assert found["distributions"] == {
        "numpy": importlib.metadata.version("numpy"),
        "pyarrow": importlib.metadata.version("pyarrow"),
    }


def test_identity_finds_distributions_of_another_name():
    assert "pillow" in identity(["PIL"])["distributions"]


def test_identity_refuses_what_is_not_installed():
    with pytest.raises(PipelineNotFoundError) as caught:
        identity(["surely_not_installed"])
    assert caught.value.remedy.startswith("pip install surely_not_installed ")


def test_core_files_open_files_and_file_sizes_are_bounded(tmp_path):
    code = """
        import resource
        import pyarrow as pa
        def run(batch):
            kinds = (resource.RLIMIT_CORE, resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE)
            return pa.table({"hard": [resource.getrlimit(kind)[1] for kind in kinds]})
    """
    sandbox = sandbox_of(tmp_path, code, limits=Limits(output_bytes=1 << 20))
    with LocalRunner().open(sandbox) as session:
        session.run(TASK)
    core, files, size = pa.ipc.open_stream((tmp_path / "out" / "b").read_bytes()).read_all().column("hard").to_pylist()
    assert core == 0
    assert 0 < files <= 4096
    assert 1 << 20 <= size < 1 << 22


def test_an_output_beyond_its_limit_is_stopped_and_the_remedy_names_it(tmp_path):
    code = "import pyarrow as pa\ndef run(batch):\n    while True:\n        yield pa.table({'x': list(range(9_999))})\n"
    error = failure(tmp_path, code, limits=Limits(output_bytes=1 << 20))
    assert isinstance(error, CoralError)
    assert "environment.output" in error.remedy or "--home DIR" in error.remedy

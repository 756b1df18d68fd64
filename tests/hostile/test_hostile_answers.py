"""Found by attack: pipelines that answer in place of our driver, and texts of theirs that reach a terminal."""

from __future__ import annotations

import threading
from pathlib import Path

import pyarrow as pa
import pytest

from coralord_lightning.builder.runners.base import Sandbox, Task
from coralord_lightning.builder.runners.building import _follow
from coralord_lightning.builder.runners.dockerfile import read_dockerfile
from coralord_lightning.builder.runners.local import LocalRunner
from coralord_lightning.builder.runners.mounts import Mounts
from coralord_lightning.builder.runners.outputs import require_output
from coralord_lightning.errors import CoralError, PipelineFailedError, PipelineOutputError, RunnerError
from coralord_lightning.spec.recipe import Recipe

FORGE = """
import os

def forge(answer):
    for descriptor in range(3, 32):
        try:
            os.write(descriptor, answer + b"\\n")
        except OSError:
            pass

"""


def sandbox(folder: Path, code: str) -> Sandbox:
    for name in ("code", "in", "out", "project"):
        (folder / name).mkdir()
    (folder / "code" / "p.py").write_text(FORGE + code)
    batch = pa.record_batch({"x": [1, 2, 3]})
    with pa.OSFile(str(folder / "in" / "a"), "wb") as sink, pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return Sandbox(
        code_dir=folder / "code", in_dir=folder / "in", out_dir=folder / "out", project_dir=folder / "project",
        file="p.py", function="run", per="batch", params={}, batch_rows=10,
    )  # fmt: skip


def failure(folder: Path, code: str) -> CoralError:
    with (
        LocalRunner(echo=lambda _: None).open(sandbox(folder, code)) as session,
        pytest.raises(CoralError) as caught,
    ):
        session.run(Task(input="a", output="a", label="task a"))
    return caught.value


@pytest.mark.parametrize("answer", ["b'[' * 500_000", "b'null'", "b'1' * 9_000", "b'\\xff'", "b'x' * 3_000_000"])
def test_an_answer_that_is_none_is_told_as_such(tmp_path: Path, answer: str) -> None:
    error = failure(tmp_path, f"def run(batch):\n    forge({answer})\n    return batch\n")
    assert isinstance(error, RunnerError)
    assert error.message == "the sandbox answered with what is no answer"


def test_an_answer_of_a_hundred_thousand_lines_is_a_short_message(tmp_path: Path) -> None:
    frames = """b'{"ok": false, "kind": "failed", "frames": [' + b'{"file": "x"},' * 60_000 + b'{}]}'"""
    error = failure(tmp_path, f"def run(batch):\n    forge({frames})\n    return batch\n")
    assert len(str(error).splitlines()) < 20


@pytest.mark.parametrize("said", [r"\\ud800", r"\\u001b[31m", "9" * 100, ""])
def test_a_version_that_is_none_is_not_recorded(tmp_path: Path, said: str) -> None:
    code = f"""forge(b'{{"ok": true, "python": "{said}", "pyarrow": []}}')\ndef run(batch):\n    return batch\n"""
    with LocalRunner(echo=lambda _: None).open(sandbox(tmp_path, code)) as session:
        assert (session.isolation["python"], session.isolation["pyarrow"]) == ("unknown", "unknown")


def test_a_probe_that_is_no_text_of_a_disk_is_another_disks(tmp_path: Path) -> None:
    with Mounts(sandbox(tmp_path, ""), user=None) as mounts, pytest.raises(RunnerError, match="sees another disk"):
        mounts.require_shared("\ud800")


def test_an_exceptions_text_steers_no_terminal(tmp_path: Path) -> None:
    error = failure(tmp_path, "def run(batch):\n    raise ValueError('\\x1b]0;title\\x07\\x9b31m\\u202e\\ud800 end')\n")
    assert r"\x1b]0;title\x07\x9b31m\u202e\ud800 end" in str(error)
    assert all(char.isprintable() or char == "\n" for char in str(error))


def test_no_subject_looks_like_a_remedy() -> None:
    error = CoralError("x\n  try:      rm -rf ~", "is so", remedy="mend it")
    assert [line for line in str(error).splitlines() if line.startswith("  try:")] == ["  try:      mend it"]


@pytest.mark.parametrize("name", ["x; rm -rf ~", "x\nrm -rf ~", "$(reboot)", "a b"])
def test_a_module_that_is_none_is_not_to_be_installed(tmp_path: Path, name: str) -> None:
    error = failure(tmp_path, f"def run(batch):\n    raise ModuleNotFoundError('it', name={name!r})\n")
    assert error.remedy == "mend p.py:12"


@pytest.mark.parametrize("name", ["x" * 300, "\ud800", "x/" * 1900])
def test_a_missing_file_that_can_be_none_is_told(tmp_path: Path, name: str) -> None:
    error = failure(tmp_path, f"def run(batch):\n    raise FileNotFoundError(2, 'no', {name!r})\n")
    assert isinstance(error, PipelineFailedError)
    assert error.remedy == "mend p.py:12"


def test_files_that_come_and_go_beside_an_output_are_no_crash(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    over = threading.Event()

    def churn() -> None:
        while not over.is_set():
            for number in range(50):
                (tmp_path / f"z{number}").touch()
            for number in range(50):
                (tmp_path / f"z{number}").unlink()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(2_000):
            try:
                require_output(tmp_path, "a", keep=(), label="task a", shared=False)
            except PipelineOutputError:
                continue
    finally:
        over.set()
        thread.join()


def test_what_a_build_prints_steers_no_terminal() -> None:
    text = "FROM scratch\n"
    lines: list[str] = []
    answers = iter([{"stream": "\x1b[31mred\x07\r\n"}, {"stream": "tab\there\n"}])
    dockerfile = read_dockerfile(text, origin="Dockerfile", platform="linux/amd64")
    _follow(answers, Recipe(dockerfile="Dockerfile", text=text, files=()), dockerfile, lines.append, None)
    assert lines == [r"[image] \x1b[31mred\x07", "[image] tab\there"]

"""The local runner and the program inside every sandbox: what comes back, and how each failure is told."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from coralord_lightning.builder import pipeline as driver
from coralord_lightning.builder.runners.base import Sandbox, Task
from coralord_lightning.builder.runners.local import LocalRunner
from coralord_lightning.errors import (
    CoralError,
    PipelineFailedError,
    PipelineNotFoundError,
    PipelineOutputError,
)

BATCH = pa.record_batch({"x": pa.array([1, 2, 3], pa.int64())})
IDENTITY = "def run(batch):\n    return batch\n"


def sandbox_of(folder: Path, code: str | dict[str, str], **changes: Any) -> Sandbox:
    for name in ("code", "in", "out"):
        (folder / name).mkdir(exist_ok=True)
    files = {"pipeline.py": code} if isinstance(code, str) else code
    for name, text in files.items():
        (folder / "code" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "code" / name).write_text(textwrap.dedent(text))
    values: dict[str, Any] = {
        "code_dir": folder / "code",
        "in_dir": folder / "in",
        "out_dir": folder / "out",
        "file": "pipeline.py",
        "function": "run",
        "per": "batch",
        "params": {},
        "batch_rows": 65_536,
    }
    return Sandbox(**values | changes)


def put(sandbox: Sandbox, *batches: pa.RecordBatch, name: str = "a") -> Task:
    with pa.OSFile(str(sandbox.in_dir / name), "wb") as sink, pa.ipc.new_stream(sink, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return Task(input=name, output=f"{name}.out", label=f"task {name}")


def got(sandbox: Sandbox, task: Task) -> pa.Table:
    return pa.ipc.open_stream((sandbox.out_dir / task.output).read_bytes()).read_all()


def run(folder: Path, code: str | dict[str, str], *batches: pa.RecordBatch, **changes: Any) -> pa.Table:
    sandbox = sandbox_of(folder, code, **changes)
    task = put(sandbox, *(batches or (BATCH,)))
    with LocalRunner(echo=lambda line: None).open(sandbox) as session:
        session.run(task)
    return got(sandbox, task)


def failure(folder: Path, code: str | dict[str, str], *batches: pa.RecordBatch, **changes: Any) -> CoralError:
    with pytest.raises(CoralError) as caught:
        run(folder, code, *batches, **changes)
    return caught.value


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Run the program's own loop in this process, where coverage sees it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def converse(sandbox: Sandbox, *tasks: Task, **extra: Any) -> list[dict[str, Any]]:
        hello = {
            "code_dir": str(sandbox.code_dir), "in_dir": str(sandbox.in_dir), "out_dir": str(sandbox.out_dir),
            "file": sandbox.file, "function": sandbox.function, "per": sandbox.per, "params": dict(sandbox.params),
            "batch_rows": sandbox.batch_rows,
        }  # fmt: skip
        lines = [hello | extra, *({"input": task.input, "output": task.output, "label": task.label} for task in tasks)]
        answers: list[dict[str, Any]] = []
        driver.serve([json.dumps(line) for line in lines], answers.append)
        return answers

    return converse


RETURNS = {
    "a batch": "def run(batch):\n    return batch\n",
    "a table": "import pyarrow as pa\ndef run(batch):\n    return pa.Table.from_batches([batch])\n",
    "a list": "def run(batch):\n    return [batch.slice(0, 1), batch.slice(1)]\n",
    "a generator": "def run(batch):\n    yield batch.slice(0, 2)\n    yield batch.slice(2)\n",
    "an iterator": "def run(batch):\n    return iter([batch])\n",
    "a reader": "import pyarrow as pa\ndef run(batch):\n    return pa.Table.from_batches([batch]).to_reader()\n",
}


@pytest.mark.parametrize("kind", RETURNS)
def test_all_documented_kinds_of_results_are_taken(kind, tmp_path, inside):
    sandbox = sandbox_of(tmp_path, RETURNS[kind])
    task = put(sandbox, BATCH, BATCH)
    assert inside(sandbox, task) == [
        {
            "ok": True,
            "python": sys.version.split()[0],
            "pyarrow": pa.__version__,
            "probe": None,
            "memory_limited": False,
        },
        {"ok": True, "rows": 6},
    ]
    assert got(sandbox, task).column("x").to_pylist() == [1, 2, 3] * 2


@pytest.mark.parametrize("per", ["partition", "dataset"])
def test_per_partition_hands_over_one_reader_of_all_batches(per, tmp_path, inside):
    code = """
        import pyarrow as pa
        def run(reader):
            assert isinstance(reader, pa.RecordBatchReader)
            return pa.table({"batches": [len(list(reader))]})
    """
    sandbox = sandbox_of(tmp_path, code, per=per)
    task = put(sandbox, BATCH, BATCH, BATCH)
    assert inside(sandbox, task)[1] == {"ok": True, "rows": 1}
    assert got(sandbox, task).column("batches").to_pylist() == [3]


def test_large_results_are_written_in_bounded_messages(tmp_path, inside, monkeypatch):
    monkeypatch.setattr(driver, "SLICE_BYTES", 8_000)
    sandbox = sandbox_of(tmp_path, IDENTITY)
    batch = pa.record_batch({"x": list(range(10_000))})
    task = put(sandbox, batch)
    inside(sandbox, task)
    reader = pa.ipc.open_stream((sandbox.out_dir / task.output).read_bytes())
    assert max(part.nbytes for part in reader) <= 8_000
    assert got(sandbox, task).column("x").to_pylist() == list(range(10_000))


def test_no_result_at_all_is_a_stream_of_no_columns(tmp_path, inside):
    sandbox = sandbox_of(tmp_path, "def run(batch):\n    yield from ()\n")
    task = put(sandbox, BATCH)
    assert inside(sandbox, task)[1] == {"ok": True, "rows": 0}
    assert got(sandbox, task).schema == pa.schema([])


def test_local_modules_and_extra_files_are_found(tmp_path):
    code = {
        "sub/entry.py": "import near, far\nfrom sub import also\n"
        "def run(batch):\n    text = near.A + far.B + also.C + open('v.txt').read()\n"
        "    return batch.append_column('y', [text] * len(batch))\n",
        "sub/near.py": "A = 'a'\n",
        "sub/also.py": "C = 'c'\n",
        "far.py": "B = 'b'\n",
        "v.txt": "d",
    }
    assert run(tmp_path, code, file="sub/entry.py").column("y").to_pylist() == ["abcd"] * 3


def test_an_exception_shows_the_users_own_lines_only(tmp_path):
    code = "def helper(batch):\n    return batch['nope']\n\n\n\ndef run(batch):\n    return helper(batch)\n"
    error = failure(tmp_path, code, source_names={"pipeline.py": "etl/pipeline.py"})
    assert isinstance(error, PipelineFailedError)
    assert error.subject == "etl/pipeline.py:2"
    assert error.facts["raised"].startswith("KeyError: ")
    assert error.facts["at"].splitlines() == [
        "etl/pipeline.py:7 in run: return helper(batch)",
        "etl/pipeline.py:2 in helper: return batch['nope']",
    ]


RAISES = {
    "SystemExit": "import sys\ndef run(batch):\n    sys.exit(3)\n",
    "KeyboardInterrupt": "def run(batch):\n    raise KeyboardInterrupt\n",
    "RuntimeError": "def run(batch):\n    yield batch\n    raise RuntimeError('late')\n",
    "ZeroDivisionError": "1 / 0\ndef run(batch): ...\n",
    "ModuleNotFoundError": "import not_there_at_all\ndef run(batch): ...\n",
    "Odd": "class Odd(Exception):\n    def __str__(self):\n        raise ValueError\ndef run(batch):\n    raise Odd\n",
}


@pytest.mark.parametrize("name", RAISES)
def test_whatever_user_code_raises_is_a_pipeline_failure(name, tmp_path, inside):
    sandbox = sandbox_of(tmp_path, RAISES[name])
    answer = inside(sandbox, put(sandbox, BATCH))[0 if name in ("ZeroDivisionError", "ModuleNotFoundError") else 1]
    assert (answer["kind"], answer["type"]) == ("failed", name)
    (sandbox.out_dir / "a.out").unlink(missing_ok=True)
    error = failure(tmp_path, RAISES[name])
    assert isinstance(error, PipelineFailedError)
    assert error.facts["raised"].startswith(name)
    if name == "ModuleNotFoundError":
        assert error.remedy == "pip install not_there_at_all"


NOT_FOUND = {
    "no file": ({"other.py": ""}, "there is no file 'pipeline.py'", "create pipeline.py"),
    "near name": ("def runn(batch): ...\n", "has no function 'run'", "entrypoint: pipeline.py:runn"),
    "no name": ("X = 1\n", "has no function 'run'", "define `def run(batch)`"),
    "no function": ("run = 3\n", "'run' in 'pipeline.py' is no function", "define `def run(batch)`"),
    "no Python": ("def run(batch:\n", "is no Python", "mend pipeline.py:1"),
}


@pytest.mark.parametrize("case", NOT_FOUND)
def test_what_cannot_be_loaded_is_named_with_a_remedy(case, tmp_path):
    code, message, remedy = NOT_FOUND[case]
    error = failure(tmp_path, code)
    assert isinstance(error, PipelineNotFoundError)
    assert message in error.message
    assert remedy in error.remedy


@pytest.mark.parametrize("case", NOT_FOUND)
def test_what_cannot_be_loaded_is_refused_inside(case, tmp_path, inside):
    (answer,) = inside(sandbox_of(tmp_path, NOT_FOUND[case][0]))
    assert answer["kind"] in ("file_missing", "function_missing", "not_callable", "syntax_error")


def test_parameters_that_the_function_does_not_take_are_named(tmp_path, inside):
    code = "def run(batch, maximum=1):\n    return batch\n"
    (answer,) = inside(sandbox_of(tmp_path, code, params={"max": 2}))
    assert answer["signature"] == "run(batch, maximum=1)"
    error = failure(tmp_path, code, params={"max": 2})
    assert error.subject == "pipeline.params"
    assert "'max'" in error.message


WRONG = {
    "NoneType": "def run(batch): ...\n",
    "dict": "def run(batch):\n    return {'x': [1]}\n",
    "str": "def run(batch):\n    return 'x'\n",
    "list of NoneType": "def run(batch):\n    return [None]\n",
    "generator of int": "def run(batch):\n    yield 1\n",
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_type_is_named(kind, tmp_path, inside):
    sandbox = sandbox_of(tmp_path, WRONG[kind])
    assert inside(sandbox, put(sandbox, BATCH))[1] == {
        "ok": False,
        "kind": "wrong_type",
        "got": kind,
        "function": "run",
    }
    (sandbox.out_dir / "a.out").unlink()
    error = failure(tmp_path, WRONG[kind])
    assert isinstance(error, PipelineOutputError)
    assert error.facts["got"] == kind
    assert error.remedy.startswith("return ")


I64, I32 = pa.field("x", pa.int64()), pa.field("x", pa.int32())
Y = pa.field("y", pa.string())
CHANGES = {
    "type": ([I64], [I32], ("x", "int64", "int32")),
    "nullability": ([I64], [I64.with_nullable(False)], ("x", "int64", "int64 not null")),
    "added": ([I64], [I64, Y], ("y", "absent", "string")),
    "removed": ([I64, Y], [I64], ("y", "string", "absent")),
    "replaced": ([I64], [Y], ("y", "absent", "string")),
    "first removed": ([Y, I64], [I64], ("y", "string", "absent")),
    "swapped": ([I64, Y], [Y, I64], ("x", "int64", "in another place")),
}


@pytest.mark.parametrize("case", CHANGES)
def test_the_first_differing_column_is_named(case):
    was, now, expected = CHANGES[case]
    assert driver.difference(pa.schema(was), pa.schema(now)) == expected


def test_a_schema_that_changes_between_batches_is_refused(tmp_path, inside):
    code = """
        import pyarrow as pa
        def run(batch):
            yield batch
            yield batch.set_column(0, "x", batch["x"].cast(pa.int8()))
    """
    sandbox = sandbox_of(tmp_path, code)
    assert inside(sandbox, put(sandbox, BATCH))[1]["kind"] == "schema_changed"
    (sandbox.out_dir / "a.out").unlink()
    error = failure(tmp_path, code)
    assert isinstance(error, PipelineOutputError)
    assert "column 'x'" in error.message
    assert error.facts == {"was": "int64", "now": "int8, in batch 2"}


def test_metadata_may_change_between_batches(tmp_path):
    code = "def run(batch):\n    yield batch\n    yield batch.replace_schema_metadata({'k': 'v'})\n"
    assert run(tmp_path, code).num_rows == 6


def test_what_goes_wrong_around_the_users_code_has_kinds_of_its_own(tmp_path, inside):
    code = """
        calls = iter([MemoryError, None])
        def run(batch):
            if error := next(calls):
                raise error
            return batch
    """
    sandbox = sandbox_of(tmp_path, code)
    task = put(sandbox, BATCH)
    (sandbox.in_dir / "junk").write_bytes(b"junk" * 100)
    (sandbox.out_dir / "link").symlink_to(sandbox.in_dir / "a")
    elsewhere = [
        Task(input=given, output=output, label="t") for given, output in (("no", "b"), ("junk", "b"), ("a", "link"))
    ]
    answers = inside(sandbox, task, *elsewhere, probe=str(sandbox.code_dir / "pipeline.py"))
    assert answers[0]["probe"].strip().startswith("calls")
    assert [answer["kind"] for answer in answers[1:]] == ["memory", "input_missing", "internal", "output_unwritable"]


def test_a_builtin_without_signature_may_be_the_function(tmp_path, inside):
    (answer,) = inside(sandbox_of(tmp_path, "run = getattr\n"))
    assert answer["ok"] is True

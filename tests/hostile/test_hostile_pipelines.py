"""Found by attack: pipelines that kept a build waiting for ever, or changed what they mean without its digest."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pyarrow as pa
import pytest

from coralord_lightning.builder.admit import Refused, admit_file
from coralord_lightning.builder.runners.base import Sandbox, Task
from coralord_lightning.builder.runners.local import LocalRunner
from coralord_lightning.errors import ForbiddenSourceError, PipelineFailedError, PipelineNotFoundError, RunnerError
from coralord_lightning.sources.http import _next_hop
from coralord_lightning.spec.code import code_digest, import_closure

BATCH = pa.record_batch({"x": pa.array([1, 2, 3])})


def run(folder: Path, code: str) -> list[str]:
    """Run a pipeline over one batch; returns the lines that it printed."""
    for name in ("code", "in", "out"):
        (folder / name).mkdir()
    (folder / "code" / "p.py").write_text("import os, sys, time\n" + textwrap.dedent(code))
    with pa.OSFile(str(folder / "in" / "a"), "wb") as sink, pa.ipc.new_stream(sink, BATCH.schema) as writer:
        writer.write_batch(BATCH)
    sandbox = Sandbox(
        code_dir=folder / "code", in_dir=folder / "in", out_dir=folder / "out",
        file="p.py", function="f", per="batch", params={}, batch_rows=10,
    )  # fmt: skip
    lines: list[str] = []
    with LocalRunner(echo=lines.append).open(sandbox) as session:
        session.run(Task(input="a", output="a", label="task a"))
    return lines


def test_a_process_that_ends_while_its_child_holds_the_pipes_open_is_noticed(tmp_path: Path) -> None:
    code = """
        def f(batch):
            if os.fork() == 0:
                time.sleep(600)
            os._exit(0)
        """
    with pytest.raises(RunnerError, match="ended before it answered"):
        run(tmp_path, code)


def test_a_child_that_left_the_group_does_not_keep_the_build_from_ending(tmp_path: Path) -> None:
    code = """
        def f(batch):
            print("before")
            if os.fork() == 0:
                os.setsid()
                time.sleep(20)
                os._exit(0)
            return batch
        """
    assert "[pipeline] before" in run(tmp_path, code)


def test_a_long_line_is_cut_and_one_without_an_end_is_shown(tmp_path: Path) -> None:
    lines = run(tmp_path, "def f(batch):\n    print('y' * 200_000)\n    print('end', end='')\n    return batch\n")
    assert all(line.count("y") <= 4_000 for line in lines)  # it may have come in pieces, and each is cut
    assert sum(line.count("y") for line in lines) >= 4_000
    assert lines[-1] == "[pipeline] end"


def test_an_exception_whose_text_ends_the_process_is_still_told(tmp_path: Path) -> None:
    code = """
        class Trap(Exception):
            def __str__(self):
                raise SystemExit(3)
        def f(batch):
            raise Trap
        """
    with pytest.raises(PipelineFailedError) as caught:
        run(tmp_path, code)
    assert caught.value.facts["raised"] == "Trap: (its message cannot be printed)"


def test_an_output_that_the_pipeline_deletes_is_blamed_on_the_pipeline(tmp_path: Path) -> None:
    code = """
        def f(batch):
            for name in os.listdir("../out"):
                os.unlink("../out/" + name)
            return batch
        """
    with pytest.raises(RunnerError, match="its output is not here") as caught:
        run(tmp_path, code)
    assert "engine" not in caught.value.remedy


@pytest.mark.parametrize("between", ["\n", "# a comment\n", "   \n"])
def test_a_line_that_ends_a_continued_statement_counts(between: str) -> None:
    assert code_digest(f"x = 1 \\\n{between}-2\n") != code_digest("x = 1 \\\n-2\n")


@pytest.mark.parametrize("cookie", ["# -*- coding: latin-1 -*-", "#!/usr/bin/python\n# vim: set fileencoding=cp1252 :"])
def test_an_encoding_that_a_comment_declares_is_refused(cookie: str) -> None:
    source = {"p.py": f"{cookie}\nx = 'é'\n"}
    with pytest.raises(PipelineNotFoundError, match="another encoding"):
        import_closure("p.py", source.get)


def test_utf8_may_be_declared() -> None:
    source = {"p.py": "# -*- coding: utf-8 -*-\nx = 'é'\n"}
    assert set(import_closure("p.py", source.get).code) == {"p.py"}


def test_a_relative_import_brings_the_packages_that_it_runs() -> None:
    source = {
        "__init__.py": "",
        "a/__init__.py": "C = 1\n",
        "a/b/__init__.py": "from .. import C\n",
        "a/b/p.py": "from . import C\n",
    }
    assert set(import_closure("a/b/p.py", source.get).code) == {"a/__init__.py", "a/b/__init__.py", "a/b/p.py"}


@pytest.mark.parametrize("cut", [slice(-8), slice(-4)])
def test_an_output_cut_between_two_batches_is_not_taken_for_a_whole_one(tmp_path: Path, cut: slice) -> None:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, BATCH.schema) as writer:
        writer.write_batch(BATCH)
    (tmp_path / "a").write_bytes(sink.getvalue().to_pybytes()[cut])
    with pytest.raises(Refused) as caught:
        admit_file(tmp_path / "a", out_dir=tmp_path, prefix="p", expect=None)
    assert caught.value.answer["kind"] == "damaged"


def test_a_redirect_to_an_unreadable_address_is_forbidden() -> None:
    with pytest.raises(ForbiddenSourceError):
        _next_hop("http://example.org/a", "http://[", "data")

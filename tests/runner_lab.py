"""Sandboxes for tests of any runner: code, inputs and outputs in a folder, and what of a session is still alive."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from coralord_lightning.builder.runners.base import Runner, Sandbox, Session, Task
from coralord_lightning.errors import CoralError

BATCH = pa.record_batch({"x": pa.array([1, 2, 3], pa.int64())})
IDENTITY = "def run(batch):\n    return batch\n"
ESCAPE = """
import os, pathlib, signal, sys
def escape(token):
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(600)', token])
    def up():
        for path in pathlib.Path('/proc').glob('[0-9]*/cmdline'):
            try:
                if path.read_bytes().endswith(token.encode() + bytes(1)):
                    return True
            except OSError:
                pass
    while not up():
        pass
"""
"""Starts a process in a session of its own, whose parent is gone, deaf to polite signals; waits until it is there."""


@dataclass(frozen=True, kw_only=True)
class Lab:
    """A folder with a runner.

    Args:
        make_runner: a runner that echoes to a callable.
        image: what its sandboxes run.
        out_inside: what the code calls `out_dir`; None: as we do.
    """

    folder: Path
    make_runner: Callable[[Callable[[str], None]], Runner]
    image: str | None = None
    out_inside: str | None = None
    lines: list[str] = field(default_factory=list)

    def sandbox(self, code: str | dict[str, str], *, out: str = "out", **changes: Any) -> Sandbox:
        for name in ("code", "in", out):
            (self.folder / name).mkdir(exist_ok=True)
        files = {"pipeline.py": code} if isinstance(code, str) else code
        for name, text in files.items():
            path = self.folder / "code" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        values: dict[str, Any] = {
            "code_dir": self.folder / "code", "in_dir": self.folder / "in", "out_dir": self.folder / out,
            "file": "pipeline.py", "function": "run", "per": "batch", "params": {}, "batch_rows": 65_536,
            "image": self.image,
        }  # fmt: skip
        return Sandbox(**values | changes)

    def out(self, sandbox: Sandbox) -> str:
        return self.out_inside or str(sandbox.out_dir)

    def task(self, name: str = "a", *batches: pa.RecordBatch, tag: str = "") -> Task:
        given = batches or (BATCH,)
        with (
            pa.OSFile(str(self.folder / "in" / name), "wb") as sink,
            pa.ipc.new_stream(sink, given[0].schema) as writer,
        ):
            for batch in given:
                writer.write_batch(batch)
        return Task(input=name, output=f"{name}.out", label=f"task {name}", tag=tag)

    def open(self, sandbox: Sandbox) -> AbstractContextManager[Session]:
        return self.make_runner(self.lines.append).open(sandbox)

    def read(self, sandbox: Sandbox, task: Task) -> pa.Table:
        return pa.ipc.open_stream((sandbox.out_dir / task.output).read_bytes()).read_all()

    def take(self, sandbox: Sandbox, task: Task) -> pa.Table:
        table = self.read(sandbox, task)
        (sandbox.out_dir / task.output).unlink()
        return table

    def run(self, code: str | dict[str, str], *batches: pa.RecordBatch, **changes: Any) -> pa.Table:
        sandbox = self.sandbox(code, **changes)
        task = self.task("a", *batches)
        with self.open(sandbox) as session:
            session.run(task)
        return self.take(sandbox, task)

    def failure(self, code: str | dict[str, str], **changes: Any) -> CoralError:
        with pytest.raises(CoralError) as caught:
            self.run(code, **changes)
        return caught.value


def alive(token: str) -> list[int]:
    """Processes on this machine, in containers too, that were started with this last argument."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().endswith(token.encode() + b"\0"):  # of a zombie it is empty
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def seen(table: pa.Table) -> Any:
    """What the code reported of its surroundings, as JSON in its only value."""
    return json.loads(table.column(0)[0].as_py())

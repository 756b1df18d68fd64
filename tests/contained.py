"""Sandboxes for the container runner, and a look at what it leaves; shared by its tests."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from coralord_lightning.builder.runners.base import Sandbox, Task
from coralord_lightning.builder.runners.docker import LABEL, DockerRunner
from coralord_lightning.builder.runners.engine import connect
from coralord_lightning.config import Config
from coralord_lightning.errors import CoralError

BATCH = pa.record_batch({"x": pa.array([1, 2, 3], pa.int64())})
TASK = Task(input="a", output="b", label="partition 1 of 1")
SAME = "def run(batch):\n    return batch\n"
MakeSandbox = Callable[..., Sandbox]


def ours(config: Config, pid: int | None = None) -> list[str]:
    """Containers that a process owns, this one unless another is named."""
    with connect(config) as client:
        labels = [f"{LABEL}=1", f"{LABEL}.pid={pid or os.getpid()}"]
        return [item["Id"] for item in client.api.containers(all=True, filters={"label": labels})]


@pytest.fixture
def make(tmp_path: Path, docker_config: Config, default_image: str) -> Iterator[MakeSandbox]:
    """Makes a sandbox whose directories nobody else may read; no container may be left afterwards."""

    def sandbox(code: str, **changes: Any) -> Sandbox:
        for name in ("code", "in", "out"):
            (tmp_path / name).mkdir(exist_ok=True, mode=0o700)
        (tmp_path / "code" / "pipeline.py").write_text(textwrap.dedent(code))
        (tmp_path / "code" / "pipeline.py").chmod(0o600)
        values: dict[str, Any] = {
            "code_dir": tmp_path / "code", "in_dir": tmp_path / "in", "out_dir": tmp_path / "out",
            "file": "pipeline.py", "function": "run", "per": "batch", "params": {}, "batch_rows": 65_536,
            "image": default_image,
        }  # fmt: skip
        put(tmp_path / "in" / "a")
        return Sandbox(**values | changes)

    yield sandbox
    assert ours(docker_config) == []


def put(path: Path) -> None:
    """Write an input."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, BATCH.schema) as writer:
        writer.write_batch(BATCH)
    path.chmod(0o600)


def quiet(config: Config) -> DockerRunner:
    """A runner that keeps what is printed to itself."""
    return DockerRunner(config, echo=lambda line: None)


def read(sandbox: Sandbox, name: str = "b") -> pa.Table:
    """An output's rows."""
    return pa.ipc.open_stream((sandbox.out_dir / name).read_bytes()).read_all()


def failure(config: Config, sandbox: Sandbox, task: Task = TASK) -> CoralError:
    """The error that one task ends with."""
    with pytest.raises(CoralError) as caught, quiet(config).open(sandbox) as session:
        session.run(task)
    return caught.value

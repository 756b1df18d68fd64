"""What a runner is: it runs the pipeline over files in a sandbox and says which isolation it enforced.

A runner knows nothing of plans, stores or Croissant; `builder/build` talks to it through these types only.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from coralord_lightning.spec.plan import Limits

__all__ = ["Runner", "Sandbox", "Session", "Task"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """What a runner is to set up, once for many tasks.

    Args:
        image: what the engine runs: `sha256:…` or `name@sha256:…`; None for `local`.
        code_dir: holds the pipeline's file, its local modules and `files`, at their relative paths; read-only inside.
        in_dir: where tasks' inputs appear while the session lives; read-only inside.
        out_dir: where the session leaves outputs; the only writable mount.
        file, function: the entrypoint, `file` relative to `code_dir`.
        source_names: path in `code_dir` -> path to show the user in tracebacks.
    """

    code_dir: Path
    in_dir: Path
    out_dir: Path
    file: str
    function: str
    per: Literal["batch", "partition", "dataset"]
    params: Mapping[str, Any]
    batch_rows: int
    image: str | None = None
    network: bool = False
    limits: Limits = field(default_factory=Limits)
    source_names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One run of the pipeline: an Arrow IPC stream in `in_dir` becomes one in `out_dir`.

    Args:
        input: file name beneath `in_dir`; its record batches are the batches that `per: batch` hands over.
        output: file name beneath `out_dir`.
        label: what a message calls it: "partition 3 of 12, split train".
        tag: what stands before what it prints: "3/12"; "" where nothing else runs beside it.
    """

    input: str
    output: str
    label: str
    tag: str = ""


class Session(Protocol):
    """A live sandbox."""

    @property
    def isolation(self) -> Mapping[str, Any]:
        """What was enforced: plain values, recorded in the manifest, never fingerprinted."""
        ...

    def run(self, task: Task) -> None:
        """Run the pipeline over one input; returns once the output is complete and closed.

        Raises:
            PipelineNotFoundError: file or function cannot be loaded.
            PipelineFailedError: the user's code raised; names its own file and line.
            PipelineOutputError: it returned what is no batch, or changed the schema between batches.
            RunnerError: the process or container died, ran out of memory or of time.
        """
        ...

    def stop(self) -> None:
        """End the process or container, so that a waiting `run` raises at once; for another thread, more than once."""
        ...


class Runner(Protocol):
    """Starts sandboxes. Closing the context ends every process and container it started."""

    def open(self, sandbox: Sandbox) -> AbstractContextManager[Session]:
        """Start a sandbox; one process or container that serves many tasks."""
        ...

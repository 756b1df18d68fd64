"""What a runner is: it runs the pipeline over files in a sandbox and says which isolation it enforced.

A runner knows nothing of plans, stores or Croissant; `builder/build` talks to it through these types only: an image's
digest, directories to mount, limits, and one conversation over standard input and output. A new one has to

1. mount `code_dir` and `in_dir` read-only (files appear in `in_dir` while it lives) and `out_dir` writable;
2. start `pipeline.py` there, in `image`, with `DETERMINISTIC_ENVIRONMENT`, umask 022 and nothing of the host's own;
3. be a `protocol.Wire` to it: lines in, lines out, prints through `Prints` with the task's tag;
4. let a `protocol.Conversation` ask, which judges answers, time and what was left in `out_dir`;
5. enforce `limits` and `network` where its platform can, and have a `watch.Watch` look at `out_dir`;
6. tell in `post_mortem` why the other side is gone: memory, a signal, an exit code, its last lines, and what to do;
7. end everything it started when it is closed or stopped, from any thread, and after a kill -9 of this process;
8. record in `isolation` what was enforced, plainly, and None or "not …" for what was not;
9. open several sessions at once, each with an `out_dir` of its own;
10. pass `tests/runner_contract.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from coralord_lightning.spec.plan import Limits

__all__ = ["Runner", "Sandbox", "Session", "Started", "Task", "unheard"]

Started = Callable[[Callable[[], None]], None]
"""Told how to end a sandbox from another thread, as soon as there is something to end."""


def unheard(_stop: Callable[[], None]) -> None:
    """A `Started` that nobody listens to."""


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
        project_dir: the descriptor's folder; for telling that a file which is missing inside lies there undeclared, and
            for watching over it where the sandbox could reach it. None where there is none.
        files: what the descriptor declares beside the code, relative to its folder.
        processors: how many the code may see and use, where the platform can bound that; None: all there are.
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
    project_dir: Path | None = None
    files: tuple[str, ...] = ()
    processors: int | None = None


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
    """A live sandbox. One thread runs tasks in it; any other may stop it."""

    @property
    def isolation(self) -> Mapping[str, Any]:
        """What was enforced: plain values, recorded in the manifest, never fingerprinted."""
        ...

    def run(self, task: Task) -> None:
        """Run the pipeline over one input; returns once the output is complete and closed.

        `limits.timeout_s` is the time that one task may take, from its first batch to its answer. After a task,
        `out_dir` holds its output, the outputs of earlier tasks that nobody took, and nothing else: whatever a task
        left beside it, or in its place, is an error and is removed, so that the next task starts clean. After an
        error of the user's code the session goes on; after one of the process or container it raises that error again.

        Raises:
            PipelineNotFoundError: file or function cannot be loaded.
            PipelineFailedError: the user's code raised; names its own file and line.
            PipelineOutputError: it returned what is no batch, changed the schema between batches, or left in `out_dir`
                anything but one regular file of one name.
            StoreFullError: the disk is full.
            RunnerError: the process or container died, was stopped, ran out of memory or of time; no output is there.
        """
        ...

    def stop(self) -> None:
        """End the process or container from another thread; more than once is fine.

        A `run` that waits raises RunnerError ("was stopped") at once, and so does every later one.
        """
        ...


class Runner(Protocol):
    """Starts sandboxes, in several threads at once if asked to.

    Sessions may share `code_dir` and `in_dir`, which nobody but the host writes to; `out_dir` belongs to one session.
    Closing the context ends every process and container that the session started, whatever those did to get away; it
    may happen in another thread than the one that waits in `run`, which then raises as after `stop`.
    """

    def open(self, sandbox: Sandbox, *, started: Started = unheard) -> AbstractContextManager[Session]:
        """Start a sandbox; one process or container that serves many tasks.

        The user's module is loaded before this returns, which may take for ever: what `started` is told ends that too.
        """
        ...

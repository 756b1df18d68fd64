"""The conversation with `pipeline.py`: greeting, tasks, answers. Processes and containers are a `Wire` to it."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from coralord_lightning.builder.runners.base import Sandbox, Task
from coralord_lightning.builder.runners.explain import explain
from coralord_lightning.builder.runners.outputs import require_output, sweep
from coralord_lightning.errors import CoralError, RunnerError

__all__ = [
    "DETERMINISTIC_ENVIRONMENT",
    "DRIVER",
    "MAX_ANSWER",
    "Conversation",
    "Echo",
    "Wire",
    "echo_to_stderr",
    "prefixed",
]

DRIVER = Path(__file__).resolve().parents[1] / "pipeline.py"
MAX_ANSWER = 1 << 20
_VERSION = re.compile(r"[0-9A-Za-z.+_-]{1,60}")
_THREADS = ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR", "VECLIB_MAXIMUM", "RAYON")

DETERMINISTIC_ENVIRONMENT: Mapping[str, str] = {
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "TZ": "UTC",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "SOURCE_DATE_EPOCH": "315532800",
    "ARROW_IO_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
} | {f"{name}_NUM_THREADS": "1" for name in _THREADS}
"""What could change the data from one machine to the next, at one value. Python would not read it under `-I`."""

Echo = Callable[[str], None]


def echo_to_stderr(line: str) -> None:
    """Show the user one line that the pipeline or the engine printed."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201  # the user's own output, on the channel for it


def prefixed(line: str, tag: str) -> str:
    """A line that the pipeline printed, as the user sees it: `[pipeline 3/200] …`."""
    return f"[pipeline {tag}] {line}" if tag else f"[pipeline] {line}"


class Wire(Protocol):
    """A line-wise connection to one `pipeline.py`; it echoes what the pipeline prints, as `prefixed` by `tag`."""

    tag: str

    def send(self, line: bytes) -> None:
        """Hand over one line. Raises OSError where nobody listens any more."""
        ...

    def receive(self, timeout_s: float | None) -> bytes:
        """The next line; empty at the end. Raises TimeoutError."""
        ...

    def post_mortem(self, label: str) -> CoralError:
        """Why the other side is gone."""
        ...

    def kill(self) -> None:
        """End the other side now."""
        ...


class Conversation:
    """Asks `pipeline.py` and turns its answers into results or errors.

    One thread talks at a time; `stop` and `hang_up` may be called from any other.

    Args:
        code_dir, in_dir, out_dir: the sandbox's directories as the other side sees them.
    """

    def __init__(self, wire: Wire, sandbox: Sandbox, *, code_dir: str, in_dir: str, out_dir: str) -> None:
        self._wire = wire
        self._sandbox = sandbox
        self._hello: dict[str, Any] = {
            "code_dir": code_dir,
            "in_dir": in_dir,
            "out_dir": out_dir,
            "file": sandbox.file,
            "function": sandbox.function,
            "per": sandbox.per,
            "params": dict(sandbox.params),
            "batch_rows": sandbox.batch_rows,
            "processors": sandbox.processors,
        }
        self._outputs: set[str] = set()
        self._talking = threading.Lock()
        self._stopped = threading.Event()
        self.broken: CoralError | None = None

    def greet(self, **extra: Any) -> Mapping[str, Any]:
        """Say what is to run, and have it loaded.

        Returns:
            the answer: python, pyarrow, probe, memory_limited.
        """
        answer = self._ask(self._hello | extra, f"{self._sandbox.file}:{self._sandbox.function}")
        return {**answer, **{key: _version(answer.get(key)) for key in ("python", "pyarrow")}}

    def run(self, task: Task) -> None:
        """Run one task; see `Session.run`. Whatever else the task left in `out_dir` is removed."""
        if self.broken is not None:
            raise self.broken
        self._wire.tag = task.tag
        out_dir = self._sandbox.out_dir
        done = False
        try:
            self._ask({"input": task.input, "output": task.output, "label": task.label}, task.label)
            shared = self._sandbox.image is not None
            require_output(out_dir, task.output, keep=self._outputs, label=task.label, shared=shared)
            done = True
        finally:
            if done:
                self._outputs.add(task.output)
            elif self.broken is None:  # a dead session serves no other task
                self.broken = sweep(out_dir, keep=self._outputs)

    def stop(self) -> None:
        """End the other side, whoever waits for it; see `Session.stop`."""
        self._stopped.set()
        self._wire.kill()

    def hang_up(self) -> None:
        """Make sure that nobody talks any more, so that the wire may be closed; ends a task that runs."""
        if not self._talking.acquire(blocking=False):
            self.stop()
            while not self._talking.acquire(timeout=5):
                self._wire.kill()
        self._stopped.set()
        self._talking.release()

    def _ask(self, request: Mapping[str, Any], label: str) -> Mapping[str, Any]:
        with self._talking:
            try:
                answer = self._answer(request, label)
            except CoralError as error:
                if self._stopped.is_set():
                    self.broken = self._stop_error(label)
                    raise self.broken from error
                self.broken = error
                raise
            except BaseException:  # Ctrl-C: the answer to this would be taken for the answer to the next
                self.broken = self._stop_error(label)
                raise
        if not answer.get("ok"):
            raise explain(answer, self._sandbox, label)
        return answer

    def _answer(self, request: Mapping[str, Any], label: str) -> Mapping[str, Any]:
        if self._stopped.is_set():
            raise self._stop_error(label)
        try:
            self._wire.send(json.dumps(request).encode() + b"\n")
            answer = _parse_answer(self._receive(label))
        except OSError as error:
            raise self._wire.post_mortem(label) from error
        if answer is None:
            raise self._wire.post_mortem(label)
        return answer

    def _receive(self, label: str) -> bytes:
        limit_s = self._sandbox.limits.timeout_s
        try:
            return self._wire.receive(limit_s)
        except TimeoutError:
            self._wire.kill()
            raise RunnerError(
                label,
                "the pipeline took longer than it may, and was stopped",
                facts={"allowed": f"{limit_s:g} s for one partition"},
                remedy=f"raise environment.timeout, e.g. timeout: {2 * (limit_s or 0):g}s, or make the pipeline faster",
            ) from None

    def _stop_error(self, label: str) -> RunnerError:
        return RunnerError(label, "was stopped before it was done", remedy="run the same command again")


def _version(said: object) -> str:
    """A version that goes into the manifest; the user's module may have answered in our driver's place."""
    return said if isinstance(said, str) and _VERSION.fullmatch(said) else "unknown"


def _parse_answer(line: bytes) -> dict[str, Any] | None:
    """The answer, or None where the other side ended without one. It may have been written by hostile code."""
    if not line:
        return None
    try:
        answer = json.loads(line) if len(line) <= MAX_ANSWER else None
    except (ValueError, RecursionError):
        answer = None
    if isinstance(answer, dict):
        return answer
    raise RunnerError(
        "pipeline",
        "the sandbox answered with what is no answer",
        facts={"got": line[:200].decode(errors="replace")},
        remedy="make sure that the pipeline writes to no file descriptor that it did not open",
    )

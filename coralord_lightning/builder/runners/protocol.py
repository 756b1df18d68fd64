"""The conversation with `pipeline.py`: greeting, tasks, answers. Processes and containers are a `Wire` to it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from coralord_lightning.builder.runners.base import Sandbox, Task
from coralord_lightning.builder.runners.explain import SHARE, explain
from coralord_lightning.errors import CoralError, RunnerError

__all__ = ["DETERMINISTIC_ENVIRONMENT", "DRIVER", "MAX_ANSWER", "Conversation", "Echo", "Wire", "echo_to_stderr"]

DRIVER = Path(__file__).resolve().parents[1] / "pipeline.py"
MAX_ANSWER = 1 << 20
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


class Wire(Protocol):
    """A line-wise connection to one `pipeline.py`."""

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

    Args:
        code_dir, in_dir, out_dir: the sandbox's directories as the other side sees them.
        clock: seconds, monotonic. Only the time spent waiting for answers counts against `limits.timeout_s`.
    """

    def __init__(
        self,
        wire: Wire,
        sandbox: Sandbox,
        *,
        code_dir: str,
        in_dir: str,
        out_dir: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wire = wire
        self._sandbox = sandbox
        self._clock = clock
        self._left_s = sandbox.limits.timeout_s
        self._hello: dict[str, Any] = {
            "code_dir": code_dir,
            "in_dir": in_dir,
            "out_dir": out_dir,
            "file": sandbox.file,
            "function": sandbox.function,
            "per": sandbox.per,
            "params": dict(sandbox.params),
            "batch_rows": sandbox.batch_rows,
        }
        self.broken: CoralError | None = None

    def greet(self, **extra: Any) -> Mapping[str, Any]:
        """Say what is to run, and have it loaded.

        Returns:
            the answer: python, pyarrow, probe, memory_limited.
        """
        return self._ask(self._hello | extra, f"{self._sandbox.file}:{self._sandbox.function}")

    def run(self, task: Task) -> None:
        """Run one task; see `Session.run`."""
        if self.broken is not None:
            raise self.broken
        request = {"input": task.input, "output": task.output, "label": task.label}
        self._ask(request, task.label)
        if not (self._sandbox.out_dir / task.output).exists():
            raise RunnerError(
                task.label,
                "the pipeline ended well, but its output is not here",
                facts={"expected": self._sandbox.out_dir / task.output},
                remedy="delete nothing in the pipeline that it did not make"
                + (f"; otherwise, {SHARE}" if self._sandbox.image is not None else ""),
            )

    def stop(self) -> None:
        """End the other side, whoever waits for it."""
        self._wire.kill()

    def _ask(self, request: Mapping[str, Any], label: str) -> Mapping[str, Any]:
        try:
            try:
                self._wire.send(json.dumps(request).encode() + b"\n")
                answer = _parse_answer(self._receive(label))
            except OSError as error:
                raise self._wire.post_mortem(label) from error
            if answer is None:
                raise self._wire.post_mortem(label)
        except CoralError as error:
            self.broken = error
            raise
        if not answer.get("ok"):
            raise explain(answer, self._sandbox, label)
        return answer

    def _receive(self, label: str) -> bytes:
        began = self._clock()
        try:
            return self._wire.receive(self._left_s)
        except TimeoutError:
            self._wire.kill()
            raise RunnerError(
                label,
                "the pipeline took longer than it may, and was stopped",
                facts={"allowed": f"{self._sandbox.limits.timeout_s:g} s of running, in all"},
                remedy="raise environment.timeout, or make the pipeline faster",
            ) from None
        finally:
            if self._left_s is not None:
                self._left_s = max(0.001, self._left_s - (self._clock() - began))


def _parse_answer(line: bytes) -> dict[str, Any] | None:
    """The answer, or None where the other side ended without one. It may have been written by hostile code."""
    if not line:
        return None
    try:
        answer = json.loads(line) if len(line) <= MAX_ANSWER else None
    except ValueError:
        answer = None
    if isinstance(answer, dict):
        return answer
    raise RunnerError(
        "pipeline",
        "the sandbox answered with what is no answer",
        facts={"got": line[:200].decode(errors="replace")},
        remedy="make sure that the pipeline writes to no file descriptor that it did not open",
    )

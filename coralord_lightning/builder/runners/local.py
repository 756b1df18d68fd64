"""Runs the pipeline in a fresh process of this interpreter: killed and bounded, but not isolated. Never a container."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import platform
import re
import selectors
import signal
import site
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from coralord_lightning.builder.runners.base import Sandbox, Task
from coralord_lightning.builder.runners.explain import format_bytes
from coralord_lightning.builder.runners.protocol import (
    DETERMINISTIC_ENVIRONMENT,
    DRIVER,
    MAX_ANSWER,
    Conversation,
    Echo,
    echo_to_stderr,
    prefixed,
)
from coralord_lightning.errors import CoralError, PipelineNotFoundError, RunnerError

__all__ = ["LocalRunner", "LocalSession", "identity"]

_LAST_LINES = 20
_LINE_BYTES = 65_536
_POLL_S = 0.2


def identity(imports: Iterable[str]) -> dict[str, Any]:
    """What pins this interpreter for a pipeline.

    Args:
        imports: top-level names that the pipeline's code imports and does not bring itself.
    Returns:
        implementation, python, platform, and by distribution the version of pyarrow and of every import.
    Raises:
        PipelineNotFoundError: an import belongs to no installed distribution.
    """
    versions: dict[str, str] = {}
    for name in sorted({*imports, "pyarrow"} - sys.stdlib_module_names):
        versions |= _distributions_of(name)
    return {
        "implementation": platform.python_implementation().lower(),
        "python": platform.python_version(),
        "platform": f"{sys.platform}-{platform.machine()}",
        "distributions": dict(sorted(versions.items())),
    }


def _distributions_of(name: str) -> dict[str, str]:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return {_normal(name): importlib.metadata.version(name)}
    # slow (it reads every distribution's file list), and needed only where import and distribution differ in name
    found = _distributions_by_import().get(name, [])
    if not found:
        raise PipelineNotFoundError(
            "pipeline.entrypoint",
            f"it imports '{name}', which is neither beside the descriptor, in the standard library, nor installed",
            facts={"python": sys.executable},
            remedy=f"pip install {name}",
        )
    return {_normal(item): importlib.metadata.version(item) for item in found}


@functools.cache
def _distributions_by_import() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


class LocalRunner:
    """Starts the pipeline as a child of this process, without this process's environment.

    Args:
        echo: takes every line that the pipeline prints.
    """

    def __init__(self, *, echo: Echo = echo_to_stderr) -> None:
        self._echo = echo

    @contextmanager
    def open(self, sandbox: Sandbox) -> Iterator[LocalSession]:
        """Start one process that serves many tasks; see `Runner.open`."""
        process = _start(sandbox)
        wire = _ProcessWire(process, sandbox, self._echo)
        conversation = Conversation(
            wire,
            sandbox,
            code_dir=str(sandbox.code_dir.absolute()),
            in_dir=str(sandbox.in_dir.absolute()),
            out_dir=str(sandbox.out_dir.absolute()),
        )
        try:
            answer = conversation.greet(memory_bytes=sandbox.limits.memory_bytes)
            yield LocalSession(conversation, _isolation(sandbox, answer))
        finally:
            conversation.hang_up()
            wire.close()


class LocalSession:
    """A live child process."""

    def __init__(self, conversation: Conversation, isolation: Mapping[str, Any]) -> None:
        self._conversation = conversation
        self._isolation = isolation

    @property
    def isolation(self) -> Mapping[str, Any]:
        """What was enforced; see `Session.isolation`."""
        return self._isolation

    def run(self, task: Task) -> None:
        """Run one task; see `Session.run`."""
        self._conversation.run(task)

    def stop(self) -> None:
        """End it, from another thread; see `Session.stop`."""
        self._conversation.stop()


def _isolation(sandbox: Sandbox, answer: Mapping[str, Any]) -> dict[str, Any]:
    limits = sandbox.limits
    return {
        "runner": "local",
        "isolated": False,
        "python": str(answer.get("python")),
        "pyarrow": str(answer.get("pyarrow")),
        "memory_bytes": limits.memory_bytes if answer.get("memory_limited") is True else None,
        "timeout_s": limits.timeout_s,
    }


def _start(sandbox: Sandbox) -> subprocess.Popen[bytes]:
    environment = dict(DETERMINISTIC_ENVIRONMENT)
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.defpath])
    if sandbox.limits.memory_bytes is not None:
        # RLIMIT_AS counts reserved addresses, and these reserve gigabytes ahead of need
        environment |= {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2"}
    no_user_site = [] if site.ENABLE_USER_SITE else ["-s"]
    return subprocess.Popen(
        [sys.executable, *no_user_site, str(DRIVER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=sandbox.code_dir,
        start_new_session=True,
    )


class _ProcessWire:
    """Pipes to a child process in a group of its own."""

    def __init__(self, process: subprocess.Popen[bytes], sandbox: Sandbox, echo: Echo) -> None:
        self.tag = ""
        self._process = process
        self._sandbox = sandbox
        self._echo = echo
        self._buffer = b""
        self._last: deque[str] = deque(maxlen=_LAST_LINES)
        self._closing = threading.Event()
        self._forwarder = threading.Thread(target=self._forward, args=(_pipe(process.stderr),), daemon=True)
        self._forwarder.start()

    def send(self, line: bytes) -> None:
        stdin = _pipe(self._process.stdin)
        stdin.write(line)
        stdin.flush()

    def receive(self, timeout_s: float | None) -> bytes:
        stdout = _pipe(self._process.stdout)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer and len(self._buffer) <= MAX_ANSWER:
                # asked before the pipe is looked at: what it wrote before it ended is there by then
                ended = self._process.poll() is not None
                left_s = _POLL_S if deadline is None else deadline - time.monotonic()
                if not selector.select(0 if ended else min(max(left_s, 0), _POLL_S)):
                    if ended:  # what it started may hold the pipe open for ever
                        return b""
                    if deadline is not None and left_s <= 0:
                        raise TimeoutError
                    continue
                data = os.read(stdout.fileno(), 65_536)
                if not data:
                    return b""
                self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def post_mortem(self, label: str) -> CoralError:
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:  # it closed its end of the pipe, and lives
            self.kill()
            code = self._process.wait()
        self._forwarder.join(timeout=2)
        facts = {"ended": _ending(code)}
        limit = self._sandbox.limits.memory_bytes
        if limit is not None:
            facts["memory"] = f"{format_bytes(limit)} allowed"
        if self._last:
            facts["last"] = "\n".join(self._last)
        if -code in (signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV):
            remedy = "give it more memory (environment.memory, or a larger machine), or use smaller batches"
        else:
            remedy = "mend the pipeline: it must return, not end its process"
        return RunnerError(label, "the pipeline's process ended before it answered", facts=facts, remedy=remedy)

    def close(self) -> None:
        self.kill()
        self._process.wait()
        self._forwarder.join(timeout=2)
        self._closing.set()
        self._forwarder.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(OSError):  # what was not sent to a dead child is of no use
                _pipe(pipe).close()

    def _forward(self, stderr: IO[bytes]) -> None:
        """Echo lines until the pipe ends, or until `close`: a process that left the group may hold it open for ever."""
        waiting = b""
        with selectors.DefaultSelector() as selector:
            selector.register(stderr, selectors.EVENT_READ)
            while not self._closing.is_set():
                if not selector.select(_POLL_S):
                    continue
                data = os.read(stderr.fileno(), _LINE_BYTES)
                *lines, waiting = (waiting + data).split(b"\n")
                if not data or len(waiting) >= _LINE_BYTES:
                    lines, waiting = [*lines, waiting] if waiting else lines, b""
                for raw in lines:
                    self._show(raw.decode(errors="replace").rstrip("\r"))
                if not data:
                    return

    def _show(self, line: str) -> None:
        self._last.append(line)
        self._echo(prefixed(line, self.tag))


def _ending(code: int) -> str:
    return f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise AssertionError("the process was started with pipes")
    return pipe

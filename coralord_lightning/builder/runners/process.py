"""A child process of ours as a `Wire`: pipes, what it printed, how it ended. Decides nothing of what runs in it.

One thread reads answers and prints, so that a print belongs to the task that made it; any other may `kill`.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from typing import IO

from coralord_lightning.builder.runners.base import Sandbox
from coralord_lightning.builder.runners.explain import format_bytes
from coralord_lightning.builder.runners.prints import Prints
from coralord_lightning.builder.runners.protocol import MAX_ANSWER, Echo
from coralord_lightning.builder.runners.watch import Watch
from coralord_lightning.errors import CoralError, RunnerError

__all__ = ["ProcessWire"]

GRACE_S = 10.0
_READ_BYTES = 65_536
_DRAIN_BYTES = 1 << 20
_POLL_S = 0.2


class ProcessWire:
    """Pipes to a guard (`builder/guard.py`) that leads a group of its own.

    Args:
        echo: takes every line that the pipeline prints.
        watch: told to look at the output directory whenever an answer comes.
    """

    def __init__(self, process: subprocess.Popen[bytes], sandbox: Sandbox, *, echo: Echo, watch: Watch) -> None:
        self.tag = ""
        self._process = process
        self._sandbox = sandbox
        self._watch = watch
        self._answers = b""
        self._prints = Prints(echo)
        self._ending = threading.Lock()
        self._ended = False

    def send(self, line: bytes) -> None:
        self._prints.begin(self.tag)
        self._answers = b""  # nothing that came before the question answers it
        stdin = _pipe(self._process.stdin)
        stdin.write(line)
        stdin.flush()

    def receive(self, timeout_s: float | None) -> bytes:
        stdout, stderr = _pipe(self._process.stdout), _pipe(self._process.stderr)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            selector.register(stderr, selectors.EVENT_READ)
            while b"\n" not in self._answers and len(self._answers) <= MAX_ANSWER:
                # asked before the pipes are looked at: what it wrote before it ended is there by then
                ended = self._process.poll() is not None
                left_s = _POLL_S if deadline is None else deadline - time.monotonic()
                if left_s <= 0:  # whatever it goes on printing
                    raise TimeoutError
                ready = [key.fileobj for key, _ in selector.select(0 if ended else min(left_s, _POLL_S))]
                if stderr in ready and not self._take_prints():
                    selector.unregister(stderr)
                if stdout in ready:
                    data = os.read(stdout.fileno(), _READ_BYTES)
                    if not data:
                        return b""
                    self._answers += data
                elif ended:  # what it started may hold the pipe open for ever
                    return b""
        self._drain(_DRAIN_BYTES)
        if self._watch.look():
            self.kill()
            return b""
        line, _, self._answers = self._answers.partition(b"\n")
        return line

    def kill(self) -> None:
        """Have the guard end everything; then whatever is left of its group, where it could not."""
        if sys.platform == "linux" and self._process.poll() is None:
            for number in (signal.SIGTERM, signal.SIGCONT):
                self._process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=GRACE_S)
        with self._ending:
            if not self._ended:  # once: another group may have the number by and by
                self._ended = True
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)

    def post_mortem(self, label: str) -> CoralError:
        if self._watch.look():
            self.kill()
        overflow = self._watch.error(label)
        if overflow is not None:
            return overflow
        try:
            ending = _ending(self._process.wait(timeout=GRACE_S))
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
            ending = "not: it closed its end of the pipe and went on"
        self._drain(_DRAIN_BYTES)
        self.kill()  # what it left, if somebody ended the guard
        facts = {"ended": ending}
        limit = self._sandbox.limits.memory_bytes
        if limit is not None:
            facts["memory"] = f"{format_bytes(limit)} allowed"
        if self._prints.last:
            facts["last"] = "\n".join(self._prints.last)
        if any(name in ending for name in ("SIGKILL", "SIGABRT", "SIGSEGV", "SIGBUS")):
            remedy = "give it more memory (environment.memory, or a larger machine), or use smaller batches"
        elif "SIGXFSZ" in ending:
            remedy = "free space on the store's disk, or use another home: --home DIR"
        else:
            remedy = "mend the pipeline: it must return, not end its process"
        return RunnerError(label, "the pipeline's process ended before it answered", facts=facts, remedy=remedy)

    def close(self) -> None:
        """End everything, showing what it printed after its last answer."""
        self.kill()
        self._process.wait()
        self._drain(_DRAIN_BYTES)
        self._prints.end()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(OSError):  # what was not sent to a dead child is of no use
                _pipe(pipe).close()

    def _drain(self, most: int) -> None:
        """Take the prints that are there already, up to a bound: a flood must not keep us."""
        with selectors.DefaultSelector() as selector:
            selector.register(_pipe(self._process.stderr), selectors.EVENT_READ)
            while most > 0 and selector.select(0) and self._take_prints():
                most -= _READ_BYTES

    def _take_prints(self) -> bool:
        """Read once; false at the end."""
        data = os.read(_pipe(self._process.stderr).fileno(), _READ_BYTES)
        self._prints.feed(data)
        return bool(data)


def _ending(code: int) -> str:
    return f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise AssertionError("the process was started with pipes")
    return pipe

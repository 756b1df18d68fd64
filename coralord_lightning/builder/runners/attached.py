"""Standard input, output and error of one container, over one attached socket. Starts and removes no container.

Whatever the container writes, this holds at most one answer, one line and some counters of it.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from coralord_lightning.builder.runners.endings import Ending, explain_ending
from coralord_lightning.builder.runners.engine import connect, engine_trouble, require_engine
from coralord_lightning.builder.runners.prints import Prints
from coralord_lightning.builder.runners.protocol import MAX_ANSWER, Echo
from coralord_lightning.builder.runners.watch import Watch
from coralord_lightning.config import Config
from coralord_lightning.errors import CoralError, RunnerError

if TYPE_CHECKING:
    import docker

__all__ = ["AttachedWire", "Frames"]

_DRAIN_S = 3
_GRACE_S = 10
_LOOK_S = 2.0
_SEND_S = 60.0
_KILL_S = 10
_STDOUT, _STDERR = 1, 2


class Frames:
    """Undoes the engine's framing: stream number, three zeros, length, that many bytes. Keeps no more than a header.

    Args:
        take: called with stream number and bytes, as they come.
    """

    def __init__(self, take: Callable[[int, bytes], None]) -> None:
        self._take = take
        self._header = b""
        self._stream = 0
        self._left = 0

    def feed(self, data: bytes) -> None:
        """Take what was received."""
        at = 0
        while at < len(data):
            if self._left:
                body = data[at : at + self._left]
                at += len(body)
                self._left -= len(body)
                self._take(self._stream, body)
                continue
            part = data[at : at + 8 - len(self._header)]
            at += len(part)
            self._header += part
            if len(self._header) == 8:
                self._stream, self._left = struct.unpack(">BxxxL", self._header)
                self._header = b""


class AttachedWire:
    """A `Wire` to a container. One thread talks; `kill` may be called from any.

    Args:
        client: the talking thread's own connection; others open another.
        watch: told to look at the output directory whenever an answer comes.
        memory_bytes: what the container may take.
    """

    def __init__(
        self,
        client: docker.DockerClient,
        config: Config,
        container_id: str,
        *,
        echo: Echo,
        watch: Watch,
        memory_bytes: int,
    ) -> None:
        self.tag = ""
        self._client = client
        self._config = config
        self._id = container_id
        self._watch = watch
        self._memory_bytes = memory_bytes
        self.mark = f"\x1e{secrets.token_hex(8)}"
        self._marks = True
        self._prints = Prints(echo, mark=self.mark)
        self._frames = Frames(self._take_body)
        self._answers = b""
        self._attached: Any = None
        self._paused = False
        self._ended = threading.Event()

    def attach(self) -> None:
        """Connect to a container that has not started yet, so that nothing is missed."""
        with engine_trouble(self._config):
            wanted = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
            self._attached = self._client.api.attach_socket(self._id, params=wanted)

    def close(self) -> None:
        """End the conversation, showing what the pipeline printed after its last answer."""
        if self._attached is None:
            return
        with contextlib.suppress(OSError):
            if not self._ended.is_set():
                self._socket.shutdown(socket.SHUT_WR)  # the end of its input ends `pipeline.py`
            deadline = time.monotonic() + _DRAIN_S
            while (left := deadline - time.monotonic()) > 0 and self._take(left):
                self._answers = b""
        self._prints.end()
        with contextlib.suppress(OSError):
            self._socket.close()  # the wrapper around it would only drop a reference
            self._attached.close()

    def send(self, line: bytes) -> None:
        self._prints.begin(self.tag)
        self._answers = b""  # nothing that came before the question answers it
        self._socket.settimeout(_SEND_S)
        self._socket.sendall(line)

    def receive(self, timeout_s: float | None) -> bytes:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while b"\n" not in self._answers and len(self._answers) <= MAX_ANSWER:
            left = _LOOK_S if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            try:
                if not self._take(min(left, _LOOK_S)):
                    return b""
            except TimeoutError:
                if not self._goes_on():
                    return b""
        self._take_prints()
        if self._watch.look():
            self.kill()
            return b""
        line, _, self._answers = self._answers.partition(b"\n")
        return line

    def _take_prints(self) -> None:
        """What the task has printed and is still under way; from a pipeline that closed its standard error, nothing."""
        deadline = time.monotonic() + _DRAIN_S
        with contextlib.suppress(TimeoutError):
            while self._marks and not self._prints.all_there and self._take(max(0.001, deadline - time.monotonic())):
                pass
        self._marks = self._prints.all_there

    def kill(self) -> None:
        """End the container, and first of all whoever waits for it."""
        self._ended.set()
        attached = getattr(self._attached, "_sock", self._attached)
        with contextlib.suppress(OSError):
            if attached is not None:  # None once it is closed
                socket.socket.shutdown(attached, socket.SHUT_RDWR)  # not the one of TLS, which no two threads may use
        with (
            contextlib.suppress(CoralError),
            connect(self._config, timeout_s=_KILL_S) as client,
            engine_trouble(self._config),
        ):
            client.api.kill(self._id)

    def post_mortem(self, label: str) -> CoralError:
        if self._watch.look():
            self.kill()
        overflow = self._watch.error(label)
        if overflow is not None:
            return overflow
        if self._ended.is_set():
            return RunnerError(label, "was stopped before it was done", remedy="run the same command again")
        try:
            state = self._last_state()
        except CoralError as trouble:  # the engine is gone
            return trouble
        if state is not None and state.get("Running"):
            self.kill()
        ending = Ending(state=state, paused=self._paused, last=self._prints.last, memory_bytes=self._memory_bytes)
        return explain_ending(ending, label)

    def _last_state(self) -> Mapping[str, Any] | None:
        """The container's state, once it has ended; if it does not end, the state that it is in; None if it is gone."""
        import docker.errors
        import requests

        require_engine(self._config)
        with engine_trouble(self._config):
            try:
                if not self._paused:
                    with contextlib.suppress(requests.ReadTimeout, requests.ConnectionError):  # it still runs
                        self._client.api.wait(self._id, timeout=_GRACE_S)
                state = dict(self._client.api.inspect_container(self._id)["State"])
            except docker.errors.NotFound:
                return None
            return None if state.get("Dead") or state.get("Status") == "removing" else state

    def _goes_on(self) -> bool:
        """Ask the engine after a silence: false where nothing can come any more."""
        try:
            with engine_trouble(self._config):
                state = self._client.api.inspect_container(self._id)["State"]
        except CoralError:  # the post-mortem asks again, and says why
            return False
        self._paused = bool(state.get("Paused"))
        return bool(state.get("Running")) and not self._paused

    def _take(self, timeout_s: float) -> bool:
        """Receive once; false at the end."""
        self._socket.settimeout(timeout_s)
        data = self._socket.recv(65_536)
        self._frames.feed(data)
        return bool(data)

    def _take_body(self, stream: int, body: bytes) -> None:
        if stream == _STDERR:
            self._prints.feed(body)
        elif stream == _STDOUT and len(self._answers) <= MAX_ANSWER:
            self._answers += body

    @property
    def _socket(self) -> Any:
        if self._attached is None:
            raise AssertionError("attach() comes first")
        return getattr(self._attached, "_sock", self._attached)

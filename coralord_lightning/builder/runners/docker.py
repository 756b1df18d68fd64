"""Runs the pipeline in a hardened container: no network, read-only, unprivileged, bounded. Decides no image."""

from __future__ import annotations

import contextlib
import shutil
import socket
import struct
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from coralord_lightning.builder.runners.base import Sandbox, Task
from coralord_lightning.builder.runners.engine import (
    LABEL,
    connect,
    engine_trouble,
    engine_version,
    ownership_labels,
    reap_orphans,
)
from coralord_lightning.builder.runners.explain import SHARE, out_of_memory
from coralord_lightning.builder.runners.mounts import Mounts
from coralord_lightning.builder.runners.protocol import (
    DETERMINISTIC_ENVIRONMENT,
    MAX_ANSWER,
    Conversation,
    Echo,
    echo_to_stderr,
    prefixed,
)
from coralord_lightning.config import Config
from coralord_lightning.errors import CoralError, ImageNotFoundError, RunnerError

if TYPE_CHECKING:
    import docker

__all__ = ["LABEL", "DockerRunner", "DockerSession", "engine_version"]

DEFAULT_MEMORY_BYTES = 8 << 30
PIDS = 256
USER = 65534
_SCRATCH = "size=1g"
_LAST_LINES = 20
_GRACE_S = 10
_DRAIN_S = 3
_WAIT_S = 3600.0


class DockerRunner:
    """Starts one container for many tasks, and removes it.

    Args:
        config: names the engine.
        echo: takes every line that the pipeline prints.
    """

    def __init__(self, config: Config, *, echo: Echo = echo_to_stderr) -> None:
        self._config = config
        self._echo = echo

    @contextmanager
    def open(self, sandbox: Sandbox) -> Iterator[DockerSession]:
        """Start a container; see `Runner.open`.

        Raises:
            EngineUnreachableError, ImageNotFoundError, RunnerError: it cannot be started.
        """
        with contextlib.ExitStack() as stack:
            client = stack.enter_context(connect(self._config))
            with engine_trouble(self._config):
                reap_orphans(client)
                engine = client.info()
            security = " ".join(engine.get("SecurityOptions") or [])
            remapped = "name=userns" in security or "name=rootless" in security
            mounts = stack.enter_context(Mounts(sandbox, user=None if remapped else USER))
            arguments = container_arguments(sandbox, mounts, cpus=float(engine.get("NCPU") or 1))
            container_id = stack.enter_context(_container(client, self._config, arguments))
            wire = _ContainerWire(client, self._config, container_id, sandbox, self._echo)
            stack.callback(wire.close)
            conversation = Conversation(wire, sandbox, code_dir="/code", in_dir="/in", out_dir="/out")
            stack.callback(conversation.hang_up)
            wire.start()
            answer = conversation.greet(probe="/coral/probe")
            mounts.require_shared(str(answer.get("probe")))
            yield DockerSession(conversation, mounts, isolation_of(arguments, engine, sandbox, answer))


class DockerSession:
    """A live container."""

    def __init__(self, conversation: Conversation, mounts: Mounts, isolation: Mapping[str, Any]) -> None:
        self._conversation = conversation
        self._mounts = mounts
        self._isolation = isolation

    @property
    def isolation(self) -> Mapping[str, Any]:
        """What was enforced; see `Session.isolation`."""
        return self._isolation

    def run(self, task: Task) -> None:
        """Run one task; see `Session.run`."""
        self._mounts.let_in(task.input)
        self._conversation.run(task)

    def stop(self) -> None:
        """End it, from another thread; see `Session.stop`."""
        self._conversation.stop()


def container_arguments(sandbox: Sandbox, mounts: Mounts, *, cpus: float) -> dict[str, Any]:
    """Every argument of the container, in docker-py's words. Pure but for asking how much disk is free.

    Args:
        sandbox: what is to run.
        mounts: where its directories are.
        cpus: how many the engine has.
    """
    from docker.types import LogConfig, Mount, Ulimit

    memory = sandbox.limits.memory_bytes or DEFAULT_MEMORY_BYTES
    free = shutil.disk_usage(sandbox.out_dir).free
    binds = [
        Mount(target, str(source), type="bind", read_only=True, propagation="rprivate")
        for target, source in (("/coral", mounts.driver), ("/code", sandbox.code_dir), ("/in", sandbox.in_dir))
    ]
    return {
        "image": sandbox.image,
        "entrypoint": ["python3", "-s", "/coral/pipeline.py"],
        "command": [],
        "name": f"coralord-{uuid.uuid4().hex[:12]}",
        "labels": ownership_labels(),
        "environment": dict(DETERMINISTIC_ENVIRONMENT) | {"HOME": "/tmp"},  # noqa: S108  # the container's own
        "working_dir": "/",
        "stdin_open": True,
        "user": f"{USER}:{USER}",
        "network_mode": "bridge" if sandbox.network else "none",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "init": True,
        "healthcheck": {"test": ["NONE"]},
        "pids_limit": PIDS,
        "mem_limit": memory,
        "memswap_limit": memory,
        "nano_cpus": int(min(sandbox.limits.cpus or cpus, cpus) * 1e9),
        "ipc_mode": "private",
        "shm_size": "1g",
        "tmpfs": {"/tmp": f"rw,noexec,nosuid,nodev,{_SCRATCH}"},  # noqa: S108  # the container's own
        "mounts": [*binds, Mount("/out", str(sandbox.out_dir.absolute()), type="bind", propagation="rprivate")],
        "ulimits": [Ulimit(name="fsize", soft=free, hard=free), Ulimit(name="core", soft=0, hard=0)],
        "log_config": LogConfig(type="json-file", config={"max-size": "10m"}),
    }


def isolation_of(
    arguments: Mapping[str, Any], engine: Mapping[str, Any], sandbox: Sandbox, answer: Mapping[str, Any]
) -> dict[str, Any]:
    """What was enforced, as plain values."""
    return {
        "runner": "docker",
        "isolated": True,
        "engine": f"Docker {engine.get('ServerVersion')}",
        "engine_security": sorted(str(item) for item in engine.get("SecurityOptions") or []),
        "runtime": str(engine.get("DefaultRuntime")),
        "image": str(arguments["image"]),
        "python": str(answer.get("python")),
        "pyarrow": str(answer.get("pyarrow")),
        "user": arguments["user"],
        "network": arguments["network_mode"],
        "read_only": arguments["read_only"],
        "cap_drop": list(arguments["cap_drop"]),
        "security_opt": list(arguments["security_opt"]),
        "pids": arguments["pids_limit"],
        "memory_bytes": arguments["mem_limit"],
        "cpus": arguments["nano_cpus"] / 1e9,
        "timeout_s": sandbox.limits.timeout_s,
    }


@contextmanager
def _container(client: docker.DockerClient, config: Config, arguments: Mapping[str, Any]) -> Iterator[str]:
    """Create a container, and remove it whatever happens."""
    import docker.errors

    name = str(arguments["name"])
    try:
        with engine_trouble(config):
            try:
                container = client.containers.create(**arguments)
            except docker.errors.APIError as error:
                raise _cannot_start(error) from error
        yield str(container.id)
    finally:
        # by name, because an interrupted call may have created it without telling its ID
        with contextlib.suppress(CoralError), engine_trouble(config):
            client.api.remove_container(name, force=True, v=True)


def _cannot_start(error: docker.errors.APIError) -> CoralError:
    import docker.errors

    reason = str(error.explanation or error)
    if isinstance(error, docker.errors.ImageNotFound):
        return ImageNotFoundError(
            "environment.image",
            "the engine has no such image any more",
            facts={"got": reason},
            remedy="run the same command again, which gets it where it can be had",
        )
    if "bind source path does not exist" in reason or "bind mount" in reason:
        return RunnerError("container engine", "does not see our files", facts={"got": reason}, remedy=SHARE)
    if "memory limit" in reason:
        return RunnerError(
            "environment.memory", "is too little to start a container", facts={"got": reason}, remedy="memory: 512m"
        )
    return RunnerError(
        "container engine",
        "refuses to start the container",
        facts={"got": reason},
        remedy="`docker info` shows what the engine is; `coral doctor` checks it",
    )


class _ContainerWire:
    """Standard input, output and error of a container, over one attached socket."""

    def __init__(
        self, client: docker.DockerClient, config: Config, container_id: str, sandbox: Sandbox, echo: Echo
    ) -> None:
        self._client = client
        self._config = config
        self._id = container_id
        self.tag = ""
        self._sandbox = sandbox
        self._echo = echo
        self._frames = b""
        self._answers = b""
        self._errors = b""
        self._last: deque[str] = deque(maxlen=_LAST_LINES)
        self._attached: Any = None

    def start(self) -> None:
        """Attach first, so that nothing is missed, and start the container."""
        import docker.errors

        with engine_trouble(self._config):
            wanted = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
            self._attached = self._client.api.attach_socket(self._id, params=wanted)
            try:
                self._client.api.start(self._id)
            except docker.errors.APIError as error:
                raise _cannot_start(error) from error

    def close(self) -> None:
        """End the conversation, showing what the pipeline printed after its last answer."""
        if self._attached is None:
            return
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)  # the end of its input ends `pipeline.py`
            deadline = time.monotonic() + _DRAIN_S
            while (left := deadline - time.monotonic()) > 0 and self._take(left):
                pass
        with contextlib.suppress(OSError):
            self._socket.close()  # the wrapper around it would only drop a reference
            self._attached.close()

    def send(self, line: bytes) -> None:
        self._socket.settimeout(None)
        self._socket.sendall(line)

    def receive(self, timeout_s: float | None) -> bytes:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while b"\n" not in self._answers and len(self._answers) <= MAX_ANSWER:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError
            with contextlib.suppress(TimeoutError):  # waits are cut: a socket takes no timeout of weeks
                if not self._take(None if left is None else min(left, _WAIT_S)):
                    return b""
        line, _, self._answers = self._answers.partition(b"\n")
        return line

    def kill(self) -> None:
        with contextlib.suppress(CoralError), engine_trouble(self._config):
            self._client.api.kill(self._id)

    def post_mortem(self, label: str) -> CoralError:
        try:
            state = self._last_state()
        except CoralError as error:  # the engine is gone, or somebody removed the container
            return error
        if state.get("OOMKilled"):
            return out_of_memory(label, self._sandbox.limits.memory_bytes or DEFAULT_MEMORY_BYTES)
        how = f"with exit code {state.get('ExitCode')} {state.get('Error') or ''}".strip()
        if state.get("Running"):
            self.kill()
            how = "not: it closed its output and went on"
        if state.get("ExitCode") == 127 and any("exec python3 failed" in line for line in self._last):
            return RunnerError(
                "environment.image",
                "has no Python",
                facts={"got": self._last[-1]},
                remedy="use an image with python3 and pyarrow, or remove environment.image to use the default one",
            )
        facts = {"ended": how} | ({"last": "\n".join(self._last)} if self._last else {})
        return RunnerError(
            label,
            "the pipeline's container ended before it answered",
            facts=facts,
            remedy="mend the pipeline: it must return, not end its process",
        )

    def _last_state(self) -> Mapping[str, Any]:
        import requests

        with engine_trouble(self._config):
            with contextlib.suppress(requests.ReadTimeout, requests.ConnectionError):  # it still runs
                self._client.api.wait(self._id, timeout=_GRACE_S)
            return dict(self._client.containers.get(self._id).attrs["State"])

    def _take(self, timeout_s: float | None) -> bool:
        """Receive once; false at the end."""
        self._socket.settimeout(timeout_s)
        data = self._socket.recv(65_536)
        self._frames += data
        self._demultiplex()
        return bool(data)

    @property
    def _socket(self) -> Any:
        if self._attached is None:
            raise AssertionError("start() attaches")
        return getattr(self._attached, "_sock", self._attached)

    def _demultiplex(self) -> None:
        """Take whole frames out of the buffer: stream number, three zeros, length, that many bytes."""
        while len(self._frames) >= 8:
            stream, length = struct.unpack(">BxxxL", self._frames[:8])
            if len(self._frames) < 8 + length:
                return
            body, self._frames = self._frames[8 : 8 + length], self._frames[8 + length :]
            if stream == 1:
                self._answers += body
                continue
            *lines, self._errors = (self._errors + body).split(b"\n")
            if len(self._errors) > 65_536:
                lines, self._errors = [*lines, self._errors], b""
            for raw in lines:
                text = raw.decode(errors="replace").rstrip("\r")
                self._last.append(text)
                self._echo(prefixed(text, self.tag))

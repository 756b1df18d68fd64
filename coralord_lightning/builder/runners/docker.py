"""Runs the pipeline in a hardened container: no network, read-only, unprivileged, bounded. Decides no image."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coralord_lightning.builder.runners.attached import AttachedWire
from coralord_lightning.builder.runners.base import Sandbox, Started, Task, unheard
from coralord_lightning.builder.runners.container import (
    USER,
    container_arguments,
    isolation_of,
    memory_of,
    require_one_way_out,
)
from coralord_lightning.builder.runners.endings import cannot_start
from coralord_lightning.builder.runners.engine import (
    LABEL,
    connect,
    engine_trouble,
    engine_version,
    reap_orphans,
    require_engine,
    was_short_of_memory,
)
from coralord_lightning.builder.runners.explain import out_of_memory
from coralord_lightning.builder.runners.mounts import Mounts
from coralord_lightning.builder.runners.protocol import Conversation, Echo, echo_to_stderr
from coralord_lightning.builder.runners.watch import Watch, allowance_for
from coralord_lightning.config import Config
from coralord_lightning.errors import CoralError, PipelineFailedError, RunnerError

if TYPE_CHECKING:
    import docker

__all__ = ["LABEL", "DockerRunner", "DockerSession", "engine_version"]


class DockerRunner:
    """Starts one container for many tasks, and removes it. Several threads may open sandboxes at the same time.

    Args:
        config: names the engine.
        echo: takes every line that the pipeline prints.
    """

    def __init__(self, config: Config, *, echo: Echo = echo_to_stderr) -> None:
        self._config = config
        self._echo = echo
        self._asking = threading.Lock()
        self._engine: Mapping[str, Any] | None = None

    @contextmanager
    def open(self, sandbox: Sandbox, *, started: Started = unheard) -> Iterator[DockerSession]:
        """Start a container; see `Runner.open`.

        Raises:
            EngineUnreachableError, ImageNotFoundError, RunnerError: it cannot be started.
        """
        with contextlib.ExitStack() as stack:
            client = stack.enter_context(connect(self._config))  # one for each session, so for each thread
            engine = self._ask_engine(client)
            security = " ".join(engine.get("SecurityOptions") or [])
            remapped = "name=userns" in security or "name=rootless" in security
            mounts = stack.enter_context(Mounts(sandbox, user=None if remapped else USER))
            allowance = allowance_for(sandbox.out_dir, sandbox.limits.output_bytes)
            watch = Watch(sandbox.out_dir, allowance)
            stack.callback(watch.sweep)  # when the container is gone
            volumes = _volumes(client, self._config, sandbox)
            cpus = float(engine.get("NCPU") or 1)
            arguments = container_arguments(sandbox, mounts, allowance, cpus=cpus, volumes=volumes)
            container_id = stack.enter_context(_container(client, self._config, arguments))
            wire = AttachedWire(
                client, self._config, container_id, echo=self._echo, watch=watch, memory_bytes=memory_of(sandbox)
            )
            stack.callback(wire.close)
            conversation = Conversation(wire, sandbox, code_dir="/code", in_dir="/in", out_dir="/out")
            stack.callback(conversation.hang_up)
            wire.attach()
            _start(client, self._config, container_id)
            started(conversation.stop)
            stack.enter_context(watch.while_it_lasts(wire.kill))
            answer = conversation.greet(probe="/coral/probe", mark=wire.mark)
            mounts.require_shared(str(answer.get("probe")))
            isolation = isolation_of(arguments, engine, sandbox, answer)
            memory = _Memory(client=client, config=self._config, container_id=container_id, limit=memory_of(sandbox))
            yield DockerSession(conversation, mounts, memory, isolation)

    def _ask_engine(self, client: docker.DockerClient) -> Mapping[str, Any]:
        """What the engine says of itself; the first time, remove what dead processes left there."""
        with self._asking, engine_trouble(self._config):
            if self._engine is None:
                reap_orphans(client)
                self._engine = client.info() | {"Components": client.version().get("Components")}
            return self._engine


class DockerSession:
    """A live container."""

    def __init__(
        self, conversation: Conversation, mounts: Mounts, memory: _Memory, isolation: Mapping[str, Any]
    ) -> None:
        self._conversation = conversation
        self._mounts = mounts
        self._memory = memory
        self._isolation = isolation

    @property
    def isolation(self) -> Mapping[str, Any]:
        """What was enforced; see `Session.isolation`."""
        return self._isolation

    def run(self, task: Task) -> None:
        """Run one task; see `Session.run`."""
        self._mounts.let_in(task.input)
        began = time.time()
        try:
            self._conversation.run(task)
        except PipelineFailedError as error:
            self._memory.require_enough(task.label, error, since=began)
            raise

    def stop(self) -> None:
        """End it, from another thread; see `Session.stop`."""
        self._conversation.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Memory:
    """Tells whether a failure of the pipeline is one of memory: a process that it started was killed for it."""

    client: docker.DockerClient
    config: Config
    container_id: str
    limit: int

    def require_enough(self, label: str, failure: PipelineFailedError, *, since: float) -> None:
        with engine_trouble(self.config):
            short = was_short_of_memory(self.client, self.container_id, since=since)
        if short:
            error = out_of_memory(label, self.limit)
            facts = dict(error.facts) | {"raised": failure.facts.get("raised", failure.message)}
            raise RunnerError(error.subject, error.message, facts=facts, remedy=error.remedy) from failure


def _volumes(client: docker.DockerClient, config: Config, sandbox: Sandbox) -> list[str]:
    """What the image declares as volumes."""
    import docker.errors

    with engine_trouble(config):
        try:
            image = client.images.get(str(sandbox.image)).attrs
        except docker.errors.APIError as error:
            raise cannot_start(error) from error
    return sorted((image.get("Config") or {}).get("Volumes") or {})


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
                raise cannot_start(error) from error
        require_one_way_out(container.attrs)
        yield str(container.id)
    finally:
        # by name, because an interrupted call may have created it without telling its ID
        with contextlib.suppress(CoralError), engine_trouble(config):
            require_engine(config)
            client.api.remove_container(name, force=True, v=True)


def _start(client: docker.DockerClient, config: Config, container_id: str) -> None:
    import docker.errors

    with engine_trouble(config):
        try:
            client.api.start(container_id)
        except docker.errors.APIError as error:
            raise cannot_start(error) from error

"""The connection to a container engine, its failures in our words, and who owns which container. Runs nothing."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coralord_lightning.config import Config
from coralord_lightning.errors import EngineUnreachableError, RunnerError

if TYPE_CHECKING:
    import docker

__all__ = [
    "LABEL",
    "NAME_PREFIX",
    "connect",
    "engine_name",
    "engine_trouble",
    "engine_version",
    "is_podman",
    "ownership_labels",
    "reap_orphans",
    "require_engine",
    "was_short_of_memory",
]

LABEL = "coralord.lightning"
"""Every container of ours has this label with the value "1"; images never have it."""

NAME_PREFIX = "coralord-"
"""Every container of ours has a name that begins so. One without is another's, from an image that copied our labels."""

_RUN, _HOST, _PID, _STARTED = (f"{LABEL}.{part}" for part in ("run", "host", "pid", "started"))
_TIMEOUT_S = 60
_FOREIGN_AGE_S = 24 * 3600.0
_EVENT_S = 0.3  # what the kernel does is known to the engine a little later

_START_DOCKER = "start Docker (`docker info` must work) or set DOCKER_HOST;\n"
_START_PODMAN = "systemctl --user start podman.socket   # or set CONTAINER_HOST to Podman's socket;\n"


@contextmanager
def connect(config: Config, *, timeout_s: int = _TIMEOUT_S) -> Iterator[docker.DockerClient]:
    """Open a connection to the engine and close it again. It is for one thread.

    Args:
        timeout_s: how long to wait for each answer.
    Raises:
        EngineUnreachableError: nobody answers.
    """
    import docker
    import docker.utils

    with engine_trouble(config):
        address = _podman_host(config) if config.runner == "podman" else config.docker_host
        _knock(address or _context_host())
        if address is None:
            client = docker.from_env(timeout=timeout_s)  # environment, or the context chosen with `docker context use`
        else:
            settings = docker.utils.kwargs_from_env() | {"base_url": address}  # certificates, if any
            client = docker.DockerClient(timeout=timeout_s, **settings)
    try:
        yield client
    finally:
        client.close()


@contextmanager
def engine_trouble(config: Config) -> Iterator[None]:
    """Turn whatever the Docker client raises, and nobody inside has handled, into our errors."""
    import docker.errors
    import requests

    try:
        yield
    except docker.errors.APIError as error:
        raise RunnerError(
            "container engine",
            "refuses what we ask of it",
            facts={"got": error.explanation or error},
            remedy="`docker info` shows what the engine is; `coral doctor` checks it",
        ) from error
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        raise EngineUnreachableError(
            "container engine",
            "does not answer",
            facts={"engine": _called(config), "got": _innermost(error)},
            remedy=(_START_PODMAN if config.runner == "podman" else _START_DOCKER)
            + "or run the pipeline without a container: `environment: local` in the descriptor",
        ) from error


def engine_version(config: Config) -> str:
    """Ask the engine who it is: "Docker 20.10.24 (linux/amd64)", "Podman 4.3.1 rootless (linux/arm64)".

    Raises:
        EngineUnreachableError: nobody answers.
    """
    with connect(config) as client, engine_trouble(config):
        version, info = client.version(), client.info()
    return f"{engine_name(version, info)} ({version.get('Os')}/{version.get('Arch')})"


def engine_name(version: Mapping[str, Any], info: Mapping[str, Any]) -> str:
    """What an engine is called, from what it says of itself: "Docker 20.10.24", "Podman 4.3.1 rootless"."""
    kind = "Podman" if is_podman(version) else "Docker"
    rootless = any("name=rootless" in str(item) for item in info.get("SecurityOptions") or [])
    return f"{kind} {version.get('Version')}{' rootless' if rootless else ''}"


def is_podman(version: Mapping[str, Any]) -> bool:
    """Whether what answers Docker's questions is Podman."""
    return any(item.get("Name") == "Podman Engine" for item in version.get("Components") or [])


def require_engine(config: Config) -> None:
    """Make sure that the engine still listens, before an open connection is used again after a trouble.

    Raises:
        EngineUnreachableError: nobody does.
    """
    with engine_trouble(config):
        _knock(config.docker_host or _context_host())


def ownership_labels() -> dict[str, str]:
    """Labels that say which process of which machine a container belongs to."""
    pid = os.getpid()
    return {
        LABEL: "1",
        _RUN: uuid.uuid4().hex,
        _HOST: _host(),
        _PID: str(pid),
        _STARTED: _started(pid) or "",
    }


def reap_orphans(client: docker.DockerClient, *, now: float | None = None) -> int:
    """Remove containers whose owner has died; returns how many.

    Those of another machine, or of before a reboot, are left alone until they have been idle for a day.
    """
    import docker.errors

    gone = 0
    for item in client.api.containers(all=True, filters={"label": f"{LABEL}=1"}):
        if not _is_orphan(item, time.time() if now is None else now):
            continue
        with contextlib.suppress(docker.errors.APIError):  # somebody else reaps it right now
            client.api.remove_container(item["Id"], force=True, v=True)
            gone += 1
    return gone


def was_short_of_memory(client: docker.DockerClient, container_id: str, *, since: float) -> bool:
    """Tell whether a process of a container was killed for memory since then, while the container went on.

    Args:
        since: seconds since 1970 by this machine's clock, which the engine's need not agree with.
    """
    asked_at = time.time()
    ahead = datetime.fromisoformat(str(client.info()["SystemTime"])).timestamp() - asked_at
    window: dict[str, Any] = {"since": f"{since + ahead:.6f}", "until": f"{time.time() + ahead + _EVENT_S:.6f}"}
    with contextlib.closing(
        client.api.events(**window, filters={"container": container_id, "event": "oom"}, decode=True)
    ) as events:
        return any(True for _ in events)


def _context_host() -> str:
    """The address of the context chosen with `docker context use`, or the default one."""
    from docker.constants import DEFAULT_UNIX_SOCKET
    from docker.context import ContextAPI

    context = ContextAPI.get_current_context()  # None where the one chosen has been deleted
    return str(getattr(context, "Host", None) or DEFAULT_UNIX_SOCKET)


def _podman_host(config: Config) -> str:
    """Podman's socket: the one that is set, else this user's, else the system's."""
    if config.podman_host is not None:
        return config.podman_host
    system = Path("/run/podman/podman.sock")
    own = None if config.runtime_dir is None else config.runtime_dir / "podman" / "podman.sock"
    return f"unix://{own if own is not None and (own.exists() or not system.exists()) else system}"


def _called(config: Config) -> str:
    if config.runner == "podman":
        return _podman_host(config)
    return config.docker_host or "the default of the Docker client"


def _knock(address: str) -> None:
    """Try a local socket first: docker-py leaves a socket open for each attempt that fails."""
    found = re.fullmatch(r"(?:http\+)?unix:/*(/.+)", address)
    if found is not None:
        with socket.socket(socket.AF_UNIX) as knocking:
            knocking.settimeout(_TIMEOUT_S)
            knocking.connect(found.group(1))


def _is_orphan(item: Mapping[str, Any], now: float) -> bool:
    if not any(str(name).lstrip("/").startswith(NAME_PREFIX) for name in item.get("Names") or []):
        return False
    labels = item.get("Labels") or {}
    if labels.get(_HOST) != _host():
        idle = item.get("State") in ("created", "exited", "dead")
        return idle and now - item.get("Created", now) > _FOREIGN_AGE_S
    pid = labels.get(_PID, "")
    return not pid.isdecimal() or not _lives(int(pid), labels.get(_STARTED))


def _lives(pid: int, started: str | None) -> bool:
    """Tell whether a process is there and is the one that started then, and no later one with its number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's, whose /proc entry may be hidden
        return True
    return _started(pid) == started


def _host() -> str:
    """What makes a process id mean something: this boot of this machine, and the namespace that we count in."""
    namespace = Path("/proc/self/ns/pid")
    if not namespace.exists():  # no Linux
        return f"{platform.node()}-{uuid.getnode():x}"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}-{namespace.readlink()}"


def _started(pid: int) -> str | None:
    """When a process started, in whatever unit the system has; None where it is gone or only waits to be reaped."""
    if not Path("/proc/self/stat").exists():
        asked = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return asked.stdout.strip() or None
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name in brackets may hold blanks and brackets
    return None if fields[0] == "Z" else fields[19]


def _innermost(error: BaseException) -> str:
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return str(error) or type(error).__name__

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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coralord_lightning.config import Config
from coralord_lightning.errors import EngineUnreachableError, RunnerError

if TYPE_CHECKING:
    import docker

__all__ = ["LABEL", "connect", "engine_trouble", "engine_version", "ownership_labels", "reap_orphans"]

LABEL = "coralord.lightning"
"""Every container of ours has this label with the value "1"; images never have it."""

_RUN, _HOST, _PID, _STARTED = (f"{LABEL}.{part}" for part in ("run", "host", "pid", "started"))
_TIMEOUT_S = 60
_FOREIGN_AGE_S = 24 * 3600.0


@contextmanager
def connect(config: Config) -> Iterator[docker.DockerClient]:
    """Open a connection to the engine and close it again.

    Raises:
        EngineUnreachableError: nobody answers.
    """
    import docker
    import docker.utils

    with engine_trouble(config):
        _knock(config.docker_host or _context_host())
        if config.docker_host is None:
            client = docker.from_env(timeout=_TIMEOUT_S)  # environment, or the context chosen with `docker context use`
        else:
            settings = docker.utils.kwargs_from_env() | {"base_url": config.docker_host}  # certificates, if any
            client = docker.DockerClient(timeout=_TIMEOUT_S, **settings)
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
            facts={"engine": config.docker_host or "the default of the Docker client", "got": _innermost(error)},
            remedy="start Docker (`docker info` must work) or set DOCKER_HOST;\n"
            "or run the pipeline without a container: `environment: local` in the descriptor",
        ) from error


def engine_version(config: Config) -> str:
    """Ask the engine who it is: "Docker 20.10.24 (linux/amd64)".

    Raises:
        EngineUnreachableError: nobody answers.
    """
    with connect(config) as client, engine_trouble(config):
        version = client.version()
    return f"Docker {version.get('Version')} ({version.get('Os')}/{version.get('Arch')})"


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


def _context_host() -> str:
    """The address of the context chosen with `docker context use`, or the default one."""
    from docker.constants import DEFAULT_UNIX_SOCKET
    from docker.context import ContextAPI

    context = ContextAPI.get_current_context()  # None where the one chosen has been deleted
    return str(getattr(context, "Host", None) or DEFAULT_UNIX_SOCKET)


def _knock(address: str) -> None:
    """Try a local socket first: docker-py leaves a socket open for each attempt that fails."""
    found = re.fullmatch(r"(?:http\+)?unix:/*(/.+)", address)
    if found is not None:
        with socket.socket(socket.AF_UNIX) as knocking:
            knocking.settimeout(_TIMEOUT_S)
            knocking.connect(found.group(1))


def _is_orphan(item: Mapping[str, Any], now: float) -> bool:
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

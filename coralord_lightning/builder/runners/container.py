"""The arguments of a container: what it may see, do and take. Pure; starts none.

What an image declares about itself (entrypoint, user, directory, health check, volumes) is overruled here; its
environment variables stay, because they can do no more than the code in it.
"""

from __future__ import annotations

import posixpath
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from coralord_lightning.builder.runners.base import Sandbox
from coralord_lightning.builder.runners.engine import NAME_PREFIX, engine_name, ownership_labels
from coralord_lightning.builder.runners.mounts import Mounts
from coralord_lightning.builder.runners.protocol import DETERMINISTIC_ENVIRONMENT
from coralord_lightning.builder.runners.watch import Allowance
from coralord_lightning.errors import RunnerError

__all__ = ["USER", "container_arguments", "isolation_of", "memory_of", "require_one_way_out"]

DEFAULT_MEMORY_BYTES = 8 << 30
PIDS = 256
USER = 65534
_SCRATCH = "noexec,nosuid,nodev,size=1g"
_NOTHING = "ro,noexec,nosuid,nodev,size=4k"
_FULL = ("/coral", "/code", "/in", "/out", "/proc", "/sys", "/dev")
_SYSTEM = ("/", "/proc", "/sys", "/dev", "/etc", "/usr", "/bin", "/sbin", "/lib", "/lib64")
_MOUNTED = ("/coral", "/code", "/in", "/out", "/tmp")  # noqa: S108  # the container's own


def memory_of(sandbox: Sandbox) -> int:
    """How many bytes the container may take."""
    return sandbox.limits.memory_bytes or DEFAULT_MEMORY_BYTES


def container_arguments(
    sandbox: Sandbox, mounts: Mounts, allowance: Allowance, *, cpus: float, volumes: Iterable[str] = ()
) -> dict[str, Any]:
    """Every argument of the container, in docker-py's words.

    Args:
        sandbox: what is to run.
        mounts: where its directories are.
        allowance: what it may write.
        cpus: how many the engine has.
        volumes: what the image declares as such. Each would be a writable directory on the engine's disk, which
            nobody watches; it is covered by an empty one that cannot be written to.
    """
    from docker.types import LogConfig, Mount, Ulimit

    memory, largest = memory_of(sandbox), allowance.file_bytes
    binds = [
        Mount(target, str(source), type="bind", read_only=True, propagation="rprivate")
        for target, source in (
            ("/coral", mounts.driver),
            ("/code", sandbox.code_dir.absolute()),
            ("/in", sandbox.in_dir.absolute()),
        )
    ]
    return {
        "image": sandbox.image,
        "entrypoint": ["python3", "-s", "/coral/pipeline.py"],
        "command": [],
        "name": f"{NAME_PREFIX}{uuid.uuid4().hex[:12]}",
        "labels": ownership_labels(),
        "environment": dict(DETERMINISTIC_ENVIRONMENT) | {"HOME": "/tmp"},  # noqa: S108  # the container's own
        "use_config_proxy": False,  # proxies of ~/.docker/config.json may hold passwords
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
        "tmpfs": _covered(volumes) | {"/tmp": f"rw,{_SCRATCH}"},  # noqa: S108  # the container's own
        "mounts": [*binds, Mount("/out", str(sandbox.out_dir.absolute()), type="bind", propagation="rprivate")],
        "ulimits": [Ulimit(name="fsize", soft=largest, hard=largest), Ulimit(name="core", soft=0, hard=0)],
        "log_config": LogConfig(type="json-file", config={"max-size": "10m"}),
    }


def require_one_way_out(container: Mapping[str, Any]) -> None:
    """Make sure that the engine gave the container one writable mount, and that one is ours. Pure.

    Raises:
        RunnerError: there is another.
    """
    writable = sorted(str(item.get("Destination")) for item in container.get("Mounts") or [] if item.get("RW"))
    if writable != ["/out"]:
        raise RunnerError(
            "environment.image",
            "would give the pipeline directories of the engine's disk to write to",
            facts={"writable": ", ".join(writable) or "nothing", "expected": "/out"},
            remedy="remove VOLUME from the image's Dockerfile, or use another image",
        )


def isolation_of(
    arguments: Mapping[str, Any], engine: Mapping[str, Any], sandbox: Sandbox, answer: Mapping[str, Any]
) -> dict[str, Any]:
    """What was enforced, as plain values."""
    return {
        "runner": "docker",
        "isolated": True,
        "hermetic": arguments["network_mode"] == "none",
        "engine": engine_name({"Version": engine.get("ServerVersion"), **engine}, engine),
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
        "output_bytes": sandbox.limits.output_bytes,
    }


def _covered(volumes: Iterable[str]) -> dict[str, str]:
    """A read-only nothing over every volume of the image that no mount of ours covers anyway.

    Raises:
        RunnerError: one lies where nothing can be covered: in our mounts, or over the system.
    """
    out = {}
    for volume in volumes:
        path = posixpath.normpath("/" + volume.strip("/"))
        if path == "/dev/shm":  # noqa: S108  # the container's own
            out[path] = f"rw,{_SCRATCH}"
        elif path in _SYSTEM or path.startswith(tuple(f"{place}/" for place in _FULL)):
            raise RunnerError(
                "environment.image",
                "declares a volume where the pipeline's own directories or the system are",
                facts={"volume": ascii(volume)},
                remedy="remove VOLUME from the image's Dockerfile, or use another image",
            )
        elif path not in _MOUNTED:
            out[path] = _NOTHING
    return out

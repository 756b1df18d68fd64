"""Runs the pipeline in a fresh process of this interpreter: bounded and watched, not isolated. Never a container."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import json
import os
import platform
import re
import site
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coralord_lightning.builder.runners.base import Sandbox, Started, Task, unheard
from coralord_lightning.builder.runners.process import ProcessWire
from coralord_lightning.builder.runners.protocol import (
    DETERMINISTIC_ENVIRONMENT,
    DRIVER,
    Conversation,
    Echo,
    echo_to_stderr,
)
from coralord_lightning.builder.runners.watch import Allowance, Watch, allowance_for
from coralord_lightning.errors import PipelineNotFoundError

__all__ = ["LocalRunner", "LocalSession", "identity", "project_of"]

_DRIVERS = (DRIVER.name, "guard.py", "fence.py")
_OPEN_FILES = 4096
_WATCHED = "what Python opens is watched; child processes and native code are not"


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
            remedy=f"pip install {name}   # or what brings it\n"
            "or run it in an image that has it: environment: {dockerfile: Dockerfile}",
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
    def open(self, sandbox: Sandbox, *, started: Started = unheard) -> Iterator[LocalSession]:
        """Start one process that serves many tasks; see `Runner.open`."""
        project = project_of(sandbox.project_dir)
        allowance = allowance_for(sandbox.out_dir, sandbox.limits.output_bytes)
        watch = Watch(sandbox.out_dir, allowance)
        wire = ProcessWire(_start(sandbox, project, allowance), sandbox, echo=self._echo, watch=watch)
        conversation = Conversation(
            wire,
            sandbox,
            code_dir=str(sandbox.code_dir.absolute()),
            in_dir=str(sandbox.in_dir.absolute()),
            out_dir=str(sandbox.out_dir.absolute()),
        )
        try:
            started(conversation.stop)
            with watch.while_it_lasts(wire.kill):
                answer = conversation.greet(memory_bytes=sandbox.limits.memory_bytes)
                yield LocalSession(conversation, _isolation(sandbox, answer, project, allowance))
        finally:
            conversation.hang_up()
            wire.close()
            watch.sweep()


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


def project_of(folder: Path | None) -> Path | None:
    """What of this machine is the user's project: the git work tree around the descriptor's folder, or that folder.

    Returns:
        None where there is no folder. A work tree that is the whole home directory or disk is nobody's project.
    """
    if folder is None:
        return None
    folder = folder.absolute()
    tree = next((item for item in (folder, *folder.parents) if (item / ".git").exists()), folder)
    too_much = {Path(tree.anchor), Path(os.path.realpath(Path("~").expanduser()))}
    return folder if Path(os.path.realpath(tree)) in too_much else tree


def _fence(sandbox: Sandbox, project: Path | None) -> dict[str, Any] | None:
    """What `fence.py` is told: the project, and what in it may be used all the same."""
    if project is None:
        return None
    own = {str(path.absolute()) for path in (sandbox.code_dir, sandbox.in_dir, sandbox.out_dir)}
    own |= {str(DRIVER.with_name(name)) for name in _DRIVERS}  # libraries look at the source of who called them
    prefixes = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}
    packages = {*site.getsitepackages(), site.getusersitepackages(), *sysconfig.get_paths().values()}
    inside = {item for item in prefixes | packages if Path(item) not in (project, Path(os.path.realpath(project)))}
    return {"project": str(project), "open_to": sorted(own | inside), "code_dir": str(sandbox.code_dir.absolute())}


def _isolation(
    sandbox: Sandbox, answer: Mapping[str, Any], project: Path | None, allowance: Allowance
) -> dict[str, Any]:
    limits = sandbox.limits
    return {
        "runner": "local",
        "isolated": False,
        "python": str(answer.get("python")),
        "pyarrow": str(answer.get("pyarrow")),
        "memory_bytes": limits.memory_bytes if answer.get("memory_limited") is True else None,
        "timeout_s": limits.timeout_s,
        "output_bytes": allowance.output_bytes,
        "output_files": allowance.files,
        "open_files": _OPEN_FILES,
        "undeclared_files": _WATCHED if project is not None else "not watched",
        "left_behind": "every descendant is ended" if sys.platform == "linux" else "the process group is ended",
    }


def _start(sandbox: Sandbox, project: Path | None, allowance: Allowance) -> subprocess.Popen[bytes]:
    environment = dict(DETERMINISTIC_ENVIRONMENT)
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.defpath])
    if sandbox.limits.memory_bytes is not None:
        # RLIMIT_AS counts reserved addresses, and these reserve gigabytes ahead of need
        environment |= {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2"}
    settings = {
        "file_bytes": allowance.file_bytes,
        "open_files": _OPEN_FILES,
        "fence": _fence(sandbox, project),
    }
    no_user_site = [] if site.ENABLE_USER_SITE else ["-s"]
    return subprocess.Popen(
        [sys.executable, *no_user_site, str(DRIVER.with_name("guard.py")), json.dumps(settings)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=sandbox.code_dir,
        umask=0o022,
        start_new_session=True,
    )

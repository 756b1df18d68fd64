"""What the end of a container, or its failure to start, means to the user. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coralord_lightning.builder.runners.explain import SHARE, out_of_memory
from coralord_lightning.errors import CoralError, ImageNotFoundError, RunnerError

if TYPE_CHECKING:
    import docker.errors

__all__ = ["Ending", "cannot_start", "explain_ending"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a container ended before it answered.

    Args:
        state: what the engine says of it; None where there is no such container any more.
        paused: somebody had stopped it in its tracks.
        last: the last lines that it printed.
        memory_bytes: what it could take.
    """

    state: Mapping[str, Any] | None
    paused: bool
    last: Sequence[str]
    memory_bytes: int


def explain_ending(ending: Ending, label: str) -> CoralError:
    """Make the error for a container that ended before it answered."""
    state = ending.state
    last = {"last": "\n".join(ending.last)} if ending.last else {}
    if state is None:
        return RunnerError(
            label,
            "somebody removed the pipeline's container while it ran",
            facts=last,
            remedy="run the same command again, and leave its containers alone",
        )
    if ending.paused:
        return RunnerError(
            label,
            "somebody paused the pipeline's container (`docker pause`), so it was given up",
            facts=last,
            remedy="run the same command again, and let its containers run",
        )
    if state.get("OOMKilled"):
        return out_of_memory(label, ending.memory_bytes)
    if state.get("ExitCode") == 127 and any("exec python3 failed" in line for line in ending.last):
        return RunnerError(
            "environment.image",
            "has no Python",
            facts={"got": ending.last[-1]},
            remedy="use an image with python3 and pyarrow, or remove environment.image to use the default one",
        )
    how = f"with exit code {state.get('ExitCode')} {state.get('Error') or ''}".strip()
    if state.get("Running"):
        how = "not: it closed its output and went on"
    return RunnerError(
        label,
        "the pipeline's container ended before it answered",
        facts={"ended": how} | last,
        remedy="mend the pipeline: it must return, not end its process",
    )


def cannot_start(error: docker.errors.APIError) -> CoralError:
    """Make the error for a container that the engine does not create or start."""
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

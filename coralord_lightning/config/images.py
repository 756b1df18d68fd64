"""What a site says of containers: which engine runs them, and where images are pulled from. Asks no engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coralord_lightning.errors import ConfigError, UsageError, nearest

__all__ = ["RUNNERS", "parse_mirrors", "require_runner"]

RUNNERS = ("docker", "podman")


def require_runner(value: Any, *, subject: str) -> None:
    """Check the name of an engine.

    Args:
        subject: what said it: a file, a variable, or the option.
    Raises:
        UsageError: the option names none.
        ConfigError: a file or variable does.
    """
    if value in RUNNERS:
        return
    kind = UsageError if subject == "--runner" else ConfigError
    if value == "local":
        raise kind(
            subject,
            "names no container engine: local is an environment of its own, and gives another version",
            facts={"engines": ", ".join(RUNNERS)},
            remedy="--environment local   # for a try; or `environment: local` in the descriptor",
        )
    near = nearest(str(value), RUNNERS) or RUNNERS[0]
    raise kind(
        subject,
        "names no container engine",
        facts={"got": repr(value), "engines": ", ".join(RUNNERS)},
        remedy=f"--runner {near}" if kind is UsageError else f'runner = "{near}"',
    )


def parse_mirrors(value: Any) -> dict[str, str]:
    """Prefixes of image names and what is pulled in their place.

    Raises:
        ConfigError: it is no table of such names.
    """
    remedy = 'image_mirrors = {"docker.io" = "mirror.example.com/dockerhub"}'
    if not isinstance(value, Mapping):
        raise ConfigError("image_mirrors", "is no table", facts={"got": repr(value)}, remedy=remedy)
    for prefix, mirror in value.items():
        for name in (prefix, mirror):
            if not isinstance(name, str) or not name.strip("/") or "://" in name or "@" in name:
                raise ConfigError(
                    f"image_mirrors.{prefix}",
                    "must be a registry, or the beginning of an image's name",
                    facts={"got": repr(name)},
                    remedy=remedy,
                )
    return {str(prefix): str(mirror) for prefix, mirror in value.items()}

"""Platforms of images and engines, in Docker's words: which of an index is for which. Asks the engine at most."""

from __future__ import annotations

import platform as machine
from collections.abc import Mapping

from coralord_lightning.config import Config
from coralord_lightning.errors import ImageNotFoundError

__all__ = ["SUBJECT", "digest_for", "host_platform", "platform_of_engine"]

SUBJECT = "environment.image"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armv6l": "arm", "i686": "386"}
_VARIANTS = ("", "v8", "v7", "v6", "v5")
"""Of one architecture, the variant that an engine of it takes: without one, else the newest that is common."""


def platform_of_engine(config: Config) -> str:
    """The engine's own platform: `linux/amd64`.

    Raises:
        EngineUnreachableError: nobody answers.
    """
    from coralord_lightning.builder.runners.engine import connect, engine_trouble

    with connect(config) as client, engine_trouble(config):
        version = client.version()
    return f"{version.get('Os') or 'linux'}/{version.get('Arch') or 'unknown'}"


def host_platform() -> str:
    """The platform of an engine on this very machine."""
    name = machine.machine().lower()
    return f"linux/{_ARCHITECTURES.get(name, name)}"


def digest_for(platforms: Mapping[str, str], wanted: str, *, name: str) -> str:
    """The digest of one platform out of an index.

    Args:
        name: of the image, for messages.
    Raises:
        ImageNotFoundError: it has none for it.
    """
    for variant in _VARIANTS:
        found = platforms.get(f"{wanted}/{variant}" if variant else wanted)
        if found is not None:
            return found
    repository = "/".join([*name.split("/")[:-1], name.rsplit("/", maxsplit=1)[-1].partition(":")[0]])
    other = next((digest for _, digest in sorted(platforms.items())), None)
    raise ImageNotFoundError(
        SUBJECT,
        f"'{name}' is not there for {wanted}",
        facts={"platforms": ", ".join(sorted(platforms)) or "none"},
        remedy=f"docker buildx build --platform {wanted} … --push   # adds it; then coral update DESCRIPTOR"
        + (f"\nor, where the engine can run another's: image: {repository}@{other}" if other else ""),
    )

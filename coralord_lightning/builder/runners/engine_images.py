"""The images that an engine has: asks for them, pulls what it lacks, reads their names and digests. Builds none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from coralord_lightning.errors import ImageNotFoundError

if TYPE_CHECKING:
    import docker

__all__ = ["digest_of", "inspect_image", "platform_of", "require_image", "without_tag"]

_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}", re.ASCII)

Json = Any


def inspect_image(client: docker.DockerClient, name: str) -> Mapping[str, Json] | None:
    """What the engine knows of an image; None where it has none of that name."""
    import docker.errors

    try:
        return dict(client.images.get(name).attrs)
    except docker.errors.ImageNotFound:
        return None


def require_image(client: docker.DockerClient, image: str, *, subject: str) -> Mapping[str, Json]:
    """Inspect an image, pulling it first where the engine lacks it and a registry may have it.

    Raises:
        ImageNotFoundError: it cannot be had.
    """
    import docker.errors

    found = inspect_image(client, image)
    if found is not None:
        return found
    reason = "the engine has no image of that ID, and IDs cannot be pulled"
    if not _ID.fullmatch(image):
        try:
            name, _, digest = image.partition("@")
            client.images.pull(name if digest else image, tag=digest or None)
        except docker.errors.APIError as error:
            reason = str(error.explanation or error)
        found = inspect_image(client, image)
    if found is None:
        raise ImageNotFoundError(
            subject,
            f"there is no image '{image}', neither in the engine nor where it could be pulled from",
            facts={"got": reason},
            remedy=_how_to_get(image, subject),
        )
    return found


def digest_of(found: Mapping[str, Json], name: str) -> str:
    """The digest under which a registry has this image, or its ID where it never met one."""
    wanted = _repository(name)
    digests = [item for item in found.get("RepoDigests") or [] if _repository(item) == wanted]
    return min(item.rpartition("@")[2] for item in digests) if digests else str(found["Id"])


def platform_of(found: Mapping[str, Json]) -> str:
    """`linux/amd64`."""
    return f"{found.get('Os') or 'linux'}/{found.get('Architecture') or 'unknown'}"


def without_tag(name: str) -> str:
    """A reference without tag and digest, as it was written."""
    head, slash, tail = name.partition("@")[0].rpartition("/")
    return head + slash + tail.partition(":")[0]


def _repository(name: str) -> str:
    """A reference without tag and digest, in full."""
    path = without_tag(name)
    first = path.partition("/")[0]
    if "/" not in path:
        return f"docker.io/library/{path}"
    return path if "." in first or ":" in first or first == "localhost" else f"docker.io/{path}"


def _how_to_get(image: str, subject: str) -> str:
    if subject == "environment.image":
        other = "correct environment.image, or use `environment: local`"
    else:
        other = "set CORAL_BASE_IMAGE to an image that the engine has"
    if _ID.fullmatch(image):
        return "docker image ls --no-trunc --quiet  # lists the IDs that it has; put one into environment.image"
    return f"docker pull {image}\nor {other}"

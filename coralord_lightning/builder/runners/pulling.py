"""Pulls an image, showing how it goes, and says in our words why it cannot be pulled. Resolves nothing."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from coralord_lightning.builder.runners.engine_images import inspect_image, require_image
from coralord_lightning.builder.runners.platforms import SUBJECT
from coralord_lightning.builder.runners.protocol import Echo
from coralord_lightning.builder.runners.registry import Trouble
from coralord_lightning.builder.runners.tags import image_trouble, mirrored, trouble_of
from coralord_lightning.config import Config
from coralord_lightning.errors import ImageNotFoundError, OfflineError
from coralord_lightning.spec.image_tag import ImageTag

if TYPE_CHECKING:
    import docker

__all__ = ["require_pinned_image"]

_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}", re.ASCII)

Json = Any


def require_pinned_image(
    client: docker.DockerClient,
    image: str,
    *,
    config: Config,
    echo: Echo,
    offline: bool = False,
    tag: ImageTag | None = None,
) -> tuple[str, Mapping[str, Json]]:
    """Make sure that the engine has an image of this digest or ID, pulling it where it lacks it.

    Args:
        image: `name@sha256:…` or an ID.
        tag: what it was asked for by.

    Returns:
        what the engine calls it, and what it knows of it.

    Raises:
        ImageNotFoundError: there is none, or it lies in another engine only.
        UpstreamError: the registry does not answer, or does not let us in.
        OfflineError: `offline`, and the engine lacks it.
    """
    place = image if _ID.fullmatch(image) else mirrored(image, config)
    for name in dict.fromkeys((place, image)):
        found = inspect_image(client, name)
        if found is not None:
            return name, found
    if _ID.fullmatch(image):
        if tag is None:
            return image, require_image(client, image, subject=SUBJECT)
        raise _elsewhere(image, tag)
    if offline:
        raise OfflineError(
            SUBJECT,
            f"the engine has no image '{image}', and the network was ruled out",
            remedy=f"docker pull {place}\nor run it without --offline",
        )
    _pull(client, place, echo)
    found = inspect_image(client, place)
    if found is None:
        raise image_trouble(place, Trouble("unknown", "pulled, and gone again"))
    return place, found


def _pull(client: docker.DockerClient, image: str, echo: Echo) -> None:
    import docker.errors

    name, _, digest = image.partition("@")
    echo(f"[image] pulling {image}")
    last = ""
    try:
        answers = client.api.pull(name, tag=digest, stream=True, decode=True)
        with contextlib.closing(answers):
            for answer in answers:
                if "error" in answer:
                    last = str(answer["error"])
                elif answer.get("status") in ("Pull complete", "Already exists"):
                    echo(f"[image] {answer.get('id')}: {answer['status'].lower()}")
    except docker.errors.APIError as error:
        raise _cannot_pull(image, trouble_of(error)) from error
    if last:
        status = docker.errors.APIError(last)  # a stream has no status
        raise _cannot_pull(image, trouble_of(status))


def _cannot_pull(image: str, trouble: Trouble) -> Exception:
    remedy = f"docker pull {image}\nor correct environment.image" if trouble.kind == "unknown" else ""
    return image_trouble(image, trouble, remedy=remedy)


def _elsewhere(image: str, tag: ImageTag) -> ImageNotFoundError:
    return ImageNotFoundError(
        SUBJECT,
        f"'{tag.name}' was only built, in another engine, and never pushed; this engine has no image of its ID",
        facts={"expected": image},
        remedy=f"docker push {tag.name}   # from where it was built, under a name of a registry;\n"
        "coral update DESCRIPTOR   # after it, so that coral.lock has the digest that everybody can pull",
    )

"""Builds an image from a recipe whose base images are pinned, and finds it again. Decides no identity, runs nothing."""

from __future__ import annotations

import contextlib
import hashlib
import re
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any

import rfc8785

from coralord_lightning.builder.runners.context import SENT_DOCKERFILE, write_context
from coralord_lightning.builder.runners.dockerfile import Dockerfile
from coralord_lightning.builder.runners.engine import LABEL
from coralord_lightning.builder.runners.engine_images import inspect_image, without_tag
from coralord_lightning.builder.runners.prints import harmless
from coralord_lightning.builder.runners.protocol import Echo
from coralord_lightning.builder.runners.pulling import require_pinned_image
from coralord_lightning.config import Config
from coralord_lightning.errors import CoralError, RunnerError
from coralord_lightning.spec.recipe import Recipe

if TYPE_CHECKING:
    import docker

__all__ = ["BUILT_REPOSITORY", "DEFAULT_REPOSITORY", "IMAGE_LABEL", "build_image", "find_built", "image_tag"]

DEFAULT_REPOSITORY = "coralord-lightning/default"
BUILT_REPOSITORY = "coralord-lightning/built"
IMAGE_LABEL = f"{LABEL}.image"
"""On images that we built, the hash of their identity. Containers inherit labels, so it is not `LABEL`."""

_STEP = re.compile(r"Step (\d+)/\d+ : (\w+)", re.ASCII)
_PARSED_LINE = re.compile(r"parse error (?:on )?line (\d+)", re.ASCII)
_LAST_LINES = 15
_BUILD_TIMEOUT_S = 3600

Json = Any


def image_tag(identity: Mapping[str, Json]) -> str:
    """What an image of this identity is called in the engine."""
    repository = DEFAULT_REPOSITORY if "base" in identity else BUILT_REPOSITORY
    return f"{repository}:{_hash(identity)[:16]}"


def find_built(client: docker.DockerClient, identity: Mapping[str, Json]) -> str | None:
    """The ID of the image that we built with this identity; None where there is none, or somebody tagged over it."""
    found = inspect_image(client, image_tag(identity))
    labels = ((found or {}).get("Config") or {}).get("Labels") or {}
    return str(found["Id"]) if found is not None and labels.get(IMAGE_LABEL) == _hash(identity) else None


def build_image(
    client: docker.DockerClient,
    identity: Mapping[str, Json],
    recipe: Recipe,
    dockerfile: Dockerfile,
    *,
    config: Config,
    echo: Echo,
    offline: bool = False,
    network: bool = True,
    remedy: str | None = None,
) -> str:
    """Build an image and tag it, its base images being those of its identity.

    Args:
        dockerfile: the recipe's text, read for this identity.
        offline: no base image is pulled.
        network: False: nothing is reached while building.
        remedy: what to do where it fails; default: to mend the Dockerfile.

    Returns:
        the image's ID.

    Raises:
        ImageNotFoundError: a base image cannot be had any more.
        RunnerError: the build failed.
        SourceIntegrityError: a file of the context was changed meanwhile.
    """
    digests = identity.get("bases") or dict.fromkeys([base.name for base in dockerfile.bases], identity.get("base"))
    images = {
        base.name: _pinned(client, base.image, str(digests[base.name]), config=config, echo=echo, offline=offline)
        for base in dockerfile.bases
    }
    tag = image_tag(identity)
    named = ", ".join(dict.fromkeys(base.image for base in dockerfile.bases))
    echo(f"[image] building {tag} from {named or 'scratch'}")
    with tempfile.TemporaryFile() as context, _parse_trouble(recipe, remedy):
        _pack(context, recipe, dockerfile.pinned(images))
        answers = client.api.build(
            fileobj=context,
            custom_context=True,
            dockerfile=SENT_DOCKERFILE,
            tag=tag,
            buildargs=dict(identity.get("build_args") or {}),
            target=identity.get("target"),
            labels={IMAGE_LABEL: _hash(identity)},
            network_mode=None if network else "none",
            rm=True,
            forcerm=True,
            decode=True,
            timeout=_BUILD_TIMEOUT_S,
        )
        with contextlib.closing(answers):  # where we are interrupted, the engine hears of it and stops
            _follow(answers, recipe, dockerfile, echo, remedy)
    built = find_built(client, identity)
    if built is None:
        raise RunnerError(
            recipe.dockerfile,
            "was built, and the image is gone again",
            facts={"expected": tag},
            remedy="run the same command again",
        )
    return built


def _hash(identity: Mapping[str, Json]) -> str:
    return hashlib.sha256(rfc8785.dumps(dict(identity))).hexdigest()


def _pinned(client: docker.DockerClient, image: str, digest: str, *, config: Config, echo: Echo, offline: bool) -> str:
    """What a FROM line has to say to mean this digest: an image ID, or the name in a registry with it."""
    if inspect_image(client, digest) is not None:
        return digest
    name, _ = require_pinned_image(client, f"{without_tag(image)}@{digest}", config=config, echo=echo, offline=offline)
    return name


def _pack(context: IO[bytes], recipe: Recipe, text: str) -> None:
    try:
        write_context(context, recipe, text)
        context.seek(0)
    except OSError as error:
        raise RunnerError(
            "build context",
            "cannot be written to the folder for temporary files",
            facts={"folder": tempfile.gettempdir(), "got": error},
            remedy="TMPDIR=DIR coral build …   # a folder with more room",
        ) from error


def _follow(
    answers: Iterator[Mapping[str, Json]], recipe: Recipe, dockerfile: Dockerfile, echo: Echo, remedy: str | None
) -> None:
    """Show a build as it goes, and raise where it fails."""
    last: deque[str] = deque(maxlen=_LAST_LINES)
    line: int | None = None
    failed: str | None = None
    text = ""
    for answer in answers:  # to the end, so that the connection is given back
        failed = answer.get("error") or answer.get("message") or failed
        *whole, text = (text + str(answer.get("stream", ""))).split("\n")
        for shown in filter(str.strip, whole):
            step = _STEP.match(shown)
            line = dockerfile.line_of_step(int(step[1]), step[2]) if step else line
            last.append(shown)
            echo(f"[image] {harmless(shown.rstrip(chr(13)))}")
    if failed is not None:
        raise _failed(recipe, failed, line, "\n".join(last), remedy)


@contextlib.contextmanager
def _parse_trouble(recipe: Recipe, remedy: str | None) -> Iterator[None]:
    """Tell of what an engine finds wrong with a Dockerfile before its first step, with its line."""
    import docker.errors

    try:
        yield
    except docker.errors.APIError as error:
        reason = str(error.explanation or error)
        if not _PARSED_LINE.search(reason):
            raise
        raise _failed(recipe, reason, None, "", remedy) from error


def _failed(recipe: Recipe, reason: str, line: int | None, last: str, remedy: str | None) -> CoralError:
    named = _PARSED_LINE.search(reason)
    line = int(named[1]) if named else line
    how = f"mend {recipe.dockerfile}; `docker build` with the same context shows the same"
    if "requires BuildKit" in reason:
        how = (
            f"docker build -t NAME -f {recipe.dockerfile} …   # with buildx; then write image: NAME instead\n"
            "or write that line without --mount and heredoc"
        )
    return RunnerError(
        recipe.dockerfile if line is None else f"{recipe.dockerfile}:{line}",
        "the image could not be built",
        facts={"got": reason, **({"last": last} if last else {})},
        remedy=remedy or how,
    )

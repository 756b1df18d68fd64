"""Which image a pipeline runs in: pins it, finds or pulls it, and builds the shipped default. Starts no container."""

from __future__ import annotations

import hashlib
import re
import tarfile
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import rfc8785

from coralord_lightning.builder.runners.engine import LABEL, connect, engine_trouble
from coralord_lightning.builder.runners.protocol import Echo, echo_to_stderr
from coralord_lightning.config import Config
from coralord_lightning.errors import ImageNotFoundError, NotYetSupportedError, RunnerError
from coralord_lightning.spec.plan import EnvironmentPlan

if TYPE_CHECKING:
    import docker

__all__ = ["DEFAULT_REPOSITORY", "IMAGE_LABEL", "default_dockerfile", "ensure_image", "resolve"]

DEFAULT_REPOSITORY = "coralord-lightning/default"
IMAGE_LABEL = f"{LABEL}.image"
"""On images that we built, the hash of their identity. Containers inherit labels, so it is not `LABEL`."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}", re.ASCII)
_OWN_BASE = re.compile(r"^ARG BASE_IMAGE=(\S+)", re.ASCII | re.MULTILINE)
_LAST_LINES = 15
_BUILD_TIMEOUT_S = 3600

Json = Any


def resolve(image: str | None, *, config: Config, network: bool = False) -> EnvironmentPlan:
    """Pin the environment of a pipeline that runs in a container.

    Args:
        image: `name@sha256:…` or an image ID; None for the image of the shipped Dockerfile.
        config: names the engine and the default image's base.
        network: whether the descriptor lets the pipeline out.

    Raises:
        EngineUnreachableError, ImageNotFoundError, NotYetSupportedError: the last for `name:tag`.
    """
    with connect(config) as client, engine_trouble(config):
        if image is None:
            base_image = _base_image(config)
            base = _require(client, base_image, subject="base_image")
            identity = _default_identity(base, base_image)
            found = _inspect(client, _default_tag(identity))
            return EnvironmentPlan(
                kind="docker",
                identity=identity,
                image=found["Id"] if found is not None and _is_built_from(found, identity) else None,
                network=network,
            )
        _require_pinned(client, image)
        found = _require(client, image, subject="environment.image")
        digest = image.rpartition("@")[2] if "@" in image else found["Id"]
        identity = {"image": digest, "platform": _platform(found)}
        return EnvironmentPlan(
            kind="docker", identity=identity, image=image if "@" in image else digest, network=network
        )


def ensure_image(plan: EnvironmentPlan, *, config: Config, echo: Echo = echo_to_stderr) -> str:
    """Make sure that the engine has a plan's image, pulling or building it where it lacks it.

    Args:
        plan: what `resolve` gave, or a lock kept.
        config: names the engine, the default image's base and the wheels to build it with.
        echo: takes every line of a build.

    Returns:
        what the engine is told to run.

    Raises:
        EngineUnreachableError, ImageNotFoundError: it cannot be had.
        RunnerError: it cannot be built.
    """
    with connect(config) as client, engine_trouble(config):
        if "image" in plan.identity:
            wanted = plan.image or str(plan.identity["image"])
            _require(client, wanted, subject="environment.image")
            return wanted
        found = _inspect(client, _default_tag(plan.identity))
        if found is not None and _is_built_from(found, plan.identity):
            return str(found["Id"])
        return _build_default(client, plan.identity, config, echo)


def default_dockerfile() -> str:
    """Read the shipped Dockerfile: beside this package in a wheel, at the root of the checkout otherwise."""
    package = Path(__file__).resolve().parents[2]
    for path in (package / "builder" / "image" / "Dockerfile", package.parent / "Dockerfile"):
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise RunnerError(
        "default image",
        "this installation lacks its Dockerfile",
        facts={"expected": package / "builder" / "image" / "Dockerfile"},
        remedy="pip install --force-reinstall coralord-lightning",
    )


def _base_image(config: Config) -> str:
    """What the shipped Dockerfile builds on: the site's choice, else the default of its own ARG line."""
    if config.base_image is not None:
        return config.base_image
    found = _OWN_BASE.search(default_dockerfile())
    if found is None:
        raise RunnerError(
            "default image",
            "its Dockerfile names no base image",
            facts={"expected": "ARG BASE_IMAGE=…"},
            remedy="set CORAL_BASE_IMAGE to an image with Python that the engine has",
        )
    return found[1]


def _default_identity(base: Mapping[str, Json], base_image: str) -> dict[str, Json]:
    files = {"Dockerfile": hashlib.sha256(default_dockerfile().encode()).hexdigest()}
    return {
        "context": hashlib.sha256(rfc8785.dumps(files)).hexdigest(),
        "base": _digest_of(base, base_image),
        "build_args": {},
        "platform": _platform(base),
    }


def _digest_of(found: Mapping[str, Json], name: str) -> str:
    """The digest under which a registry has this image, or its ID where it never met one."""
    wanted = _repository(name)
    digests = [item for item in found.get("RepoDigests") or [] if _repository(item) == wanted]
    return min(item.rpartition("@")[2] for item in digests) if digests else str(found["Id"])


def _repository(name: str) -> str:
    """A reference without tag and digest, in full."""
    path = name.partition("@")[0]
    head, _, tail = path.rpartition("/")
    path = (head + "/" if head else "") + tail.partition(":")[0]
    first = path.partition("/")[0]
    if "/" not in path:
        return f"docker.io/library/{path}"
    return path if "." in first or ":" in first or first == "localhost" else f"docker.io/{path}"


def _platform(found: Mapping[str, Json]) -> str:
    return f"{found.get('Os') or 'linux'}/{found.get('Architecture') or 'unknown'}"


def _default_tag(identity: Mapping[str, Json]) -> str:
    return f"{DEFAULT_REPOSITORY}:{_identity_hash(identity)[:16]}"


def _identity_hash(identity: Mapping[str, Json]) -> str:
    return hashlib.sha256(rfc8785.dumps(dict(identity))).hexdigest()


def _is_built_from(found: Mapping[str, Json], identity: Mapping[str, Json]) -> bool:
    """Tell whether an image under our tag is the one we built, or one that somebody tagged over it."""
    labels = (found.get("Config") or {}).get("Labels") or {}
    return bool(labels.get(IMAGE_LABEL) == _identity_hash(identity))


def _inspect(client: docker.DockerClient, name: str) -> Mapping[str, Json] | None:
    import docker.errors

    try:
        return dict(client.images.get(name).attrs)
    except docker.errors.ImageNotFound:
        return None


def _require_pinned(client: docker.DockerClient, image: str) -> None:
    if _ID.fullmatch(image) or ("@" in image and _DIGEST.fullmatch(image.rpartition("@")[2])):
        return
    found = _inspect(client, image)
    pinned = "name@sha256:…"
    if found is not None:
        digest = _digest_of(found, image)
        pinned = digest if digest == found["Id"] else f"{image.partition('@')[0].rpartition(':')[0] or image}@{digest}"
    raise NotYetSupportedError(
        "environment.image",
        "an image by tag is not supported in this release, because a tag moves",
        facts={"got": image, "expected": "name@sha256:… or an image ID"},
        remedy=f"image: {pinned}",
    )


def _require(client: docker.DockerClient, image: str, *, subject: str) -> Mapping[str, Json]:
    """Inspect an image, pulling it first where the engine lacks it and a registry may have it."""
    import docker.errors

    found = _inspect(client, image)
    if found is not None:
        return found
    reason = "the engine has no image of that ID, and IDs cannot be pulled"
    if not _ID.fullmatch(image):
        try:
            name, _, digest = image.partition("@")
            client.images.pull(name if digest else image, tag=digest or None)
        except docker.errors.APIError as error:
            reason = str(error.explanation or error)
        found = _inspect(client, image)
    if found is None:
        raise ImageNotFoundError(
            subject,
            f"there is no image '{image}', neither in the engine nor where it could be pulled from",
            facts={"got": reason},
            remedy=_how_to_get(image, subject),
        )
    return found


def _how_to_get(image: str, subject: str) -> str:
    if subject == "base_image":
        return f"docker pull {image}\nor set CORAL_BASE_IMAGE to an image with Python that the engine has"
    if _ID.fullmatch(image):
        return "docker image ls --no-trunc --quiet  # lists the IDs that it has; put one into environment.image"
    return f"docker pull {image}\nor correct environment.image, or use `environment: local`"


def _build_default(client: docker.DockerClient, identity: Mapping[str, Json], config: Config, echo: Echo) -> str:
    base_image = _base_image(config)
    base = _require(client, base_image, subject="base_image")
    now = _default_identity(base, base_image)
    changed = [key for key in identity if identity[key] != now.get(key)]
    if changed:
        raise ImageNotFoundError(
            "default image",
            "the pinned default image cannot be built here any more",
            facts={key: f"was {identity[key]}, now {now.get(key)}" for key in changed},
            remedy="coral update DESCRIPTOR, to pin what is here; or get the base image that it was pinned with",
        )
    tag = _default_tag(identity)
    echo(f"[image] building {tag} from {base_image}")
    with tempfile.TemporaryFile() as context:
        wheels = _write_context(context, config.wheelhouse)
        context.seek(0)
        answers = client.api.build(
            fileobj=context,
            custom_context=True,
            tag=tag,
            buildargs={"BASE_IMAGE": base_image},
            labels={IMAGE_LABEL: _identity_hash(identity)},
            network_mode="none" if wheels else None,
            rm=True,
            forcerm=True,
            decode=True,
            timeout=_BUILD_TIMEOUT_S,
        )
        _follow(answers, echo)
    built = _inspect(client, tag)
    layers = base["RootFS"]["Layers"]
    if built is None or built["RootFS"]["Layers"][: len(layers)] != layers:
        raise RunnerError(
            "default image",
            f"'{base_image}' was changed while the image was being built",
            remedy="run the same command again",
        )
    return str(built["Id"])


def _write_context(context: IO[bytes], wheelhouse: Path | None) -> int:
    """Write the build context as a tar file; returns how many wheels are in it."""
    wheels = sorted(wheelhouse.glob("*.whl")) if wheelhouse is not None else []
    with tarfile.open(fileobj=context, mode="w") as tar:
        text = default_dockerfile().encode()
        entry = tarfile.TarInfo("Dockerfile")
        entry.size, entry.mode = len(text), 0o644
        tar.addfile(entry, BytesIO(text))
        for wheel in wheels:
            entry = tarfile.TarInfo(f"wheels/{wheel.name}")
            entry.size, entry.mode = wheel.stat().st_size, 0o644
            with wheel.open("rb") as stream:
                tar.addfile(entry, stream)
    return len(wheels)


def _follow(answers: Iterator[Mapping[str, Json]], echo: Echo) -> None:
    """Show a build as it goes, and raise where it fails."""
    last: deque[str] = deque(maxlen=_LAST_LINES)
    failed: str | None = None
    for answer in answers:  # to the end, so that the connection is given back
        failed = answer.get("error", failed)
        for line in str(answer.get("stream", "")).splitlines():
            if line.strip():
                last.append(line)
                echo(f"[image] {line}")
    if failed is not None:
        raise RunnerError(
            "default image",
            "the shipped Dockerfile could not be built",
            facts={"got": failed, "last": "\n".join(last)},
            remedy="where containers reach no package index, set CORAL_WHEELHOUSE to a directory of wheels;\n"
            "where the base image has no Python with venv, set CORAL_BASE_IMAGE to one that has",
        )

"""From a Dockerfile to its recipe and its identity: the descriptor's and the shipped one. Builds nothing."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coralord_lightning.builder.runners.context import Hasher, context_digest, read_recipe
from coralord_lightning.builder.runners.dockerfile import BaseImage, Dockerfile, read_dockerfile
from coralord_lightning.builder.runners.engine import connect, engine_trouble
from coralord_lightning.builder.runners.engine_images import digest_of, platform_of, require_image
from coralord_lightning.config import Config
from coralord_lightning.errors import CoralError, DescriptorValueError, RunnerError, nearest
from coralord_lightning.spec.descriptor import EnvironmentOptions, SubsetDescriptor
from coralord_lightning.spec.plan import EnvironmentPlan
from coralord_lightning.spec.recipe import Recipe, SentFile

if TYPE_CHECKING:
    import docker

__all__ = ["default_identity", "default_recipe", "engine_platform", "is_built", "pin_dockerfile", "read_for", "wheels"]

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)

Json = Any


def is_built(identity: Mapping[str, Json]) -> bool:
    """Whether an identity is that of a descriptor's Dockerfile, not of an image or of the shipped Dockerfile."""
    return "context" in identity and "base" not in identity


def pin_dockerfile(
    asked: SubsetDescriptor,
    options: EnvironmentOptions,
    *,
    config: Config,
    hasher: Hasher,
    kept: Mapping[str, Json] | None = None,
    offline: bool = False,
) -> EnvironmentPlan:
    """Pin the image that a descriptor's Dockerfile builds. The engine is asked only for what nobody has kept.

    Args:
        hasher: SHA-256 of the context's files.
        kept: the identity in a lock; its base images and platform are taken as they are.
        offline: no registry is asked.

    Raises:
        DescriptorValueError: Dockerfile or context are not there or cannot be read.
        ForbiddenSourceError: the context holds what cannot be sent.
        EngineUnreachableError, ImageNotFoundError: a base image has to be looked up and cannot be.
    """
    dockerfile, context = _places(asked, options)
    recipe = read_recipe(
        dockerfile, context, shown=os.path.relpath(dockerfile), hasher=hasher, never=(config.home.absolute(),)
    )
    known = kept if kept is not None and is_built(kept) else {}
    identity: dict[str, Json] = {"context": context_digest(recipe)}
    with ExitStack() as stack:
        engine = _Engine(config, stack, offline=offline)
        identity["platform"] = known.get("platform") or engine.platform()
        identity |= {"build_args": dict(options.build_args)} if options.build_args else {}
        identity |= {"target": options.target} if options.target is not None else {}
        digests = dict(known.get("bases") or {})
        read = read_for(identity, recipe, config)
        bases = {base.name: digests.get(base.name) or engine.digest(base, recipe) for base in read.bases}
    identity |= {"bases": bases} if bases else {}
    return EnvironmentPlan(kind="docker", identity=identity, network=options.network, recipe=recipe)


def read_for(identity: Mapping[str, Json], recipe: Recipe, config: Config) -> Dockerfile:
    """A recipe's Dockerfile, read for an identity's platform, arguments and target."""
    return read_dockerfile(
        recipe.text,
        origin=recipe.dockerfile,
        platform=str(identity["platform"]),
        build_args=identity.get("build_args"),
        target=identity.get("target"),
        base_image=config.base_image,
    )


def default_recipe() -> Recipe:
    """The shipped Dockerfile: beside this package in a wheel, at the root of the checkout otherwise.

    Raises:
        RunnerError: this installation lacks it.
    """
    package = Path(__file__).resolve().parents[2]
    for path in (package / "builder" / "image" / "Dockerfile", package.parent / "Dockerfile"):
        if path.is_file():
            data = path.read_bytes()
            file = SentFile(path="Dockerfile", source=path, sha256=hashlib.sha256(data).hexdigest())
            return Recipe(dockerfile="the shipped Dockerfile", text=data.decode(), files=(file,))
    raise RunnerError(
        "default image",
        "this installation lacks its Dockerfile",
        facts={"expected": package / "builder" / "image" / "Dockerfile"},
        remedy="pip install --force-reinstall coralord-lightning",
    )


def default_identity(client: docker.DockerClient, recipe: Recipe, config: Config) -> dict[str, Json]:
    """The identity of the shipped Dockerfile's image; wheels, which only save a way to a package index, are not in it.

    Raises:
        ImageNotFoundError: its base image cannot be had.
    """
    base = read_for({"platform": engine_platform(client)}, recipe, config).bases[0]
    found = require_image(client, base.image, subject="base_image")
    return {
        "context": context_digest(recipe),
        "base": digest_of(found, base.image),
        "build_args": {},
        "platform": platform_of(found),
    }


def wheels(config: Config) -> tuple[SentFile, ...]:
    """The site's wheels, for the shipped Dockerfile's context."""
    found = sorted(config.wheelhouse.glob("*.whl")) if config.wheelhouse is not None else []
    return tuple(
        SentFile(path=f"wheels/{path.name}", source=path, sha256=_sha256(path), executable=os.access(path, os.X_OK))
        for path in found
    )


def engine_platform(client: docker.DockerClient) -> str:
    """What the engine makes: `linux/amd64`."""
    version = client.version()
    return f"{version.get('Os') or 'linux'}/{version.get('Arch') or 'unknown'}"


class _Engine:
    """A connection that is opened when something has to be asked."""

    def __init__(self, config: Config, stack: ExitStack, *, offline: bool) -> None:
        self._config = config
        self._offline = offline
        self._stack = stack
        self._client: docker.DockerClient | None = None

    def platform(self) -> str:
        return engine_platform(self._connected())

    def digest(self, base: BaseImage, recipe: Recipe) -> str:
        """Pin one base image: the site's own is what the engine has, any other what its registry says."""
        named = base.image.rpartition("@")[2]
        if _DIGEST.fullmatch(named):
            return named
        at = f"{recipe.dockerfile}:{base.line}"
        if base.image == self._config.base_image:
            return digest_of(require_image(self._connected(), base.image, subject=at), base.image)
        from coralord_lightning.builder.runners.tags import resolve_tag

        try:
            return resolve_tag(self._connected(), base.image, config=self._config, offline=self._offline).digest
        except CoralError as error:
            remedy = error.remedy.replace("image: ", "FROM ").replace("environment.image", f"FROM in {at}")
            raise type(error)(at, error.message, facts=error.facts, remedy=remedy) from error

    def _connected(self) -> docker.DockerClient:
        if self._client is None:
            self._client = self._stack.enter_context(connect(self._config))
            self._stack.enter_context(engine_trouble(self._config))
        return self._client


def _places(asked: SubsetDescriptor, options: EnvironmentOptions) -> tuple[Path, Path]:
    """Where Dockerfile and context lie."""
    dockerfile = _beneath(asked, str(options.dockerfile))
    if not dockerfile.is_file():
        folder = dockerfile.parent
        there = sorted(path.name for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
        near = nearest(dockerfile.name, there)
        inside = dockerfile / "Dockerfile"
        raise _not_there(
            asked,
            "dockerfile",
            "is a folder" if dockerfile.is_dir() else "there is no such file",
            dockerfile,
            os.path.relpath(inside, asked.base_dir)
            if inside.is_file()
            else os.path.relpath(folder / (near or "Dockerfile"), asked.base_dir),
        )
    context = dockerfile.parent if options.context is None else _beneath(asked, options.context)
    if not context.is_dir():
        why = "is no folder" if context.exists() else "there is no such folder"
        raise _not_there(asked, "context", why, context, ".")
    return dockerfile, context


def _beneath(asked: SubsetDescriptor, path: str) -> Path:
    return Path(os.path.normpath(asked.base_dir.absolute() / Path(path).expanduser()))


def _not_there(asked: SubsetDescriptor, key: str, why: str, path: Path, instead: str) -> DescriptorValueError:
    return DescriptorValueError(
        f"environment.{key}",
        why,
        facts={"at": asked.key_line(f"environment.{key}"), "expected": path},
        remedy=f"{key}: {instead}",
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

"""Which image a pipeline runs in: pins it, and finds, pulls or has it built. Starts no container."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from coralord_lightning.builder.runners.building import build_image, find_built
from coralord_lightning.builder.runners.context import context_digest
from coralord_lightning.builder.runners.engine import connect, engine_trouble
from coralord_lightning.builder.runners.engine_images import platform_of
from coralord_lightning.builder.runners.protocol import Echo, echo_to_stderr
from coralord_lightning.builder.runners.pulling import require_pinned_image
from coralord_lightning.builder.runners.recipes import (
    default_identity,
    default_recipe,
    engine_platform,
    read_for,
    wheels,
)
from coralord_lightning.builder.runners.tags import image_id, resolve_tag
from coralord_lightning.config import Config
from coralord_lightning.errors import ImageNotFoundError
from coralord_lightning.spec.plan import EnvironmentPlan

if TYPE_CHECKING:
    import docker

__all__ = ["ensure_image", "resolve"]

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}", re.ASCII)

Json = Any


def resolve(
    image: str | None, *, config: Config, network: bool = False, offline: bool = False, echo: Echo = echo_to_stderr
) -> EnvironmentPlan:
    """Pin the environment of a pipeline that runs in a container.

    Args:
        image: `name:tag`, `name@sha256:…` or an image ID; None for the image of the shipped Dockerfile.
        config: names the engine and the default image's base.
        network: whether the descriptor lets the pipeline out.
        offline: ask no registry.
        echo: takes a line for each step of a pull.

    Raises:
        EngineUnreachableError, ImageNotFoundError, UpstreamError, OfflineError: it cannot be looked up.
    """
    with connect(config) as client, engine_trouble(config):
        if image is None:
            identity = default_identity(client, default_recipe(), config)
            built = find_built(client, identity)
            return EnvironmentPlan(kind="docker", identity=identity, image=built, network=network)
        if not _is_pinned(image):
            named = resolve_tag(client, image, config=config, offline=offline)
            identity = {"image": named.digest, "platform": named.platform}
            return EnvironmentPlan(kind="docker", identity=identity, image=named.image, network=network, tag=named.tag)
        _, found = require_pinned_image(client, image, config=config, echo=echo, offline=offline)
        digest = image.rpartition("@")[2] if "@" in image else image_id(found)
        identity = {"image": digest, "platform": platform_of(found)}
        return EnvironmentPlan(
            kind="docker", identity=identity, image=image if "@" in image else digest, network=network
        )


def ensure_image(plan: EnvironmentPlan, *, config: Config, echo: Echo = echo_to_stderr, offline: bool = False) -> str:
    """Make sure that the engine has a plan's image, pulling or building it where it lacks it.

    Args:
        plan: what `resolve` gave, or a lock kept.
        config: names the engine, the default image's base and the wheels to build it with.
        echo: takes every line of a build or pull.
        offline: pull nothing.

    Returns:
        what the engine is told to run.

    Raises:
        EngineUnreachableError, ImageNotFoundError: it cannot be had.
        RunnerError: it cannot be built.
    """
    with connect(config) as client, engine_trouble(config):
        if "image" in plan.identity:
            wanted = plan.image or str(plan.identity["image"])
            name, _ = require_pinned_image(client, wanted, config=config, echo=echo, offline=offline, tag=plan.tag)
            return name
        return find_built(client, plan.identity) or _build(client, plan, config, echo, offline=offline)


def _is_pinned(image: str) -> bool:
    return bool(_ID.fullmatch(image) or ("@" in image and _DIGEST.fullmatch(image.rpartition("@")[2])))


def _build(client: docker.DockerClient, plan: EnvironmentPlan, config: Config, echo: Echo, *, offline: bool) -> str:
    """Build the image of a Dockerfile, shipped or the descriptor's."""
    shipped = "base" in plan.identity
    recipe = default_recipe() if shipped else plan.recipe
    if recipe is None:
        raise ImageNotFoundError(
            "environment.dockerfile",
            "the image is not in the engine, and what it is built from is not at hand",
            facts={"context": plan.identity["context"]},
            remedy="coral build DESCRIPTOR, where its Dockerfile lies",
        )
    now = {"context": context_digest(recipe), "platform": engine_platform(client)}
    moved = {key: f"was {plan.identity[key]}, now {value}" for key, value in now.items() if plan.identity[key] != value}
    if moved:
        raise ImageNotFoundError(
            "default image" if shipped else recipe.dockerfile,
            "the pinned image cannot be built here any more",
            facts=moved,
            remedy="coral update DESCRIPTOR, to pin what is here",
        )
    dockerfile = read_for(plan.identity, recipe, config)
    if not shipped:
        return build_image(client, plan.identity, recipe, dockerfile, config=config, echo=echo, offline=offline)
    brought = wheels(config)
    return build_image(
        client,
        plan.identity,
        replace(recipe, files=(*recipe.files, *brought)),
        dockerfile,
        config=config,
        echo=echo,
        offline=offline,
        network=not brought,
        remedy="where containers reach no package index, set CORAL_WHEELHOUSE to a directory of wheels;\n"
        "where the base image has no Python with venv, set CORAL_BASE_IMAGE to one that has",
    )

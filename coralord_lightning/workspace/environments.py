"""Where a pipeline runs, pinned: by an override, by the lock, else by asking engine and registry. Builds nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from coralord_lightning.config import Config
from coralord_lightning.errors import EngineUnreachableError, LockedError
from coralord_lightning.sources import HashCache
from coralord_lightning.spec.descriptor import SubsetDescriptor
from coralord_lightning.spec.lock import LockEntry
from coralord_lightning.spec.plan import EnvironmentPlan

__all__ = ["EnvironmentResolver", "Override", "on_locked_platform", "overrides", "require_same_image"]

Override = Literal["local"] | None
"""An environment for one try, in place of the descriptor's; no lock is written of it."""


class EnvironmentResolver:
    """Pins where a pipeline runs; asks the container engine only where nothing else says.

    Args:
        override: what counts in place of the descriptor's environment.
        offline: no registry is asked.
    """

    def __init__(self, config: Config, *, override: Override = None, offline: bool = False) -> None:
        self._config = config
        self._override = override
        self._offline = offline

    def __call__(
        self,
        asked: SubsetDescriptor,
        imports: frozenset[str],
        pins: LockEntry | None,
        hashes: HashCache,
    ) -> EnvironmentPlan:
        """The environment of a descriptor's pipeline, pinned.

        Raises:
            EngineUnreachableError: the engine has to be asked and does not answer.
            CoralError: an image cannot be looked up.
        """
        environment = asked.environment
        if self._override == "local" or (environment is not None and environment.local):
            from coralord_lightning.builder.runners.local import identity

            return EnvironmentPlan(kind="local", identity=identity(imports))
        image = environment.image if environment is not None else None
        network = bool(environment is not None and environment.network)
        kept = pins.image if pins is not None else None
        if environment is not None and environment.dockerfile is not None:
            from coralord_lightning.builder.runners.recipes import pin_dockerfile

            def hasher(path: Path) -> str:
                return hashes.hash_file(path).sha256

            return pin_dockerfile(
                asked, environment, config=self._config, hasher=hasher, kept=kept, offline=self._offline
            )
        if pins is not None and kept is not None and _names(image, kept, pins):
            return self._locked(image, kept, pins, network=network)
        from coralord_lightning.builder.runners.image import resolve

        return resolve(image, config=self._config, network=network, offline=self._offline)

    def _locked(self, image: str | None, kept: Mapping[str, Any], pins: LockEntry, *, network: bool) -> EnvironmentPlan:
        """What the lock says, for the engine's own platform where the lock has more than one."""
        from coralord_lightning.builder.runners.engine_images import without_tag

        if pins.tag is None or image != pins.tag.name:
            named = image if image is not None and "@" in image else None
            return EnvironmentPlan(kind="docker", identity=kept, image=named, network=network)
        identity = dict(kept) if not pins.tag.platforms else self._for_platform(kept, pins)
        digest = str(identity["image"])
        reference = digest if pins.tag.local else f"{without_tag(image)}@{digest}"
        return EnvironmentPlan(kind="docker", identity=identity, image=reference, network=network, tag=pins.tag)

    def _for_platform(self, kept: Mapping[str, Any], pins: LockEntry) -> dict[str, Any]:
        """The engine is asked only where this machine's own platform is not the lock's."""
        from coralord_lightning.builder.runners.platforms import digest_for, host_platform, platform_of_engine

        if pins.tag is None or kept["platform"] == host_platform():
            return dict(kept)
        try:
            here = platform_of_engine(self._config)
        except EngineUnreachableError:  # nothing can be built here, and what is built may be used
            return dict(kept)
        if here == kept["platform"]:
            return dict(kept)
        return dict(kept) | {"image": digest_for(pins.tag.platforms, here, name=pins.tag.name), "platform": here}


def require_same_image(asked: SubsetDescriptor, entry: LockEntry) -> None:
    """Make sure that a descriptor's tag is the one that its lock resolved; nothing is asked.

    Raises:
        LockedError: it names another.
    """
    image = asked.environment.image if asked.environment is not None else None
    was = entry.tag.name if entry.tag is not None else None
    if image is None or image == was or "@" in image or (was is None and _names(image, entry.image or {}, entry)):
        return
    raise LockedError(
        asked.name,
        "names another image than its coral.lock",
        facts={"expected": was or str((entry.image or {}).get("image", "no image by tag")), "got": image},
        remedy=f"coral update {asked.origin}   # or undo the change",
    )


def overrides(config: Config, override: Override) -> dict[str, str]:
    """What was chosen for a try in place of what the descriptor and this machine would have had; goes on record."""
    runner = {} if config.runner is None or override == "local" else {"runner_from": config.runner_from or "argument"}
    return runner if override is None else runner | {"environment_from": "--environment"}


def on_locked_platform(plan: EnvironmentPlan, entry: LockEntry) -> EnvironmentPlan:
    """The same image on the platform that the lock was written on."""
    if entry.tag is None or entry.image is None or plan.tag != entry.tag:
        return plan
    return replace(plan, identity=entry.image)


def _names(image: str | None, kept: Mapping[str, Any], pins: LockEntry) -> bool:
    """Whether a locked image is the one that a descriptor names; the descriptor may have been edited since."""
    if image is None:
        return "base" in kept  # the shipped image
    if pins.tag is not None and image == pins.tag.name:
        return True
    return str(kept.get("image")).removeprefix("sha256:") == image.rpartition("@")[2].removeprefix("sha256:")

"""What a tag stands for now: asks the registry, and picks the digest for a platform. Pulls no image, pins nothing.

The engine asks first, because it is who will pull; see docs/decisions/018-a-tag-is-what-the-registry-says.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coralord_lightning.builder.runners.engine import is_podman
from coralord_lightning.builder.runners.engine_images import inspect_image, platform_of, without_tag
from coralord_lightning.builder.runners.platforms import SUBJECT, digest_for
from coralord_lightning.builder.runners.registry import INDEX_TYPES, Trouble, open_registry, split_name
from coralord_lightning.config import Config
from coralord_lightning.errors import CoralError, ImageNotFoundError, OfflineError, UpstreamError
from coralord_lightning.spec.image_tag import ImageTag

if TYPE_CHECKING:
    import docker

__all__ = [
    "Resolved",
    "image_id",
    "image_trouble",
    "mirrored",
    "resolve_tag",
    "trouble_of",
]

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_PODMANS_OWN = "localhost/"
"""What Podman calls an image that it built and whose name has no registry."""

Json = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What a tag stands for on one platform.

    Args:
        digest: of the platform's manifest; the image's ID where no registry has it.
        image: what an engine pulls and runs, `name@digest` or an ID.
    """

    digest: str
    platform: str
    image: str
    tag: ImageTag


def resolve_tag(client: docker.DockerClient, name: str, *, config: Config, offline: bool = False) -> Resolved:
    """Resolve a tag for the engine's platform.

    Args:
        name: `name:tag`, or a name for its tag `latest`.
        offline: ask no registry: the engine's own image counts.

    Raises:
        ImageNotFoundError: neither registry nor engine know it, or it is not there for this platform.
        UpstreamError: the registry does not answer, or does not let us in.
        OfflineError: `offline`, and the engine lacks it.
    """
    place = mirrored(name, config)
    held = inspect_image(client, place) or inspect_image(client, name)
    found = None if held is None else _as_held(name, place, held)
    version = client.version()
    if offline or (is_podman(version) and name.startswith(_PODMANS_OWN)):
        if found is None:
            raise _not_here(name) if offline else image_trouble(name, Trouble("unknown", "no registry is named so"))
        return found
    try:
        return _ask(client, name, place, version, config)
    except Trouble as trouble:
        if held is not None and found is not None and _may_be_local(trouble, place):
            # Podman gives what it built a digest, too, but no registry has it
            found = _by_id(name, held) if is_podman(version) else found
            if found.tag.local:
                return found
        raise _unresolved(place, found, trouble) from trouble


def mirrored(name: str, config: Config) -> str:
    """The name under which this site pulls an image: `image_mirrors` by the longest prefix that fits."""
    host, repository, _ = split_name(name)
    full = f"{host}/{repository}"
    fitting = [prefix for prefix in config.image_mirrors if f"{full}/".startswith(f"{prefix.rstrip('/')}/")]
    if not fitting:
        return name
    prefix = max(fitting, key=len)
    rest = full[len(prefix.rstrip("/")) :]
    return config.image_mirrors[prefix].rstrip("/") + rest + name[len(without_tag(name)) :]


def trouble_of(error: docker.errors.APIError) -> Trouble:
    """What an engine's refusal says of the registry behind it."""
    reason = str(error.explanation or error)
    said = reason.lower()
    if error.status_code in (401, 403) or any(word in said for word in ("unauthorized", "denied", "no basic auth")):
        return Trouble("denied", reason)
    if error.status_code == 404 or "manifest unknown" in said or "name unknown" in said:
        return Trouble("unknown", reason)
    return Trouble("unreachable", reason)


def image_trouble(name: str, trouble: Trouble, *, subject: str = SUBJECT, remedy: str = "") -> CoralError:
    """Our error for an image that a registry does not give."""
    host, _, _ = split_name(name)
    facts = {"registry": host, "got": trouble.reason}
    if trouble.kind == "unknown":
        how = remedy or f"docker push {name}   # from where it is\nor correct {subject}"
        return ImageNotFoundError(subject, f"there is no image '{name}'", facts=facts, remedy=how)
    if trouble.kind == "denied":
        login = "docker login" if host == "docker.io" else f"docker login {host}"
        text = f"'{name}' may not be read by you, or is not there"
        return UpstreamError(subject, text, facts=facts, remedy=remedy or login)
    text = f"the registry of '{name}' cannot be reached"
    return UpstreamError(subject, text, facts=facts, remedy=remedy or "check the network and the name's registry")


def _ask(client: docker.DockerClient, name: str, place: str, version: Mapping[str, Json], config: Config) -> Resolved:
    """Ask for the digest, and where that is of an index for the list behind it."""
    import docker.errors

    _, _, tag = split_name(place)
    here = _platform_of_engine(version)
    if is_podman(version):  # it has no such question
        return _ask_registry(name, place, tag, here, config)
    try:
        api: Any = client.api  # the stubs know no types here
        said = api.inspect_distribution(f"{without_tag(place)}:{tag}")
    except docker.errors.APIError as error:
        raise trouble_of(error) from error
    digest, kind = str(said["Descriptor"]["digest"]), said["Descriptor"].get("mediaType")
    if kind not in INDEX_TYPES:
        platforms = said.get("Platforms") or [{}]
        own = f"{platforms[0].get('os') or 'linux'}/{platforms[0].get('architecture') or 'unknown'}"
        return _resolved(name, digest, own)
    try:
        return _ask_registry(name, place, digest, here, config)
    except Trouble as trouble:
        pinned = f"image: {without_tag(name)}@{digest}"
        how = f"{pinned}   # the engine reaches what we do not; it picks its platform itself"
        raise image_trouble(place, trouble, remedy=how) from trouble


def _ask_registry(name: str, place: str, reference: str, here: str, config: Config) -> Resolved:
    with open_registry(place, config=config) as registry:
        manifest = registry.manifest(reference)
        if manifest.media_type not in INDEX_TYPES:
            return _resolved(name, manifest.digest, registry.platform(manifest))
    platforms = _platforms(manifest.body)
    digest = digest_for(platforms, here, name=name)
    return _resolved(name, digest, here, index=manifest.digest, platforms=platforms)


def _platforms(index: Mapping[str, Json]) -> dict[str, str]:
    """Platform -> digest; attestations, which have none, are left out."""
    found: dict[str, str] = {}
    listed = index.get("manifests")
    for item in listed if isinstance(listed, list) else []:
        said = item.get("platform") if isinstance(item, dict) else None
        if not isinstance(said, dict) or not _DIGEST.fullmatch(str(item.get("digest"))):
            continue
        parts = [str(said.get(key) or "") for key in ("os", "architecture", "variant")]
        if parts[0] not in ("", "unknown") and parts[1] not in ("", "unknown"):
            found.setdefault("/".join(filter(None, parts)), str(item["digest"]))
    return found


def _resolved(
    name: str, digest: str, platform: str, *, index: str | None = None, platforms: Mapping[str, str] | None = None
) -> Resolved:
    tag = ImageTag(name=name, index=index, platforms=platforms or {})
    return Resolved(digest=digest, platform=platform, image=f"{without_tag(name)}@{digest}", tag=tag)


def _as_held(name: str, place: str, held: Mapping[str, Json]) -> Resolved:
    """The engine's own image: by the digest it was pulled or pushed with, or by its ID where it was only built here."""
    own = {split_name(item)[:2] for item in (name, place)}
    digests = [item.rpartition("@")[2] for item in held.get("RepoDigests") or [] if split_name(item)[:2] in own]
    if digests and not name.startswith(_PODMANS_OWN):
        return _resolved(name, min(digests), platform_of(held))
    return _by_id(name, held)


def _by_id(name: str, held: Mapping[str, Json]) -> Resolved:
    ident = image_id(held)
    return Resolved(digest=ident, platform=platform_of(held), image=ident, tag=ImageTag(name=name, local=True))


def image_id(held: Mapping[str, Json]) -> str:
    """An image's ID, `sha256:…`."""
    ident = str(held["Id"])
    return ident if ident.startswith("sha256:") else f"sha256:{ident}"  # Podman leaves that out


def _may_be_local(trouble: Trouble, place: str) -> bool:
    """Whether a registry's answer leaves it open that it has the image; Docker Hub denies what it does not have."""
    return trouble.kind == "unknown" or (trouble.kind == "denied" and split_name(place)[0] == "docker.io")


def _unresolved(place: str, found: Resolved | None, trouble: Trouble) -> CoralError:
    """The error; where the engine holds the tag, it names what to write, and nothing is guessed."""
    if found is None:
        return image_trouble(place, trouble)
    login = f"docker login {split_name(place)[0]}\nor " if trouble.kind == "denied" else ""
    how = f"{login}image: {found.image}   # what the engine here has by that tag; or --offline, to take it once"
    return image_trouble(place, trouble, remedy=how)


def _not_here(name: str) -> CoralError:
    return OfflineError(
        SUBJECT,
        f"the engine has no image '{name}', and the network was ruled out",
        remedy=f"docker pull {name}\nor run it without --offline",
    )


def _platform_of_engine(version: Mapping[str, Json]) -> str:
    return f"{version.get('Os') or 'linux'}/{version.get('Arch') or 'unknown'}"

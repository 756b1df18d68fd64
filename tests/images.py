"""Small images in a real registry: pushed, put together to an index over HTTP, and taken away again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tarfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import docker.errors
import pytest
import requests

from coralord_lightning.builder.runners.engine import connect
from coralord_lightning.config import Config

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def registry_host() -> str:
    """The registry that tests push to."""
    host = os.environ.get("CORAL_TEST_REGISTRY")
    if host:
        return host
    if os.environ.get("CORAL_REQUIRE_DOCKER"):
        pytest.fail("CORAL_REQUIRE_DOCKER is set, but CORAL_TEST_REGISTRY is not", pytrace=False)
    pytest.skip("needs a registry on loopback: bash .ci/engine.sh up DIR && source DIR/env")


@dataclass
class Repository:
    """A repository of our own in the registry.

    Args:
        built: names that the engine was given, to be taken away.
    """

    name: str
    config: Config
    built: set[str] = field(default_factory=set)

    def tagged(self, tag: str) -> str:
        return f"{self.name}:{tag}"

    def push(self, tag: str, base: str, **labels: str) -> str:
        """Build an image on `base` and let the tag stand for it; gives its digest. The engine forgets the tag."""
        self.build(tag, base, **labels)
        with connect(self.config) as client:
            for line in client.images.push(self.name, tag=tag, stream=True, decode=True):
                assert "error" not in line, line
            digest = self.head(tag)
            client.images.remove(self.tagged(tag), force=True)
        self.built.add(f"{self.name}@{digest}")
        return digest

    def build(self, tag: str, base: str, **labels: str) -> None:
        """Build an image that differs from `base` by a file; nothing is pushed."""
        lines = "".join(f"LABEL {key}={value}\n" for key, value in labels.items())
        context = BytesIO()
        with tarfile.open(fileobj=context, mode="w") as tar:
            # the file makes a layer, so that a registry has an image of its own
            for name, text in (("Dockerfile", f"FROM {base}\n{lines}COPY label /label\n"), ("label", lines)):
                entry = tarfile.TarInfo(name)
                entry.size = len(text)
                tar.addfile(entry, BytesIO(text.encode()))
        context.seek(0)
        with connect(self.config) as client:
            for line in client.api.build(
                fileobj=context, custom_context=True, tag=self.tagged(tag), rm=True, decode=True
            ):
                assert "error" not in line, line
        self.built.add(self.tagged(tag))

    def head(self, tag: str) -> str:
        """The digest that the registry has for a tag."""
        answer = requests.get(self._url(tag), headers={"Accept": f"{MANIFEST}, {INDEX}"}, timeout=30)
        answer.raise_for_status()
        return f"sha256:{hashlib.sha256(answer.content).hexdigest()}"

    def put_index(self, tag: str, platforms: dict[str, str]) -> str:
        """Let a tag stand for an index of manifests that are there; gives the index's digest."""
        manifests: list[dict[str, Any]] = []
        for platform, digest in platforms.items():
            size = len(requests.get(self._url(digest), headers={"Accept": MANIFEST}, timeout=30).content)
            parts = dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))
            manifests.append({"mediaType": MANIFEST, "digest": digest, "size": size, "platform": parts})
        body = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).encode()
        requests.put(self._url(tag), data=body, headers={"Content-Type": INDEX}, timeout=30).raise_for_status()
        return f"sha256:{hashlib.sha256(body).hexdigest()}"

    def forget(self) -> None:
        """Take every name of ours away from the engine; what other images share stays."""
        with connect(self.config) as client:
            for image in client.images.list():
                for name in [*(image.attrs["RepoTags"] or []), *(image.attrs["RepoDigests"] or [])]:
                    if name.startswith((f"{self.name}:", f"{self.name}@")):
                        with contextlib.suppress(docker.errors.ImageNotFound):  # the digest goes with the last tag
                            client.images.remove(name, force=True)

    def _url(self, reference: str) -> str:
        host, _, path = self.name.partition("/")
        return f"http://{host}/v2/{path}/manifests/{reference}"


@contextmanager
def repository(config: Config) -> Iterator[Repository]:
    """A repository of our own; the engine has nothing of it afterwards."""
    found = Repository(name=f"{registry_host()}/coral-tags/{uuid.uuid4().hex}", config=config)
    try:
        yield found
    finally:
        found.forget()

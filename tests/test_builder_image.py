"""Which image a pipeline runs in: pins by digest and ID, pulls, and the build of the shipped default."""

from __future__ import annotations

import hashlib
import os
import tarfile
import uuid
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
import rfc8785

from coralord_lightning.builder.runners import image as room
from coralord_lightning.builder.runners import recipes
from coralord_lightning.builder.runners.building import DEFAULT_REPOSITORY, IMAGE_LABEL, image_tag
from coralord_lightning.builder.runners.context import SENT_DOCKERFILE, write_context
from coralord_lightning.builder.runners.engine import LABEL, connect, engine_version
from coralord_lightning.builder.runners.engine_images import digest_of
from coralord_lightning.builder.runners.image import ensure_image, resolve
from coralord_lightning.builder.runners.recipes import default_recipe
from coralord_lightning.config import Config, load_config
from coralord_lightning.errors import (
    EngineUnreachableError,
    ImageNotFoundError,
    RunnerError,
    UpstreamError,
)
from coralord_lightning.spec.plan import EnvironmentPlan
from coralord_lightning.spec.recipe import Recipe, SentFile

ABSENT = "sha256:" + "0" * 64


@pytest.fixture
def pushed(docker_config: Config, default_image: str) -> Iterator[str]:
    """An image by the digest that a real registry gave it; the engine no longer has it under that name."""
    registry = os.environ.get("CORAL_TEST_REGISTRY")
    if not registry:
        if os.environ.get("CORAL_REQUIRE_DOCKER"):
            pytest.fail("CORAL_REQUIRE_DOCKER is set, but CORAL_TEST_REGISTRY is not", pytrace=False)
        pytest.skip("needs a registry on loopback: bash .ci/engine.sh up DIR && source DIR/env")
    name = f"{registry}/coral-test/{uuid.uuid4().hex}"
    with connect(docker_config) as client:
        # a small one of its own, so that removing it removes nothing else
        client.api.import_image_from_data(_rootfs(name), repository=name, tag="1")
        client.images.push(name, tag="1")
        digest = client.images.get(f"{name}:1").attrs["RepoDigests"][0]
        client.images.remove(f"{name}:1", force=True)
        yield digest
        for reference in (digest, f"{name}:1"):
            if reference in [item for found in client.images.list() for item in found.attrs["RepoDigests"]]:
                client.images.remove(reference, force=True)


def _ship(text: str, monkeypatch, tmp_path: Path) -> Recipe:
    """Have another text in place of the shipped Dockerfile's."""
    path = tmp_path / "Dockerfile"
    path.write_text(text)
    file = SentFile(path="Dockerfile", source=path, sha256=hashlib.sha256(text.encode()).hexdigest())
    recipe = Recipe(dockerfile="Dockerfile", text=text, files=(file,))
    monkeypatch.setattr(room, "default_recipe", lambda: recipe)
    return recipe


def _rootfs(text: str) -> bytes:
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("name")
        entry.size = len(text)
        tar.addfile(entry, BytesIO(text.encode()))
    return buffer.getvalue()


@pytest.mark.docker
def test_an_image_by_digest_is_pulled_and_pinned_by_it(docker_config, pushed):
    plan = resolve(pushed, config=docker_config, network=True)
    assert plan == EnvironmentPlan(
        kind="docker",
        identity={"image": pushed.partition("@")[2], "platform": engine_version(docker_config)[:-1].rpartition("(")[2]},
        image=pushed,
        network=True,
    )
    assert ensure_image(plan, config=docker_config) == pushed
    assert resolve(pushed, config=docker_config, network=True) == plan


@pytest.mark.docker
def test_an_image_by_id_is_pinned_by_it(docker_config, default_image):
    plan = resolve(default_image, config=docker_config)
    assert plan.identity["image"] == plan.image == default_image
    assert resolve(default_image.removeprefix("sha256:"), config=docker_config) == plan
    assert ensure_image(replace(plan, image=None), config=docker_config) == default_image


@pytest.mark.docker
def test_images_that_cannot_be_had_are_named_with_a_remedy(docker_config):
    registry = os.environ.get("CORAL_TEST_REGISTRY", "127.0.0.1:1")
    for image, remedy in ((ABSENT, "docker image ls"), (f"{registry}/nothing/here@{ABSENT}", "docker pull")):
        with pytest.raises(ImageNotFoundError) as caught:
            resolve(image, config=docker_config)
        assert caught.value.subject == "environment.image"
        assert remedy in caught.value.remedy
    with pytest.raises(ImageNotFoundError) as caught:
        resolve(None, config=replace(docker_config, base_image=f"{registry}/nothing/here:1"))
    assert "CORAL_BASE_IMAGE" in caught.value.remedy


@pytest.mark.docker
def test_the_default_image_is_pinned_before_and_after_it_is_built(docker_config, default_image):
    plan = resolve(None, config=docker_config)
    assert plan.image == default_image
    assert sorted(plan.identity) == ["base", "build_args", "context", "platform"]
    assert ensure_image(replace(plan, image=None), config=docker_config) == default_image
    with connect(docker_config) as client:
        labels = client.images.get(default_image).labels
    assert IMAGE_LABEL in labels
    assert LABEL not in labels


@pytest.mark.docker
def test_an_image_that_somebody_tagged_over_ours_is_not_taken(
    docker_config, default_image, pushed, monkeypatch, tmp_path
):
    _ship("ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nENV CORAL_TEST=1\n", monkeypatch, tmp_path)
    plan = resolve(None, config=docker_config)
    tag = image_tag(plan.identity)
    assert tag.startswith(f"{DEFAULT_REPOSITORY}:")
    with connect(docker_config) as client:
        client.images.pull(pushed).tag(tag)
        try:
            assert resolve(None, config=docker_config).image is None
            lines: list[str] = []
            built = ensure_image(plan, config=replace(docker_config, wheelhouse=None), echo=lines.append)
            assert resolve(None, config=docker_config).image == built
            assert lines[0].startswith(f"[image] building {tag}")
        finally:
            client.images.remove(tag, force=True)


@pytest.mark.docker
def test_a_build_that_fails_shows_its_last_lines(docker_config, monkeypatch, tmp_path):
    _ship("ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN echo what went wrong && exit 3\n", monkeypatch, tmp_path)
    with pytest.raises(RunnerError) as caught:
        ensure_image(resolve(None, config=docker_config), config=docker_config, echo=lambda line: None)
    assert "what went wrong" in caught.value.facts["last"]
    assert "CORAL_WHEELHOUSE" in caught.value.remedy


@pytest.mark.docker
def test_a_pinned_default_image_is_built_from_its_pinned_base_or_refused(docker_config, monkeypatch, tmp_path):
    plan = resolve(None, config=docker_config)
    moved = replace(plan, identity=plan.identity | {"base": ABSENT}, image=None)
    with pytest.raises((ImageNotFoundError, UpstreamError)) as caught:  # as the base's registry can be reached or not
        ensure_image(moved, config=docker_config)
    assert ABSENT in caught.value.message
    _ship("ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nENV CORAL_TEST=other\n", monkeypatch, tmp_path)
    with pytest.raises(ImageNotFoundError) as caught:
        ensure_image(replace(moved, identity=plan.identity | {"build_args": {"A": "b"}}), config=docker_config)
    assert "now" in caught.value.facts["context"]
    assert "coral update" in caught.value.remedy


@pytest.mark.docker
def test_the_default_identity_knows_nothing_of_wheels_and_names(docker_config):
    recipe = default_recipe()
    with connect(docker_config) as client:
        identity = recipes.default_identity(client, recipe, docker_config)
        other = replace(docker_config, wheelhouse=None, base_image=identity["base"])
        assert recipes.default_identity(client, recipe, other) == identity
    files = {"Dockerfile": hashlib.sha256(recipe.text.encode()).hexdigest()}
    assert identity["context"] == hashlib.sha256(rfc8785.dumps(files)).hexdigest()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("python:3.11", "sha256:1"),
        ("docker.io/library/python", "sha256:1"),
        ("team/python@sha256:9", "sha256:2"),
        ("127.0.0.1:5000/python:3", "sha256:3"),
        ("another", "sha256:0"),
    ],
)
def test_a_digest_is_taken_from_the_images_own_repository(name, expected):
    digests = ["python@sha256:1", "team/python@sha256:2", "127.0.0.1:5000/python@sha256:3"]
    assert digest_of({"Id": "sha256:0", "RepoDigests": digests}, name) == expected


def test_the_context_holds_the_dockerfile_and_the_wheels(tmp_path):
    (tmp_path / "a-1-py3-none-any.whl").write_bytes(b"wheel")
    (tmp_path / "notes.txt").write_text("no wheel")
    config = load_config(home=tmp_path, environ={"CORAL_WHEELHOUSE": str(tmp_path), "HOME": str(tmp_path)})
    recipe = default_recipe()
    with (tmp_path / "context.tar").open("w+b") as context:
        write_context(context, replace(recipe, files=(*recipe.files, *recipes.wheels(config))), "FROM scratch")
        context.seek(0)
        with tarfile.open(fileobj=context) as tar:
            names = ["Dockerfile", "wheels/a-1-py3-none-any.whl", SENT_DOCKERFILE, ".dockerignore"]
            assert tar.getnames() == names
    assert recipes.wheels(replace(config, wheelhouse=None)) == ()


def test_the_shipped_dockerfile_is_the_one_at_the_root():
    root = Path(__file__).resolve().parents[1] / "Dockerfile"
    assert default_recipe().text == root.read_text()


def test_an_installation_without_dockerfile_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(recipes, "__file__", str(tmp_path / "a" / "b" / "c" / "recipes.py"))
    with pytest.raises(RunnerError, match="lacks its Dockerfile"):
        default_recipe()


@pytest.mark.parametrize("host", ["unix:///nowhere/docker.sock", "tcp://127.0.0.1:9"])
def test_no_engine_names_both_remedies(host, tmp_path):
    config = load_config(home=tmp_path, docker_host=host)
    with pytest.raises(EngineUnreachableError) as caught:
        resolve(None, config=config)
    assert "start Docker" in caught.value.remedy
    assert "environment: local" in caught.value.remedy
    assert caught.value.facts["engine"] == host


def test_without_a_setting_the_docker_clients_own_choice_counts(tmp_path, monkeypatch):
    from docker.context import ContextAPI

    class Elsewhere:
        Host = f"unix://{tmp_path}/elsewhere.sock"

    monkeypatch.setattr(ContextAPI, "get_current_context", lambda: Elsewhere)
    with pytest.raises(EngineUnreachableError) as caught:
        engine_version(load_config(home=tmp_path, environ={"HOME": str(tmp_path)}))
    assert caught.value.facts["engine"] == "the default of the Docker client"


def test_without_a_setting_the_default_image_builds_on_what_its_dockerfile_says(tmp_path):
    config = load_config(home=tmp_path, environ={"HOME": str(tmp_path)})
    assert config.base_image is None
    assert f"ARG BASE_IMAGE={_base(config)}\n" in default_recipe().text
    assert _base(replace(config, base_image="other:1")) == "other:1"


def _base(config: Config) -> str:
    read = recipes.read_for({"platform": "linux/amd64"}, default_recipe(), config)
    (image,) = {base.image for base in read.bases}
    return image

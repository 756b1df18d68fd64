"""Podman's socket in Docker's place: the same image, the same digest, the same rows. Skipped where none answers."""

from __future__ import annotations

import json
import os

import pytest

from command_line import coral, coral_json
from coralord_lightning.builder.runners.engine import connect, engine_version
from coralord_lightning.builder.runners.image import ensure_image, resolve
from coralord_lightning.config import Config, load_config
from coralord_lightning.errors import CoralError, EngineUnreachableError
from coralord_lightning.workspace import open_workspace
from images import registry_host, repository
from projects import edit, example_project


@pytest.fixture
def podman(tmp_path) -> Config:
    config = load_config(home=tmp_path / "home", runner="podman")
    try:
        found = engine_version(config)
    except CoralError as error:
        pytest.skip(f"no Podman: {error.facts.get('got', error.message)}; set CONTAINER_HOST to its socket")
    assert found.startswith("Podman ")
    return config


@pytest.mark.docker
def test_a_tag_is_the_same_digest_for_podman_as_for_docker(podman, docker_config):
    with repository(docker_config) as etl:
        own, other = etl.push("own", "scratch", which="own"), etl.push("other", "scratch", which="other")
        plain = resolve(etl.tagged("own"), config=docker_config)
        assert resolve(etl.tagged("own"), config=podman) == plain
        here = str(plain.identity["platform"])
        etl.put_index("1", {here: own, "linux/s390x": other})
        assert resolve(etl.tagged("1"), config=podman) == resolve(etl.tagged("1"), config=docker_config)


@pytest.mark.docker
def test_an_image_is_pulled_by_podman(podman, docker_config):
    with repository(docker_config) as etl:
        etl.push("own", "scratch", which="own")
        plan = resolve(etl.tagged("own"), config=podman)
        try:
            name = ensure_image(plan, config=podman, echo=lambda line: None)
        except CoralError as error:
            if "HTTP response to HTTPS client" in error.facts.get("got", ""):
                pytest.skip(f"this Podman takes no http from {registry_host()}: list it as insecure in registries.conf")
            raise
        with connect(podman) as client:
            assert client.images.get(name).labels["which"] == "own"
            client.images.remove(name, force=True)


@pytest.mark.docker
def test_a_pipeline_runs_in_podman_to_the_same_rows(podman, default_image, tmp_path):
    with connect(podman) as client:
        if not any(image.id == default_image for image in client.images.list()):
            pytest.skip("this Podman has no default image: docker save … | podman load")
    asked = example_project(tmp_path / "project", files=1)
    edit(asked, "environment: local", f"environment: {{image: '{default_image}'}}")
    first = coral_json("build", asked, "--home", tmp_path / "docker")
    code, out, err = coral("build", asked, "--runner", "podman", "--home", tmp_path / "podman", "--json")
    if "rlimit" in err:
        pytest.skip(f"this Podman may not set its own default limits on this machine: {err.splitlines()[-2]}")
    assert code == 0, err
    second = json.loads(out)
    assert (second["fingerprint"], second["content_digest"]) == (first["fingerprint"], first["content_digest"])
    isolation = open_workspace(Config(home=tmp_path / "podman")).version(second["fingerprint"]).manifest.isolation
    assert isolation is not None
    assert isolation["engine"].startswith("Podman ")
    assert isolation["runner_from"] == "--runner"


def test_podman_is_looked_for_where_its_socket_lies(tmp_path, monkeypatch):
    empty = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    (tmp_path / "run" / "podman").mkdir(parents=True)
    (tmp_path / "run" / "podman" / "podman.sock").touch()
    with pytest.raises(EngineUnreachableError) as caught:
        engine_version(load_config(home=tmp_path, environ=empty, runner="podman"))
    assert caught.value.facts["engine"] == f"unix://{tmp_path}/run/podman/podman.sock"
    assert "podman.socket" in caught.value.remedy
    other = empty | {"CONTAINER_HOST": "unix:///nowhere/podman.sock", "CORAL_RUNNER": "podman"}
    with pytest.raises(EngineUnreachableError) as caught:
        engine_version(load_config(home=tmp_path, environ=other))
    assert caught.value.facts["engine"] == "unix:///nowhere/podman.sock"
    monkeypatch.setenv("CONTAINER_HOST", "unix:///nowhere/podman.sock")
    monkeypatch.setitem(os.environ, "CORAL_RUNNER", "podman")
    code, out, _ = coral("doctor", "--home", tmp_path)
    assert "podman.sock" in out
    assert code in (0, 1)

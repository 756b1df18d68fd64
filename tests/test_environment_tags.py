"""`image: name:tag`: what it stands for, what the lock keeps of it, and what happens when it moves."""

from __future__ import annotations

import platform
from dataclasses import replace

import pytest

from command_line import coral, coral_json
from coralord_lightning.builder.runners.engine import connect
from coralord_lightning.builder.runners.image import ensure_image, resolve
from coralord_lightning.builder.runners.platforms import host_platform
from coralord_lightning.builder.runners.tags import mirrored
from coralord_lightning.config import Config
from coralord_lightning.errors import ImageNotFoundError, OfflineError, UpstreamError
from coralord_lightning.spec.lock import LockEntry
from coralord_lightning.spec.manifest import Manifest
from coralord_lightning.workspace import open_workspace
from coralord_lightning.workspace.environments import EnvironmentResolver
from coralord_lightning.workspace.locking import read_lock
from coralord_lightning.workspace.planning import read_descriptor
from gatekeeper import gatekeeper, log_in
from images import Repository, registry_host, repository
from projects import edit, example_project

NOBODY = "unix:///nowhere/docker.sock"


@pytest.fixture
def etl(docker_config):
    with repository(docker_config) as found:
        yield found


@pytest.fixture
def here(docker_config):
    """The engine's platform."""
    with connect(docker_config) as client:
        version = client.version()
    return f"{version['Os']}/{version['Arch']}"


def project_with(folder, image):
    path = example_project(folder, files=1)
    edit(path, "environment: local", f"environment: {{image: '{image}'}}")
    return path


def other_than(here):
    return "linux/arm64" if here != "linux/arm64" else "linux/amd64"


def nowhere(config: Config) -> Config:
    return replace(config, docker_host=NOBODY)


@pytest.mark.docker
def test_a_tag_that_moves_changes_nothing_until_the_lock_is_updated(
    docker_config, default_image, etl, tmp_path, monkeypatch
):
    home = ("--home", tmp_path / "home")
    old = etl.push("1", default_image, version="old")
    asked = project_with(tmp_path / "project", etl.tagged("1"))
    first = coral_json("build", asked, *home)
    assert first["image_digest"] == old
    entry = read_lock(asked.parent).entries["points"]
    assert (entry.tag.name, entry.image["image"]) == (etl.tagged("1"), old)

    new = etl.push("1", default_image, version="new")
    assert new != old
    assert coral_json("status", asked, *home)[0]["state"] == "fresh"
    assert not coral_json("build", asked, *home)["built"]
    code, out, err = coral("update", asked, "--dry-run", "--exit-code", *home)
    assert (code, f"{old} -> {new}" in out or (old in out and new in out)) == (3, True), out + err
    assert read_lock(asked.parent).entries["points"] == entry

    assert coral("update", asked, *home)[0] == 0
    (found,) = coral_json("status", asked, *home)
    assert found["state"] == "stale"
    assert found["changed"] == [{"what": "environment.image", "was": old, "now": new}]
    code, out, _ = coral("status", asked, "--explain", *home)
    assert old in out
    assert new in out
    second = coral_json("build", asked, *home)
    assert second["built"]
    assert second["image_digest"] == new
    assert second["fingerprint"] != first["fingerprint"]
    assert coral("update", asked, "--dry-run", "--exit-code", *home)[0] == 0

    before = open_workspace(Config(home=tmp_path / "home")).version(first["fingerprint"])
    assert before.manifest.content_digest == first["content_digest"]
    assert before.manifest.plan["environment"]["image"] == old

    monkeypatch.setenv("DOCKER_HOST", NOBODY)  # with the lock, what is built needs no engine
    assert coral_json("status", asked, *home)[0]["state"] == "fresh"
    assert not coral_json("build", asked, "--locked", *home)["built"]


@pytest.mark.docker
def test_a_lock_gives_a_collaborator_the_same_image_pulled_by_digest(docker_config, etl, tmp_path):
    old = etl.push("1", "scratch", version="old")
    asked = project_with(tmp_path / "project", etl.tagged("1"))
    space = open_workspace(docker_config)
    mine = space.planned(asked).job
    from coralord_lightning.versions.update import update_lock

    update_lock(space, asked)
    etl.push("1", "scratch", version="new")
    etl.forget()
    theirs = open_workspace(replace(docker_config, home=tmp_path / "theirs")).planned(asked, update="locked").job
    assert theirs.fingerprint == mine.fingerprint
    lines: list[str] = []
    name = ensure_image(theirs.plan.environment, config=docker_config, echo=lines.append)
    assert name == f"{etl.name}@{old}"
    assert lines[0] == f"[image] pulling {name}"
    with connect(docker_config) as client:
        assert client.images.get(name).labels["version"] == "old"


@pytest.mark.docker
def test_another_tag_in_the_descriptor_is_resolved_or_locked_out(docker_config, etl, tmp_path):
    etl.push("1", "scratch", version="1")
    second = etl.push("2", "scratch", version="2")
    asked = project_with(tmp_path / "project", etl.tagged("1"))
    home = ("--home", tmp_path / "home")
    assert coral("update", asked, *home)[0] == 0
    edit(asked, etl.tagged("1"), etl.tagged("2"))
    plan = open_workspace(docker_config).planned(asked).job.plan
    assert plan.environment.identity["image"] == second
    code, _, err = coral("plan", asked, "--locked", *home)
    assert code == 3
    assert etl.tagged("1") in err
    assert etl.tagged("2") in err


@pytest.mark.docker
def test_an_index_gives_the_digest_of_the_engines_platform(docker_config, etl, here, tmp_path):
    own, other = etl.push("own", "scratch", which="own"), etl.push("other", "scratch", which="other")
    index = etl.put_index("1", {other_than(here): other, here: own})
    plan = resolve(etl.tagged("1"), config=docker_config)
    assert plan.identity == {"image": own, "platform": here}
    assert plan.image == f"{etl.name}@{own}"
    assert (plan.tag.index, plan.tag.platforms) == (index, {here: own, other_than(here): other})
    name = ensure_image(plan, config=docker_config, echo=lambda line: None)
    with connect(docker_config) as client:
        assert client.images.get(name).labels["which"] == "own"

    asked = project_with(tmp_path / "project", etl.tagged("1"))
    assert coral("update", asked, "--home", tmp_path / "home")[0] == 0
    text = (asked.parent / "coral.lock").read_text()
    for digest in (own, other, index):
        assert digest in text


@pytest.mark.docker
def test_a_lock_of_another_platform_gives_this_ones_image_of_the_same_index(docker_config, etl, here, tmp_path):
    own, other = etl.push("own", "scratch", which="own"), etl.push("other", "scratch", which="other")
    etl.put_index("1", {other_than(here): other, here: own})
    asked = project_with(tmp_path / "project", etl.tagged("1"))
    home = ("--home", tmp_path / "home")
    assert coral("update", asked, *home)[0] == 0
    lock = asked.parent / "coral.lock"
    fingerprint = read_lock(asked.parent).entries["points"].fingerprint
    # as it is where the other platform wrote it
    space = open_workspace(docker_config)
    plan = space.planned(asked).job.plan
    there = {"image": other, "platform": other_than(here)}
    from coralord_lightning.spec.fingerprint import canonical
    from coralord_lightning.spec.fingerprint import fingerprint as hashed

    moved = hashed(canonical(replace(plan, environment=replace(plan.environment, identity=there)).to_json()))
    text = lock.read_text().replace(fingerprint, moved)
    text = text.replace(f'image = "{own}"', f'image = "{other}"')
    lock.write_text(text.replace(f'platform = "{here}"', f'platform = "{other_than(here)}"'))
    etl.put_index("1", {other_than(here): own, here: other})  # the world has moved, and is not asked
    for update in (None, "locked"):
        found = space.planned(asked, update=update).job.plan.environment
        assert found.identity == {"image": own, "platform": here}
        assert found.image == f"{etl.name}@{own}"


@pytest.mark.docker
def test_an_index_without_this_platform_says_which_it_has(docker_config, etl, here):
    digest = etl.push("own", "scratch", which="own")
    etl.put_index("1", {other_than(here): digest})
    with pytest.raises(ImageNotFoundError) as caught:
        resolve(etl.tagged("1"), config=docker_config)
    assert caught.value.facts["platforms"] == other_than(here)
    assert f"--platform {here}" in caught.value.remedy


@pytest.mark.docker
def test_an_image_that_was_only_built_has_its_id_and_says_so_where_it_is_missing(docker_config, etl, tmp_path):
    etl.build("dev", "scratch", version="dev")
    with connect(docker_config) as client:
        ident = client.images.get(etl.tagged("dev")).id
    plan = resolve(etl.tagged("dev"), config=docker_config)
    assert (plan.identity["image"], plan.image, plan.tag.local) == (ident, ident, True)
    asked = project_with(tmp_path / "project", etl.tagged("dev"))
    assert coral("update", asked, "--home", tmp_path / "home")[0] == 0
    etl.forget()
    theirs = open_workspace(docker_config).planned(asked).job.plan.environment
    assert theirs.identity["image"] == ident
    with pytest.raises(ImageNotFoundError, match="never pushed") as caught:
        ensure_image(theirs, config=docker_config)
    assert f"docker push {etl.tagged('dev')}" in caught.value.remedy
    assert "coral update" in caught.value.remedy


@pytest.mark.docker
def test_what_no_registry_has_is_not_found(docker_config):
    for image in (f"{registry_host()}/nothing/here:1", f"{registry_host()}/nothing/here"):
        with pytest.raises(ImageNotFoundError) as caught:
            resolve(image, config=docker_config)
        assert caught.value.facts["registry"] == registry_host()


@pytest.mark.docker
def test_a_registry_that_is_gone_is_named_with_the_digest_that_the_engine_has(docker_config, etl):
    digest = etl.push("1", "scratch", version="1")
    path = etl.name.partition("/")[2]
    with gatekeeper(registry_host(), is_open=True) as gate:
        gone = Repository(name=f"{gate.host}/{path}", config=docker_config)
        with connect(docker_config) as client:
            client.images.pull(gone.name, tag="1")
    try:
        with pytest.raises(UpstreamError) as caught:
            resolve(gone.tagged("1"), config=docker_config)
        assert caught.value.exit_code == 6
        assert f"image: {gone.name}@{digest}" in caught.value.remedy
        offline = resolve(gone.tagged("1"), config=docker_config, offline=True)
        assert (offline.identity["image"], offline.image) == (digest, f"{gone.name}@{digest}")
    finally:
        gone.forget()
    with pytest.raises(UpstreamError, match="cannot be reached"):
        resolve(gone.tagged("1"), config=docker_config)
    with pytest.raises(OfflineError):
        resolve(gone.tagged("1"), config=docker_config, offline=True)
    with pytest.raises(OfflineError):
        ensure_image(offline, config=docker_config, offline=True)


@pytest.mark.docker
def test_a_registry_that_asks_for_a_token_gets_the_users(docker_config, etl, here, tmp_path, monkeypatch):
    own = etl.push("own", "scratch", which="own")
    index = etl.put_index("1", {here: own})
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with gatekeeper(registry_host()) as gate:
        guarded = Repository(name=f"{gate.host}/{etl.name.partition('/')[2]}", config=docker_config)
        with pytest.raises(UpstreamError) as caught:
            resolve(guarded.tagged("1"), config=docker_config)
        assert caught.value.remedy == f"docker login {gate.host}"
        log_in(tmp_path, gate.host)
        try:
            plan = resolve(guarded.tagged("1"), config=docker_config)
            assert (plan.identity["image"], plan.tag.index) == (own, index)
            assert ensure_image(plan, config=docker_config, echo=lambda line: None) == f"{guarded.name}@{own}"
        finally:
            guarded.forget()


@pytest.mark.docker
def test_a_mirror_is_asked_and_pulled_from_and_the_identity_stays(docker_config, etl):
    digest = etl.push("1", "scratch", version="1")
    host, _, path = etl.name.partition("/")
    mirror = replace(docker_config, image_mirrors={"images.example.com": host})
    plan = resolve(f"images.example.com/{path}:1", config=mirror)
    assert plan == replace(
        resolve(etl.tagged("1"), config=docker_config),
        image=f"images.example.com/{path}@{digest}",
        tag=replace(plan.tag, name=f"images.example.com/{path}:1"),
    )
    assert ensure_image(plan, config=mirror, echo=lambda line: None) == f"{etl.name}@{digest}"


def test_the_longest_prefix_of_a_name_decides_on_its_mirror(tmp_path):
    mirrors = {"docker.io": "m.example/hub", "docker.io/library/python": "m.example/py", "ghcr.io/team": "m.example/t"}
    config = Config(home=tmp_path, image_mirrors=mirrors)
    assert mirrored("python:3.11", config) == "m.example/py:3.11"
    assert mirrored("debian", config) == "m.example/hub/library/debian"
    assert mirrored("ghcr.io/team/etl@sha256:12", config) == "m.example/t/etl@sha256:12"
    assert mirrored("ghcr.io/teams/etl:1", config) == "ghcr.io/teams/etl:1"


def test_a_locked_tag_asks_neither_engine_nor_registry(tmp_path):
    asked = read_descriptor(project_with(tmp_path / "project", "registry.example.com/etl:1"))
    digest = f"sha256:{'1' * 64}"
    (asked.base_dir / "coral.lock").write_text(
        f'version = 1\n[datasets.points]\nfingerprint = "{"0" * 64}"\n[datasets.points.image]\n'
        f'image = "{digest}"\nplatform = "{host_platform()}"\nname = "registry.example.com/etl:1"\n'
    )
    entry: LockEntry = read_lock(asked.base_dir).entries["points"]
    found = EnvironmentResolver(nowhere(Config(home=tmp_path)))(asked, frozenset(), entry, None)  # type: ignore[arg-type]
    assert (found.identity["image"], found.image) == (digest, f"registry.example.com/etl@{digest}")


def test_this_machines_platform_is_called_as_docker_does(monkeypatch):
    for name, expected in (("x86_64", "linux/amd64"), ("aarch64", "linux/arm64"), ("arm64", "linux/arm64")):
        monkeypatch.setattr(platform, "machine", lambda name=name: name)
        assert host_platform() == expected


def test_another_environment_for_a_try_is_recorded_and_takes_neither_lock_nor_name(tmp_path):
    asked = project_with(tmp_path / "project", "registry.example.com/etl:1")
    home = ("--home", tmp_path / "home")
    tried = coral_json("build", asked, "--environment", "local", *home)
    assert tried["built"]
    assert not (asked.parent / "coral.lock").exists()
    assert open_workspace(Config(home=tmp_path / "home")).store.names() == []
    manifest: Manifest = open_workspace(Config(home=tmp_path / "home")).version(tried["fingerprint"]).manifest
    assert manifest.isolation["environment_from"] == "--environment"
    assert manifest.plan["environment"]["kind"] == "local"
    assert coral("build", asked, "--environment", "python:3", *home)[0] == 2
    assert coral("--environment", "local", "update", asked, *home)[0] == 2
    assert not (asked.parent / "coral.lock").exists()


def test_local_is_no_runner(tmp_path, monkeypatch):
    asked = project_with(tmp_path / "project", "registry.example.com/etl:1")
    code, _, err = coral("build", asked, "--runner", "local", "--home", tmp_path / "home")
    assert code == 2
    assert "--environment local" in err
    monkeypatch.setenv("CORAL_RUNNER", "lokal")
    code, _, err = coral("build", asked, "--home", tmp_path / "home")
    assert code == 1
    assert "CORAL_RUNNER" in err
    code, _, err = coral("update", asked, "--runner", "podmen", "--home", tmp_path / "home")
    assert code == 2
    assert "--runner podman" in err


@pytest.mark.docker
def test_the_engine_that_was_asked_for_is_recorded(docker_config, default_image, tmp_path):
    asked = project_with(tmp_path / "project", default_image)
    home = ("--home", tmp_path / "home")
    built = coral_json("build", asked, "--runner", "docker", *home)
    manifest = open_workspace(Config(home=tmp_path / "home")).version(built["fingerprint"]).manifest
    assert manifest.isolation["runner_from"] == "--runner"
    assert manifest.isolation["runner"] == "docker"

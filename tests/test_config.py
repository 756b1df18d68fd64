"""Site configuration and its layers."""

from __future__ import annotations

from pathlib import Path

import pytest

from coralord_lightning.config import load_config, parse_bytes
from coralord_lightning.errors import ConfigError, UsageError


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project" / "deep"
    folder.mkdir(parents=True)
    return folder


def load(project: Path, *, env=None, **arguments):
    base = {"XDG_CONFIG_HOME": str(project.parent.parent / "config")}
    return load_config(project_dir=project, environ=base | (env or {}), **arguments)


def user_file(project: Path, text: str) -> None:
    folder = project.parent.parent / "config" / "coralord"
    folder.mkdir(parents=True)
    (folder / "coral.toml").write_text(text)


def test_the_default_home_is_in_the_users_cache(project):
    assert load(project, env={"XDG_CACHE_HOME": "/var/cache/me"}).home == Path("/var/cache/me/coralord")


def test_later_layers_win(project, tmp_path):
    (project.parent / "coral.toml").write_text("home = 'project-home'\nbase_image = 'project'\nwheelhouse = 'wheels'\n")
    assert load(project).home == project.parent / "project-home"
    user_file(project, "home = '/user-home'\nbase_image = 'user'\n")
    assert load(project).home == Path("/user-home")
    assert load(project).wheelhouse == project.parent / "wheels"
    env = {"CORAL_HOME": "/env-home"}
    assert load(project, env=env).home == Path("/env-home")
    assert load(project, env=env).base_image == "user"
    assert load(project, env=env, home=tmp_path / "argument").home == tmp_path / "argument"


def test_hosts_come_as_a_list_or_as_text(project):
    (project / "coral.toml").write_text("allow_private_hosts = ['a.example', '127.0.0.1']")
    assert load(project).allow_private_hosts == {"a.example", "127.0.0.1"}
    assert load(project, env={"CORAL_ALLOW_PRIVATE_HOSTS": "b, c"}).allow_private_hosts == {"b", "c"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("home = [", "TOML"),
        ("hmoe = 'x'", "rename it to 'home'"),
        ("zzz = 1", "remove 'zzz'"),
        ("home = 's3://bucket'", "URL"),
        ("home = 3", "path on this machine"),
        ("base_image = 3", "wrong kind"),
        ("lock_timeout_s = 'long'", "wrong kind"),
        ("runner = 'podmen'", 'runner = "podman"'),
        ("runner = 'local'", "--environment local"),
        ("image_mirrors = 'mirror'", "is no table"),
        ("image_mirrors = {'docker.io' = 'https://mirror'}", "beginning of an image's name"),
    ],
)
def test_a_bad_setting_is_named(project, text, told):
    (project / "coral.toml").write_text(text)
    with pytest.raises(ConfigError, match=told):
        load(project)


def test_what_chose_the_engine_is_known(project):
    assert (load(project).runner, load(project).runner_from) == (None, None)
    (project / "coral.toml").write_text("runner = 'podman'\nimage_mirrors = {'docker.io' = 'mirror.example/hub'}")
    chosen = load(project)
    assert (chosen.runner, chosen.runner_from) == ("podman", str(project / "coral.toml"))
    assert chosen.image_mirrors == {"docker.io": "mirror.example/hub"}
    chosen = load(project, env={"CORAL_RUNNER": "docker"})
    assert (chosen.runner, chosen.runner_from) == ("docker", "CORAL_RUNNER")
    chosen = load(project, env={"CORAL_RUNNER": "docker"}, runner="podman")
    assert (chosen.runner, chosen.runner_from) == ("podman", "--runner")
    with pytest.raises(UsageError, match="--environment local"):
        load(project, runner="local")


def test_an_argument_that_is_no_path_is_named(project):
    with pytest.raises(ConfigError, match="home"):
        load(project, home="gs://bucket/store")


def test_limits_of_the_system_file_hold_against_every_layer(project, tmp_path):
    system = tmp_path / "system.toml"
    system.write_text("base_image = 'system'\nmax_fetch = '1TB'\n[limits]\nmax_fetch = '10GB'\n")
    limited = load(project, system_file=system)
    assert (limited.base_image, limited.fetch_limit(), limited.fetch_limit(10**12)) == ("system", 10**10, 10**10)
    assert limited.fetch_limit(5) == 5
    user_file(project, "base_image = 'user'\nmax_fetch = '1MiB'\n")
    assert load(project, system_file=system).base_image == "user"
    assert load(project, system_file=system).fetch_limit() == 2**20
    assert load(project, system_file=system, env={"CORAL_MAX_FETCH": "7"}).fetch_limit() == 7
    assert load(project).fetch_limit(10**15) == 10**15
    (project / "coral.toml").write_text("[limits]\nmax_fetch = 3\n")
    with pytest.raises(ConfigError, match="limits"):
        load(project)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[limits]\nmax_fecth = 3", "rename it to 'max_fetch'"),
        ("[limits]\nmax_fetch = 'lots'", 'max_fetch = "50GB"'),
        ("[limits]\nlock_private_hosts = 1", "lock_private_hosts = true"),
        ("[limits]\nallow_private_hosts = 'a'", "list of texts"),
    ],
)
def test_a_bad_limit_is_named(project, tmp_path, text, told):
    (tmp_path / "system.toml").write_text(text)
    with pytest.raises(ConfigError, match=told):
        load(project, system_file=tmp_path / "system.toml")


def test_a_nearer_profile_replaces_one_as_a_whole_and_variables_go_over_files(project):
    (project / "coral.toml").write_text(
        "[credentials.'https://A.example:443/']\nusername = 'p'\n[credentials.'https://b.example']\nusername = 'b'\n"
        "[credentials.'s3://']\nregion = 'file'\nendpoint = 'https://minio.example'\n"
    )
    user_file(project, "[credentials.'https://a.example']\ntoken = 'canary'\n")
    env = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "canary", "AWS_REGION": "env"}
    found = load(project, env=env)
    assert sorted(found.credentials) == ["https://a.example", "https://b.example", "s3://"]
    assert found.credentials["https://a.example"].username is None
    assert found.credentials["https://a.example"].token.reveal() == "canary"
    assert (found.credentials["s3://"].region, found.credentials["s3://"].endpoint) == ("env", "https://minio.example")
    assert found.credentials["s3://"].secret_key.reveal() == "canary"
    assert "canary" not in repr(found)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("credentials = 3", "table by origin"),
        ("[credentials.'ftp://x']\ntoken = 'canary'", "an origin"),
        ("[credentials.'https://me:canary@x']\ntoken = 'canary'", "an origin"),
        ("[credentials.'https://x/path']\ntoken = 'canary'", "an origin"),
        ("[credentials.'https://x']\ntokn = 'canary'", "rename it to 'token'"),
        ("[credentials.'https://x']\naccess_key = 'canary'", "known there"),
        ("[credentials.'https://x']\ntoken = 3", "in quotes"),
        ("proxies = {http = 'socks5://me:canary@x'}", "no proxy that can be used"),
        ("proxies = {ftp = 'http://me:canary@x'}", "no proxy that can be used"),
        ("hf_endpoint = 'https://me:canary@x'", "no address of a service"),
        ("hf_token = 'canary'", "unknown setting"),
        ("allow_private = true", "unknown setting"),
        ("no_proxy = [1]", "list of texts"),
        ("max_fetch = 'canaries'", "number of bytes"),
    ],
)
def test_a_bad_setting_of_requests_is_named_and_no_secret_shown(project, text, told):
    (project / "coral.toml").write_text(text)
    with pytest.raises(ConfigError, match=told) as caught:
        load(project)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "number"), [("50GB", 50 * 10**9), ("1.5 kib", 1536), ("4g", 4 * 2**30), ("12", 12), ("7b", 7), (9, 9)]
)
def test_numbers_of_bytes(text, number):
    assert parse_bytes(text, subject="x") == number


def test_proxies_come_from_the_environment_or_a_file(project):
    (project / "coral.toml").write_text("proxies = {http = 'http://file:1', https = 'http://file:2'}\n")
    found = load(project, env={"HTTPS_PROXY": "proxy:3128", "no_proxy": "a, b"})
    assert {scheme: secret.reveal() for scheme, secret in found.proxies.items()} == {
        "http": "http://file:1",
        "https": "http://proxy:3128",
    }
    assert found.no_proxy == ("a", "b")

"""Site configuration and its layers."""

from __future__ import annotations

from pathlib import Path

import pytest

from coralord_lightning.config import load_config
from coralord_lightning.errors import ConfigError


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
    ],
)
def test_a_bad_setting_is_named(project, text, told):
    (project / "coral.toml").write_text(text)
    with pytest.raises(ConfigError, match=told):
        load(project)


def test_an_argument_that_is_no_path_is_named(project):
    with pytest.raises(ConfigError, match="home"):
        load(project, home="gs://bucket/store")

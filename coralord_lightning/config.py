"""Site configuration: where the store is and what this machine allows. The only reader of environment variables.

Layers, later wins: project `coral.toml` < user `coral.toml` < environment < argument.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from coralord_lightning.errors import ConfigError, nearest

__all__ = ["Config", "config_files", "load_config"]

_ENVIRONMENT = {
    "CORAL_HOME": "home",
    "CORAL_BASE_IMAGE": "base_image",
    "CORAL_WHEELHOUSE": "wheelhouse",
    "CORAL_CA_BUNDLE": "ca_bundle",
    "CORAL_ALLOW_PRIVATE_HOSTS": "allow_private_hosts",
    "DOCKER_HOST": "docker_host",
}
_PATHS = frozenset({"home", "wheelhouse", "ca_bundle"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What this site sets, once; handed to whoever needs it.

    Args:
        home: the store directory, absolute.
        base_image: what the shipped Dockerfile builds on (`ARG BASE_IMAGE`).
        wheelhouse: directory of wheels sent along with the default image's context, for sites whose
            containers reach no package index.
        docker_host: address of the container engine; None leaves the choice to the Docker client.
        allow_private_hosts: host names or addresses that may resolve to private or loopback addresses.
        ca_bundle: PEM file of certificate authorities for https.
        lock_timeout_s: seconds to wait for another process's build before giving up.
    """

    home: Path
    base_image: str = "python:3.11-slim"
    wheelhouse: Path | None = None
    docker_host: str | None = None
    allow_private_hosts: frozenset[str] = frozenset()
    ca_bundle: Path | None = None
    lock_timeout_s: float = 24 * 3600.0


def load_config(
    *,
    home: str | os.PathLike[str] | None = None,
    project_dir: Path | None = None,
    environ: Mapping[str, str] | None = None,
    **arguments: Any,
) -> Config:
    """Fold the layers into one configuration.

    Args:
        home: the store directory, from an argument; beats every layer.
        project_dir: where the search for a project's `coral.toml` starts, upwards; default: here.
        arguments: other settings by name of `Config`; None means not given.
    Raises:
        ConfigError: a file or variable cannot be used; the error names it.
    """
    env = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    for path in config_files(project_dir=project_dir, environ=env):
        values |= _read_file(path)
    values |= {name: env[variable] for variable, name in _ENVIRONMENT.items() if env.get(variable)}
    values |= {name: value for name, value in arguments.items() if value is not None}
    if home is not None:
        values["home"] = home
    values.setdefault("home", _default_home(env))
    return _parse(values)


def config_files(*, project_dir: Path | None = None, environ: Mapping[str, str] | None = None) -> list[Path]:
    """The `coral.toml` files that count, the later over the earlier: the project's, the user's."""
    env = os.environ if environ is None else environ
    user_dir = Path(env.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "coralord"
    paths = (_find_project_file(project_dir or Path.cwd()), user_dir / "coral.toml")
    return [path for path in paths if path is not None and path.is_file()]


def _default_home(env: Mapping[str, str]) -> Path:
    return Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "coralord"


def _find_project_file(start: Path) -> Path | None:
    for folder in (start.absolute(), *start.absolute().parents):
        if (folder / "coral.toml").is_file():
            return folder / "coral.toml"
    return None


def _read_file(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            str(path), "is not readable as TOML", facts={"got": error}, remedy=f"mend {path}, or move it away"
        ) from error
    known = [field.name for field in fields(Config)]
    for key in values:
        if key not in known:
            near = nearest(key, known)
            raise ConfigError(
                str(path),
                f"unknown setting '{key}'",
                facts={"settings": ", ".join(known)},
                remedy=f"rename it to '{near}'" if near else f"remove '{key}'",
            )
    for name in _PATHS & values.keys():
        if isinstance(values[name], str) and "://" not in values[name]:
            values[name] = path.parent / Path(values[name]).expanduser()
    return values


def _parse(values: dict[str, Any]) -> Config:
    for name in _PATHS & values.keys():
        text = os.fspath(values[name]) if isinstance(values[name], str | os.PathLike) else None
        if not text or "://" in text or "\0" in text:
            raise ConfigError(
                name,
                "must be a path on this machine",
                facts={"got": repr(values[name])},
                remedy=f"set {name} to a directory or file here; URLs are reserved for a later release",
            )
        values[name] = Path(text).expanduser().absolute()
    hosts = values.get("allow_private_hosts", frozenset())
    values["allow_private_hosts"] = frozenset(
        (part.strip() for part in hosts.split(",")) if isinstance(hosts, str) else hosts
    )
    config = replace(Config(home=values["home"]), **values)
    for name, kind in {"base_image": str, "lock_timeout_s": int | float}.items():
        if not isinstance(getattr(config, name), kind):
            raise ConfigError(
                name,
                "has a value of the wrong kind",
                facts={"got": repr(values[name])},
                remedy=f"set {name} to a {'text' if kind is str else 'number'}",
            )
    return config

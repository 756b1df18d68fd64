"""Site configuration: where the store is and what this machine allows. The only reader of environment variables.

Layers, later wins: system file < project `coral.toml` < user `coral.toml` < environment < argument. The system file
`/etc/coralord/coral.toml` may have a table `[limits]`, which no layer lifts: `max_fetch`; `lock_private_hosts = true`,
with which only its own `allow_private_hosts` may be private. A profile `[credentials."https://host"]` has `token`,
`username` and `password`, `headers`; one of `s3://` or `s3://bucket` has `access_key`, `secret_key`, `session_token`,
`region`, `endpoint`. Each secret may be `env:NAME` or `file:PATH`. A later layer replaces a profile as a whole.
"""

from __future__ import annotations

import os
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import UnionType
from typing import Any

from coralord_lightning.config.environment import from_environment, parse_proxies, require_endpoint
from coralord_lightning.config.images import parse_mirrors, require_runner
from coralord_lightning.config.limits import SiteLimits, num_cores, parse_bytes, parse_count, parse_limits
from coralord_lightning.config.secrets import Credential, Secret, parse_credentials
from coralord_lightning.errors import ConfigError, nearest

__all__ = ["Config", "Credential", "Secret", "SiteLimits", "config_files", "load_config", "num_cores", "parse_bytes"]

SYSTEM_FILE = Path("/etc/coralord/coral.toml")

_ENVIRONMENT = {
    "CORAL_HOME": "home",
    "CORAL_BASE_IMAGE": "base_image",
    "CORAL_WHEELHOUSE": "wheelhouse",
    "CORAL_CA_BUNDLE": "ca_bundle",
    "CORAL_ALLOW_PRIVATE_HOSTS": "allow_private_hosts",
    "CORAL_MAX_FETCH": "max_fetch",
    "CORAL_JOBS": "jobs",
    "HF_ENDPOINT": "hf_endpoint",
    "DOCKER_HOST": "docker_host",
    "CORAL_RUNNER": "runner",
    "CONTAINER_HOST": "podman_host",
    "XDG_RUNTIME_DIR": "runtime_dir",
}
_PATHS = frozenset({"home", "wheelhouse", "ca_bundle", "runtime_dir"})
_NOT_IN_FILES = frozenset({"limits", "allow_private", "hf_token", "runner_from", "runtime_dir"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What this site sets, once; handed to whoever needs it.

    Args:
        home: the store directory, absolute.
        base_image: what Dockerfiles that declare `ARG BASE_IMAGE`, as the shipped one, build on; None: their own
            default.
        wheelhouse: directory of wheels sent along with the default image's context, for sites whose
            containers reach no package index.
        docker_host: address of the container engine; None leaves the choice to the Docker client.
        runner: "docker" or "podman": which engine runs containers; None: Docker, or whatever `docker_host` is.
        runner_from: what set `runner`, where something did.
        podman_host: address of Podman's socket; None: this user's in `runtime_dir`, or the system's.
        image_mirrors: prefix of image names -> prefix they are pulled by; longer prefixes first.
        allow_private_hosts: host names or addresses that may resolve to private or loopback addresses.
        ca_bundle: PEM file of certificate authorities for https.
        lock_timeout_s: seconds to wait for another process's build before giving up.
        allow_private: any host may resolve to private or loopback addresses; only ever an argument of one call.
        max_fetch: bytes that one command may fetch, where nothing nearer says so.
        jobs: partitions that are built at the same time, each in a container or process of its own; None: one a core.
        proxies: "http" or "https" -> address of the proxy, which may hold a password.
        no_proxy: hosts and domains that are reached directly.
        credentials: by origin, as `https://host:port`, `s3://bucket`, or `s3://` for all buckets.
        hf_endpoint: where Hugging Face's hub is; hf_token is sent there and nowhere else.
        gs_endpoint: where Google's buckets are.
        limits: what the system file allows at most.
    """

    home: Path
    base_image: str | None = None
    wheelhouse: Path | None = None
    docker_host: str | None = None
    runner: str | None = None
    runner_from: str | None = None
    podman_host: str | None = None
    runtime_dir: Path | None = None
    image_mirrors: Mapping[str, str] = field(default_factory=dict)
    allow_private_hosts: frozenset[str] = frozenset()
    ca_bundle: Path | None = None
    lock_timeout_s: float = 24 * 3600.0
    allow_private: bool = False
    max_fetch: int | None = None
    jobs: int | None = None
    proxies: Mapping[str, Secret] = field(default_factory=dict)
    no_proxy: tuple[str, ...] = ()
    credentials: Mapping[str, Credential] = field(default_factory=dict)
    hf_endpoint: str = "https://huggingface.co"
    hf_token: Secret | None = None
    gs_endpoint: str = "https://storage.googleapis.com"
    limits: SiteLimits = field(default_factory=SiteLimits)

    @property
    def private_hosts(self) -> frozenset[str]:
        """Hosts that may be private, under this machine's limits."""
        return self.limits.allow_private_hosts if self.limits.lock_private_hosts else self.allow_private_hosts

    def fetch_limit(self, asked: int | None = None) -> int | None:
        """Bytes that a command may fetch; `asked` is what descriptor or command line say."""
        most = [value for value in (self.limits.max_fetch,) if value is not None]
        chosen = asked if asked is not None else self.max_fetch
        return min([*most, *([chosen] if chosen is not None else [])], default=None)


def load_config(
    *,
    home: str | os.PathLike[str] | None = None,
    project_dir: Path | None = None,
    environ: Mapping[str, str] | None = None,
    system_file: Path = SYSTEM_FILE,
    **arguments: Any,
) -> Config:
    """Fold the layers into one configuration.

    Args:
        home: the store directory, from an argument; beats every layer.
        project_dir: where the search for a project's `coral.toml` starts, upwards; default: here.
        system_file: the lowest layer, and the one that may have `[limits]`.
        arguments: other settings by name of `Config`; None means not given.
    Raises:
        ConfigError: a file or variable cannot be used; the error names it.
    """
    env = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    for path in (system_file, *config_files(project_dir=project_dir, environ=env)):
        if path != system_file or path.is_file():
            layer = _read_file(path, env, system=path == system_file)
            _note_runner(values, layer, str(path))
            values |= layer | {"credentials": values.get("credentials", {}) | layer.get("credentials", {})}
    values |= {name: env[variable] for variable, name in _ENVIRONMENT.items() if env.get(variable)}
    if env.get("CORAL_JOBS"):
        values["jobs"] = parse_count(env["CORAL_JOBS"], subject="CORAL_JOBS")
    _note_runner(values, {"runner": env.get("CORAL_RUNNER")}, "CORAL_RUNNER")
    environment = from_environment(env, values.get("credentials", {}))
    values |= environment | {"proxies": values.get("proxies", {}) | environment.get("proxies", {})}
    _note_runner(values, arguments, "--runner")
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
    return [path for path in paths if path is not None and _is_file(path)]


def _note_runner(values: dict[str, Any], layer: Mapping[str, Any], origin: str) -> None:
    if layer.get("runner"):
        values["runner_from"] = origin


def _default_home(env: Mapping[str, str]) -> Path:
    return Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "coralord"


def _find_project_file(start: Path) -> Path | None:
    for folder in (start.absolute(), *start.absolute().parents):
        if _is_file(folder / "coral.toml"):
            return folder / "coral.toml"
    return None


def _is_file(path: Path) -> bool:
    """Whether it is there.

    Raises:
        ConfigError: nobody can tell, since its folder may not be looked into.
    """
    try:
        return path.is_file()
    except PermissionError as error:
        folder = next((each for each in reversed(path.parents) if not os.access(each, os.X_OK)), path.parent)
        raise ConfigError(
            str(path),
            "cannot be looked for: this user may not enter its folder",
            facts={"folder": folder},
            remedy=f"chmod u+x {shlex.quote(str(folder))}, or set XDG_CONFIG_HOME to a folder that may be read",
        ) from error


def _read_file(path: Path, env: Mapping[str, str], *, system: bool) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            str(path), "is not readable as TOML", facts={"got": error}, remedy=f"mend {path}, or move it away"
        ) from error
    limits = {"limits": parse_limits(values.pop("limits"), file=path)} if system and "limits" in values else {}
    known = [item.name for item in fields(Config) if item.name not in _NOT_IN_FILES]
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
    if "credentials" in values:
        values["credentials"] = parse_credentials(values["credentials"], folder=path.parent, env=env, file=str(path))
    if "proxies" in values:
        values["proxies"] = parse_proxies(values["proxies"], where=str(path))
    return values | limits


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
    for name in ("allow_private_hosts", "no_proxy"):
        texts = values.get(name, ())
        values[name] = [part.strip() for part in texts.split(",")] if isinstance(texts, str) else texts
        if not all(isinstance(text, str) for text in values[name]):
            raise _wrong_kind(name, values[name], "list of texts")
    values["allow_private_hosts"] = frozenset(values["allow_private_hosts"])
    values["no_proxy"] = tuple(text for text in values["no_proxy"] if text)
    _parse_choices(values)
    config = replace(Config(home=values["home"]), **values)
    kinds: dict[str, tuple[type | UnionType, str]] = {
        "base_image": (str | None, "text"),
        "lock_timeout_s": (int | float, "number"),
        "allow_private": (bool, "boolean"),
    }
    for name, (kind, called) in kinds.items():
        if not isinstance(getattr(config, name), kind):
            raise _wrong_kind(name, values[name], called)
    for name in ("hf_endpoint", "gs_endpoint"):
        require_endpoint(name, getattr(config, name))
    if config.allow_private and config.limits.lock_private_hosts:
        raise ConfigError(
            "allow_private",
            "is ruled out on this machine",
            facts={"file": config.limits.file},
            remedy=f"leave it out, or have the host added to limits.allow_private_hosts in {config.limits.file}",
        )
    return config


def _parse_choices(values: dict[str, Any]) -> None:
    if values.get("max_fetch") is not None:
        values["max_fetch"] = parse_bytes(values["max_fetch"], subject="max_fetch")
    if values.get("jobs") is not None:
        values["jobs"] = parse_count(values["jobs"], subject="jobs")
    if values.get("runner") is not None:
        require_runner(values["runner"], subject=values.get("runner_from", "runner"))
    if "image_mirrors" in values:
        values["image_mirrors"] = parse_mirrors(values["image_mirrors"])


def _wrong_kind(name: str, got: Any, expected: str) -> ConfigError:
    return ConfigError(
        name, "has a value of the wrong kind", facts={"got": repr(got)}, remedy=f"set {name} to a {expected}"
    )

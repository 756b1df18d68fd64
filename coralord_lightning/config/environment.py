"""What other tools' environment variables say: proxies, keys of S3, the hub's token. Reads none itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from coralord_lightning.config.secrets import Credential, Secret
from coralord_lightning.errors import ConfigError

__all__ = ["from_environment", "parse_proxies", "require_endpoint"]

_AWS = {
    "access_key": ("AWS_ACCESS_KEY_ID",),
    "secret_key": ("AWS_SECRET_ACCESS_KEY",),
    "session_token": ("AWS_SESSION_TOKEN",),
    "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
}


def from_environment(env: Mapping[str, str], credentials: Mapping[str, Credential]) -> dict[str, Any]:
    """Settings by name of `Config`.

    Args:
        credentials: of the layers below; the variables of AWS go over the profile `s3://`, key by key.
    Raises:
        ConfigError: a proxy's address cannot be used.
    """
    values: dict[str, Any] = {"hf_token": _hub_token(env)}
    proxies = {scheme: _first(env, f"{scheme}_proxy", f"{scheme.upper()}_PROXY") for scheme in ("http", "https")}
    found = {scheme: address for scheme, address in proxies.items() if address}
    if found:
        values["proxies"] = parse_proxies(found, where="the environment")
    if direct := _first(env, "no_proxy", "NO_PROXY"):
        values["no_proxy"] = direct
    if keys := _bucket_keys(env):
        values["credentials"] = {**credentials, "s3://": replace(credentials.get("s3://", Credential()), **keys)}
    return values


def parse_proxies(value: Any, *, where: str) -> dict[str, Secret]:
    """The proxies by the scheme of what they are for.

    Raises:
        ConfigError: a proxy is none of http or https; the error does not show its password.
    """
    if not isinstance(value, dict):
        raise ConfigError(
            "proxies", "is no table", facts={"file": where}, remedy='proxies = {https = "http://host:3128"}'
        )
    for scheme, address in value.items():
        parts = _split(address)
        if scheme not in ("http", "https") or parts is None:
            raise ConfigError(
                f"proxies.{scheme}",
                "is no proxy that can be used",
                facts={"file": where, "expected": "http or https = http://host:port"},
                remedy='proxies = {https = "http://host:3128"}; other kinds of proxies are not supported',
            )
    return {scheme: Secret(where=f"proxies.{scheme}", value=_with_scheme(text)) for scheme, text in value.items()}


def require_endpoint(name: str, value: Any) -> None:
    """Check the address of a service.

    Raises:
        ConfigError: it is no http(s) address, or holds a password.
    """
    parts = _split(value) if isinstance(value, str) and "://" in value else None
    if parts is None or "@" in parts.netloc or parts.query:
        raise ConfigError(
            name, "is no address of a service", facts={"expected": "https://host"}, remedy=f'{name} = "https://host"'
        )


def _hub_token(env: Mapping[str, str]) -> Secret:
    """The token of Hugging Face, from where its own tools look for it, in their order."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if env.get(name, "").strip():
            return Secret(where=f"env:{name}", value=env[name].strip())
    cache = Path(env.get("XDG_CACHE_HOME") or Path("~/.cache")) / "huggingface"
    path = Path(env.get("HF_TOKEN_PATH") or Path(env.get("HF_HOME") or cache) / "token")
    try:
        path = path.expanduser()
    except RuntimeError:  # nobody's home
        return Secret(where=f"file:{path}")
    return Secret(where=f"file:{path}", path=path)


def _bucket_keys(env: Mapping[str, str]) -> dict[str, Any]:
    found = {key: (name, env[name]) for key, names in _AWS.items() for name in names[::-1] if env.get(name)}
    if not ("access_key" in found and "secret_key" in found):
        found = {key: pair for key, pair in found.items() if key in ("region", "endpoint")}
    return {
        key: text if key in ("region", "endpoint") else Secret(where=f"env:{name}", value=text)
        for key, (name, text) in found.items()
    }


def _first(env: Mapping[str, str], *names: str) -> str | None:
    return next((env[name] for name in names if env.get(name)), None)


def _with_scheme(address: str) -> str:
    return address if "://" in address else f"http://{address}"


def _split(address: Any) -> Any:
    """The parts of an http(s) address, or None."""
    if not isinstance(address, str):
        return None
    try:
        parts = urlsplit(_with_scheme(address))
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:
        return None
    return parts if usable else None

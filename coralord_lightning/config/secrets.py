"""Secrets and credential profiles of a site, by origin. Never shows a secret: not in repr, not in an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from coralord_lightning.errors import ConfigError, nearest

__all__ = ["Credential", "Secret", "parse_credentials", "parse_secret"]

_SCHEMES = ("http", "https", "s3", "gs")
_S3_KEYS = frozenset({"access_key", "secret_key", "session_token", "region", "endpoint"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A text that is never shown; read only when it is needed.

    Args:
        where: how it was set: `env:NAME`, `file:PATH`, or the setting that holds it.
        value: the text; None where it is in `path`, or was not found.
        path: the file whose stripped content it is.
    """

    where: str
    value: str | None = field(default=None, repr=False)
    path: Path | None = None

    def reveal(self) -> str:
        """The text itself, to be sent and not kept.

        Raises:
            ConfigError: the variable is not set, or the file cannot be read.
        """
        found = self.reveal_if_there()
        if found is None:
            kind, _, name = self.where.partition(":")
            remedy = f"export {name}=…" if kind == "env" else f"put the secret into {self.path or name}"
            raise ConfigError(self.where, "holds no secret, and a request needs it", remedy=remedy)
        return found

    def reveal_if_there(self) -> str | None:
        """The text itself, or None where there is none."""
        if self.path is None:
            return self.value
        try:
            return self.path.read_text(encoding="utf-8").strip() or None
        except (OSError, UnicodeDecodeError):
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What is sent to one origin: a bearer token, a user and password, headers; or the keys of an S3 bucket."""

    token: Secret | None = None
    username: str | None = None
    password: Secret | None = None
    headers: Mapping[str, Secret] = field(default_factory=dict)
    access_key: Secret | None = None
    secret_key: Secret | None = None
    session_token: Secret | None = None
    region: str | None = None
    endpoint: str | None = None


def parse_credentials(value: Any, *, folder: Path, env: Mapping[str, str], file: str) -> dict[str, Credential]:
    """The table `[credentials."https://host"]` of a `coral.toml`, by origin.

    Args:
        folder: what a relative `file:PATH` starts from.
    Raises:
        ConfigError: an origin or a key is none that can be; the error shows no value.
    """
    if not isinstance(value, dict):
        raise _bad(file, "credentials", "a table by origin", 'write [credentials."https://host"]')
    return {
        parse_origin(origin, file=file): _parse_profile(profile, origin=origin, folder=folder, env=env, file=file)
        for origin, profile in value.items()
    }


def parse_origin(text: str, *, file: str) -> str:
    """`https://host[:port]`, `s3://[bucket]` or `gs://[bucket]` in lower case, the default port left out.

    Raises:
        ConfigError: it is none of these.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
    bare = not (parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc)
    if scheme not in _SCHEMES or not bare or (not host and scheme in ("http", "https")):
        raise _bad(
            file, "credentials", "an origin", 'write [credentials."https://host"] or [credentials."s3://bucket"]'
        )
    place = f"[{host}]" if ":" in host else host
    return f"{scheme}://{place}" + (f":{port}" if port and port != {"http": 80, "https": 443}.get(scheme) else "")


def parse_secret(text: str, *, folder: Path, env: Mapping[str, str], where: str) -> Secret:
    """`env:NAME`, `file:PATH`, or the secret itself."""
    kind, _, rest = text.partition(":")
    if kind == "env" and rest:
        return Secret(where=text, value=env.get(rest) or None)
    if kind == "file" and rest:
        return Secret(where=text, path=folder / Path(rest).expanduser())
    return Secret(where=where, value=text)


def _parse_profile(profile: Any, *, origin: str, folder: Path, env: Mapping[str, str], file: str) -> Credential:
    known = [item.name for item in fields(Credential)]
    where = f'credentials."{origin}"'
    if not isinstance(profile, dict):
        raise _bad(file, where, "a table", f"write [{where}] with the keys {', '.join(known)}")
    values: dict[str, Any] = {}
    for key, value in profile.items():
        if key not in known or (key in _S3_KEYS and not origin.lower().startswith("s3:")):
            near = nearest(key, known)
            raise _bad(file, f"{where}.{key}", "a key that is known there", f"rename it to '{near}', or remove it")
        if key == "headers" and isinstance(value, dict) and all(isinstance(item, str) for item in value.values()):
            values[key] = {
                name.lower(): parse_secret(item, folder=folder, env=env, where=f"{where}.headers.{name}")
                for name, item in value.items()
            }
        elif not isinstance(value, str):
            raise _bad(file, f"{where}.{key}", "a text", f"write {key} in quotes")
        elif key in ("username", "region", "endpoint"):
            values[key] = value
        else:
            values[key] = parse_secret(value, folder=folder, env=env, where=f"{where}.{key}")
    return Credential(**values)


def _bad(file: str, subject: str, expected: str, remedy: str) -> ConfigError:
    return ConfigError(subject, "cannot be used", facts={"file": file, "expected": expected}, remedy=remedy)

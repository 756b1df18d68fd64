"""What a container registry says of a name, over its own protocol. Reads manifests; pulls no image, keeps nothing.

Source: OCI Distribution Specification 1.1; the token flow: https://distribution.github.io/distribution/spec/auth/token/
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from coralord_lightning.config import Config

if TYPE_CHECKING:
    import requests

__all__ = ["INDEX_TYPES", "Manifest", "Registry", "Trouble", "open_registry", "split_name"]

INDEX_TYPES = frozenset(
    {"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"}
)
_MANIFEST_TYPES = (
    *sorted(INDEX_TYPES),
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_MAX_BYTES = 4 * 1024 * 1024
"""What the specification lets a registry's client refuse a manifest for."""
_TIMEOUT_S = 30
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_CHALLENGE = re.compile(r'([a-zA-Z_]+)="([^"]*)"')

Json = Any


class Trouble(Exception):  # noqa: N818 - an answer, and no error of ours: `tags` says what it means
    """A registry gave no manifest: it does not know the name, does not let us in, or did not answer."""

    def __init__(self, kind: Literal["unknown", "denied", "unreachable"], reason: object) -> None:
        super().__init__(str(reason))
        self.kind = kind
        self.reason = str(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A manifest or an index; `digest` is that of its very bytes."""

    digest: str
    media_type: str
    body: Mapping[str, Json]


@contextmanager
def open_registry(name: str, *, config: Config) -> Iterator[Registry]:
    """Ask the registry of an image, as the user whom Docker's own configuration names.

    Args:
        name: of the image, in any spelling.
        config: has proxies and certificate authorities.
    """
    import requests

    host, repository, _ = split_name(name)
    with requests.Session() as session:
        session.trust_env = False  # no .netrc; the environment has been read by `config`
        session.verify = True if config.ca_bundle is None else str(config.ca_bundle)
        yield Registry(session, host, repository, config=config)


class Registry:
    """One repository of a registry."""

    def __init__(self, session: requests.Session, host: str, repository: str, *, config: Config) -> None:
        self._session = session
        self._host = host
        self._repository = repository
        self._config = config
        self._site: str | None = None
        self._entry: dict[str, str] = {}

    def manifest(self, reference: str) -> Manifest:
        """What a tag or digest stands for now.

        Raises:
            Trouble: it cannot be had, or has other bytes than its digest says.
        """
        data, kind = self._get(f"manifests/{reference}", accept=", ".join(_MANIFEST_TYPES))
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        body = _parsed(data)
        if reference.startswith("sha256:") and digest != reference:
            raise Trouble("unreachable", f"{self._host} gave other bytes than {reference}")
        return Manifest(digest=digest, media_type=str(body.get("mediaType") or kind), body=body)

    def platform(self, manifest: Manifest) -> str:
        """`linux/amd64`, of a manifest that is no index.

        Raises:
            Trouble: its configuration cannot be had.
        """
        config = manifest.body.get("config")
        wanted = str(config.get("digest")) if isinstance(config, dict) else ""
        if not _DIGEST.fullmatch(wanted):
            raise Trouble("unreachable", f"{self._host} gave a manifest without a configuration")
        data, _ = self._get(f"blobs/{wanted}", accept="*/*")
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != wanted:
            raise Trouble("unreachable", f"{self._host} gave other bytes than {wanted}")
        found = _parsed(data)
        return f"{found.get('os') or 'linux'}/{found.get('architecture') or 'unknown'}"

    def _get(self, what: str, *, accept: str) -> tuple[bytes, str]:
        import requests
        import urllib3.exceptions

        try:
            answer = self._ask(what, accept)
            if answer.status_code == 401 and "WWW-Authenticate" in answer.headers:
                answer.close()
                self._require_own(answer.url)
                self._entry = self._let_in(answer.headers["WWW-Authenticate"], answer.url)
                answer = self._ask(what, accept)
            with answer:
                _require_ok(answer)
                data = answer.raw.read(_MAX_BYTES + 1, decode_content=True)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:  # no address
            raise Trouble("unreachable", error) from error
        if len(data) > _MAX_BYTES:
            raise Trouble("unreachable", f"{self._host} gave a manifest of more than 4 MiB")
        return data, answer.headers.get("Content-Type", "").partition(";")[0]

    def _ask(self, what: str, accept: str) -> requests.Response:
        """One request; as Docker does, https everywhere, and http too on this machine itself."""
        import requests

        server = "registry-1.docker.io" if self._host == "docker.io" else self._host
        schemes = ("https", "http") if _is_loopback(self._host) else ("https",)
        sites = [f"{scheme}://{server}" for scheme in schemes] if self._site is None else [self._site]
        headers = {"Accept": accept, **self._entry}
        for site in sites:
            try:
                url = f"{site}/v2/{self._repository}/{what}"
                answer = self._session.get(
                    url, headers=headers, proxies=self._proxies(url), stream=True, timeout=_TIMEOUT_S
                )
            except (requests.ConnectionError, requests.Timeout):
                if site == sites[-1]:
                    raise
                continue
            self._site = site
            return answer
        raise AssertionError("there is a site")

    def _require_own(self, url: str) -> None:
        """Let nobody ask for the registry's password to whom it only redirected."""
        if self._site is None or urlsplit(url)[:2] != urlsplit(self._site)[:2]:
            raise Trouble("denied", f"{self._host} sends us to {url}, which asks for a password")

    def _let_in(self, challenge: str, url: str) -> dict[str, str]:
        """The header that lets us in, as the registry asks for it."""
        scheme, _, rest = challenge.partition(" ")
        known = self._credentials()
        user, password = known.get("username"), known.get("password")
        if scheme.lower() == "basic":
            if user is None:
                raise Trouble("denied", f"{self._host} asks for a password")
            login = base64.b64encode(f"{user}:{password or ''}".encode()).decode()
            return {"Authorization": f"Basic {login}"}
        if scheme.lower() != "bearer":
            raise Trouble("denied", f"{self._host} asks for {scheme}")
        return {"Authorization": f"Bearer {self._token(dict(_CHALLENGE.findall(rest)), known, url)}"}

    def _token(self, asked: Mapping[str, str], known: Mapping[str, str], url: str) -> str:
        realm = asked.get("realm", "")
        if not realm.lower().startswith("https://") and urlsplit(url).scheme == "https":
            raise Trouble("denied", f"{self._host} wants a password sent to {realm}, in the clear")
        values = {key: asked[key] for key in ("service", "scope") if key in asked}
        try:
            proxies = self._proxies(realm)
        except ValueError as error:
            raise Trouble("denied", f"{self._host} wants a password sent to {realm}: {error}") from error
        options: dict[str, Any] = {"proxies": proxies, "timeout": _TIMEOUT_S, "stream": True}
        if "identitytoken" in known:
            form = {**values, "grant_type": "refresh_token", "refresh_token": known["identitytoken"]}
            answer = self._session.post(realm, data={**form, "client_id": "coral"}, **options)
        else:
            login = (known["username"], known.get("password", "")) if "username" in known else None
            answer = self._session.get(realm, params=values, auth=login, **options)
        with answer:
            _require_ok(answer)
            given = _parsed(answer.raw.read(_MAX_BYTES, decode_content=True))
        return str(given.get("token") or given.get("access_token") or "")

    def _credentials(self) -> dict[str, str]:
        """What `docker login` has kept for this registry, here or in a credential helper."""
        import docker.auth
        import docker.errors

        try:
            found = docker.auth.load_config().resolve_authconfig(self._host)
        except docker.errors.DockerException as error:
            raise Trouble("denied", error) from error
        return {str(key).lower(): str(value) for key, value in (found or {}).items() if value}

    def _proxies(self, url: str) -> dict[str, str]:
        from requests.utils import should_bypass_proxies

        if should_bypass_proxies(url, ",".join(self._config.no_proxy)) or _is_loopback(self._host):
            return {}
        return {scheme: secret.reveal() for scheme, secret in self._config.proxies.items()}


def split_name(name: str) -> tuple[str, str, str]:
    """Registry, repository and tag of an image's name, as Docker reads it."""
    path, _, _ = name.partition("@")
    head, slash, tail = path.rpartition("/")
    tail, _, tag = tail.partition(":")
    path = head + slash + tail
    first, slash, rest = path.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        return "docker.io", path if slash else f"library/{path}", tag or "latest"
    if first in ("index.docker.io", "docker.io"):
        return "docker.io", rest if "/" in rest else f"library/{rest}", tag or "latest"
    return first, rest, tag or "latest"


def _require_ok(answer: requests.Response) -> None:
    if answer.status_code in (401, 403):
        raise Trouble("denied", f"status {answer.status_code}")
    if answer.status_code == 404:
        raise Trouble("unknown", f"status {answer.status_code}")
    if answer.status_code != 200:
        raise Trouble("unreachable", f"status {answer.status_code}")


def _parsed(data: bytes) -> dict[str, Json]:
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Trouble("unreachable", f"no JSON: {error}") from error
    if not isinstance(body, dict):
        raise Trouble("unreachable", "no JSON object")
    return body


def _is_loopback(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"

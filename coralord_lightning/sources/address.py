"""Which addresses a request may go to, and how an address is shown. Resolves names, never connects."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urljoin, urlsplit, urlunsplit

import httpcore

from coralord_lightning.errors import ForbiddenSourceError

__all__ = [
    "is_global",
    "join",
    "lookup_host",
    "origin",
    "public_url",
    "redact",
    "require_http",
    "require_public",
    "split_userinfo",
    "with_userinfo",
    "without_secrets",
]

_PORTS = {"http": 80, "https": 443}
_BUCKETS = frozenset({"s3", "gs"})
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s\"'<>]*[^\s\"'<>).,;]", re.IGNORECASE)
_SECRET = re.compile(
    r"x-(amz|goog|ms)-.*|.*(signature|token|password|secret|api_?key|credential).*|sig|key|auth|sv|se|sp|sr|st|spr"
    r"|expires|policy|key-pair-id|awsaccesskeyid|googleaccessid",
    re.IGNORECASE,
)

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def require_http(url: str, *, subject: str, buckets: bool = True) -> str:
    """The address, if it is one that a dataset may name.

    Args:
        buckets: s3 and gs will do too; a redirect leads to neither.
    Raises:
        ForbiddenSourceError: another scheme, no host, or characters that parsers read differently.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    known = parts.scheme.lower() in _PORTS or (buckets and parts.scheme.lower() in _BUCKETS)
    if known and host and not re.search(r"[\x00-\x20\x7f\\]", url):
        return url
    raise ForbiddenSourceError(
        subject,
        "is no address that a dataset may name",
        facts={"got": redact(url), "expected": "https, http, s3 or gs, and a host"},
        remedy="give an http(s) address, or copy the file beside the Croissant file and give its relative path",
    )


def redact(url: str) -> str:
    """The address as messages may show it: without user, password, query and fragment."""
    try:
        parts = urlsplit(url)
        place = _place(parts)
    except ValueError:
        return "an unreadable address"
    return urlunsplit((parts.scheme, place, parts.path, "…" if parts.query else "", ""))


def public_url(url: str) -> str:
    """The address as plans and manifests may keep it: without user, password, fragment, and secrets in the query."""
    parts = urlsplit(url)
    query = parts.query
    pairs = parse_qsl(query, keep_blank_values=True)
    kept = [(key, value) for key, value in pairs if not _SECRET.fullmatch(key)]
    if len(kept) != len(pairs):
        query = urlencode(kept, quote_via=quote)
    return urlunsplit((parts.scheme.lower(), _place(parts).lower(), parts.path, query, ""))


def without_secrets(value: Any) -> Any:
    """Plain values; the addresses in their texts, wherever they stand, lose their secrets."""
    if isinstance(value, Mapping):
        return {str(key): without_secrets(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(item) for item in value]
    return _ADDRESS.sub(lambda found: _public_address(found[0]), value) if isinstance(value, str) else value


def _public_address(url: str) -> str:
    """An address as it is, or without its secrets where it has some."""
    bare, _, fragment = url.partition("#")
    try:
        clean = public_url(bare)
        keeps = public_url(f"http://x?{fragment}") == f"http://x?{fragment}" or "=" not in fragment
    except ValueError:
        return "an unreadable address"
    return url if clean.lower() == bare.lower() and keeps else clean


def split_userinfo(url: str) -> tuple[str, tuple[str, str] | None]:
    """The address without user, password and fragment, and (user, password) if there was one."""
    parts = urlsplit(url)
    bare = urlunsplit((parts.scheme, _place(parts), parts.path, parts.query, ""))
    if parts.username is None:
        return bare, None
    return bare, (unquote(parts.username), unquote(parts.password or ""))


def with_userinfo(url: str, userinfo: tuple[str, str] | None) -> str:
    """The address with user and password put in."""
    if userinfo is None:
        return url
    parts = urlsplit(url)
    name, password = (quote(part, safe="") for part in userinfo)
    return urlunsplit((parts.scheme, f"{name}:{password}@{_place(parts)}", parts.path, parts.query, ""))


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: what credentials belong to."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    return scheme, (parts.hostname or "").lower(), parts.port or _PORTS.get(scheme, 0)


def _place(parts: SplitResult) -> str:
    """Host and port as written, without userinfo."""
    return parts.netloc.rpartition("@")[2]


def is_global(address: IPAddress) -> bool:
    """Whether an address is on the public internet, also one that hides an IPv4 address inside."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = _embedded(address)
        if inner is not None:
            return is_global(inner)
    refused = address.is_multicast or address.is_reserved or address.is_unspecified or address.is_loopback
    return address.is_global and not refused


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None


def join(base: str, reference: str) -> str:
    """The address that a relative reference means beside `base`, also in a bucket, which `urljoin` does not know."""
    scheme, mark, rest = base.partition("://")
    if scheme.lower() not in _BUCKETS:
        return urljoin(base, reference)
    return scheme + mark + urljoin(f"https://{rest}", reference).removeprefix("https://")


def require_public(addresses: Iterable[str], host: str, *, remedy: str) -> list[str]:
    """Those of a host's addresses that are on the public internet.

    Raises:
        ForbiddenSourceError: it has addresses, and none is.
    """
    found = list(addresses)
    public = [text for text in found if is_global(ipaddress.ip_address(text.partition("%")[0]))]
    if found and not public:
        raise ForbiddenSourceError(
            host,
            "is not on the public internet",
            facts={"got": ", ".join(found), "expected": "a public address"},
            remedy=remedy,
        )
    return public


def lookup_host(host: str, port: int) -> list[str]:
    """The addresses of a host.

    Raises:
        ConnectError: it cannot be resolved.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(f"cannot resolve {host}: {error}") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))

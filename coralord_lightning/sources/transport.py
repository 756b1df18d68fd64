"""Connections: only to addresses that were checked, through proxies where the site has them. Knows no redirect.

Behind a proxy we do not see which address is connected to. The proxy is the site's own, so it is trusted to resolve
names; before it is asked, an address that stands in the URL is checked, and so is a name that this machine can resolve.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

import httpcore
import httpx

from coralord_lightning.config import Config
from coralord_lightning.sources.address import lookup_host, require_public

__all__ = ["CheckedBackend", "CheckedTransport", "Policy", "goes_directly"]

_SLOW_S = 60.0
_SLOW_BYTES = 512


class Policy:
    """Which hosts may have private addresses."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._allowed = frozenset(_bare(host) for host in config.private_hosts)

    def allows(self, host: str) -> bool:
        return self._config.allow_private or _bare(host) in self._allowed

    def addresses(self, host: str, port: int) -> list[str]:
        """The addresses that a host may be reached at.

        Raises:
            ForbiddenSourceError: it has no public address and is not allowed by configuration.
            ConnectError: it cannot be resolved.
        """
        found = lookup_host(host, port)
        return found if self.allows(host) else require_public(found, host, remedy=self.remedy(host))

    def check(self, host: str, port: int) -> None:
        """Check a host that a proxy will resolve, as far as it can be resolved here.

        Raises:
            ForbiddenSourceError: it has no public address and is not allowed by configuration.
        """
        with contextlib.suppress(httpcore.ConnectError):  # a name that only the proxy knows
            self.addresses(host, port)

    def remedy(self, host: str) -> str:
        limits = self._config.limits
        if limits.lock_private_hosts:
            return f"have '{host}' added to limits.allow_private_hosts in {limits.file}"
        return f'if you trust it, allow it in coral.toml: allow_private_hosts = ["{host}"], or give --allow-private'


class CheckedBackend(httpcore.NetworkBackend):
    """Connects to the very address that was checked, so that a name which resolves anew cannot lead elsewhere.

    Args:
        trusted: a host that needs no check: the site's proxy.
    """

    def __init__(self, policy: Policy, *, trusted: str | None = None) -> None:
        self._policy = policy
        self._trusted = trusted
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Resolve, check, connect.

        Raises:
            ForbiddenSourceError: the host has no public address and is not allowed by configuration.
        """
        failure: Exception | None = None
        trusted = host == self._trusted
        for address in lookup_host(host, port) if trusted else self._policy.addresses(host, port):
            try:
                return _Stream(self._inner.connect_tcp(address, port, timeout, local_address, socket_options))
            except (httpcore.NetworkError, httpcore.TimeoutException) as error:
                failure = error
        raise failure or httpcore.ConnectError(f"{host} has no address")

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


class _Stream(httpcore.NetworkStream):
    """A connection that gives up on a server which sends next to nothing, for ever.

    Args:
        clock: seconds.
    """

    def __init__(self, inner: httpcore.NetworkStream, clock: Callable[[], float] = time.monotonic) -> None:
        self._inner = inner
        self._clock = clock
        self._waited_s = 0.0
        self._came = 0

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        began = self._clock()
        data = self._inner.read(max_bytes, timeout)
        self._waited_s += self._clock() - began
        self._came += len(data)
        if self._came >= _SLOW_BYTES:
            self._waited_s, self._came = 0.0, 0
        elif self._waited_s > _SLOW_S:
            raise httpcore.ReadTimeout(f"{self._came} bytes in {self._waited_s:.0f} s")
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, timeout)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, timeout), self._clock)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class CheckedTransport(httpx.BaseTransport):
    """httpx's transport over connection pools that check addresses. httpx offers no argument for that."""

    def __init__(self, config: Config) -> None:
        self._policy = Policy(config)
        self._no_proxy = config.no_proxy
        cafile = str(config.ca_bundle) if config.ca_bundle else None
        context = ssl.create_default_context(cafile=cafile) if cafile else httpx.create_ssl_context(trust_env=False)
        self._direct = _pool(context, CheckedBackend(self._policy))
        self._proxied = {
            scheme: _pool(context, CheckedBackend(self._policy, trusted=_host(proxy.reveal())), proxy.reveal())
            for scheme, proxy in config.proxies.items()
        }

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = httpcore.URL(
            scheme=request.url.raw_scheme, host=request.url.raw_host, port=request.url.port, target=request.url.raw_path
        )
        response = self._pool_for(request.url).handle_request(
            httpcore.Request(
                method=request.method.encode("ascii"),
                url=url,
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(response.status, headers=response.headers, stream=_Body(response))

    def close(self) -> None:
        for pool in (self._direct, *self._proxied.values()):
            pool.close()

    def _pool_for(self, url: httpx.URL) -> httpcore.ConnectionPool:
        pool = self._proxied.get(url.scheme)
        if pool is None or goes_directly(url.host, url.port, self._no_proxy):
            return self._direct
        self._policy.check(url.host, url.port or 443)
        return pool


class _Body(httpx.SyncByteStream):
    """The body of a pooled response; closing it gives the connection back."""

    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        yield from self._response.iter_stream()

    def close(self) -> None:
        self._response.close()


def _pool(context: ssl.SSLContext, backend: CheckedBackend, proxy: str | None = None) -> httpcore.ConnectionPool:
    settings: dict[str, Any] = {
        "ssl_context": context,
        "max_connections": 16,
        "max_keepalive_connections": 8,
        "keepalive_expiry": 10.0,
        "network_backend": backend,
    }
    if proxy is None:
        return httpcore.ConnectionPool(**settings)
    parts = urlsplit(proxy)
    place = parts.netloc.rpartition("@")[2]
    auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username is not None else None
    return httpcore.HTTPProxy(f"{parts.scheme}://{place}", proxy_auth=auth, **settings)


def goes_directly(host: str, port: int | None, no_proxy: Iterable[str]) -> bool:
    """Whether no proxy is asked: for this machine itself, and for what `no_proxy` names, in the ways of curl."""
    bare = _bare(host)
    address = _address(bare)
    if bare == "localhost" or (address is not None and address.is_loopback):
        return True
    for entry in no_proxy:
        name, _, wanted = entry.partition(":") if entry.count(":") == 1 else (entry, "", "")
        if wanted and wanted != str(port):
            continue
        if name == "*" or _in_network(address, name):
            return True
        domain = _bare(name).removeprefix("*").lstrip(".")
        if domain and (bare == domain or bare.endswith(f".{domain}")):
            return True
    return False


def _in_network(address: ipaddress.IPv4Address | ipaddress.IPv6Address | None, text: str) -> bool:
    try:
        return address is not None and address in ipaddress.ip_network(text.strip("[]"), strict=False)
    except ValueError:
        return False


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host) if re.fullmatch(r"[0-9a-f.:]+", host) else None
    except ValueError:
        return None


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _bare(host: str) -> str:
    return host.strip("[]").lower()

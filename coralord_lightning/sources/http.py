"""Every request that the package makes. Bytes come exactly as pinned or as an error; never reads or writes a file."""

from __future__ import annotations

import base64
import email.utils
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urljoin

import httpcore
import httpx

from coralord_lightning.config import Config
from coralord_lightning.errors import CoralError, ForbiddenSourceError, OfflineError, SourceMissingError, UpstreamError
from coralord_lightning.sources.address import CheckedBackend, origin, redact, require_http, split_userinfo

__all__ = ["BrokenBodyError", "HttpClient", "Reply"]

T = TypeVar("T")

_TRIES = 5
_MAX_REDIRECTS = 10
_MAX_WAIT_S = 120.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_NETWORK_ERRORS = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, httpx.TransportError)
_AGENT = "coralord-lightning"


class BrokenBodyError(Exception):
    """A body ended early or late: asked again, and an UpstreamError when that does not help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer, its body not yet read.

    Args:
        url: the address that answered, after redirects.
        shown: the address that was asked for, as messages may show it.
        body: chunks of the body as they came over the wire; every byte is counted.
    """

    url: str
    shown: str
    status: int
    headers: Mapping[str, str]
    body: Callable[[], Iterator[bytes]]

    @property
    def etag(self) -> str | None:
        """The strong ETag; None where there is none or a weak one, which promises nothing about bytes."""
        etag = self.headers.get("etag", "")
        return etag if etag.startswith('"') and etag.endswith('"') and len(etag) > 2 else None

    @property
    def length(self) -> int | None:
        text = self.headers.get("content-length", "")
        return int(text) if text.isdecimal() else None


class HttpClient:
    """Makes requests under this site's rules.

    Args:
        offline: every request raises.
        sleep, clock: how waiting between tries is done; the wall clock in seconds, for `Retry-After` dates.
        timeout_s: seconds without any progress before a try is given up.
    """

    def __init__(
        self,
        config: Config,
        *,
        offline: bool = False,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
        timeout_s: float = 60.0,
    ) -> None:
        self._offline = offline
        self._sleep = sleep
        self._clock = clock
        self._bytes_fetched = 0
        self._counting = threading.Lock()
        self._client = httpx.Client(
            transport=_CheckedTransport(config), trust_env=False, follow_redirects=False, timeout=timeout_s
        )

    @property
    def bytes_fetched(self) -> int:
        """Body bytes received so far, those of failed tries and of metadata included."""
        return self._bytes_fetched

    def close(self) -> None:
        self._client.close()

    def ask(
        self,
        method: str,
        url: str,
        *,
        subject: str,
        consume: Callable[[Reply], T],
        headers: Mapping[str, str] | None = None,
        accept: frozenset[int] = frozenset({200}),
    ) -> T:
        """Make one request, over redirects and again where that can help, and give what `consume` makes of the answer.

        Args:
            subject: what messages call the thing asked for.
            consume: reads the body; it is called again with a new answer after it raised `BrokenBodyError` or the
                connection broke.
            accept: status codes that `consume` takes.
        Raises:
            OfflineError: requests are ruled out.
            ForbiddenSourceError: the address, or one it redirects to, is not allowed.
            SourceMissingError: the server says there is no such thing.
            UpstreamError: the server, or the way to it, failed.
        """
        require_http(url, subject=subject)
        if self._offline:
            raise OfflineError(
                subject,
                "is needed from the network, which is ruled out",
                facts={"url": redact(url)},
                remedy="run the same command without --offline",
            )
        failure = ""
        for attempt in range(_TRIES):
            wait_s = 0.5 * 2**attempt
            try:
                with self._follow(method, url, headers or {}, subject) as reply:
                    if reply.status not in _RETRIED:
                        _require_status(reply, accept, subject)
                        return consume(reply)
                    failure = f"status {reply.status}"
                    wait_s = max(wait_s, self._retry_after_s(reply))
            except BrokenBodyError as error:
                failure = str(error)
            except _NETWORK_ERRORS as error:
                failure = f"{type(error).__name__}: {error}"
            if wait_s > _MAX_WAIT_S:
                failure += f", asks to wait {wait_s:.0f} s"
                break
            if attempt + 1 < _TRIES:
                self._sleep(wait_s)
        raise UpstreamError(
            subject,
            "could not be fetched",
            facts={"url": redact(url), "got": failure, "tries": attempt + 1},
            remedy="check the network and the server, then run the same command again",
        )

    @contextmanager
    def _follow(self, method: str, url: str, headers: Mapping[str, str], subject: str) -> Iterator[Reply]:
        here, userinfo = split_userinfo(url)
        home = origin(here)
        sent = {"accept-encoding": "identity", "user-agent": _AGENT, "accept": "*/*", **headers}
        for _ in range(_MAX_REDIRECTS + 1):
            own = sent | _authorization(userinfo) if origin(here) == home else sent
            request = self._request(method, here, own, subject)
            response = self._client.send(request, stream=True)
            try:
                if response.status_code not in _REDIRECTS or "location" not in response.headers:
                    yield self._reply(response, here, url)
                    return
                here = _next_hop(here, response.headers["location"], subject)
            finally:
                response.close()
        raise UpstreamError(
            subject,
            f"redirects more than {_MAX_REDIRECTS} times",
            facts={"url": redact(url), "got": redact(here)},
            remedy="give the address that it leads to",
        )

    def _request(self, method: str, url: str, headers: Mapping[str, str], subject: str) -> httpx.Request:
        try:
            return self._client.build_request(method, url, headers=headers)
        except (httpx.InvalidURL, UnicodeError) as error:
            raise ForbiddenSourceError(
                subject, "is no readable address", facts={"got": redact(url)}, remedy="correct the address"
            ) from error

    def _reply(self, response: httpx.Response, here: str, asked: str) -> Reply:
        def body() -> Iterator[bytes]:
            for chunk in response.iter_raw():
                with self._counting:
                    self._bytes_fetched += len(chunk)
                yield chunk

        return Reply(
            url=here, shown=redact(asked), status=response.status_code, headers=dict(response.headers), body=body
        )

    def _retry_after_s(self, reply: Reply) -> float:
        text = reply.headers.get("retry-after", "").strip()
        if text.isdecimal():
            return float(text)
        try:
            return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - self._clock())
        except ValueError:
            return 0.0


class _CheckedTransport(httpx.BaseTransport):
    """httpx's transport over a connection pool that checks addresses. httpx offers no argument for that."""

    def __init__(self, config: Config) -> None:
        context = ssl.create_default_context(cafile=str(config.ca_bundle)) if config.ca_bundle else None
        self._pool = httpcore.ConnectionPool(
            ssl_context=context or httpx.create_ssl_context(trust_env=False),
            max_connections=16,
            max_keepalive_connections=8,
            keepalive_expiry=10.0,
            network_backend=CheckedBackend(config.allow_private_hosts),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = httpcore.URL(
            scheme=request.url.raw_scheme, host=request.url.raw_host, port=request.url.port, target=request.url.raw_path
        )
        response = self._pool.handle_request(
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
        self._pool.close()


class _Body(httpx.SyncByteStream):
    """The body of a pooled response; closing it gives the connection back."""

    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        yield from self._response.iter_stream()

    def close(self) -> None:
        self._response.close()


def _authorization(userinfo: tuple[str, str] | None) -> dict[str, str]:
    if userinfo is None:
        return {}
    return {"authorization": "Basic " + base64.b64encode(":".join(userinfo).encode()).decode("ascii")}


def _next_hop(here: str, location: str, subject: str) -> str:
    try:
        joined = urljoin(here, location)
    except ValueError:  # `http://[`
        joined = location
    there, _ = split_userinfo(require_http(joined, subject=subject))
    if origin(here)[0] == "https" and origin(there)[0] == "http":
        raise ForbiddenSourceError(
            subject,
            "redirects from https to http",
            facts={"from": redact(here), "to": redact(there)},
            remedy="give an address whose redirects stay on https",
        )
    return there


def _require_status(reply: Reply, accept: frozenset[int], subject: str) -> None:
    if reply.status in accept:
        if reply.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
            raise UpstreamError(
                subject,
                "comes in an encoding that was not asked for",
                facts={"url": reply.shown, "got": reply.headers["content-encoding"], "expected": "identity"},
                remedy="ask the server's operator to honour 'Accept-Encoding: identity', or use another mirror",
            )
        return
    facts = {"url": reply.shown, "got": f"status {reply.status}"}
    if reply.status in (404, 410):
        raise SourceMissingError(
            subject, "is not at that address", facts=facts, remedy="correct the address, or ask its publisher"
        )
    raise _refused(reply, subject, facts)


def _refused(reply: Reply, subject: str, facts: Mapping[str, object]) -> CoralError:
    if reply.status in (401, 403, 407):
        return UpstreamError(
            subject, "may not be read by you", facts=facts, remedy="check that the address needs no sign-in"
        )
    return UpstreamError(
        subject, "was not served", facts=facts, remedy="check the address and the server, then run it again"
    )

"""Every request that the package makes. Bytes come exactly as pinned or as an error; never reads or writes a file."""

from __future__ import annotations

import contextlib
import email.utils
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar
from urllib.parse import urljoin

import httpcore
import httpx

from coralord_lightning.config import Config
from coralord_lightning.errors import (
    CoralError,
    FetchLimitError,
    ForbiddenSourceError,
    OfflineError,
    SourceMissingError,
    UpstreamError,
)
from coralord_lightning.sources.address import origin, redact, require_http, split_userinfo
from coralord_lightning.sources.credentials import Access
from coralord_lightning.sources.transport import CheckedTransport

__all__ = ["LOG", "BrokenBodyError", "HttpClient", "Reply"]

T = TypeVar("T")

LOG = logging.getLogger("coralord_lightning.sources")
"""Tells of retries, resumes, restarts and refusals, at level INFO; never shows a secret."""

_TRIES = 5
_MAX_REDIRECTS = 10
_MAX_WAIT_S = 120.0
_DRAINED = 64 * 1024
"""A body that nobody needs is read up to here: what crossed the wire is counted, and the connection kept."""
_PROGRESS = 1024 * 1024
"""A try that brought so much was worth it: tries are counted anew where they go on from there."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_NETWORK_ERRORS = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, httpx.TransportError)
_AGENT = "coralord-lightning"
_OURS_ALONE = frozenset({"authorization", "cookie", "proxy-authorization"})


class BrokenBodyError(Exception):
    """A body ended early or late: asked again, and an UpstreamError when that does not help."""


class _RefusedError(Exception):
    """The server says that it may work later."""

    def __init__(self, status: int, wait_s: float) -> None:
        super().__init__(f"status {status}")
        self.wait_s = wait_s


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
        return int(text) if text.isdecimal() and len(text) < 19 else None


class HttpClient:
    """Makes requests under this site's rules; may be used by several threads.

    Args:
        offline: every request raises.
        sleep, clock: how waiting between tries is done; the wall clock in seconds, for `Retry-After` dates.
        timeout_s: seconds without any progress before a try is given up.
        max_fetch: bytes of bodies that may be received; None: as many as there are.
        on_bytes: told the sum of bytes after each piece of a body, by the thread that received it.
    """

    def __init__(
        self,
        config: Config,
        *,
        offline: bool = False,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
        timeout_s: float = 60.0,
        max_fetch: int | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:
        self._offline = offline
        self._sleep = sleep
        self._clock = clock
        self._timeout = httpx.Timeout(timeout_s).as_dict()
        self._max_fetch = max_fetch
        self._on_bytes = on_bytes
        self._bytes_fetched = 0
        self._counting = threading.Lock()
        self._access = Access(config)
        self._transport = CheckedTransport(config)

    @property
    def bytes_fetched(self) -> int:
        """Body bytes received so far, those of failed tries, redirects and metadata included."""
        return self._bytes_fetched

    def close(self) -> None:
        self._transport.close()

    def ask(
        self,
        method: str,
        url: str,
        *,
        subject: str,
        consume: Callable[[Reply], T],
        headers: Mapping[str, str] | Callable[[], Mapping[str, str]] | None = None,
        accept: frozenset[int] = frozenset({200}),
        resumes: bool = False,
    ) -> T:
        """Make one request, over redirects and again where that can help, and give what `consume` makes of the answer.

        Args:
            subject: what messages call the thing asked for.
            consume: reads the body; it is called again with a new answer after it raised `BrokenBodyError` or the
                connection broke.
            headers: to send; a function is asked again before each try.
            accept: status codes that `consume` takes.
            resumes: each try goes on where the one before ended, so that tries which bring much are not counted.
        Raises:
            OfflineError: requests are ruled out.
            ForbiddenSourceError: the address, or one it redirects to, is not allowed.
            SourceMissingError: the server says there is no such thing.
            FetchLimitError: it would be more than may be fetched.
            UpstreamError: the server, or the way to it, failed.
        """
        try:
            require_http(url, subject=subject)
            if self._offline:
                raise _offline(url, subject)
            make = headers if callable(headers) else lambda: headers or {}
            attempt = partial(self._attempt, method, url, make, subject, consume, accept)
            return self._persist(attempt, url, subject, resumes=resumes)
        except CoralError as error:
            LOG.info("%s: %s (%s) %s", error.subject, error.message, error.code, error.facts)
            raise

    def _persist(self, attempt: Callable[[_Had], T], url: str, subject: str, *, resumes: bool) -> T:
        failed, tries = 0, 0
        while True:
            had, wait_s = _Had(), 0.5 * 2**failed
            try:
                return attempt(had)
            except _RefusedError as error:
                failure, wait_s = str(error), max(wait_s, error.wait_s)
            except BrokenBodyError as error:
                failure = str(error)
            except _NETWORK_ERRORS as error:
                failure = f"{type(error).__name__}: {error}"
            failed, tries = (1 if resumes and had.bytes >= _PROGRESS else failed + 1), tries + 1
            if wait_s > _MAX_WAIT_S:
                failure += f", asks to wait {wait_s:.0f} s"
            if wait_s > _MAX_WAIT_S or failed >= _TRIES or "CERTIFICATE_VERIFY_FAILED" in failure:
                raise _given_up(url, subject, failure, tries)
            LOG.info("%s: %s from %s; asked again in %.1f s", subject, failure, redact(url), wait_s)
            self._sleep(wait_s)

    def _attempt(  # noqa: PLR0917 - all of a question, as `ask` has it
        self,
        method: str,
        url: str,
        headers: Callable[[], Mapping[str, str]],
        subject: str,
        consume: Callable[[Reply], T],
        accept: frozenset[int],
        had: _Had,
    ) -> T:
        with self._follow(method, url, headers(), subject, had) as reply:
            if reply.status in _RETRIED:
                wait_s = self._retry_after_s(reply)
                with contextlib.suppress(*_NETWORK_ERRORS):
                    _drain(reply)
                raise _RefusedError(reply.status, wait_s)
            _require_status(reply, accept, subject)
            return consume(reply)

    @contextmanager
    def _follow(self, method: str, url: str, headers: Mapping[str, str], subject: str, had: _Had) -> Iterator[Reply]:
        target = self._access.target(url, subject=subject)
        here = target.url
        basic = {"accept-encoding": "identity", "user-agent": _AGENT, "accept": "*/*", **headers}
        foreign = {name: value for name, value in basic.items() if name.lower() not in _OURS_ALONE}
        for _ in range(_MAX_REDIRECTS + 1):
            sent = basic if origin(here) == origin(target.url) else foreign
            own = self._access.headers(method, here, target)
            request = self._request(method, here, sent | own, subject)
            response = self._transport.handle_request(request)
            try:
                at = url if target.bucket is not None and here == target.url else here
                reply = self._reply(response, at, url, subject, had)
                moved = self._access.elsewhere(target, reply.status, reply.headers)
                if moved is not None:
                    target, here = moved, moved.url
                elif reply.status not in _REDIRECTS or "location" not in reply.headers:
                    yield reply
                    return
                else:
                    here = _next_hop(here, reply.headers["location"], subject)
                _drain(reply)
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
            return httpx.Request(method, url, headers=dict(headers), extensions={"timeout": self._timeout})
        except (httpx.InvalidURL, UnicodeError) as error:
            raise ForbiddenSourceError(
                subject, "is no readable address", facts={"got": redact(url)}, remedy="correct the address"
            ) from error

    def _reply(self, response: httpx.Response, here: str, asked: str, subject: str, had: _Had) -> Reply:
        shown = redact(asked)

        def body() -> Iterator[bytes]:
            self._require_room(reply.length or 0, subject, shown)
            for chunk in response.iter_raw():
                had.bytes += len(chunk)
                with self._counting:
                    self._bytes_fetched += len(chunk)
                    total = self._bytes_fetched
                if self._on_bytes is not None:
                    self._on_bytes(total)
                self._require_room(0, subject, shown)
                yield chunk

        reply = Reply(url=here, shown=shown, status=response.status_code, headers=dict(response.headers), body=body)
        return reply

    def _require_room(self, more: int, subject: str, shown: str) -> None:
        needed = self._bytes_fetched + more
        if self._max_fetch is None or needed <= self._max_fetch:
            return
        suggested = f"{max(1, -(-2 * needed // 10**6))}MB"
        raise FetchLimitError(
            subject,
            "would be fetched beyond the limit",
            facts={"url": shown, "limit": f"{self._max_fetch} bytes", "needed": f"at least {needed} bytes"},
            remedy=f"--max-fetch {suggested}, or in the descriptor: max_fetch: {suggested}; or select less",
        )

    def _retry_after_s(self, reply: Reply) -> float:
        text = reply.headers.get("retry-after", "").strip()
        if text.isdecimal():
            return float(text)
        try:
            return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - self._clock())
        except (ValueError, OverflowError, TypeError):
            return 0.0


@dataclass(slots=True)
class _Had:
    """Bytes that one try brought."""

    bytes: int = 0


def _drain(reply: Reply) -> None:
    """Read what nobody needs, if it is short."""
    if (reply.length or 0) > _DRAINED:
        return
    count = 0
    for chunk in reply.body():
        count += len(chunk)
        if count > _DRAINED:
            return


def _offline(url: str, subject: str) -> OfflineError:
    return OfflineError(
        subject,
        "is needed from the network, which is ruled out",
        facts={"url": redact(url)},
        remedy="run the same command without --offline",
    )


def _given_up(url: str, subject: str, failure: str, tries: int) -> UpstreamError:
    remedy = "check the network and the server, then run the same command again"
    if "CERTIFICATE_VERIFY_FAILED" in failure:
        remedy = 'set ca_bundle = "/path/to/ca.pem" in coral.toml, if this site has certificates of its own'
    facts = {"url": redact(url), "got": failure, "tries": tries}
    return UpstreamError(subject, "could not be fetched", facts=facts, remedy=remedy)


def _next_hop(here: str, location: str, subject: str) -> str:
    try:
        joined = urljoin(here, location)
    except ValueError:  # `http://[`
        joined = location
    there, _ = split_userinfo(require_http(joined, subject=subject, buckets=False))
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
    _drain(reply)
    facts = {"url": reply.shown, "got": f"status {reply.status}"}
    if reply.status in (404, 410):
        raise SourceMissingError(
            subject, "is not at that address", facts=facts, remedy="correct the address, or ask its publisher"
        )
    raise _refused(reply, subject, facts)


def _refused(reply: Reply, subject: str, facts: Mapping[str, object]) -> CoralError:
    if reply.status in (401, 403, 407):
        place = "://".join(map(str, origin(reply.url)[:2]))
        return UpstreamError(
            subject,
            "may not be read by you",
            facts=facts,
            remedy=f'put what lets you in into coral.toml: [credentials."{place}"], token = "env:NAME"',
        )
    return UpstreamError(
        subject, "was not served", facts=facts, remedy="check the address and the server, then run it again"
    )

"""What is asked of a server: a file's state, a range, all of it. Never gives bytes that are not the pinned ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from coralord_lightning.errors import CoralError, SourceIntegrityError, UpstreamError
from coralord_lightning.sources.address import redact
from coralord_lightning.sources.http import BrokenBodyError, HttpClient, Reply

__all__ = ["Range", "RemoteState", "changed", "read_all", "read_range", "read_state", "require_same_etag", "stream_all"]

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_HEAD_REFUSED = frozenset({400, 401, 403, 405, 501})


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteState:
    """What a server says of a file now.

    Args:
        etag: strong ETag, or None.
        size_bytes: None where the server does not say.
        ranges: whether ranges of it can be had.
    """

    etag: str | None
    size_bytes: int | None
    ranges: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A part of a file, and the strong ETag that came with it."""

    data: bytes
    etag: str | None


def read_state(client: HttpClient, url: str, *, subject: str) -> RemoteState:
    """The state of a remote file by HEAD; by a range of one byte where HEAD is refused or says too little."""

    def by_head(reply: Reply) -> RemoteState | None:
        if reply.status != 200 or reply.length is None:
            return None
        ranges = reply.headers.get("accept-ranges", "").lower()
        if ranges in {"bytes", "none"} or reply.etag is None:
            return RemoteState(etag=reply.etag, size_bytes=reply.length, ranges=ranges == "bytes")
        return None

    accept = frozenset({200}) | _HEAD_REFUSED
    found = client.ask("HEAD", url, subject=subject, consume=by_head, accept=accept)
    if found is not None:
        return found
    return client.ask(
        "GET", url, subject=subject, consume=_state_by_range, accept=frozenset({200, 206, 416}),
        headers={"range": "bytes=0-0"},
    )  # fmt: skip


def _state_by_range(reply: Reply) -> RemoteState:
    if reply.status == 206:
        found = _CONTENT_RANGE.fullmatch(reply.headers.get("content-range", ""))
        size = int(found[3]) if found is not None and found[3] != "*" else None
        return RemoteState(etag=reply.etag, size_bytes=size, ranges=size is not None)
    return RemoteState(etag=reply.etag, size_bytes=reply.length if reply.status == 200 else None, ranges=False)


def read_range(
    client: HttpClient, url: str, start: int, stop: int, *, etag: str | None, size_bytes: int, subject: str
) -> Range:
    """Bytes [start, stop) of a remote file that still is the pinned one.

    Args:
        etag: what was pinned; None where the address is that of an unchanging file.

    Raises:
        SourceIntegrityError: the file is not the pinned one any more.
        UpstreamError: the server does not serve ranges as HTTP says.
    """

    def consume(reply: Reply) -> Range:
        if reply.status != 206:
            raise _no_range(reply, etag, size_bytes, subject)
        _require_range(reply, (start, stop), etag, size_bytes, subject)
        return Range(data=_read_body(reply, stop - start), etag=reply.etag)

    headers = {"range": f"bytes={start}-{stop - 1}"} | ({"if-range": etag} if etag else {})
    return client.ask(
        "GET", url, subject=subject, consume=consume, headers=headers, accept=frozenset({200, 206, 412, 416})
    )


def _require_range(reply: Reply, span: tuple[int, int], etag: str | None, size_bytes: int, subject: str) -> None:
    found = _CONTENT_RANGE.fullmatch(reply.headers.get("content-range", ""))
    if found is None or (int(found[1]), int(found[2]) + 1) != span:
        got = reply.headers.get("content-range", "no Content-Range")
        expected = f"bytes {span[0]}-{span[1] - 1}"
        raise _bad_server(reply, subject, "answers with another range than was asked for", got=got, expected=expected)
    if found[3] not in ("*", str(size_bytes)):
        raise changed(subject, reply.shown, expected=f"{size_bytes} bytes", got=f"{found[3]} bytes")
    if "etag" in reply.headers and etag is not None:
        require_same_etag(etag, reply.headers["etag"], subject=subject, url=reply.shown)


def require_same_etag(expected: str, got: str, *, subject: str, url: str) -> None:
    """Check an ETag against the one that is held to.

    Raises:
        SourceIntegrityError: it is another.
    """
    if got != expected:
        raise changed(subject, redact(url), expected=f"ETag {expected}", got=f"ETag {got}")


def _no_range(reply: Reply, etag: str | None, size_bytes: int, subject: str) -> CoralError:
    """The error for an answer that is no range: the file changed, or the server does not do ranges."""
    if reply.status in (412, 416):
        return changed(subject, reply.shown, expected=f"{size_bytes} bytes", got=f"status {reply.status}")
    if etag is not None and reply.headers.get("etag") != etag:
        got = f"ETag {reply.headers['etag']}" if "etag" in reply.headers else "no ETag"
        return changed(subject, reply.shown, expected=f"ETag {etag}", got=got)
    return _bad_server(reply, subject, "answers a range with the whole file", got="status 200", expected="status 206")


def read_all(client: HttpClient, url: str, *, subject: str, limit: int) -> tuple[bytes, str]:
    """A whole small file, and the address that it came from in the end.

    Raises:
        UpstreamError: it is larger than `limit` bytes, or could not be had.
    """

    def consume(reply: Reply) -> tuple[bytes, str]:
        out = bytearray()
        for chunk in reply.body():
            out += chunk
            if len(out) > limit:
                raise _bad_server(reply, subject, "is too large", got="more", expected=f"at most {limit} bytes")
        _require_length(reply, len(out))
        return bytes(out), reply.url

    return client.ask("GET", url, subject=subject, consume=consume)


def stream_all(
    client: HttpClient, url: str, *, subject: str, restart: Callable[[], None], write: Callable[[bytes], object]
) -> RemoteState:
    """Hand a whole file to `write`; `restart` is called before each try, and must forget what was written."""

    def consume(reply: Reply) -> RemoteState:
        restart()
        count = 0
        for chunk in reply.body():
            write(chunk)
            count += len(chunk)
        _require_length(reply, count)
        return RemoteState(etag=reply.etag, size_bytes=count, ranges=False)

    return client.ask("GET", url, subject=subject, consume=consume)


def changed(subject: str, shown: str, *, expected: str, got: str) -> SourceIntegrityError:
    """The error for a remote file that is not the pinned one any more."""
    return SourceIntegrityError(
        subject,
        "is not the remote file that was pinned",
        facts={"url": shown, "expected": expected, "got": got},
        remedy="run `coral update` on the descriptor to pin the new file, or restore the old one upstream",
    )


def _read_body(reply: Reply, expected: int) -> bytes:
    out = bytearray()
    for chunk in reply.body():
        out += chunk
        if len(out) > expected:
            break
    if len(out) != expected:
        raise BrokenBodyError(f"{'more' if len(out) > expected else len(out)} of {expected} bytes")
    return bytes(out)


def _require_length(reply: Reply, count: int) -> None:
    if reply.length is not None and reply.length != count:
        raise BrokenBodyError(f"{count} of {reply.length} bytes")


def _bad_server(reply: Reply, subject: str, message: str, *, got: str, expected: str) -> UpstreamError:
    return UpstreamError(
        subject,
        message,
        facts={"url": redact(reply.shown), "expected": expected, "got": got},
        remedy="use another mirror, or download the file beside the Croissant file and give its relative path",
    )

"""What is asked of a server: a file's state, a range, all of it. Never gives bytes that are not the pinned ones."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from coralord_lightning.errors import CoralError, SourceIntegrityError, UpstreamError
from coralord_lightning.sources.address import redact
from coralord_lightning.sources.http import LOG, BrokenBodyError, HttpClient, Reply

__all__ = ["Range", "RemoteState", "changed", "read_all", "read_range", "read_state", "require_same_etag", "stream_all"]

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")
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


def read_state(client: HttpClient, url: str, *, subject: str, whole: bool = False) -> RemoteState:
    """The state of a remote file by HEAD; by a range of one byte where HEAD is refused or says too little.

    Args:
        whole: the file will be read whole, so that nothing need be known of ranges.
    """

    def by_head(reply: Reply) -> RemoteState | None:
        if reply.status != 200 or reply.length is None:
            return None
        ranges = reply.headers.get("accept-ranges", "").lower()
        if whole or ranges in {"bytes", "none"} or reply.etag is None:
            return RemoteState(etag=reply.etag, size_bytes=reply.length, ranges=ranges == "bytes")
        return None

    accept = frozenset({200}) | _HEAD_REFUSED
    found = client.ask("HEAD", url, subject=subject, consume=by_head, accept=accept)
    if found is not None:
        return found
    if whole:
        return RemoteState(etag=None, size_bytes=None, ranges=False)
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
    out = bytearray()
    kept = [False]

    def headers() -> dict[str, str]:
        if not kept[0] or len(out) >= stop - start:
            out.clear()  # nothing says that what comes now goes with what is here
        return {"range": f"bytes={start + len(out)}-{stop - 1}"} | ({"if-range": etag} if etag else {})

    def consume(reply: Reply) -> Range:
        if reply.status != 206:
            raise _no_range(reply, etag, size_bytes, subject)
        _require_range(reply, (start + len(out), stop), etag, size_bytes, subject)
        if out:
            LOG.info("%s: goes on after %d of %d bytes from %s", subject, len(out), stop - start, reply.shown)
        if reply.length not in (None, stop - start - len(out)):
            raise BrokenBodyError(f"{reply.length} of {stop - start - len(out)} bytes announced")
        kept[0] = etag is not None and reply.etag == etag
        _read_body(reply, out, stop - start)
        return Range(data=bytes(out), etag=reply.etag)

    accept = frozenset({200, 206, 412, 416})
    return client.ask("GET", url, subject=subject, consume=consume, headers=headers, accept=accept, resumes=True)


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


class Sink(Protocol):
    """What takes the bytes of a whole file, and may have the first of them already."""

    size: int
    etag: str | None

    def restart(self, etag: str | None) -> None:
        """Forget everything; what comes now has this strong ETag."""
        ...

    def write(self, chunk: bytes) -> None:
        """Take the next bytes."""
        ...


def stream_all(
    client: HttpClient, url: str, *, subject: str, sink: Sink, state: RemoteState | None = None
) -> RemoteState:
    """Hand a whole file to `sink`; go on from what it has, if the server says that the file is still the same.

    Args:
        state: what the server said before; under the same ETag, the file must have the same size.
    """

    def headers() -> dict[str, str]:
        if not sink.size or sink.etag is None:
            return {}
        return {"range": f"bytes={sink.size}-", "if-range": sink.etag}

    def consume(reply: Reply) -> RemoteState:
        total = _begun(reply, sink, subject)
        if state is not None and state.etag is not None and state.etag == sink.etag:
            if None not in (total, state.size_bytes) and total != state.size_bytes:
                raise BrokenBodyError(f"{total} of {state.size_bytes} bytes announced")
            total = state.size_bytes
        for chunk in reply.body():
            sink.write(chunk)
        if total is not None and sink.size != total:
            got = sink.size
            if got > total:
                sink.restart(None)
            raise BrokenBodyError(f"{got} of {total} bytes")
        return RemoteState(etag=sink.etag, size_bytes=sink.size, ranges=False)

    return client.ask(
        "GET", url, subject=subject, consume=consume, headers=headers, accept=frozenset({200, 206, 412, 416}),
        resumes=True,
    )  # fmt: skip


def _begun(reply: Reply, sink: Sink, subject: str) -> int | None:
    """The size of the file that comes, all of it or the rest."""
    total = _resumed(reply, sink, subject) if sink.size and sink.etag else None
    if total is not None:
        return total
    if reply.status != 200:
        sink.restart(None)
        raise BrokenBodyError(f"status {reply.status} in answer to all of the file")
    sink.restart(reply.etag)
    return reply.length


def _resumed(reply: Reply, sink: Sink, subject: str) -> int | None:
    """The file's size, where the answer goes on from what is here; None where it begins anew."""
    found = _CONTENT_RANGE.fullmatch(reply.headers.get("content-range", "")) if reply.status == 206 else None
    same = "etag" not in reply.headers or reply.headers["etag"] == sink.etag
    if found is not None and int(found[1]) == sink.size and found[3] == str(int(found[2]) + 1) and same:
        LOG.info("%s: goes on after byte %d of %s from %s", subject, sink.size, found[3], reply.shown)
        return int(found[3])
    why = f"status {reply.status}, {reply.headers.get('content-range', 'no Content-Range')}"
    why += f", ETag {reply.headers.get('etag', 'none')}, had {sink.etag}"
    LOG.info("%s: begins anew from %s, %d bytes dropped (%s)", subject, reply.shown, sink.size, why)
    return None


def changed(subject: str, shown: str, *, expected: str, got: str) -> SourceIntegrityError:
    """The error for a remote file that is not the pinned one any more."""
    return SourceIntegrityError(
        subject,
        "is not the remote file that was pinned",
        facts={"url": shown, "expected": expected, "got": got},
        remedy="run `coral update` on the descriptor to pin the new file, or restore the old one upstream",
    )


def _read_body(reply: Reply, out: bytearray, expected: int) -> None:
    """Append a body to what is here already; all of it is to be so long."""
    for chunk in reply.body():
        out += chunk
        if len(out) > expected:
            out.clear()
            raise BrokenBodyError(f"more of {expected} bytes")
    if len(out) != expected:
        raise BrokenBodyError(f"{len(out)} of {expected} bytes")


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

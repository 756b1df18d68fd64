"""A small web server on this machine's loopback address, with ranges, ETags and scripted misbehaviour."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Request", "Site", "answer", "cut", "on_get", "serve"]


@dataclass
class Request:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass
class Site:
    """What a server serves and what it was asked.

    Args:
        scripts: path -> answers to give first, one a request; each gets the handler and may answer in any way.
        etag: makes a file's ETag; None: there is none.
        guard: sees each request first; the status that it gives is the answer.
        extra: headers to add to every answer; None takes a header away.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    scripts: dict[str, list[Callable[[Any], None]]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    etag: Callable[[bytes], str | None] = lambda content: f'"{len(content)}-{hash(content) & 0xFFFF}"'
    ranges: bool = True
    head: bool = True
    extra: dict[str, str | None] = field(default_factory=dict)
    body_bytes: int = 0
    guard: Callable[[Any], int | None] | None = None

    def asked(self, method: str = "GET") -> list[str]:
        """The `Range` headers (or paths, where there is none) of the requests of a kind."""
        return [item.headers.get("range", item.path) for item in self.requests if item.method == method]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site
    cut_at: int | None = None

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.serve()

    def do_GET(self) -> None:
        self.serve()

    def serve(self) -> None:
        site = self.site
        headers = {key.lower(): value for key, value in self.headers.items()}
        site.requests.append(Request(self.command, self.path, headers))
        path = self.path.partition("?")[0]
        refused = site.guard(self) if site.guard is not None else None
        if refused is not None:
            self.answer(refused)
        elif site.scripts.get(path):
            site.scripts[path].pop(0)(self)
        elif self.command == "HEAD" and not site.head:
            self.answer(405)
        elif path not in site.files:
            self.answer(404, b"nothing here")
        else:
            self.serve_file(site.files[path], headers)

    def serve_file(self, content: bytes, headers: dict[str, str]) -> None:
        etag = self.site.etag(content)
        own = {"ETag": etag} if etag else {}
        if self.site.ranges:
            own["Accept-Ranges"] = "bytes"
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("range", ""))
        if asked is None or not self.site.ranges or headers.get("if-range", etag) != etag:
            self.answer(200, content, own)
            return
        start, stop = int(asked[1]), min(int(asked[2] or len(content)) + 1, len(content))
        if start >= len(content):
            self.answer(416, b"", own)
            return
        own["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        self.answer(206, content[start:stop], own)

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str | None] | None = None) -> None:
        """Answer; headers whose value is None are left out."""
        sent = {"Content-Length": str(len(body))} | (headers or {}) | self.site.extra
        self.send_response(status)
        for key, value in sent.items():
            if value is not None:
                self.send_header(key, value)
        if sent.get("Content-Length") is None or int(sent["Content-Length"]) != len(body):
            self.close_connection = True
            self.send_header("Connection", "close")
        self.end_headers()
        if self.cut_at is not None:
            body, self.close_connection = body[: self.cut_at], True
        if self.command != "HEAD":
            self.site.body_bytes += len(body)  # first: once written, the client may ask for the sum
            self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no error here."""


@contextmanager
def serve(**files: bytes) -> Iterator[Site]:
    """Serve files by name (`a_csv` is `/a.csv`) until the context ends."""
    site = Site(files={"/" + name.replace("_", "."): content for name, content in files.items()})
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"site": site}))
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer(status: int, body: bytes = b"", headers: dict[str, str | None] | None = None) -> Callable[[Any], None]:
    """A scripted answer."""
    return lambda handler: handler.answer(status, body, headers)


def cut(after: int) -> Callable[[Any], None]:
    """A scripted answer that is right, and breaks off after so many bytes of its body."""

    def script(handler: Any) -> None:
        asked = handler.site.requests[-1]
        handler.cut_at = after
        handler.serve_file(handler.site.files[asked.path.partition("?")[0]], asked.headers)

    return on_get(script)


def on_get(script: Callable[[Any], None]) -> Callable[[Any], None]:
    """The script, waiting until GET is asked; HEAD is answered as ever."""

    def patient(handler: Any) -> None:
        if handler.command != "HEAD":
            script(handler)
            return
        asked = handler.site.requests[-1]
        path = asked.path.partition("?")[0]
        handler.site.scripts[path].insert(0, patient)
        handler.serve_file(handler.site.files[path], asked.headers)

    return patient

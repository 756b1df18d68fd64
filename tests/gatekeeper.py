"""A registry that lets in only who has a token, before a real one; and that can go away."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import requests

USER, PASSWORD = "ada", "a secret"  # of this test
TOKEN = "let-me-in"  # of this test
_PASSED_ON = ("Content-Type", "Docker-Content-Digest", "Docker-Distribution-Api-Version")


@dataclass
class Gate:
    """Where it listens, whether it asks for a token, and what was asked of it."""

    host: str
    open: bool = False
    asked: list[str] = field(default_factory=list)


@contextmanager
def gatekeeper(registry: str, *, is_open: bool = False) -> Iterator[Gate]:
    """Serve a registry under another address, on loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            gate.asked.append(self.path)
            if self.path.startswith("/token"):
                return self._token()
            if not gate.open and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                realm = f'Bearer realm="http://{gate.host}/token",service="gate",scope="repository:x:pull"'
                return self._answer(401, b'{"errors":[{"code":"UNAUTHORIZED"}]}', {"WWW-Authenticate": realm})
            headers = {"Accept": ", ".join(self.headers.get_all("Accept") or ["*/*"])}
            method = requests.head if self.command == "HEAD" else requests.get
            found = method(f"http://{registry}{self.path}", headers=headers, timeout=60)
            kept = {key: found.headers[key] for key in _PASSED_ON if key in found.headers}
            size = found.headers.get("Content-Length", "0") if self.command == "HEAD" else None
            return self._answer(found.status_code, found.content, kept, size)

        do_HEAD = do_GET  # as http.server names it

        def _token(self) -> None:
            login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            if self.headers.get("Authorization") != f"Basic {login}":
                return self._answer(401, b"{}", {})
            return self._answer(200, json.dumps({"token": TOKEN}).encode(), {"Content-Type": "application/json"})

        def _answer(self, status: int, body: bytes, headers: dict[str, str], size: str | None = None) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", size or str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    gate = Gate(host=f"127.0.0.1:{server.server_address[1]}", open=is_open)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield gate
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def log_in(folder: Path, host: str) -> None:
    """What `docker login` leaves in a configuration folder."""
    login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": login}}}))

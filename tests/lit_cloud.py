"""The part of lightning.ai's API that LitLogger needs, on loopback: it has no offline mode."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_TEAM = {"id": "p1", "projectId": "p1", "name": "team", "displayName": "team", "ownerId": "u1", "ownerType": "user"}


class LitCloud:
    """What was sent to it.

    Args:
        tags: of the experiment, as the client last said them: a list of (name, value).
        requests: method and path, in their order.
    """

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[tuple[str, str]] = []
        self.bodies: list[dict[str, Any]] = []
        self.stream: dict[str, Any] | None = None

    @property
    def environ(self) -> dict[str, str]:
        """What a client needs to find it."""
        return {"LIGHTNING_CLOUD_URL": self.url, "LIGHTNING_USER_ID": "u1", "LIGHTNING_API_KEY": "none"}

    @property
    def tags(self) -> list[tuple[str, str]]:
        found = [] if self.stream is None else self.stream.get("tags", [])
        return [(tag["name"], tag["value"]) for tag in found]

    def answer(self, method: str, target: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """The response to a request; None: not found."""
        path = urlsplit(target).path
        self.requests.append((method, path))
        self.bodies.append(body)
        if "metrics-stream" in path:
            return self._stream(method, body)
        if path == "/v1/auth/user":
            return {"id": "u1", "username": "me"}
        known: dict[str, dict[str, Any]] = {
            "/v1/auth/login": {"token": "none"},
            "/v1/memberships": {"memberships": [_TEAM]},
            "/v1/users/search": {"users": [{"id": "u1", "username": "me"}]},
            "/v1/projects/p1": _TEAM,
        }
        return known.get(path, {})

    def _stream(self, method: str, body: dict[str, Any]) -> dict[str, Any] | None:
        if method in ("POST", "PUT"):
            fresh = {"id": "m1", "projectId": "p1", "cloudspaceId": "", "workId": "", "tags": []}
            self.stream = (self.stream or fresh) | body
        return self.stream


@contextmanager
def lit_cloud() -> Iterator[LitCloud]:
    """A server that runs while the context does."""
    cloud = LitCloud()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                body = json.loads(sent) if sent else {}
            except ValueError:
                body = {}
            answer = cloud.answer(self.command, self.path, body if isinstance(body, dict) else {})
            data = json.dumps({"message": "not found"} if answer is None else answer).encode()
            self.send_response(404 if answer is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    cloud.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield cloud
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

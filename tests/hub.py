"""A Hugging Face hub on loopback: its API with pages, redirects of large files to another origin, tokens, ranges."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from web import Site, serve

__all__ = ["Hub", "commit_of", "git_oid", "serve_hub"]


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def commit_of(files: dict[str, bytes]) -> str:
    return hashlib.sha1(json.dumps({key: git_oid(value) for key, value in files.items()}).encode()).hexdigest()


@dataclass
class Hub:
    """What the hub has and what it was asked.

    Args:
        revisions: (data set, revision) -> its files.
        lfs: endings of the files that are kept in LFS, and redirected to the other origin.
        gated: data sets that want the token.
        page: files on a page of a listing.
        requests: (method, path with query, headers).
    """

    url: str = ""
    cdn: Site = field(default_factory=Site)
    revisions: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    lfs: tuple[str, ...] = (".parquet", ".zip")
    gated: set[str] = field(default_factory=set)
    token: str = "hf_canary"
    page: int = 1000
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    elsewhere: str | None = None

    def put(self, name: str, files: dict[str, bytes], revision: str = "main") -> str:
        """Move a revision to some files; gives the commit."""
        commit = commit_of(files)
        self.revisions[name, revision] = files
        self.commits[commit] = files
        return commit

    def asked(self, kind: str) -> list[str]:
        return [path for _, path, _ in self.requests if kind in path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.serve()

    def do_GET(self) -> None:
        self.serve()

    def serve(self) -> None:
        hub, parts = self.hub, urlsplit(self.path)
        headers = {key.lower(): value for key, value in self.headers.items()}
        hub.requests.append((self.command, self.path, headers))
        found = re.fullmatch(r"/(api/)?datasets/(.+?)/(revision|tree|resolve)/([^/]+)(?:/(.*))?", parts.path)
        if found is None:
            self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            return
        _, name, kind, revision, path = (unquote(part or "") for part in found.groups())
        if name in hub.gated and headers.get("authorization") != f"Bearer {hub.token}":
            self.answer(401, b"{}", {"X-Error-Code": "GatedRepo"})
        elif not any(known == name for known, _ in hub.revisions):
            self.answer(401, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif kind == "revision":
            files = hub.revisions.get((name, revision))
            if files is None:
                self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            else:
                self.answer(200, json.dumps({"id": name, "sha": commit_of(files)}).encode())
        elif kind == "tree":
            self.tree(hub.commits[revision], path, parse_qs(parts.query))
        else:
            self.file(hub.commits[revision], path, headers)

    def tree(self, files: dict[str, bytes], folder: str, query: dict[str, list[str]]) -> None:
        prefix = f"{folder}/" if folder else ""
        inside = [path for path in sorted(files) if path.startswith(prefix)]
        if not inside:
            self.answer(404, b"{}", {"X-Error-Code": "EntryNotFound"})
            return
        listed: list[dict[str, Any]] = []
        for path in inside:
            first, _, deeper = path.removeprefix(prefix).partition("/")
            if deeper and query.get("recursive") != ["true"]:
                entry: dict[str, Any] = {"type": "directory", "oid": "0" * 40, "size": 0, "path": prefix + first}
            else:
                entry = self.entry(path, files[path])
            if entry not in listed:
                listed.append(entry)
        at = int(query.get("cursor", ["0"])[0])
        headers = {}
        if at + self.hub.page < len(listed):
            origin = self.hub.elsewhere or self.hub.url
            recursive = query.get("recursive", ["false"])[0]
            path = self.path.partition("?")[0]
            headers["Link"] = f'<{origin}{path}?recursive={recursive}&cursor={at + self.hub.page}>; rel="next"'
        self.answer(200, json.dumps(listed[at : at + self.hub.page]).encode(), headers)

    def entry(self, path: str, content: bytes) -> dict[str, Any]:
        out = {"type": "file", "oid": git_oid(content), "size": len(content), "path": path}
        if path.endswith(self.hub.lfs):
            out["oid"] = git_oid(b"pointer" + content)
            out["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
        return out

    def file(self, files: dict[str, bytes], path: str, headers: dict[str, str]) -> None:
        content = files.get(path)
        if content is None:
            self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        elif path.endswith(self.hub.lfs):
            key = f"/{hashlib.sha256(content).hexdigest()}"
            self.hub.cdn.files[key] = content
            self.answer(302, b"", {"Location": f"{self.hub.cdn.url}{key}?X-Amz-Signature=canary"})
        else:
            self.answer_ranged(content, headers)

    def answer_ranged(self, content: bytes, headers: dict[str, str]) -> None:
        own = {"ETag": f'"{git_oid(content)}"', "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("range", ""))
        if asked is None:
            self.answer(200, content, own)
            return
        start, stop = int(asked[1]), min(int(asked[2]) + 1, len(content))
        self.answer(206, content[start:stop], own | {"Content-Range": f"bytes {start}-{stop - 1}/{len(content)}"})

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """Serve a hub, and the other origin that its large files lie at, until the context ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        with serve() as cdn:
            hub.cdn = cdn
            yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

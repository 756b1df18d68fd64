"""A Hugging Face hub on loopback that takes commits: repositories, branches, uploads through LFS, and reading back."""

from __future__ import annotations

import base64
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

from hub import git_oid

__all__ = ["Commit", "WritingHub", "serve_writing_hub"]


@dataclass(frozen=True, kw_only=True)
class Commit:
    """One commit: its hash and all files after it."""

    oid: str
    summary: str
    files: dict[str, bytes]


@dataclass
class WritingHub:
    """What the hub has and what it was asked.

    Args:
        token: that may write.
        lfs: endings of the files that must go through LFS.
        repositories: name -> branch -> commits, oldest first.
        private: the names of private repositories.
        requests: (method, path, headers).
        refused: a status with which every commit is answered.
    """

    url: str = ""
    token: str = "hf_canary"
    lfs: tuple[str, ...] = (".parquet",)
    repositories: dict[str, dict[str, list[Commit]]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    refused: int | None = None

    def head(self, name: str, branch: str = "main") -> Commit:
        return self.repositories[name][branch][-1]

    def create(self, name: str, *, private: bool) -> None:
        if name not in self.repositories:
            self.repositories[name] = {"main": []}
            self.private |= {name} if private else set()
            self.commit(name, "main", "initial commit", {".gitattributes": b"*.parquet filter=lfs\n"})

    def commit(self, name: str, branch: str, summary: str, files: dict[str, bytes]) -> Commit:
        commits = self.repositories[name][branch]
        body = [len(commits), branch, summary, {path: git_oid(content) for path, content in files.items()}]
        made = Commit(oid=hashlib.sha1(json.dumps(body).encode()).hexdigest(), summary=summary, files=files)
        commits.append(made)
        return made

    def find(self, name: str, revision: str) -> Commit | None:
        branches = self.repositories.get(name, {})
        if revision in branches:
            return branches[revision][-1]
        return next((one for commits in branches.values() for one in commits if one.oid == revision), None)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: WritingHub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.take()

    def do_HEAD(self) -> None:
        self.take()

    def do_POST(self) -> None:
        self.take()

    def do_PUT(self) -> None:
        self.take()

    def take(self) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        body = self.body()
        headers = {key.lower(): value for key, value in self.headers.items()}
        hub.requests.append((self.command, self.path, headers))
        stored = re.fullmatch(r"/storage/([0-9a-f]{64})", path)
        if stored is not None:  # an address that is signed by itself, elsewhere on the real hub
            hub.objects[stored[1]] = body
            self.answer(200 if hashlib.sha256(body).hexdigest() == stored[1] else 400)
        elif path != "/api/validate-yaml" and headers.get("authorization") != f"Bearer {hub.token}":
            self.answer(401, {"error": "Invalid username or password."})
        else:
            self.route(path, body)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def route(self, path: str, body: bytes) -> None:
        for method, pattern, act in (
            ("POST", r"/api/validate-yaml", self.validate),
            ("POST", r"/api/repos/create", self.create),
            ("POST", r"/api/datasets/([^/]+/[^/]+)/branch/(.+)", self.branch),
            ("POST", r"/api/datasets/([^/]+/[^/]+)/preupload/(.+)", self.preupload),
            ("POST", r"/datasets/([^/]+/[^/]+)\.git/info/lfs/objects/batch", self.batch),
            ("POST", r"/api/datasets/([^/]+/[^/]+)/commit/(.+)", self.commit),
            ("GET", r"/api/datasets/([^/]+/[^/]+)/tree/([^/]+)(?:/.*)?", self.tree),
            ("GET", r"/api/datasets/([^/]+/[^/]+)(?:/revision/(.+))?", self.info),
            ("POST", r"/api/datasets/([^/]+/[^/]+)/paths-info/(.+)", self.paths_info),
            ("GET", r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.file),
        ):
            found = re.fullmatch(pattern, path)
            if found is not None and method in (self.command, "GET" if self.command == "HEAD" else ""):
                act(body, *[part or "" for part in found.groups()])
                return
        self.answer(404, {"error": "Not found"}, {"X-Error-Code": "EntryNotFound"})

    def validate(self, _: bytes) -> None:
        self.answer(200, {"errors": [], "warnings": []})

    def create(self, body: bytes) -> None:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        is_new = name not in self.hub.repositories
        private = asked.get("private") is True or asked.get("visibility") == "private"
        self.hub.create(name, private=private)
        self.answer(200 if is_new else 409, {"url": f"{self.hub.url}/datasets/{name}", "name": name})

    def branch(self, _: bytes, name: str, branch: str) -> None:
        branches = self.hub.repositories[name]
        is_new = branch not in branches
        branches.setdefault(branch, list(branches["main"]))
        self.answer(200 if is_new else 409, {} if is_new else {"error": "Reference already exists"})

    def preupload(self, body: bytes, name: str, revision: str) -> None:
        found = self.hub.find(name, revision)
        kept = {} if found is None else found.files
        files = [
            {
                "path": item["path"],
                "uploadMode": "lfs" if item["path"].endswith(self.hub.lfs) else "regular",
                "shouldIgnore": False,
                "oid": self.oid(item["path"], kept[item["path"]]) if item["path"] in kept else None,
            }
            for item in json.loads(body)["files"]
        ]
        self.answer(200, {"files": files})

    def oid(self, path: str, content: bytes) -> str:
        return hashlib.sha256(content).hexdigest() if path.endswith(self.hub.lfs) else git_oid(content)

    def batch(self, body: bytes, _: str) -> None:
        objects = []
        for item in json.loads(body)["objects"]:
            one: dict[str, Any] = {"oid": item["oid"], "size": item["size"]}
            if item["oid"] not in self.hub.objects:
                one["actions"] = {"upload": {"href": f"{self.hub.url}/storage/{item['oid']}"}}
            objects.append(one)
        self.answer(200, {"transfer": "basic", "objects": objects})

    def commit(self, body: bytes, name: str, branch: str) -> None:
        if self.hub.refused is not None:
            self.answer(self.hub.refused, {"error": "You may not write to this branch."})
            return
        files = dict(self.hub.head(name, branch).files)
        summary = ""
        for line in body.splitlines():
            item = json.loads(line)
            kind, value = item["key"], item["value"]
            if kind == "header":
                summary = value["summary"]
            elif kind == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif kind == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            else:
                assert kind == "deletedFile", kind
                del files[value["path"]]
        made = self.hub.commit(name, branch, summary, files)
        self.answer(200, {"commitUrl": f"{self.hub.url}/datasets/{name}/commit/{made.oid}", "commitOid": made.oid,
                          "pullRequestUrl": None})  # fmt: skip

    def info(self, _: bytes, name: str, revision: str) -> None:
        found = self.hub.find(name, revision or "main")
        if found is None:
            self.answer(404, {"error": "Not found"}, {"X-Error-Code": "RepoNotFound"})
            return
        siblings = [{"rfilename": path} for path in sorted(found.files)]
        self.answer(200, {"id": name, "sha": found.oid, "siblings": siblings, "private": name in self.hub.private,
                          "tags": [], "downloads": 0, "likes": 0})  # fmt: skip

    def tree(self, _: bytes, name: str, revision: str) -> None:
        parts = urlsplit(self.path)
        found = self.hub.find(name, revision)
        folder = unquote(parts.path).partition(f"/tree/{revision}")[2].strip("/")
        prefix = f"{folder}/" if folder else ""
        listed: list[dict[str, Any]] = []
        for path, content in sorted(({} if found is None else found.files).items()):
            first, __, deeper = path.removeprefix(prefix).partition("/")
            if not path.startswith(prefix):
                continue
            is_inside = deeper and parse_qs(parts.query).get("recursive") != ["true"]
            entry = {"type": "directory", "oid": "0" * 40, "size": 0, "path": prefix + first} if is_inside else None
            entry = entry or self.entry(path, content)
            listed += [] if entry in listed else [entry]
        self.answer(200 if listed else 404, listed, {} if listed else {"X-Error-Code": "EntryNotFound"})

    def paths_info(self, body: bytes, name: str, revision: str) -> None:
        found = self.hub.find(name, revision)
        asked = json.loads(body)["paths"]
        files = {} if found is None else found.files
        self.answer(200, [self.entry(path, files[path]) for path in asked if path in files])

    def entry(self, path: str, content: bytes) -> dict[str, Any]:
        out: dict[str, Any] = {"type": "file", "oid": git_oid(content), "size": len(content), "path": path}
        if path.endswith(self.hub.lfs):
            out["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
        return out

    def file(self, _: bytes, name: str, revision: str, path: str) -> None:
        found = self.hub.find(name, revision)
        content = None if found is None else found.files.get(path)
        if found is None or content is None:
            self.answer(404, {"error": "Not found"}, {"X-Error-Code": "EntryNotFound"})
            return
        own = {"ETag": f'"{self.oid(path, content)}"', "X-Repo-Commit": found.oid, "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        if asked is None:
            self.answer_bytes(200, content, own)
            return
        start, stop = int(asked[1]), min(int(asked[2] or len(content)) + 1, len(content))
        self.answer_bytes(206, content[start:stop], own | {"Content-Range": f"bytes {start}-{stop - 1}/{len(content)}"})

    def answer(self, status: int, body: Any = None, headers: dict[str, str] | None = None) -> None:
        self.answer_bytes(status, json.dumps({} if body is None else body).encode(), headers or {})

    def answer_bytes(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), "Content-Type": "application/json", **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def serve_writing_hub() -> Iterator[WritingHub]:
    """Serve a hub until the context ends."""
    hub = WritingHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

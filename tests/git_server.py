"""A git repository over real http on this machine's loopback address, served by git's own backend."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

__all__ = ["GitSite", "git", "make_repository", "serve_git"]

QUIET = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
}
AUTHOR = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]


def git(folder: Path, *words: str) -> str:
    return subprocess.run(
        ["git", *AUTHOR, *words], cwd=folder, env=QUIET, check=True, capture_output=True, text=True
    ).stdout.strip()


def make_repository(folder: Path, **files: bytes) -> str:
    """A repository with one commit of some files (`data__a_csv` is `data/a.csv`); gives its commit."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "-q")
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "data")
    git(folder, "config", "uploadpack.allowFilter", "true")
    git(folder, "config", "uploadpack.allowAnySHA1InWant", "true")
    return git(folder, "rev-parse", "HEAD")


@dataclass
class GitSite:
    """Where the server is, and what it was asked."""

    url: str = ""
    root: Path = Path()
    requests: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    redirect: str | None = None


class _Handler(BaseHTTPRequestHandler):
    site: GitSite

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.serve()

    def do_POST(self) -> None:
        self.serve()

    def serve(self) -> None:
        self.site.requests.append(f"{self.command} {self.path}")
        headers = {key.lower(): value for key, value in self.headers.items()}
        self.site.headers.append(headers)
        if self.site.redirect is not None:
            self.send_response(302)
            self.send_header("Location", self.site.redirect + self.path)
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        environ = QUIET | {
            "GIT_PROJECT_ROOT": str(self.site.root), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
            "QUERY_STRING": query, "REQUEST_METHOD": self.command, "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_TYPE": headers.get("content-type", ""), "GIT_PROTOCOL": headers.get("git-protocol", ""),
            "HTTP_CONTENT_ENCODING": headers.get("content-encoding", ""),
        }  # fmt: skip
        body = self.rfile.read(int(headers.get("content-length", 0)))
        done = subprocess.run(["git", "http-backend"], env=environ, input=body, capture_output=True, check=False)
        head, _, answer = done.stdout.partition(b"\r\n\r\n")
        lines = [line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line]
        status = next((int(value[:3]) for key, value in lines if key == "Status"), 200)
        self.send_response(status)
        for key, value in lines:
            if key != "Status":
                self.send_header(key, value)
        self.end_headers()
        self.wfile.write(answer)


@contextmanager
def serve_git(root: Path) -> Iterator[GitSite]:
    """Serve the repositories beneath a folder, `/name/.git` each, until the context ends."""
    site = GitSite(root=root)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"site": site}))
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

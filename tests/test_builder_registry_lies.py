"""A registry that gives other bytes than a digest names is not believed."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from coralord_lightning.builder.runners.registry import Trouble, open_registry
from coralord_lightning.config import Config

IMAGE = "application/vnd.oci.image.manifest.v1+json"
WANTED = f"sha256:{hashlib.sha256(b'another').hexdigest()}"


class Liar(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"mediaType": IMAGE, "config": {"digest": WANTED}, "os": "linux"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", IMAGE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as there
        """Say nothing."""


@pytest.fixture
def liar() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Liar) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"127.0.0.1:{server.server_port}/team/a:1"
        server.shutdown()
        serving.join()


def test_a_manifest_of_other_bytes_than_its_digest_is_refused(liar: str, tmp_path: Path) -> None:
    with open_registry(liar, config=Config(home=tmp_path)) as registry:
        assert registry.manifest("1").media_type == IMAGE
        with pytest.raises(Trouble, match="other bytes"):
            registry.manifest(WANTED)


def test_a_configuration_of_other_bytes_than_its_digest_is_refused(liar: str, tmp_path: Path) -> None:
    with open_registry(liar, config=Config(home=tmp_path)) as registry:
        manifest = registry.manifest("1")
        with pytest.raises(Trouble, match="other bytes"):
            registry.platform(manifest)

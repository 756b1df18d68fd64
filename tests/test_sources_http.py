"""Requests: exactly the pinned bytes or a typed error, no address that is not allowed, no secret in any message."""

from __future__ import annotations

import base64
import email.utils
import ipaddress
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpcore
import pytest

from coralord_lightning.config import Config
from coralord_lightning.errors import (
    ForbiddenSourceError,
    SourceIntegrityError,
    SourceMissingError,
    UpstreamError,
)
from coralord_lightning.sources.address import is_global
from coralord_lightning.sources.fetch import read_all, read_range, read_state
from coralord_lightning.sources.http import HttpClient, _next_hop
from coralord_lightning.sources.transport import CheckedBackend, Policy
from web import Site, answer, serve

NOW = 1_700_000_000.0


@pytest.fixture
def site() -> Iterator[Site]:
    with serve(a_parquet=bytes(range(256)) * 10, a_csv=b"n\n1\n", c_json=b"{}") as found:
        yield found


@pytest.fixture
def naps() -> list[float]:
    return []


@pytest.fixture
def client(naps: list[float]) -> Iterator[HttpClient]:
    config = Config(home=Path("/nowhere"), allow_private_hosts=frozenset({"127.0.0.1"}))
    found = HttpClient(config, sleep=naps.append, clock=lambda: NOW, timeout_s=5)
    yield found
    found.close()


def policy(*allowed: str) -> Policy:
    return Policy(Config(home=Path("/nowhere"), allow_private_hosts=frozenset(allowed)))


def get(client: HttpClient, url: str) -> bytes:
    return read_all(client, url, subject="data", limit=10_000)[0]


def part(client: HttpClient, site: Site, start: int = 10, stop: int = 20, **pinned: Any) -> bytes:
    content = site.files["/a.parquet"]
    pinned = {"etag": site.etag(content), "size_bytes": len(content)} | pinned
    return read_range(client, f"{site.url}/a.parquet", start, stop, subject="data", **pinned).data


def test_every_body_byte_is_counted_those_of_failed_tries_too(site: Site, client: HttpClient, naps: list) -> None:
    site.scripts["/c.json"] = [answer(503, b"busy"), answer(200, b"{", {"Content-Length": "2"})]

    assert get(client, f"{site.url}/c.json") == b"{}"
    assert client.bytes_fetched == site.body_bytes
    assert naps == [0.5, 1.0]


def test_retry_after_is_honoured_as_seconds_and_as_a_date(site: Site, client: HttpClient, naps: list) -> None:
    date = email.utils.formatdate(NOW + 30, usegmt=True)
    waits = ["7", date, "soon"]
    site.scripts["/c.json"] = [answer(429, b"", {"Retry-After": wait}) for wait in waits]

    assert get(client, f"{site.url}/c.json") == b"{}"
    assert naps == [7.0, 30.0, 2.0]


def test_a_server_that_stays_broken_is_given_up(site: Site, client: HttpClient, naps: list) -> None:
    site.scripts["/c.json"] = [answer(500)] * 9

    with pytest.raises(UpstreamError) as caught:
        get(client, f"{site.url}/c.json")
    assert (caught.value.exit_code, caught.value.facts["got"], caught.value.facts["tries"]) == (6, "status 500", "5")
    site.scripts["/c.json"] = [answer(503, b"", {"Retry-After": "86400"})]
    with pytest.raises(UpstreamError, match="86400 s"):
        get(client, f"{site.url}/c.json")
    assert len(naps) == 4


def test_an_unreachable_server_is_an_upstream_error(client: HttpClient) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

    with pytest.raises(UpstreamError, match="could not be fetched"):
        get(client, f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, SourceMissingError), (410, SourceMissingError), (403, UpstreamError), (418, UpstreamError)],
)
def test_refusals_are_told_apart(site: Site, client: HttpClient, status: int, kind: type) -> None:
    site.scripts["/c.json"] = [answer(status)]

    with pytest.raises(kind, match=str(status)):
        get(client, f"{site.url}/c.json")


def test_bodies_must_be_whole_small_enough_and_unencoded(site: Site, client: HttpClient) -> None:
    site.scripts["/c.json"] = [answer(200, b"x" * 20_000)]
    with pytest.raises(UpstreamError, match="too large"):
        get(client, f"{site.url}/c.json")
    site.scripts["/c.json"] = [answer(200, b"short", {"Content-Length": "9"})] * 5
    with pytest.raises(UpstreamError, match="could not be fetched"):
        get(client, f"{site.url}/c.json")
    site.scripts["/c.json"] = [answer(200, b"zip", {"Content-Encoding": "gzip"})]
    with pytest.raises(UpstreamError, match="encoding"):
        get(client, f"{site.url}/c.json")
    assert {item.headers["accept-encoding"] for item in site.requests} == {"identity"}


def test_redirects_are_followed_hop_by_hop_and_counted(site: Site, client: HttpClient) -> None:
    site.scripts["/go"] = [answer(302, b"", {"Location": "c.json"})]
    site.scripts["/loop"] = [answer(307, b"", {"Location": "/loop"})] * 20

    assert get(client, f"{site.url}/go") == b"{}"
    with pytest.raises(UpstreamError, match="more than 10"):
        get(client, f"{site.url}/loop")
    assert site.asked().count("/loop") == 11


@pytest.mark.parametrize(
    "target",
    [
        "file:///etc/passwd",
        "ftp://host/x",
        "http://10.0.0.1/",
        "http://localhost:1/",
        "http://[::ffff:127.0.0.1]/",
        "http://a b/",
    ],
)
def test_redirects_cannot_lead_to_what_is_forbidden(site: Site, client: HttpClient, target: str) -> None:
    site.scripts["/go"] = [answer(302, b"", {"Location": target})]

    with pytest.raises(ForbiddenSourceError):
        get(client, f"{site.url}/go")


def test_a_redirect_from_https_to_http_is_refused() -> None:
    assert _next_hop("https://a.org/x", "/y", "data") == "https://a.org/y"
    with pytest.raises(ForbiddenSourceError, match="https to http"):
        _next_hop("https://a.org/x", "http://a.org/y", "data")


def test_credentials_stay_with_their_origin(site: Site, client: HttpClient, monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login eve password leak\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with serve(c_json=b"{}") as other:
        site.scripts["/go"] = [answer(302, b"", {"Location": "/hop"})]
        site.scripts["/hop"] = [answer(302, b"", {"Location": f"{other.url}/c.json"})]
        get(client, f"{site.url}/go".replace("//", "//me:s%3Acret@"))
        get(client, f"{site.url}/c.json")

    expected = "Basic " + base64.b64encode(b"me:s:cret").decode()
    assert [item.headers.get("authorization") for item in site.requests] == [expected, expected, None]
    assert other.requests[0].headers.get("authorization") is None


@pytest.mark.parametrize(
    ("address", "fine"),
    [
        ("8.8.8.8", True), ("2606:4700::1111", True), ("127.0.0.1", False), ("10.1.2.3", False), ("::1", False),
        ("169.254.169.254", False), ("100.64.0.1", False), ("0.0.0.0", False), ("224.0.0.1", False), ("::", False),
        ("::ffff:10.0.0.1", False), ("::ffff:8.8.8.8", True), ("2002:7f00:1::", False), ("64:ff9b::7f00:1", False),
        ("fe80::1", False), ("fc00::1", False), ("2001:0:4136:e378:8000:63bf:80ff:fffe", False), ("240.0.0.1", False),
    ],
)  # fmt: skip
def test_only_public_addresses_are_global(address: str, fine: bool) -> None:
    assert is_global(ipaddress.ip_address(address)) is fine


def test_a_name_is_resolved_once_and_the_checked_address_connected(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    port = int(site.url.rsplit(":", 1)[1])
    answers = {"mixed.example": ["10.0.0.1", "127.0.0.1"], "none.example": []}
    asked = []

    def getaddrinfo(host: str, *_: object, **__: object) -> list:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (item, port)) for item in answers.get(host, [host])]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(ForbiddenSourceError, match="allow_private_hosts"):
        CheckedBackend(policy()).connect_tcp("mixed.example", port, timeout=1)
    with pytest.raises(httpcore.ConnectError):
        CheckedBackend(policy()).connect_tcp("none.example", port, timeout=1)
    answers["mixed.example"].pop(0)
    CheckedBackend(policy("MIXED.example")).connect_tcp("mixed.example", port, timeout=1).close()
    assert asked == ["mixed.example", "none.example", "mixed.example", "127.0.0.1"]


def test_a_range_is_exactly_what_was_asked(site: Site, client: HttpClient) -> None:
    assert part(client, site) == bytes(range(10, 20))
    assert site.requests[-1].headers["if-range"] == site.etag(site.files["/a.parquet"])


@pytest.mark.parametrize(
    ("reply", "kind", "told"),
    [
        (answer(200, b"x" * 2560, {"ETag": '"new"'}), SourceIntegrityError, 'ETag "new"'),
        (answer(200, b"x" * 2560), SourceIntegrityError, "no ETag"),
        (answer(412), SourceIntegrityError, "412"),
        (answer(416), SourceIntegrityError, "416"),
        (answer(206, b"x" * 10, {"Content-Range": "bytes 10-19/2560", "ETag": '"new"'}), SourceIntegrityError, "new"),
        (answer(206, b"x" * 10, {"Content-Range": "bytes 10-19/9999"}), SourceIntegrityError, "9999"),
        (answer(206, b"x" * 10, {"Content-Range": "bytes 0-9/2560"}), UpstreamError, "another range"),
        (answer(206, b"x" * 10), UpstreamError, "another range"),
    ],
)
def test_wrong_answers_to_a_range_never_become_data(
    site: Site, client: HttpClient, reply: Any, kind: type, told: str
) -> None:
    site.scripts["/a.parquet"] = [reply]

    with pytest.raises(kind, match=told):
        part(client, site)


def test_a_whole_file_in_answer_to_a_range_is_an_error(site: Site, client: HttpClient) -> None:
    site.ranges = False

    with pytest.raises(UpstreamError, match="whole file"):
        part(client, site)


@pytest.mark.parametrize("body", [b"short", b"x" * 11])
def test_a_range_of_the_wrong_length_is_asked_again_and_then_given_up(
    site: Site, client: HttpClient, body: bytes
) -> None:
    site.scripts["/a.parquet"] = [answer(206, body, {"Content-Range": "bytes 10-19/2560", "Content-Length": None})]

    assert part(client, site) == bytes(range(10, 20))
    site.scripts["/a.parquet"] = [answer(206, body, {"Content-Range": "bytes 10-19/2560"})] * 5
    with pytest.raises(UpstreamError, match="of 10 bytes"):
        part(client, site)


@pytest.mark.parametrize(
    ("changes", "ranges"),
    [
        ({}, True),
        ({"head": False}, True),
        ({"ranges": False}, False),
        ({"head": False, "ranges": False}, False),
        ({"extra": {"Accept-Ranges": None}}, True),
        ({"extra": {"Accept-Ranges": "none"}}, False),
    ],
)
def test_what_a_server_can_do_is_found_out(site: Site, client: HttpClient, changes: dict, ranges: bool) -> None:
    for name, value in changes.items():
        setattr(site, name, value)

    found = read_state(client, f"{site.url}/a.parquet", subject="data")

    assert (found.ranges, found.size_bytes, found.etag) == (ranges, 2560, site.etag(site.files["/a.parquet"]))
    assert client.bytes_fetched <= 1

"""Remote files: pinned by what the server says, read by ranges or whole and verified, named without secrets."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coralord_lightning.config import Config
from coralord_lightning.errors import (
    CoralError,
    CroissantNotFoundError,
    CroissantSyntaxError,
    ForbiddenSourceError,
    OfflineError,
    SourceIntegrityError,
    SourceMissingError,
    StoreFullError,
    UnsupportedCroissantError,
)
from coralord_lightning.sources import Sources, open_sources
from coralord_lightning.sources.address import public_url, redact
from coralord_lightning.spec.lock import LockedSource
from coralord_lightning.spec.plan import LocalFile, RemoteFile
from coralord_lightning.spec.selection import FileObject, FileSet
from web import Site, answer, serve


@pytest.fixture
def site() -> Iterator[Site]:
    with serve(a_parquet=bytes(range(256)) * 10, a_csv=b"n\n1\n", c_json=b"{}") as found:
        yield found


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Sources]:
    config = Config(home=tmp_path, allow_private_hosts=frozenset({"127.0.0.1"}))
    with open_sources(config, cache_dir=tmp_path / "cache", sleep=lambda seconds: None) as found:
        yield found


def node(url: str, kind: Any = "parquet", **changes: Any) -> FileObject:
    return FileObject(id="data", content_url=url, format=kind, **changes)


def test_no_secret_is_in_any_message_or_identity(site: Site, door: Sources) -> None:
    url = f"{site.url}/a.parquet?X-Amz-Signature=canary&part=1&token=canary".replace("//", "//me:canary@")
    site.scripts["/a.parquet"] = [answer(404), answer(418), answer(302, b"", {"Location": "ftp://x:canary@y/"})]
    for _ in range(3):
        with pytest.raises(CoralError) as caught:
            door.resolve(node(url), base=Path())
        assert "canary" not in f"{caught.value}{caught.value.to_json()}"

    ((source, location),) = door.resolve(node(url), base=Path())
    assert source.identity["url"] == location.url == f"{site.url}/a.parquet?part=1"
    fs = door.filesystem({"data": location})
    assert fs.read_at(fs.path_of("data"), 0, 3) == b"\0\1\2"
    assert all("canary" in item.path for item in site.requests)
    assert redact("http://[bad") == "an unreadable address"
    assert public_url("HTTP://Me@Host/P?a=1#f") == "http://host/P?a=1"


def test_offline_makes_no_request(site: Site, tmp_path: Path) -> None:
    config = Config(home=tmp_path, allow_private_hosts=frozenset({"127.0.0.1"}))
    with open_sources(config, cache_dir=tmp_path, offline=True) as door:
        for kind in ("parquet", "csv"):
            with pytest.raises(OfflineError) as caught:
                door.resolve(node(f"{site.url}/a.{kind}", kind), base=Path())
            assert caught.value.exit_code == 6
        with pytest.raises(OfflineError):
            door.read_text(f"{site.url}/c.json", base_dir=Path())
    assert site.requests == []


def test_remote_parquet_is_pinned_by_address_etag_and_size(site: Site, door: Sources) -> None:
    ((source, location),) = door.resolve(node("a.parquet"), base=f"{site.url}/c.json")

    etag = site.etag(site.files["/a.parquet"])
    assert source.identity == {"url": f"{site.url}/a.parquet", "etag": etag, "size": 2560}
    assert location == RemoteFile(url=f"{site.url}/a.parquet", etag=etag, size_bytes=2560)
    assert door.bytes_fetched == 0
    locked = LockedSource(url=f"{site.url}/a.parquet", etag='"old"', size_bytes=1)
    ((source, _),) = door.resolve(node("a.parquet"), base=f"{site.url}/c.json", pinned=[locked])
    assert source.identity["etag"] == '"old"'
    assert len(site.requests) == 1


@pytest.mark.parametrize("etag", [lambda _: None, lambda _: 'W/"weak"'])
def test_without_a_strong_etag_the_whole_file_is_its_identity(site: Site, door: Sources, etag: Any) -> None:
    site.etag = etag

    ((source, location),) = door.resolve(node(f"{site.url}/a.parquet"), base=Path())

    assert source.identity == {"sha256": hashlib.sha256(site.files["/a.parquet"]).hexdigest()}
    assert isinstance(location, LocalFile)
    assert location.path.read_bytes() == site.files["/a.parquet"]
    assert door.bytes_fetched == 2560


def test_a_file_read_whole_is_fetched_once_while_its_etag_stays(site: Site, door: Sources, tmp_path: Path) -> None:
    site.ranges, site.extra = False, {"Accept-Ranges": "none"}
    first = door.resolve(node(f"{site.url}/a.csv", "csv"), base=Path())
    again = door.resolve(node(f"{site.url}/a.csv", "csv"), base=Path())

    assert first == again
    assert site.asked() == ["/a.csv"]
    offline = open_sources(Config(home=tmp_path), cache_dir=tmp_path / "cache", offline=True)
    assert offline.resolve(node(f"{site.url}/a.csv", "csv"), base=Path()) == first
    first[0][1].path.write_bytes(b"rotten")
    site.files["/a.csv"] = b"n\n2\n"
    ((_, location),) = door.resolve(node(f"{site.url}/a.csv", "csv"), base=Path())
    assert location.path.read_bytes() == b"n\n2\n"


def test_a_declared_hash_is_verified_and_then_needs_no_request(site: Site, door: Sources, tmp_path: Path) -> None:
    right = hashlib.sha256(site.files["/a.csv"]).hexdigest()
    site.scripts["/a.csv"] = [answer(200, b"n\n", {"Content-Length": "4"})] * 2  # HEAD, then a broken body

    for _ in range(2):
        ((source, _),) = door.resolve(node(f"{site.url}/a.csv", "csv", sha256=right.upper()), base=Path())
        assert source.identity == {"sha256": right}
    assert len(site.requests) == 3
    with pytest.raises(SourceIntegrityError, match="declares"):
        door.resolve(node(f"{site.url}/a.csv", "csv", sha256="0" * 64), base=Path())
    assert [item.name for item in (tmp_path / "cache/downloads/files").iterdir()] == [right]


def test_where_a_download_cannot_be_kept_the_error_says_so(site: Site, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    config = Config(home=tmp_path, allow_private_hosts=frozenset({"127.0.0.1"}))
    with open_sources(config, cache_dir=tmp_path / "cache") as door:
        with pytest.raises(StoreFullError, match="cannot keep"):
            door.resolve(node(f"{site.url}/c.json", "json"), base=Path())
        ((_, location),) = door.resolve(node(f"{site.url}/a.parquet"), base=Path())
        fs = door.filesystem({"data": location})
        with pytest.raises(StoreFullError):
            fs.read_at(fs.path_of("data"), 0, 1)
        assert isinstance(fs.take_failure(), StoreFullError)
        assert fs.take_failure() is None


def test_a_remote_croissant_file_names_addresses_only(site: Site, door: Sources) -> None:
    site.scripts["/go"] = [answer(302, b"", {"Location": "/sub/c.json?sig=canary"})]
    site.files["/sub/c.json"] = b'{"a": 1}'

    found = door.read_text(f"{site.url}/go", base_dir=Path())

    assert (found.text, found.url) == ('{"a": 1}', f"{site.url}/go")
    assert door.read_text(f"{site.url}/go", base_dir=Path(), sha256=found.sha256).text == found.text
    assert len(site.requests) == 2
    site.files["/sub/x y.csv"] = b"n\n"
    with pytest.raises(SourceMissingError):
        door.resolve(node("x y.csv", "csv"), base=found.base)
    assert site.requests[-1].path == "/sub/x%20y.csv"
    for url in ("file:///etc/passwd", "..\\x", "c:/x"):
        with pytest.raises(ForbiddenSourceError):
            door.resolve(node(url), base=found.base)
    with pytest.raises(UnsupportedCroissantError):
        door.resolve(FileSet(id="f", format="csv", includes=("*",)), base=found.base)


def test_a_remote_croissant_file_that_is_not_there_or_no_text(site: Site, door: Sources) -> None:
    with pytest.raises(CroissantNotFoundError):
        door.read_text(f"{site.url}/none.json", base_dir=Path())
    site.files["/c.json"] = b"\xff"
    with pytest.raises(CroissantSyntaxError):
        door.read_text(f"{site.url}/c.json", base_dir=Path())


def test_the_file_system_serves_what_it_was_made_for_and_each_byte_once(site: Site, door: Sources) -> None:
    content = bytes(range(256)) * 1000
    site.files["/a.parquet"] = content
    ((_, location),) = door.resolve(node(f"{site.url}/a.parquet"), base=Path())
    fs = door.filesystem({"data": location, "here": LocalFile(path=Path("/x"))})
    path = fs.path_of("data")

    with fs.open(path) as file:
        file.seek(-8, io.SEEK_END)
        assert file.read() == content[-8:]
        file.seek(100)
        assert (file.read(5), file.tell(), file.seek(1, io.SEEK_CUR)) == (content[100:105], 105, 106)
        file.seek(50)
        assert file.read(9000) == content[50:9050]
        assert file.read(0) == b""
    fetched = door.bytes_fetched
    assert fs.read_at(path, 60, 8000) == content[60:8000]
    assert door.bytes_fetched == fetched < 90_000
    assert (fs.glob(path), fs.glob("coral://9/x"), fs.exists(path), fs.ls("coral://", detail=False)) == (
        [path],
        [],
        True,
        [path],
    )
    for wrong in (lambda: fs.open("coral://1/../../etc/passwd"), lambda: fs.info("/etc/passwd")):
        with pytest.raises(FileNotFoundError):
            wrong()
    with pytest.raises(PermissionError):
        fs.open(path, "wb")

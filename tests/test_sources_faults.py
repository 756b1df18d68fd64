"""Faulty servers: right data or a typed error, never wrong data, and the log says which."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coralord_lightning.builder.extract import Extractor
from coralord_lightning.config import Config
from coralord_lightning.errors import CoralError, ForbiddenSourceError, SourceIntegrityError, UpstreamError
from coralord_lightning.sources import Sources, open_sources
from coralord_lightning.spec.plan import BatchBounds, Partition, RemoteFile
from coralord_lightning.spec.selection import FileObject
from extractions import field, selection
from web import Site, answer, cut, on_get, serve

ROWS = 20_000
NOISE = np.random.default_rng(0).integers(0, 2**62, ROWS)
PATH = "/a.parquet"
FORBIDDEN = [
    "http://169.254.169.254/latest/meta-data/",
    "http://127.0.0.2:1/a.parquet",
    "http://[::1]:1/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:169.254.169.254]/",
    "http://localhost:1/",
    "file:///etc/passwd",
    "s3://bucket/key",
    "gopher://host/",
]


def content() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"n": range(ROWS), "noise": NOISE}), sink, row_group_size=ROWS // 4)
    return sink.getvalue()


@pytest.fixture
def site() -> Iterator[Site]:
    with serve(a_parquet=content()) as found:
        yield found


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    caplog.set_level(logging.INFO, "coralord_lightning.sources")
    return lambda: "\n".join(record.getMessage() for record in caplog.records)


@contextmanager
def opened(tmp_path: Path, naps: list[float] | None = None) -> Iterator[Sources]:
    config = Config(home=tmp_path, allow_private_hosts=frozenset({"127.0.0.1"}))
    sleep = naps.append if naps is not None else lambda seconds: None
    with open_sources(config, cache_dir=tmp_path / "cache", sleep=sleep) as door:
        yield door


def by_ranges(site: Site, tmp_path: Path, break_it: Callable[[], Any], naps: list[float] | None = None) -> None:
    """Read the whole Parquet file through DuckDB, the server breaking once it is pinned; rows must be right."""
    with opened(tmp_path, naps) as door:
        node = FileObject(id="a", content_url=f"{site.url}{PATH}", format="parquet")
        ((source, location),) = door.resolve(node, base=Path())
        assert isinstance(location, RemoteFile)
        break_it()
        chosen = selection(field("n"), field("noise"))
        with Extractor(
            chosen, [source], {"a": location}, BatchBounds(), filesystem_factory=door.filesystem
        ) as extractor:
            rows = extractor.read(Partition(sources=(0,)), "train").read_all()
    assert rows["n"].to_pylist() == list(range(ROWS))
    assert (rows["noise"].to_numpy() == NOISE).all()


def whole(site: Site, tmp_path: Path, break_it: Callable[[], Any], naps: list[float] | None = None) -> None:
    """Fetch the file whole, the server being broken; bytes must be right."""
    break_it()
    with opened(tmp_path, naps) as door:
        node = FileObject(id="a", content_url=f"{site.url}{PATH}", format="json")
        ((source, location),) = door.resolve(node, base=Path())
    assert location.path.read_bytes() == content()
    assert source.identity == {"sha256": hashlib.sha256(content()).hexdigest()}


WAYS = pytest.mark.parametrize("fetch", [by_ranges, whole])


def repeated(site: Site, *scripts: Any) -> Callable[[], None]:
    return lambda: site.scripts.__setitem__(PATH, [on_get(script) for script in scripts])


def lying(size: int | None) -> Callable[[Any], None]:
    """The right answer under a wrong Content-Length."""

    def script(handler: Any) -> None:
        handler.site.extra = {"Content-Length": str(size)}
        try:
            handler.serve_file(content(), handler.site.requests[-1].headers)
        finally:
            handler.site.extra = {}

    return script


@WAYS
def test_a_short_body_is_asked_for_again(site: Site, tmp_path: Path, log: Any, fetch: Any) -> None:
    fetch(site, tmp_path, repeated(site, cut(100)))

    assert "100 of" in log() or "IncompleteRead" in log() or "RemoteProtocolError" in log()
    assert "asked again" in log()


@WAYS
@pytest.mark.parametrize("size", [10, 2**40])
def test_a_wrong_content_length_never_becomes_data(site: Site, tmp_path: Path, log: Any, fetch: Any, size: int) -> None:
    try:
        fetch(site, tmp_path, repeated(site, lying(size)))
    except UpstreamError:
        assert "CORAL-E0404" in log()
    assert "asked again" in log()


def test_a_length_that_hides_bytes_is_found_by_the_declared_hash(site: Site, tmp_path: Path, log: Any) -> None:
    right = hashlib.sha256(content()).hexdigest()
    site.etag = lambda _: None
    site.scripts[PATH] = [on_get(lying(10))]
    with opened(tmp_path) as door:
        node = FileObject(id="a", content_url=f"{site.url}{PATH}", format="json", sha256=right)
        with pytest.raises(SourceIntegrityError):
            door.resolve(node, base=Path())
        assert "CORAL-E0402" in log() or "dropped" in log()
        ((_, location),) = door.resolve(node, base=Path())
    assert location.path.read_bytes() == content()


@pytest.mark.parametrize("declared", [{"sha256": "0" * 64}, {"md5": "0" * 32}])
def test_a_file_that_is_not_the_declared_one_is_refused(site: Site, tmp_path: Path, log: Any, declared: Any) -> None:
    with opened(tmp_path) as door:
        node = FileObject(id="a", content_url=f"{site.url}{PATH}", format="json", **declared)
        with pytest.raises(SourceIntegrityError, match="declares"):
            door.resolve(node, base=Path())
        assert "dropped" in log()
    assert not list((tmp_path / "cache/downloads/partial").iterdir())


def test_an_etag_that_changes_between_ranges_is_refused(site: Site, tmp_path: Path, log: Any) -> None:
    count = iter(range(10_000))

    def change() -> None:
        site.etag = lambda _: '"1"' if next(count) < 1 else '"2"'

    site.etag = lambda _: '"1"'
    with pytest.raises(SourceIntegrityError, match=r'(?s)"1".*"2"'):
        by_ranges(site, tmp_path, change)
    assert "CORAL-E0402" in log()


def test_a_file_that_changes_while_it_is_fetched_whole_begins_anew(site: Site, tmp_path: Path, log: Any) -> None:
    old, new = b"x" * 300_000, content()

    def first(handler: Any) -> None:
        cut(200_000)(handler)
        site.files[PATH] = new

    site.files[PATH] = old
    whole(site, tmp_path, repeated(site, first))
    assert "begins anew" in log()


def test_a_server_that_ignores_if_range_cannot_mix_two_files(site: Site, tmp_path: Path, log: Any) -> None:
    def careless(handler: Any) -> None:
        headers = {key: value for key, value in site.requests[-1].headers.items() if key != "if-range"}
        handler.serve_file(content(), headers)

    def first(handler: Any) -> None:
        cut(200_000)(handler)
        site.files[PATH] = content()

    site.files[PATH] = b"x" * 300_000
    whole(site, tmp_path, repeated(site, first, careless))
    assert "begins anew" in log()


def test_the_whole_file_in_answer_to_a_range_is_refused(site: Site, tmp_path: Path, log: Any) -> None:
    def break_it() -> None:
        site.ranges = False

    with pytest.raises(UpstreamError, match="whole file"):
        by_ranges(site, tmp_path, break_it)
    assert "whole file" in log()


@WAYS
def test_too_many_requests_waits_as_long_as_it_is_told(site: Site, tmp_path: Path, log: Any, fetch: Any) -> None:
    naps: list[float] = []
    fetch(site, tmp_path, repeated(site, lambda handler: handler.answer(429, b"slow down", {"Retry-After": "7"})), naps)

    assert naps == [7.0]
    assert "status 429" in log()
    assert "asked again in 7.0 s" in log()


@WAYS
def test_two_failures_of_the_server_are_overcome(site: Site, tmp_path: Path, log: Any, fetch: Any) -> None:
    naps: list[float] = []
    fetch(site, tmp_path, repeated(site, *[lambda handler: handler.answer(500)] * 2), naps)

    assert naps == [0.5, 1.0]
    assert log().count("status 500") == 2


@WAYS
def test_a_connection_cut_at_every_quarter_is_taken_up_again(site: Site, tmp_path: Path, log: Any, fetch: Any) -> None:
    size = len(content()) if fetch is whole else 64 * 1024  # the footer is asked for first
    fetch(site, tmp_path, repeated(site, *[cut(size // 4)] * 3))

    assert "goes on after" in log()
    if fetch is whole:
        assert site.body_bytes == len(content())  # no byte came twice
        quarter = len(content()) // 4
        assert [item for item in site.asked() if item.startswith("bytes")] == [
            f"bytes={quarter * part}-" for part in (1, 2, 3)
        ]


def test_without_an_etag_nothing_is_taken_up_again(site: Site, tmp_path: Path, log: Any) -> None:
    site.etag = lambda _: None
    whole(site, tmp_path, repeated(site, *[cut(len(content()) // 4)] * 3))
    assert "goes on" not in log()


@WAYS
@pytest.mark.parametrize("place", FORBIDDEN)
def test_a_redirect_to_a_forbidden_address_is_refused(
    site: Site, tmp_path: Path, log: Any, fetch: Any, place: str
) -> None:
    with pytest.raises(ForbiddenSourceError):
        fetch(site, tmp_path, repeated(site, *[lambda handler: handler.answer(302, b"", {"Location": place})] * 9))
    assert "CORAL-E0405" in log()


@pytest.mark.parametrize("place", ["http://127.0.0.1:1/x", "http://localhost:1/x", "http://169.254.169.254/x"])
def test_private_addresses_need_to_be_allowed(tmp_path: Path, log: Any, place: str) -> None:
    with (
        open_sources(Config(home=tmp_path), cache_dir=tmp_path / "cache") as door,
        pytest.raises(ForbiddenSourceError, match="allow_private_hosts"),
    ):
        door.resolve(FileObject(id="a", content_url=place, format="csv"), base=Path())
    assert "CORAL-E0405" in log()


def test_no_secret_reaches_the_log(site: Site, tmp_path: Path, log: Any) -> None:
    url = f"{site.url}{PATH}?token=canary".replace("//", "//me:canary@")
    site.scripts[PATH] = [answer(500), answer(302, b"", {"Location": "ftp://x:canary@y/?sig=canary"})]
    with opened(tmp_path) as door, pytest.raises(CoralError):
        door.resolve(FileObject(id="a", content_url=url, format="json"), base=Path())
    assert "status 500" in log()
    assert "canary" not in log()

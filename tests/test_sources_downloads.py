"""Downloads: taken up where they ended, each byte counted, several at once, never beyond the limit."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coralord_lightning.config import Config
from coralord_lightning.errors import FetchLimitError, SourceIntegrityError
from coralord_lightning.sources import open_sources
from coralord_lightning.sources.downloads import Declared, Downloads
from coralord_lightning.sources.hashes import HashCache
from coralord_lightning.sources.http import HttpClient
from coralord_lightning.sources.pinning import RemoteFiles, Wanted
from coralord_lightning.spec.plan import LocalFile, RemoteFile
from coralord_lightning.spec.selection import FileObject
from web import Site, answer, cut, on_get, serve

BIG = bytes(range(256)) * 4000


@pytest.fixture
def site() -> Iterator[Site]:
    with serve(a_bin=BIG) as found:
        yield found


def config(home: Path, **changes: Any) -> Config:
    return Config(home=home, allow_private_hosts=frozenset({"127.0.0.1"}), **changes)


OPEN: list[HttpClient] = []


@pytest.fixture(autouse=True)
def closing() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


def client_of(home: Path, **how: Any) -> HttpClient:
    OPEN.append(HttpClient(config(home), sleep=lambda seconds: None, **how))
    return OPEN[-1]


def downloads(home: Path, client: HttpClient, **how: Any) -> Downloads:
    return Downloads(home / "downloads", client, HashCache(home / "hashes"), **how)


CHILD = """
import os, signal, sys
from pathlib import Path
from coralord_lightning.config import Config
from coralord_lightning.sources.downloads import Declared, Downloads
from coralord_lightning.sources.hashes import HashCache
from coralord_lightning.sources.http import HttpClient

home, url, stop = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
def die(total):
    if total > stop:
        os.kill(os.getpid(), signal.SIGKILL)
client = HttpClient(Config(home=home, allow_private_hosts=frozenset({"127.0.0.1"})), on_bytes=die)
Downloads(home / "downloads", client, HashCache(home / "hashes"), checkpoint_bytes=100_000).fetch(
    url, subject="a", declared=Declared()
)
"""


def killed(site: Site, home: Path) -> None:
    """A process that fetches, and is killed on the way."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(home), f"{site.url}/a.bin", "600000"],
        check=False, capture_output=True,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr


def partial_of(home: Path) -> Path:
    (found,) = (path for path in (home / "downloads/partial").iterdir() if path.suffix != ".json")
    return found


def test_what_a_killed_process_left_is_taken_up(site: Site, tmp_path: Path) -> None:
    killed(site, tmp_path)
    site.requests.clear()

    client = client_of(tmp_path)
    kept = downloads(tmp_path, client).fetch(f"{site.url}/a.bin", subject="a", declared=Declared())

    assert kept.path.read_bytes() == BIG
    assert kept.sha256 == hashlib.sha256(BIG).hexdigest()
    assert client.bytes_fetched < len(BIG) - 400_000
    assert site.requests[-1].headers["if-range"] == site.etag(BIG)
    assert not list((tmp_path / "downloads/partial").iterdir())


@pytest.mark.parametrize("how", ["rotten", "short", "changed", "note"])
def test_what_was_left_is_not_taken_up_where_it_is_doubtful(site: Site, tmp_path: Path, how: str) -> None:
    killed(site, tmp_path)
    left, expected = partial_of(tmp_path), BIG
    if how == "rotten":
        content = bytearray(left.read_bytes())
        content[1000] ^= 1
        left.write_bytes(content)
    elif how == "short":
        os.truncate(left, 1000)
    elif how == "note":
        left.with_suffix(".json").write_text("{}")
    else:
        expected = site.files["/a.bin"] = BIG[::-1]

    client = client_of(tmp_path)
    kept = downloads(tmp_path, client).fetch(f"{site.url}/a.bin", subject="a", declared=Declared())

    assert kept.path.read_bytes() == expected
    assert client.bytes_fetched >= len(BIG)


def test_another_process_that_fetches_the_same_is_not_disturbed(site: Site, tmp_path: Path) -> None:
    from coralord_lightning.sources.partial import Partial

    key = hashlib.sha256(f"{site.url}/a.bin".encode()).hexdigest()
    with Partial(tmp_path / "downloads/partial", key, checkpoint_bytes=1) as other:
        other.restart('"theirs"')
        other.write(b"theirs")
        kept = downloads(tmp_path, client_of(tmp_path)).fetch(f"{site.url}/a.bin", subject="a", declared=Declared())
        assert kept.path.read_bytes() == BIG
        assert other.path.read_bytes() == b"theirs"


def test_several_are_fetched_at_once_and_the_same_bytes_once(site: Site, tmp_path: Path) -> None:
    site.files |= {f"/{number}.bin": BIG + bytes([number]) for number in range(8)} | {"/mirror.bin": BIG}
    sha256 = hashlib.sha256(BIG).hexdigest()
    urls = [f"/{number}.bin" for number in range(8)]
    wanted = [Wanted(name=url, format="any", url=f"{site.url}{url}") for url in urls]
    wanted += [
        Wanted(name=url, format="any", url=f"{site.url}{url}", sha256=sha256) for url in ("/a.bin", "/mirror.bin")
    ]
    client = client_of(tmp_path)
    remotes = RemoteFiles(lambda: client, cache_dir=tmp_path, hashes=HashCache(tmp_path / "hashes"))

    found = remotes.fetch_many(wanted)

    assert [location.path.read_bytes() for _, location in found] == [site.files[url] for url in urls] + [BIG, BIG]
    assert client.bytes_fetched == site.body_bytes == sum(len(site.files[url]) for url in urls) + len(BIG)
    site.files.pop("/3.bin")
    site.etag = lambda content: f'"new-{len(content)}"'
    with pytest.raises(Exception, match=r"3\.bin"):
        remotes.fetch_many(wanted)


def test_nothing_is_fetched_beyond_the_limit(site: Site, tmp_path: Path) -> None:
    node = FileObject(id="a", content_url=f"{site.url}/a.bin", format="any")
    told: list[int] = []
    with open_sources(config(tmp_path), cache_dir=tmp_path, max_fetch=1000, on_bytes=told.append) as door:
        with pytest.raises(FetchLimitError, match=r"1000 bytes(.|\n)*--max-fetch(.|\n)*max_fetch: ") as caught:
            door.resolve(node, base=Path())
        assert caught.value.exit_code == 1
        assert door.bytes_fetched == 0  # the server said how long it is
    site.scripts["/a.bin"] = [on_get(answer(200, BIG, {"Content-Length": None}))]
    with open_sources(config(tmp_path, max_fetch=1000), cache_dir=tmp_path) as door:
        with pytest.raises(FetchLimitError):
            door.resolve(node, base=Path())
        assert 1000 < door.bytes_fetched < 200_000
    with open_sources(config(tmp_path, max_fetch=1), cache_dir=tmp_path, max_fetch=10**9, on_bytes=told.append) as door:
        door.resolve(node, base=Path())
        assert told[-1] == door.bytes_fetched
    assert told == sorted(told)


def test_bodies_of_redirects_and_refusals_are_counted(site: Site, tmp_path: Path) -> None:
    site.scripts["/go"] = [answer(302, b"this way", {"Location": "/b.json"})]
    site.scripts["/b.json"] = [answer(503, b"busy")]
    site.files["/b.json"] = b"{}"
    with open_sources(config(tmp_path), cache_dir=tmp_path, sleep=lambda seconds: None) as door:
        site.scripts["/go"] *= 2
        door.read_text(f"{site.url}/go", base_dir=Path())
        assert door.bytes_fetched == site.body_bytes == 2 * len(b"this way") + len(b"busy") + 2


def test_a_file_of_a_pinned_commit_needs_no_etag(site: Site, tmp_path: Path) -> None:
    client = client_of(tmp_path)
    remotes = RemoteFiles(lambda: client, cache_dir=tmp_path, hashes=HashCache(tmp_path / "hashes"))
    wanted = Wanted(name="a", format="parquet", url=f"{site.url}/a.bin")
    source, location = remotes.pin_object(wanted, oid={"lfs": "ab" * 32}, size_bytes=len(BIG))

    assert source.identity == {"lfs": "ab" * 32, "size": len(BIG)}
    assert location == RemoteFile(url=f"{site.url}/a.bin", etag=None, size_bytes=len(BIG))
    assert remotes.read_range("a", location, 5, 10) == BIG[5:10]
    assert "if-range" not in site.requests[-1].headers
    site.etag = lambda _: '"other"'
    with pytest.raises(SourceIntegrityError, match="other"):
        remotes.read_range("a", location, 10, 20)

    blob = hashlib.sha1(b"blob %d\0" % len(BIG) + BIG).hexdigest()
    _, kept = remotes.pin_object(
        Wanted(name="a", format="any", url=f"{site.url}/a.bin"), oid={"git": blob}, size_bytes=1
    )
    assert isinstance(kept, LocalFile)
    with pytest.raises(SourceIntegrityError, match="git"):
        remotes.pin_object(Wanted(name="a", format="any", url=f"{site.url}/a.bin"), oid={"git": "0" * 40}, size_bytes=1)


def test_md5_is_held_against_a_file_from_the_cache_too(site: Site, tmp_path: Path) -> None:
    with open_sources(config(tmp_path), cache_dir=tmp_path) as door:
        url = f"{site.url}/a.bin"
        door.resolve(FileObject(id="a", content_url=url, format="any"), base=Path())
        md5 = hashlib.md5(BIG).hexdigest()
        door.resolve(FileObject(id="a", content_url=url, format="any", md5=md5), base=Path())
        assert site.asked() == ["/a.bin"]
        with pytest.raises(SourceIntegrityError, match="md5"):
            door.resolve(FileObject(id="a", content_url=url, format="any", md5="0" * 32), base=Path())


def test_a_cut_that_brought_much_does_not_use_up_the_tries(site: Site, tmp_path: Path) -> None:
    content = site.files["/a.bin"] = BIG * 12
    site.scripts["/a.bin"] = [cut(len(content) // 10)] * 9
    kept = downloads(tmp_path, client_of(tmp_path)).fetch(f"{site.url}/a.bin", subject="a", declared=Declared())
    assert kept.path.read_bytes() == content

"""Local files are found strictly beneath the Croissant file's folder, and hashed once while they stay the same."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coralord_lightning.config import Config
from coralord_lightning.errors import (
    CroissantNotFoundError,
    CroissantSyntaxError,
    ForbiddenSourceError,
    SourceError,
    SourceIntegrityError,
    SourceMissingError,
)
from coralord_lightning.sources import HashCache, Sources, open_sources
from coralord_lightning.sources.globs import glob_files, matches
from coralord_lightning.spec.plan import LocalFile
from coralord_lightning.spec.selection import FileObject, FileSet, InlineData

MINUTE_NS = 60 * 1_000_000_000


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def fill(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def sources(home: Path) -> Sources:
    return open_sources(Config(home=home), cache_dir=home / "cache", offline=True)


def file_object(url: str, **changes: object) -> FileObject:
    return FileObject(**({"id": "data", "content_url": url, "format": "csv"} | changes))


def file_set(*includes: str, excludes: tuple[str, ...] = ()) -> FileSet:
    return FileSet(id="files", format="parquet", includes=includes, excludes=excludes)


def names(found: tuple) -> list[str]:
    return [source.name for source, _ in found]


class Ages(HashCache):
    """A cache whose clock is a minute ahead, so that files just written count as settled."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, clock_ns=lambda: time.time_ns() + MINUTE_NS)


def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Descriptors that were read in whole from now on."""
    seen: list[int] = []
    real = os.pread

    def pread(descriptor: int, size: int, offset: int) -> bytes:
        if offset == 0:
            seen.append(descriptor)
        return real(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    return seen


def test_a_file_object_is_pinned_by_its_hash(tmp_path: Path) -> None:
    fill(tmp_path, "data/a.csv")
    node = file_object("data/a.csv", sha256=sha256(b"data/a.csv").upper())

    ((source, location),) = sources(tmp_path / "home").resolve(node, base=tmp_path)

    assert (source.name, source.format, source.size_bytes) == ("data", "csv", 10)
    assert source.identity == {"sha256": sha256(b"data/a.csv")}
    assert location == LocalFile(path=tmp_path / "data/a.csv")


def test_a_wrong_declared_hash_shows_both(tmp_path: Path) -> None:
    fill(tmp_path, "a.csv")

    with pytest.raises(SourceIntegrityError) as caught:
        sources(tmp_path / "home").resolve(file_object("a.csv", sha256="0" * 64), base=tmp_path)

    assert caught.value.facts["expected"] == f"sha256 {'0' * 64}"
    assert caught.value.facts["got"] == f"sha256 {sha256(b'a.csv')}"
    assert caught.value.exit_code == 4


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    fill(tmp_path, "data/train.csv")

    with pytest.raises(SourceMissingError, match=r"'data/train\.csv'"):
        sources(tmp_path / "home").resolve(file_object("data/trian.csv"), base=tmp_path)
    with pytest.raises(SourceMissingError, match="put the file at"):
        sources(tmp_path / "home").resolve(file_object("none/x/y.csv"), base=tmp_path)


@pytest.mark.parametrize(
    "url",
    [
        "/etc/passwd", "../x.csv", "data/../../x.csv", "data\\x.csv", "a\0b", "~/x.csv", "C:/x.csv", "",
        "file:///etc/passwd", "FILE:x", "ftp://host/x", "..",
    ],
)  # fmt: skip
def test_paths_that_could_leave_the_folder_are_refused(tmp_path: Path, url: str) -> None:
    fill(tmp_path, "x.csv", "in/data/y.csv")

    with pytest.raises(ForbiddenSourceError):
        sources(tmp_path / "home").resolve(file_object(url), base=tmp_path / "in")
    with pytest.raises(ForbiddenSourceError):
        sources(tmp_path / "home").resolve(file_set(url), base=tmp_path / "in")


@given(st.text(max_size=30))
def test_whatever_a_content_url_says_nothing_outside_is_opened(url: str) -> None:
    root = Path(__file__).parent / "golden"
    try:
        ((_, location),) = sources(Path("/nonexistent")).resolve(file_object(url), base=root)
    except SourceError:
        return
    assert location.path.is_relative_to(root)


def test_links_may_stay_inside_but_never_lead_out(tmp_path: Path) -> None:
    fill(tmp_path, "secret.csv", "in/real.csv")
    (tmp_path / "in" / "good.csv").symlink_to("real.csv")
    (tmp_path / "in" / "bad.csv").symlink_to(tmp_path / "secret.csv")
    (tmp_path / "in" / "up").symlink_to(tmp_path)
    (tmp_path / "in" / "loop.csv").symlink_to("loop.csv")
    door = sources(tmp_path / "home")

    ((_, location),) = door.resolve(file_object("good.csv"), base=tmp_path / "in")
    assert location == LocalFile(path=tmp_path / "in/real.csv")
    for url in ("bad.csv", "up/secret.csv"):
        with pytest.raises(ForbiddenSourceError, match="leaves"):
            door.resolve(file_object(url), base=tmp_path / "in")
    with pytest.raises(ForbiddenSourceError, match="leaves"):
        door.resolve(file_set("*.csv", excludes=("loop.csv",)), base=tmp_path / "in")
    with pytest.raises(SourceError):
        door.resolve(file_object("loop.csv"), base=tmp_path / "in")


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")

    for url in ("folder.csv", "pipe.csv", "."):
        with pytest.raises(ForbiddenSourceError, match="no regular file"):
            sources(tmp_path / "home").resolve(file_object(url), base=tmp_path)


def test_a_file_set_is_includes_without_excludes_sorted(tmp_path: Path) -> None:
    fill(tmp_path, "d/b.parquet", "d/a.parquet", "d/x/c.parquet", "d/.hidden.parquet", "e/a.txt", "d/bad.parquet")

    def found(*includes: str, excludes: tuple[str, ...] = ()) -> list[str]:
        return names(sources(tmp_path / "home").resolve(file_set(*includes, excludes=excludes), base=tmp_path))

    assert found("d/*.parquet") == ["d/a.parquet", "d/b.parquet", "d/bad.parquet"]
    assert found("d/*.parquet", "d/x/*", "d/a.parquet", excludes=("*/b*",)) == ["d/a.parquet", "d/x/c.parquet"]
    assert found("**/[ac].parquet") == ["d/a.parquet", "d/x/c.parquet"]
    assert found("**", excludes=("e/**", "home/**")) == found("d/**")
    assert found("d/.*") == ["d/.hidden.parquet"]


def test_a_file_set_that_matches_nothing_says_what_is_there(tmp_path: Path) -> None:
    fill(tmp_path, "data/a.csv")

    with pytest.raises(SourceMissingError) as caught:
        sources(tmp_path / "home").resolve(file_set("data/*.parquet"), base=tmp_path)
    assert caught.value.facts["includes"] == "data/*.parquet"
    assert "data/a.csv" in caught.value.facts["there"]
    with pytest.raises(SourceMissingError, match="excluded"):
        sources(tmp_path / "home").resolve(file_set("data/*", excludes=("**",)), base=tmp_path)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["*", "**", "a", "?", "[ab]", "*b", "ab"]), min_size=1, max_size=4))
def test_what_is_listed_is_what_matches(parts: list[str]) -> None:
    root = Path(__file__).parent / "golden" / "globs"
    everything = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    pattern = "/".join(parts)

    assert set(glob_files(root, pattern)) == {name for name in everything if matches(name, pattern)}


def test_a_hash_is_remembered_while_stat_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fill(tmp_path, "a").joinpath("a")
    seen = reads(monkeypatch)
    cache = Ages(tmp_path / "hashes")

    assert cache.hash_file(path).sha256 == sha256(b"a")
    assert Ages(tmp_path / "hashes").hash_file(path) == cache.hash_file(path)
    assert len(seen) == 1
    path.write_bytes(b"b")
    assert cache.hash_file(path).sha256 == sha256(b"b")
    os.utime(path, (0, 0))
    path.write_bytes(b"c")
    os.utime(path, (0, 0))
    assert cache.hash_file(path).sha256 == sha256(b"c")


def test_a_file_that_was_just_written_is_hashed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fill(tmp_path, "a").joinpath("a")
    seen = reads(monkeypatch)
    young = HashCache(tmp_path / "hashes", clock_ns=lambda: path.stat().st_mtime_ns + 1_000_000_000)

    young.hash_file(path)
    young.hash_file(path)

    assert len(seen) == 2


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"path": 1}', b"\xff", b"[1,2,3,4,5,6,7,8]", b'["a",1]'])
def test_a_damaged_memory_is_forgotten(tmp_path: Path, damage: bytes) -> None:
    path = fill(tmp_path, "a").joinpath("a")
    Ages(tmp_path / "hashes").hash_file(path)
    (note,) = (tmp_path / "hashes").glob("*/*.lines")
    whole = json.loads(note.read_bytes())

    for content in (damage, json.dumps([*whole[:-1], "zz"]).encode(), note.read_bytes()[:-20]):
        note.write_bytes(content)
        assert Ages(tmp_path / "hashes").hash_file(path).sha256 == sha256(b"a")
        assert json.loads(note.read_bytes().splitlines()[-1])[-1] == sha256(b"a")


def test_a_remembered_file_is_not_opened_and_several_caches_remember_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, "a", "b")
    first, second = Ages(tmp_path / "hashes"), Ages(tmp_path / "hashes")
    for cache, name in ((first, "a"), (second, "b")):
        cache.hash_file(tmp_path / name)
    seen = reads(monkeypatch)

    later = Ages(tmp_path / "hashes")
    assert [later.hash_file(tmp_path / name).sha256 for name in "ab"] == [sha256(b"a"), sha256(b"b")]
    assert seen == []


def test_a_memory_that_is_full_of_the_past_is_written_anew(tmp_path: Path) -> None:
    path = fill(tmp_path, "a").joinpath("a")
    Ages(tmp_path / "hashes").hash_file(path)
    (note,) = (tmp_path / "hashes").glob("*/*.lines")
    one = note.read_bytes()
    note.write_bytes(one * 3000)

    assert Ages(tmp_path / "hashes").hash_file(path).sha256 == sha256(b"a")
    assert note.read_bytes() == one


def test_a_memory_of_another_user_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "a", "b")
    Ages(tmp_path / "hashes").hash_file(tmp_path / "a")
    (note,) = (tmp_path / "hashes").glob("*/*.lines")
    real = Path.open

    def refuse(self: Path, mode: str = "r", *rest: int, **more: int) -> object:
        if mode == "ab":
            raise PermissionError(self)
        return real(self, mode, *rest, **more)

    monkeypatch.setattr(Path, "open", refuse)  # whoever runs this may be root, whom nobody refuses
    Ages(tmp_path / "hashes").hash_file(tmp_path / "b")
    assert {json.loads(line)[0] for line in filter(None, note.read_bytes().splitlines())} == {"a", "b"}


def test_where_nothing_can_be_remembered_files_are_still_read(tmp_path: Path) -> None:
    path = fill(tmp_path, "a", "no_folder").joinpath("a")

    cache = HashCache(tmp_path / "no_folder" / "hashes", clock_ns=lambda: path.stat().st_mtime_ns + MINUTE_NS)
    assert cache.hash_file(path).sha256 == sha256(b"a")


def test_a_file_that_keeps_changing_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fill(tmp_path, "a").joinpath("a")
    real = os.pread

    def pread(descriptor: int, size: int, offset: int) -> bytes:
        with path.open("ab") as file:
            file.write(b"more")
        return real(descriptor, size, offset) if offset == 0 else b""

    monkeypatch.setattr(os, "pread", pread)
    with pytest.raises(SourceIntegrityError, match="changes while"):
        HashCache(tmp_path / "hashes").hash_file(path)


def test_a_file_that_changed_since_it_was_pinned_is_found(tmp_path: Path) -> None:
    fill(tmp_path, "a.csv")
    door = sources(tmp_path / "home")
    pinned = door.resolve(file_object("a.csv"), base=tmp_path)

    door.require_unchanged(pinned)
    (tmp_path / "a.csv").write_text("other")
    with pytest.raises(SourceIntegrityError, match="while it was in use"):
        door.require_unchanged(pinned)
    (tmp_path / "a.csv").unlink()
    with pytest.raises(SourceIntegrityError, match="nothing"):
        door.require_unchanged(pinned)


def test_a_croissant_file_is_read_with_its_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/c.json").write_bytes(b'\xef\xbb\xbf{"a": "\xc3\xa9"}')

    found = sources(tmp_path / "home").read_text("sub/c.json", base_dir=tmp_path)

    assert found.text == '{"a": "é"}'
    assert found.base == tmp_path / "sub"
    assert found.url is None
    assert found.sha256 == sha256((tmp_path / "sub/c.json").read_bytes())


@pytest.mark.parametrize("name", ["croisant.json", "none/c.json", "", "a\0b", "x" * 5000, "~no-such-user/c.json"])
def test_a_missing_croissant_file_is_named(tmp_path: Path, name: str) -> None:
    fill(tmp_path, "croissant.json")

    with pytest.raises(CroissantNotFoundError) as caught:
        sources(tmp_path / "home").read_text(name, base_dir=tmp_path)

    assert name != "croisant.json" or "croissant.json" in caught.value.remedy


def test_a_croissant_file_that_is_no_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.json").write_bytes(b'{"a": "\xff"}')
    door = sources(tmp_path / "home")

    with pytest.raises(CroissantSyntaxError, match="0xff at 7"):
        door.read_text("c.json", base_dir=tmp_path)
    monkeypatch.setattr("coralord_lightning.sources.texts._MAX_BYTES", 3)
    with pytest.raises(CroissantSyntaxError, match="too large"):
        door.read_text("c.json", base_dir=tmp_path)


def test_inline_rows_are_known_by_their_exact_values(tmp_path: Path) -> None:
    def identity(*rows: dict) -> object:
        ((source, location),) = sources(tmp_path).resolve(InlineData(rows=rows), base=tmp_path)
        assert (source.format, location) == ("inline", None)
        return source.identity["sha256"]

    assert identity({"a": 1, "b": 2}) == identity({"b": 2, "a": 1})
    different = [({"a": 1},), ({"a": 1.0},), ({"a": "1"},), ({"a": 2**60},), ({"a": str(2**60)},), ({"a": 1}, {})]
    assert len({identity(*rows) for rows in different}) == len(different)


def test_local_files_need_neither_httpx_nor_fsspec(tmp_path: Path) -> None:
    fill(tmp_path, "a.csv", "c.json")
    code = f"""
import sys
import time
from pathlib import Path
from coralord_lightning.config import Config
from coralord_lightning.sources import open_sources
from coralord_lightning.spec.selection import FileObject
root = Path({str(tmp_path)!r})
with open_sources(Config(home=root), cache_dir=root / "cache") as door:
    door.read_text("c.json", base_dir=root)
    door.resolve(FileObject(id="a", content_url="a.csv", format="csv"), base=root)
    assert door.bytes_fetched == 0
assert not {{"httpx", "httpcore", "fsspec", "duckdb", "pyarrow", "pandas"}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True)

"""Files inside archives: which are meant, what they are called, and that nothing is unpacked twice or for nothing."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest

from archive_files import archive, compressed_tar, contents, files_in, sources, tar, tar_member, zip_file
from coralord_lightning.errors import (
    ForbiddenSourceError,
    SourceIntegrityError,
    SourceMissingError,
    UnsupportedCroissantError,
)
from coralord_lightning.sources.archives import archive as archive_module
from coralord_lightning.spec.selection import FileObject, FileSet

MEMBERS = {"train/a.csv": b"x\n1\n", "train/b.csv": b"x\n2\n", "test/a.csv": b"x\n3\n", "README.md": b"hi"}


def put(root: Path, name: str, content: bytes) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def resolved(root: Path, node: FileObject | FileSet, **changes: object) -> dict[str, bytes]:
    with sources(root / "home") as door:
        return contents(door.resolve(node, base=root, **changes))


@pytest.mark.parametrize("compression", [None, "gzip", "bz2", "xz", "zst"])
def test_a_tar_may_be_compressed_in_any_way(tmp_path: Path, compression: str | None) -> None:
    plain = tar(*(tar_member(*item) for item in MEMBERS.items()))
    packers = {
        None: bytes, "gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress,
        "zst": lambda data: pa.compress(data, "zstd", asbytes=True),
    }  # fmt: skip
    put(tmp_path, "a.tar", packers[compression](plain))

    found = resolved(tmp_path, files_in(archive("a.tar"), includes=("train/*.csv",)))
    assert found == {"archive!train/a.csv": b"x\n1\n", "archive!train/b.csv": b"x\n2\n"}
    assert [path.name for path in (tmp_path / "home/cache/archives").iterdir()] == ["indexes"]


def test_members_are_known_by_their_own_hash_and_sorted_by_path(tmp_path: Path) -> None:
    put(tmp_path, "a.zip", zip_file(MEMBERS))

    found = sources(tmp_path / "home").resolve(files_in(archive(), format="csv", includes=("*.csv",)), base=tmp_path)

    assert [source.name for source, _ in found] == ["archive!test/a.csv", "archive!train/a.csv", "archive!train/b.csv"]
    assert found[0][0].identity == {"sha256": hashlib.sha256(b"x\n3\n").hexdigest()}
    assert found[0][0].format == "csv"
    assert found[0][1].path.name == hashlib.sha256(b"x\n3\n").hexdigest()
    assert found[0][1].url is None


@pytest.mark.parametrize(
    ("includes", "excludes", "expected"),
    [
        (("*.csv",), (), ["test/a.csv", "train/a.csv", "train/b.csv"]),
        (("train/*.csv",), (), ["train/a.csv", "train/b.csv"]),
        (("*/a.csv",), (), ["test/a.csv", "train/a.csv"]),
        (("**",), ("*.csv",), ["README.md"]),
        (("*.csv",), ("a.csv",), ["train/b.csv"]),
        (("*.csv",), ("train/**",), ["test/a.csv"]),
        (("README.md", "test/*"), (), ["README.md", "test/a.csv"]),
        ((), (), ["README.md", "test/a.csv", "train/a.csv", "train/b.csv"]),
    ],
)
def test_a_pattern_without_a_slash_means_any_folder(
    tmp_path: Path, includes: tuple[str, ...], excludes: tuple[str, ...], expected: list[str]
) -> None:
    put(tmp_path, "a.zip", zip_file(MEMBERS))

    node = files_in(archive(), includes=includes, excludes=excludes)
    assert [item.path for item in sources(tmp_path / "home").candidates(node, base=tmp_path)] == expected


def test_files_that_hide_are_not_meant(tmp_path: Path) -> None:
    hidden = {"__MACOSX/._a.csv": b"junk", "._b.csv": b"junk", ".git/c.csv": b"junk", "a.csv": b"x"}
    put(tmp_path, "a.zip", zip_file(hidden))

    assert resolved(tmp_path, files_in(archive(), includes=("*.csv",))) == {"archive!a.csv": b"x"}
    assert resolved(tmp_path, files_in(archive())) == {"archive!a.csv": b"x"}


def test_leading_dots_of_a_zip_are_dropped_as_unzip_does(tmp_path: Path) -> None:
    put(tmp_path, "a.zip", zip_file({"../../data/b.txt": b"b", "./data//a.txt": b"a"}))

    assert resolved(tmp_path, files_in(archive())) == {"archive!data/a.txt": b"a", "archive!data/b.txt": b"b"}
    node = FileObject(id="one", content_url="../../data/b.txt", format="any", within=archive())
    assert resolved(tmp_path, node) == {"one": b"b"}


def test_the_official_archives_are_read(shared_croissant: Path, tmp_path: Path) -> None:
    recipes = shared_croissant / "1.0" / "recipes"
    door = sources(tmp_path)
    lines = files_in(archive("data/read_binary_file_by_line/files.zip"), includes=("*.txt",))
    found = door.resolve(lines, base=recipes)
    folder = "data/read_binary_file_by_line"
    assert list(contents(found).values()) == [
        (recipes / folder / name).read_bytes() for name in ("file1.txt", "file2.txt")
    ]
    assert [item.path.rpartition("/")[2] for item in door.candidates(lines, base=recipes)] == ["file1.txt", "file2.txt"]
    table = FileObject(
        id="csv1", content_url="csv1_in_zip.csv", format="csv", within=archive("data/zip_with_csv.zip")
    )  # fmt: skip
    assert len(contents(door.resolve(table, base=recipes))["csv1"]) == 20
    images = files_in(archive("data/train2014.zip"), includes=("*.jpg",))
    found = door.candidates(images, base=shared_croissant / "1.0" / "coco2014-mini")
    assert [item.path.partition("/")[0] for item in found] == ["train2014", "train2014"]
    assert [item.size_bytes for item in found] == [931, 931]


def test_one_file_in_an_archive_is_named_exactly(tmp_path: Path) -> None:
    put(tmp_path, "a.zip", zip_file(MEMBERS))

    def node(url: str, **changes: object) -> FileObject:
        return FileObject(id="one", content_url=url, format="csv", within=archive(), **changes)

    assert resolved(tmp_path, node("test/a.csv")) == {"one": b"x\n3\n"}
    assert resolved(tmp_path, node("./test/a.csv")) == {"one": b"x\n3\n"}
    with pytest.raises(SourceMissingError, match=r"test/a\.csv"):
        resolved(tmp_path, node("a.csv"))
    with pytest.raises(SourceMissingError, match=r"train/b\.csv"):
        resolved(tmp_path, node("trian/b.csv"))
    with pytest.raises(SourceIntegrityError):
        resolved(tmp_path, node("test/a.csv", sha256="0" * 64))
    with pytest.raises(SourceIntegrityError, match="md5"):
        resolved(tmp_path, node("test/a.csv", md5="0" * 32))
    right = hashlib.md5(b"x\n3\n", usedforsecurity=False).hexdigest()
    assert resolved(tmp_path, node("test/a.csv", md5=right))


def test_nothing_is_unpacked_that_was_not_asked_for(tmp_path: Path) -> None:
    put(tmp_path, "a.zip", zip_file(MEMBERS))
    door = sources(tmp_path / "home")

    found = door.candidates(files_in(archive()), base=tmp_path)
    kept = tmp_path / "home/cache/downloads/files"
    assert not kept.exists()
    found[1].pin()
    assert [path.read_bytes() for path in kept.iterdir()] == [b"x\n3\n"]


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.gz"])
def test_a_second_plan_opens_no_archive(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {"a.zip": zip_file(MEMBERS), "a.tar.gz": compressed_tar(MEMBERS, "gz"), "a.gz": gzip.compress(b"x")}
    put(tmp_path, name, made[name])
    kind = {"a.zip": "zip", "a.tar.gz": "tar", "a.gz": "gzip"}[name]
    before = resolved(tmp_path, files_in(archive(name, kind)))

    def opened(self: object) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr(archive_module.Archive, "_opened", opened)
    assert resolved(tmp_path, files_in(archive(name, kind))) == before


def test_what_is_remembered_of_an_archive_may_be_damaged_or_gone(tmp_path: Path) -> None:
    put(tmp_path, "a.zip", zip_file(MEMBERS))
    before = resolved(tmp_path, files_in(archive()))
    indexes = tmp_path / "home/cache/archives/indexes"

    for change in (lambda data: data[:-5], lambda data: data.replace(b"train", b"trian"), lambda _: b"\xff{}"):
        for path in indexes.iterdir():
            path.write_bytes(change(path.read_bytes()))
        assert resolved(tmp_path, files_in(archive())) == before
    for path in (tmp_path / "home/cache/downloads/files").iterdir():
        path.write_bytes(b"rotten")
    assert resolved(tmp_path, files_in(archive())) == before


def test_two_archives_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for folder, content in (("one", b"1"), ("two", b"2")):
        put(tmp_path / folder, "data.zip", zip_file({"a.csv": content}))
    home = tmp_path / "home"

    for folder, content in (("one", b"1"), ("two", b"2"), ("one", b"1")):
        found = sources(home).resolve(files_in(archive("data.zip")), base=tmp_path / folder)
        assert contents(found) == {"archive!a.csv": content}


def test_archives_lie_in_archives(tmp_path: Path) -> None:
    inner = zip_file({"x.csv": b"deep"})
    middle = compressed_tar({"m/inner.zip": inner, "m/y.csv": b"middle"}, "gz")
    put(tmp_path, "outer.zip", zip_file({"middle.tgz": middle}))
    outer = archive("outer.zip", id="outer")
    tgz = archive("middle.tgz", id="middle", within=outer)
    node = FileObject(id="inner", content_url="m/inner.zip", format="zip", within=tgz)

    assert resolved(tmp_path, files_in(node)) == {"inner!x.csv": b"deep"}
    assert resolved(tmp_path, files_in(tgz, includes=("*.csv",))) == {"middle!m/y.csv": b"middle"}
    zips = FileSet(id="zips", format="zip", includes=("m/*.zip",), within=(tgz,))
    assert resolved(tmp_path, files_in(zips)) == {"middle!m/inner.zip!x.csv": b"deep"}


def test_a_set_of_archives_gives_the_files_of_all(tmp_path: Path) -> None:
    for part in ("b", "a"):
        put(tmp_path, f"parts/{part}.zip", zip_file({"x.csv": part.encode(), "y.txt": b""}))
    zips = FileSet(id="zips", format="zip", includes=("parts/*.zip",))

    found = resolved(tmp_path, files_in(zips, includes=("*.csv",)))
    assert found == {"parts/a.zip!x.csv": b"a", "parts/b.zip!x.csv": b"b"}
    assert list(found) == ["parts/a.zip!x.csv", "parts/b.zip!x.csv"]
    only = FileObject(id="one", content_url="x.csv", format="csv", within=zips)
    with pytest.raises(UnsupportedCroissantError, match="several archives"):
        resolved(tmp_path, only)


def test_a_set_in_several_archives_has_the_files_of_each(tmp_path: Path) -> None:
    put(tmp_path, "train.zip", zip_file({"a.csv": b"train"}))
    put(tmp_path, "test.tar", tar(tar_member("a.csv", b"test")))
    two = (archive("train.zip", id="train"), archive("test.tar", id="test"))

    assert resolved(tmp_path, files_in(*two, includes=("*.csv",))) == {"test!a.csv": b"test", "train!a.csv": b"train"}
    assert resolved(tmp_path, files_in(*two, two[0])) == {"test!a.csv": b"test", "train!a.csv": b"train"}


@pytest.mark.parametrize(("file", "inner"), [("d/a.csv.gz", "a.csv"), ("a.tgz", "a.tar"), ("a", "a"), (".gz", ".gz")])
def test_a_gzip_file_holds_one_file(tmp_path: Path, file: str, inner: str) -> None:
    put(tmp_path, file, gzip.compress(b"x\n1\n") + gzip.compress(b"2\n"))
    packed = archive(file, "gzip", id="gz")

    (candidate,) = sources(tmp_path / "home").candidates(
        FileObject(id="one", content_url="", format="csv", within=packed), base=tmp_path
    )
    assert (candidate.path, candidate.size_bytes) == (inner, None)
    assert candidate.pin()[1].path.read_bytes() == b"x\n1\n2\n"
    if not file.endswith(".tgz"):
        named = FileObject(id="one", content_url="what/ever.csv", format="csv", within=packed)
        assert resolved(tmp_path, named) == {"one": b"x\n1\n2\n"}


def test_a_tar_in_a_gzip_file_is_a_chain_too(tmp_path: Path) -> None:
    put(tmp_path, "a.tar.gz", gzip.compress(tar(tar_member("x.csv", b"x"))))
    inner = FileObject(id="tar", content_url="a.tar", format="tar", within=archive("a.tar.gz", "gzip", id="gz"))

    assert resolved(tmp_path, files_in(inner)) == {"tar!x.csv": b"x"}


def test_a_set_that_matches_nothing_says_what_is_there(tmp_path: Path) -> None:
    put(tmp_path, "a.zip", zip_file(MEMBERS))

    with pytest.raises(SourceMissingError, match=r"README\.md") as caught:
        resolved(tmp_path, files_in(archive(), includes=("*.parquet",)))
    assert caught.value.facts["includes"] == "*.parquet"
    with pytest.raises(SourceMissingError, match="excluded"):
        resolved(tmp_path, files_in(archive(), includes=("*.csv",), excludes=("*.csv",)))


def test_an_archive_is_held_against_its_declared_hash(tmp_path: Path) -> None:
    content = zip_file(MEMBERS)
    put(tmp_path, "a.zip", content)

    assert resolved(tmp_path, files_in(archive(sha256=hashlib.sha256(content).hexdigest())))
    with pytest.raises(SourceIntegrityError):
        resolved(tmp_path, files_in(archive(sha256="0" * 64)))


def test_every_kind_of_honest_zip_is_read(tmp_path: Path) -> None:
    class Stream(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: object) -> int:
            raise OSError("no")

        def tell(self) -> int:
            raise OSError("no")

    stream = Stream()
    with zipfile.ZipFile(stream, "w", compression=zipfile.ZIP_DEFLATED) as file:
        file.writestr("é/ü.txt", b"streamed" * 1000)
        file.mkdir("empty")
    big = io.BytesIO()
    with zipfile.ZipFile(big, "w") as file, file.open("a", "w", force_zip64=True) as member:
        member.write(b"zip64")
    commented = io.BytesIO()
    with zipfile.ZipFile(commented, "w") as file:
        file.comment = b"PK\x05\x06 in a comment"
        file.writestr("a", b"commented")

    made = {
        b"streamed" * 1000: stream.getvalue(), b"zip64": big.getvalue(), b"commented": commented.getvalue(),
        b"prefixed": b"#!/bin/sh\n" + zip_file({"a": b"prefixed"}),
    }  # fmt: skip
    for expected, content in made.items():
        put(tmp_path, "a.zip", content)
        assert list(resolved(tmp_path, files_in(archive())).values()) == [expected]


def test_every_kind_of_honest_tar_is_read(tmp_path: Path) -> None:
    long = "folder/" * 20 + "n" * 120 + "é.txt"
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=kind) as file:
            for name in (long, "./a.txt"):
                info = tarfile.TarInfo(name)
                info.size, info.mtime = 3, 1.5
                file.addfile(info, io.BytesIO(b"abc"))
            folder = tarfile.TarInfo("empty")
            folder.type = tarfile.DIRTYPE
            file.addfile(folder)
        put(tmp_path, "a.tar", out.getvalue())
        assert resolved(tmp_path, files_in(archive("a.tar"))) == {"archive!a.txt": b"abc", f"archive!{long}": b"abc"}


def test_many_members_are_listed_from_memory(tmp_path: Path) -> None:
    put(tmp_path, "a.zip", zip_file({f"{number:05}.txt": b"" for number in range(70_000)}, method=zipfile.ZIP_STORED))

    node = files_in(archive(), includes=("0000?.txt",))
    assert len(sources(tmp_path / "home").candidates(node, base=tmp_path)) == 10


def test_local_archives_need_neither_httpx_nor_fsspec(tmp_path: Path) -> None:
    import subprocess
    import sys

    put(tmp_path, "a.zip", zip_file(MEMBERS))
    code = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from archive_files import archive, files_in, sources
root = Path({str(tmp_path)!r})
assert len(sources(root / "home").resolve(files_in(archive()), base=root)) == 4
assert not {{"httpx", "httpcore", "fsspec", "duckdb", "pyarrow", "pandas"}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_no_archive_holds_nothing(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", b"x\n")
    node = FileObject(
        id="x", content_url="b.csv", format="csv", within=FileObject(id="a", content_url="a.csv", format="csv")
    )  # fmt: skip

    with pytest.raises(UnsupportedCroissantError, match="neither an archive nor a repository"):
        sources(tmp_path / "home").candidates(node, base=tmp_path)
    with pytest.raises(ForbiddenSourceError):
        sources(tmp_path / "home").candidates(files_in(archive("../a.zip")), base=tmp_path)[0].pin()


def test_a_tar_that_calls_itself_gzip_gives_the_files_of_the_tar(tmp_path: Path) -> None:
    for name in ("a.tar.gz", "a.tgz"):
        put(tmp_path, name, compressed_tar(MEMBERS, "gz"))
        packed = archive(name, "gzip")
        assert list(resolved(tmp_path, files_in(packed, includes=("test/*",)))) == ["archive!test/a.csv"]
        one = FileObject(id="one", content_url="README.md", format="any", within=packed)
        assert resolved(tmp_path, one) == {"one": b"hi"}


def test_a_compressed_tar_is_unpacked_once_for_all_that_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a.tar.gz", compressed_tar(MEMBERS, "gz"))
    calls = []
    real = archive_module.decompressed
    monkeypatch.setattr(archive_module, "decompressed", lambda *words, **more: calls.append(1) or real(*words, **more))

    with sources(tmp_path / "home") as door:
        door.resolve(files_in(archive("a.tar.gz"), includes=("*.csv",)), base=tmp_path)
        door.resolve(files_in(archive("a.tar.gz"), includes=("*.md",)), base=tmp_path)
    assert calls == [1]

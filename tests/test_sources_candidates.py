"""Which files a distribution means: chains, sets of plain files, mappings; listed in order and pinned on demand."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from archive_files import archive, contents, files_in, sources, zip_file
from coralord_lightning.errors import (
    DescriptorValueError,
    ForbiddenSourceError,
    SourceError,
    SourceIntegrityError,
    SourceMissingError,
    UnsupportedCroissantError,
)
from coralord_lightning.sources import require_mapped
from coralord_lightning.spec.plan import LocalFile, RemoteFile
from coralord_lightning.spec.selection import Distribution, FileObject, FileSet, InlineData
from web import serve


def fill(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def resolved(root: Path, node: Distribution, mapping: Mapping[str, Path] | None = None) -> dict[str, bytes]:
    with sources(root / "home") as door:
        return contents(door.resolve(node, base=root, mapping=mapping))


def table(name: str, url: str, **changes: object) -> FileObject:
    return FileObject(**({"id": name, "content_url": url, "format": "csv"} | changes))


def repository(**changes: object) -> FileObject:
    return FileObject(**({"id": "repo", "content_url": "https://github.com/openai/gpt-3", "format": "git"} | changes))


def test_candidates_are_listed_in_the_order_and_the_names_that_resolve_gives(tmp_path: Path) -> None:
    fill(tmp_path, "d/b.csv", "d/a.csv", "e.csv")
    door = sources(tmp_path / "home")
    for node in (table("one", "e.csv"), FileSet(id="all", format="csv", includes=("d/*.csv", "*.csv"))):
        listed = door.candidates(node, base=tmp_path)
        assert tuple(item.pin() for item in listed) == door.resolve(node, base=tmp_path)
        assert [item.size_bytes for item in listed] == [len(item.path) for item in listed]
    assert [(item.name, item.path) for item in listed] == [
        ("d/a.csv", "d/a.csv"), ("d/b.csv", "d/b.csv"), ("e.csv", "e.csv"),
    ]  # fmt: skip


def test_listing_reads_no_file(tmp_path: Path) -> None:
    fill(tmp_path, "a.csv")
    (tmp_path / "a.csv").chmod(0)
    node = FileSet(id="all", format="csv", includes=("*.csv",))

    (candidate,) = sources(tmp_path / "home").candidates(node, base=tmp_path)
    assert candidate.name == "a.csv"
    assert sources(tmp_path / "home").candidates(table("x", "none.csv"), base=tmp_path)[0].size_bytes is None


def test_rows_in_the_description_are_one_candidate(tmp_path: Path) -> None:
    (candidate,) = sources(tmp_path).candidates(InlineData(rows=({"a": 1},)), base=tmp_path)
    assert candidate.name == "inline"
    assert candidate.pin()[1] is None


def test_a_set_of_plain_files_is_those_files(tmp_path: Path) -> None:
    fill(tmp_path, "d/train.csv", "d/test.csv", "notes.txt")
    plain = (table("train", "d/train.csv"), table("test", "d/test.csv"), table("notes", "notes.txt", format="any"))

    assert list(resolved(tmp_path, files_in(*plain, includes=()))) == ["notes", "test", "train"]
    assert list(resolved(tmp_path, files_in(*plain, includes=("*.csv",)))) == ["test", "train"]
    assert list(resolved(tmp_path, files_in(*plain, includes=("d/*",), excludes=("test.csv",)))) == ["train"]
    assert list(resolved(tmp_path, files_in(*plain, includes=("notes",)))) == ["notes"]
    assert list(resolved(tmp_path, files_in(*plain, plain[0], includes=("*.csv",)))) == ["test", "train"]
    with pytest.raises(SourceMissingError, match=r"d/train\.csv"):
        resolved(tmp_path, files_in(*plain, includes=("*.parquet",)))
    found = sources(tmp_path / "home").resolve(files_in(*plain, includes=("*.csv",), format="tsv"), base=tmp_path)
    assert {source.format for source, _ in found} == {"tsv"}


def test_a_set_in_a_set_of_plain_files_narrows_it(tmp_path: Path) -> None:
    fill(tmp_path, "d/a.csv", "d/b.csv", "d/c.txt")
    outer = FileSet(id="outer", format="any", includes=("d/*",))

    assert list(resolved(tmp_path, files_in(outer, includes=("*.csv",), excludes=("b.csv",)))) == ["d/a.csv"]


def test_a_set_may_lie_in_archives_and_plain_files_at_once(tmp_path: Path) -> None:
    fill(tmp_path, "b.csv")
    (tmp_path / "a.zip").write_bytes(zip_file({"a.csv": b"a"}))

    found = resolved(tmp_path, files_in(archive(), table("b", "b.csv"), includes=("*.csv",)))
    assert found == {"b": b"b.csv", "archive!a.csv": b"a"}


def test_plain_remote_files_are_pinned_at_once_and_in_order(tmp_path: Path) -> None:
    with serve() as site:
        site.files |= {f"/d/{number}.json": f"[{number}]".encode() for number in range(12)}
        plain = [table(f"f{number:02}", f"{site.url}/d/{number}.json", format="json") for number in range(12)]
        with sources(tmp_path) as door:
            listed = door.candidates(files_in(*plain, includes=("*.json",), format="json"), base=tmp_path)
            assert [item.path for item in listed] == [f"{number}.json" for number in range(12)]
            assert site.requests == []
            assert all(item.remote for item in listed)
            found = door.resolve(files_in(*plain, includes=("*.json",), format="json"), base=tmp_path)
            assert list(contents(found).values()) == [f"[{number}]".encode() for number in range(12)]
            site.files.pop("/d/7.json")
            site.files.pop("/d/9.json")
        with sources(tmp_path / "new") as door, pytest.raises(SourceMissingError, match="f07"):
            door.resolve(files_in(*plain, format="json"), base=tmp_path)


def test_a_remote_description_names_files_and_archives_beside_it(tmp_path: Path) -> None:
    with serve() as site:
        site.files |= {"/c/d/a.zip": zip_file({"x.csv": b"x"}), "/c/d/b.json": b"[1]"}
        base = f"{site.url}/c/croissant.json"
        with sources(tmp_path) as door:
            found = door.resolve(files_in(archive("d/a.zip"), includes=("*.csv",)), base=base)
            assert contents(found) == {"archive!x.csv": b"x"}
            (candidate,) = door.candidates(table("b", "d/b.json", format="json"), base=base)
            assert candidate.path.endswith("d/b.json")
            assert contents((candidate.pin(),)) == {"b": b"[1]"}
            with pytest.raises(UnsupportedCroissantError, match="http knows no folders"):
                door.candidates(FileSet(id="all", format="csv", includes=("*.csv",)), base=base)
            for url in ("file:///etc/passwd", "C:\\x", "ftp://host/x"):
                with pytest.raises(ForbiddenSourceError):
                    door.candidates(table("b", url), base=base)


def test_remote_parquet_is_listed_without_being_fetched(tmp_path: Path) -> None:
    with serve() as site, sources(tmp_path) as door:
        site.files["/a.parquet"] = b"PAR1"
        ((source, place),) = door.resolve(table("a", f"{site.url}/a.parquet", format="parquet"), base=tmp_path)
        assert isinstance(place, RemoteFile)
        assert source.identity["url"] == f"{site.url}/a.parquet"
        assert site.asked("GET") == []


def test_a_folder_stands_for_a_repository(tmp_path: Path) -> None:
    checkout = fill(tmp_path / "checkout", "data/a.jsonl", "data/b.jsonl", ".git/c.jsonl", "data/sub/d.jsonl")
    mapping = {"repo": checkout}

    found = resolved(tmp_path, files_in(repository(), includes=("data/*.jsonl",)), mapping)
    assert found == {"repo!data/a.jsonl": b"data/a.jsonl", "repo!data/b.jsonl": b"data/b.jsonl"}
    found = resolved(tmp_path, files_in(repository(), includes=("**/*.jsonl", ".git/*")), mapping)
    assert list(found) == ["repo!data/a.jsonl", "repo!data/b.jsonl", "repo!data/sub/d.jsonl"]
    one = table("one", "data/a.jsonl", within=repository())
    assert resolved(tmp_path, one, mapping) == {"one": b"data/a.jsonl"}
    with pytest.raises(SourceIntegrityError):
        resolved(tmp_path, table("one", "data/a.jsonl", within=repository(), sha256="0" * 64), mapping)
    with pytest.raises(SourceMissingError):
        resolved(tmp_path, files_in(repository(), includes=("*.jsonl",)), mapping)


def test_a_mapped_folder_is_not_left(tmp_path: Path) -> None:
    checkout = fill(tmp_path / "checkout", "a.csv")
    fill(tmp_path, "secret.csv")
    (checkout / "link.csv").symlink_to(tmp_path / "secret.csv")
    (checkout / "up").symlink_to(tmp_path)

    for pattern in ("*.csv", "up/*.csv", "../*.csv", "/etc/*"):
        with pytest.raises(ForbiddenSourceError):
            resolved(tmp_path, files_in(repository(), includes=(pattern,)), {"repo": checkout})


def test_a_folder_stands_for_an_unpacked_archive(tmp_path: Path) -> None:
    unpacked = fill(tmp_path / "unpacked", "deep/a.csv", "b.csv", "c.txt")

    found = resolved(tmp_path, files_in(archive(), includes=("*.csv",)), {"archive": unpacked})
    assert list(found) == ["archive!b.csv", "archive!deep/a.csv"]


def test_a_file_stands_for_a_file_or_an_archive_wherever_it_lies(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    fill(elsewhere, "mine.csv")
    (elsewhere / "mine.zip").write_bytes(zip_file({"x.csv": b"x"}))
    root = tmp_path / "root"
    root.mkdir()
    remote = table("t", "https://example.org/t.csv", sha256=hashlib.sha256(b"mine.csv").hexdigest())

    assert resolved(root, remote, {"t": elsewhere / "mine.csv"}) == {"t": b"mine.csv"}
    zipped = archive("https://example.org/a.zip")
    assert resolved(root, files_in(zipped), {"archive": elsewhere / "mine.zip"}) == {"archive!x.csv": b"x"}
    assert resolved(root, files_in(remote, includes=()), {"t": elsewhere / "mine.csv"}) == {"t": b"mine.csv"}
    inside = table("in", "x.csv", within=zipped)
    assert resolved(root, inside, {"in": elsewhere / "mine.csv"}) == {"in": b"mine.csv"}
    with pytest.raises(SourceIntegrityError):
        resolved(root, table("t", "t.csv", sha256="0" * 64), {"t": elsewhere / "mine.csv"})


def test_a_mapping_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    fill(tmp_path, "a.csv")

    with pytest.raises(SourceError):
        resolved(tmp_path, table("t", "t.csv"), {"t": tmp_path / "none.csv"})
    with pytest.raises(ForbiddenSourceError, match="no regular file"):
        resolved(tmp_path, table("t", "t.csv"), {"t": tmp_path})
    with pytest.raises(DescriptorValueError, match="must be mapped to a folder"):
        resolved(tmp_path, files_in(repository()), {"repo": tmp_path / "a.csv"})
    with pytest.raises(SourceError):
        resolved(tmp_path, files_in(repository()), {"repo": tmp_path / "none"})


def test_an_unknown_name_in_a_mapping_is_told_the_nearest(tmp_path: Path) -> None:
    require_mapped({"repo": tmp_path}, ["repo", "other"])
    with pytest.raises(DescriptorValueError, match="repository") as caught:
        require_mapped({"repositry": tmp_path}, ["repository", "table"])
    assert caught.value.remedy.startswith("mapping: {repository:")
    with pytest.raises(DescriptorValueError, match="nothing"):
        require_mapped({"x": tmp_path}, [])


def test_a_repository_lies_in_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedCroissantError, match="repository inside something"):
        resolved(tmp_path, files_in(repository(within=archive())))


def test_compressed_tables_stay_as_they_are(tmp_path: Path) -> None:
    import gzip

    packed = gzip.compress(b"x\n1\n")
    (tmp_path / "a.csv.gz").write_bytes(packed)

    assert resolved(tmp_path, table("t", "a.csv.gz")) == {"t": packed}


@pytest.mark.parametrize("kind", ["zip", "tar", "gzip"])
def test_an_archive_itself_is_just_bytes(tmp_path: Path, kind: str) -> None:
    fill(tmp_path, "a.bin")
    ((source, place),) = sources(tmp_path / "home").resolve(table("t", "a.bin", format=kind), base=tmp_path)

    assert source.format == "any"
    assert place == LocalFile(path=tmp_path / "a.bin")


def test_md5_is_held_where_nothing_better_is_declared(tmp_path: Path) -> None:
    fill(tmp_path, "a.csv")
    right = hashlib.md5(b"a.csv", usedforsecurity=False).hexdigest()

    for _ in range(2):
        assert resolved(tmp_path, table("t", "a.csv", md5=right.upper()))
        with pytest.raises(SourceIntegrityError, match="md5"):
            resolved(tmp_path, table("t", "a.csv", md5="0" * 32))
    assert resolved(tmp_path, table("t", "a.csv", md5="0" * 32, sha256=hashlib.sha256(b"a.csv").hexdigest()))

"""Repositories of the Hugging Face hub are pinned to a commit and listed by its API, never cloned."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from coralord_lightning.config import Config, Secret
from coralord_lightning.errors import (
    ForbiddenSourceError,
    OfflineError,
    SourceIntegrityError,
    SourceMissingError,
    UpstreamError,
)
from coralord_lightning.sources import Sources, open_sources
from coralord_lightning.sources.hub import parse_hub
from coralord_lightning.spec.lock import LockedSource
from coralord_lightning.spec.plan import LocalFile, RemoteFile
from coralord_lightning.spec.selection import FileObject, FileSet
from coralord_lightning.workspace.locking import _locked_source
from hub import Hub, git_oid, serve_hub
from web import Site

PUBLIC = "https://huggingface.co"
MNIST = {
    "README.md": b"# MNIST",
    "mnist/test-00000.parquet": b"PAR1 test",
    "mnist/train-00000.parquet": b"PAR1 train 0",
    "mnist/train-00001.parquet": b"PAR1 train 1, which is longer",
    "mnist/deep/er.parquet": b"PAR1 deeper",
    "other/a.csv": b"x\n1\n",
}


_opened: list[Sources] = []


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serve_hub() as found:
        found.put("ylecun/mnist", MNIST)
        yield found
        while _opened:
            _opened.pop().close()


def sources(home: Path, hub: Hub, *, offline: bool = False, token: str | None = None) -> Sources:
    config = Config(
        home=home,
        allow_private_hosts=frozenset({"127.0.0.1"}),
        hf_endpoint=hub.url,
        hf_token=Secret(where="env:HF_TOKEN", value=token) if token else None,
    )
    _opened.append(open_sources(config, cache_dir=home / "cache", offline=offline, sleep=lambda _: None))
    return _opened[-1]


def repository(url: str = f"{PUBLIC}/datasets/ylecun/mnist") -> FileObject:
    return FileObject(id="repo", content_url=url, format="git")


def files(*includes: str, kind: str = "parquet", **changes: object) -> FileSet:
    return FileSet(**({"id": "files", "format": kind, "includes": includes, "within": (repository(),)} | changes))


def locked(found: tuple) -> list[LockedSource]:
    return [item for item in (_locked_source(source, place) for source, place in found) if item is not None]


def test_the_files_of_a_repository_are_pinned_by_commit_and_object(hub: Hub, tmp_path: Path) -> None:
    commit = hub.put("ylecun/mnist", MNIST)
    door = sources(tmp_path, hub)

    found = door.resolve(files("mnist/train-*.parquet", "mnist/test-*.parquet"), base=tmp_path)

    assert [source.name for source, _ in found] == [
        "repo!mnist/test-00000.parquet", "repo!mnist/train-00000.parquet", "repo!mnist/train-00001.parquet",
    ]  # fmt: skip
    source, place = found[1]
    content = MNIST["mnist/train-00000.parquet"]
    assert source.identity == {"lfs": hashlib.sha256(content).hexdigest(), "size": len(content)}
    url = f"{PUBLIC}/datasets/ylecun/mnist/resolve/{commit}/mnist/train-00000.parquet#revision=main"
    assert place == RemoteFile(url=url, etag=None, size_bytes=len(content))
    assert hub.asked("/resolve/") == []


def test_bytes_come_by_ranges_from_wherever_the_hub_sends_us(hub: Hub, tmp_path: Path) -> None:
    door = sources(tmp_path, hub, token=hub.token)
    found = door.resolve(files("mnist/test-*.parquet"), base=tmp_path)
    places = {source.name: place for source, place in found}

    with door:
        filesystem = door.filesystem(places)
        path = filesystem.path_of("repo!mnist/test-00000.parquet")
        assert filesystem.read_at(path, 5, 9) == b"test"

    (_, asked, headers), *_ = [item for item in hub.requests if "/resolve/" in item[1]]
    assert asked.endswith("/mnist/test-00000.parquet")
    assert headers["authorization"] == f"Bearer {hub.token}"
    assert hub.cdn.requests
    assert all("authorization" not in item.headers for item in hub.cdn.requests)


@pytest.mark.parametrize(
    ("url", "revision"),
    [
        (f"{PUBLIC}/datasets/ylecun/mnist/", "main"),
        (f"{PUBLIC}/datasets/ylecun/mnist.git", "main"),
        (f"git+{PUBLIC}/datasets/ylecun/mnist", "main"),
        ("hf://datasets/ylecun/mnist", "main"),
        (f"{PUBLIC}/datasets/ylecun/mnist/tree/refs%2Fconvert%2Fparquet", "refs/convert/parquet"),
        (f"{PUBLIC}/datasets/ylecun/mnist/tree/refs/convert/parquet", "refs/convert/parquet"),
        ("hf://datasets/ylecun/mnist@refs%2Fconvert%2Fparquet", "refs/convert/parquet"),
        ("hf://datasets/ylecun/mnist@v1", "v1"),
    ],
)
def test_every_spelling_of_a_repository_means_its_revision(hub: Hub, tmp_path: Path, url: str, revision: str) -> None:
    commit = hub.put("ylecun/mnist", {f"{revision}.csv": b"x\n1\n"}, revision)

    within = (FileObject(id="repo", content_url=url, format="git"),)
    found = sources(tmp_path, hub).resolve(files("**/*.csv", kind="csv", within=within), base=tmp_path)

    assert [source.name for source, _ in found] == [f"repo!{revision}.csv"]
    assert f"/{commit}/" in found[0][1].url


def test_a_commit_is_asked_for_by_no_name(hub: Hub, tmp_path: Path) -> None:
    commit = hub.put("ylecun/mnist", MNIST)
    within = (repository(f"{PUBLIC}/datasets/ylecun/mnist/tree/{commit}"),)

    assert sources(tmp_path, hub).resolve(files("other/*.csv", kind="csv", within=within), base=tmp_path)
    assert hub.asked("/revision/") == []


def test_a_data_set_without_a_team_is_found(hub: Hub, tmp_path: Path) -> None:
    hub.put("squad", {"a.csv": b"x\n"})
    for url in (f"{PUBLIC}/datasets/squad", "hf://datasets/squad"):
        found = sources(tmp_path, hub).resolve(files("*.csv", kind="csv", within=(repository(url),)), base=tmp_path)
        assert [source.name for source, _ in found] == ["repo!a.csv"]


def test_one_file_of_a_repository_is_named_by_its_id(hub: Hub, tmp_path: Path) -> None:
    door = sources(tmp_path, hub)
    inside = FileObject(id="table", content_url="other/a.csv", format="csv", within=repository())
    direct = FileObject(id="table", content_url="hf://datasets/ylecun/mnist@main/other/a.csv", format="csv")

    for node in (inside, direct):
        (candidate,) = door.candidates(node, base=tmp_path)
        assert (candidate.name, candidate.path, candidate.size_bytes) == ("table", "other/a.csv", 4)
        source, _ = candidate.pin()
        assert source.identity == {"git": git_oid(b"x\n1\n"), "size": 4}
    with pytest.raises(SourceMissingError, match=r"other/a\.csv"):
        door.candidates(FileObject(id="t", content_url="other/b.csv", format="csv", within=repository()), base=tmp_path)


def test_listings_go_on_page_after_page(hub: Hub, tmp_path: Path) -> None:
    hub.put("many", {f"d/{number:03}.csv": b"x" for number in range(25)})
    hub.page = 4

    within = (repository(f"{PUBLIC}/datasets/many"),)
    found = sources(tmp_path, hub).candidates(files("d/*.csv", kind="csv", within=within), base=tmp_path)

    assert [item.path for item in found] == [f"d/{number:03}.csv" for number in range(25)]
    assert len(hub.asked("/tree/")) == 7


def test_a_listing_that_goes_on_elsewhere_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.page, hub.elsewhere = 1, "http://127.0.0.1:9"

    with pytest.raises(ForbiddenSourceError, match="another site"):
        sources(tmp_path, hub).candidates(files("mnist/*.parquet"), base=tmp_path)


def test_only_the_folder_that_patterns_need_is_listed(hub: Hub, tmp_path: Path) -> None:
    door = sources(tmp_path, hub)
    door.candidates(files("mnist/*.parquet"), base=tmp_path)
    door.candidates(files("mnist/*/*.parquet", "mnist/*.parquet"), base=tmp_path)

    shallow, deep = hub.asked("/tree/")
    assert shallow.endswith("/mnist?recursive=false")
    assert deep.endswith("/mnist?recursive=true")


def test_what_is_read_whole_is_fetched_and_known_by_its_hash(hub: Hub, tmp_path: Path) -> None:
    hub.put("mixed", {"a.json": b"[1]", "b.zip": zipped(**{"x.csv": b"x\n7\n"})})
    repo = repository("hf://datasets/mixed")
    door = sources(tmp_path, hub)
    node = FileObject(id="doc", content_url="a.json", format="json", within=repo)

    ((source, place),) = door.resolve(node, base=tmp_path)

    assert source.identity == {"sha256": hashlib.sha256(b"[1]").hexdigest()}
    assert isinstance(place, LocalFile)
    assert place.path.read_bytes() == b"[1]"
    archive = FileObject(id="zip", content_url="b.zip", format="zip", within=repo)
    ((source, place),) = door.resolve(files("*.csv", kind="csv", within=(archive,)), base=tmp_path)
    assert source.name == "zip!x.csv"
    assert place.path.read_bytes() == b"x\n7\n"
    assert place.url.endswith("!x.csv")


def test_a_declared_hash_is_held_against_the_hubs_own(hub: Hub, tmp_path: Path) -> None:
    content = MNIST["mnist/test-00000.parquet"]

    def node(sha256: str) -> FileObject:
        return FileObject(
            id="t", content_url="mnist/test-00000.parquet", format="parquet", sha256=sha256, within=repository()
        )

    door = sources(tmp_path, hub)
    assert door.resolve(node(hashlib.sha256(content).hexdigest()), base=tmp_path)
    with pytest.raises(SourceIntegrityError):
        door.resolve(node("0" * 64), base=tmp_path)


def test_bytes_that_are_not_the_commits_are_refused(hub: Hub, tmp_path: Path) -> None:
    commit = hub.put("ylecun/mnist", {"a.json": b"[1]"})
    (candidate,) = sources(tmp_path, hub).candidates(files("*.json", kind="json"), base=tmp_path)
    hub.commits[commit] = {"a.json": b"[2]"}

    with pytest.raises(SourceIntegrityError):
        candidate.pin()


def test_a_lock_holds_the_commit_whatever_the_branch_does(hub: Hub, tmp_path: Path) -> None:
    nodes = [files("mnist/*.parquet"), files("other/*", kind="any")]
    before = [sources(tmp_path, hub).resolve(node, base=tmp_path) for node in nodes]
    pins = [item for found in before for item in locked(found)]
    hub.put("ylecun/mnist", {"mnist/new.parquet": b"PAR1 new", "other/a.csv": b"x\n2\n"})
    hub.requests.clear()

    for node, old in zip(nodes, before, strict=True):
        assert sources(tmp_path / "elsewhere", hub).resolve(node, base=tmp_path, pinned=pins) == tuple(
            (source, place if isinstance(place, RemoteFile) else LocalFile(
                path=tmp_path / "elsewhere" / place.path.relative_to(tmp_path), url=place.url
            ))
            for source, place in old
        )  # fmt: skip
    assert hub.asked("/revision/") == []
    moved = sources(tmp_path, hub).resolve(nodes[0], base=tmp_path)
    assert [source.name for source, _ in moved] == ["repo!mnist/new.parquet"]


def test_a_lock_tells_revisions_of_one_repository_apart(hub: Hub, tmp_path: Path) -> None:
    hub.put("ylecun/mnist", {"mnist/v1.parquet": b"PAR1 v1"}, "v1")
    old = files("mnist/*.parquet", within=(repository("hf://datasets/ylecun/mnist@v1"),))
    door = sources(tmp_path, hub)
    pins = [*locked(door.resolve(old, base=tmp_path)), *locked(door.resolve(files("mnist/*.parquet"), base=tmp_path))]

    found = sources(tmp_path, hub).resolve(old, base=tmp_path, pinned=pins)
    assert [source.name for source, _ in found] == ["repo!mnist/v1.parquet"]


def test_what_was_listed_before_is_planned_offline(hub: Hub, tmp_path: Path) -> None:
    nodes = [files("mnist/*.parquet"), files("other/*.csv", kind="any")]
    before = [sources(tmp_path, hub).resolve(node, base=tmp_path) for node in nodes]
    hub.requests.clear()

    door = sources(tmp_path, hub, offline=True)
    assert [door.resolve(node, base=tmp_path) for node in nodes] == before
    assert hub.requests == []
    with pytest.raises(OfflineError, match="repo"):
        door.resolve(files("README.md", kind="any"), base=tmp_path)
    with pytest.raises(OfflineError, match="repo"):
        sources(tmp_path / "new", hub, offline=True).candidates(nodes[0], base=tmp_path)


def test_a_second_plan_asks_for_the_revision_only(hub: Hub, tmp_path: Path) -> None:
    sources(tmp_path, hub).resolve(files("mnist/*.parquet"), base=tmp_path)
    hub.requests.clear()

    sources(tmp_path, hub).resolve(files("mnist/*.parquet"), base=tmp_path)

    assert [path.split("/")[5] for _, path, _ in hub.requests] == ["revision"]


def test_a_damaged_memory_of_a_listing_is_asked_for_again(hub: Hub, tmp_path: Path) -> None:
    before = sources(tmp_path, hub).resolve(files("mnist/*.parquet"), base=tmp_path)
    for note in (tmp_path / "cache" / "hub").iterdir():
        note.write_bytes(note.read_bytes().replace(b"PAR", b"RAP").replace(b"train", b"trian")[:-3])

    assert sources(tmp_path, hub).resolve(files("mnist/*.parquet"), base=tmp_path) == before


def test_a_gated_data_set_says_how_to_get_in(hub: Hub, tmp_path: Path) -> None:
    hub.gated.add("ylecun/mnist")

    with pytest.raises(UpstreamError, match="HF_TOKEN") as caught:
        sources(tmp_path, hub).candidates(files("mnist/*.parquet"), base=tmp_path)
    assert "accept its terms" in caught.value.remedy
    assert caught.value.exit_code == 6
    assert sources(tmp_path, hub, token=hub.token).candidates(files("mnist/*.parquet"), base=tmp_path)


def test_what_is_not_there_is_named(hub: Hub, tmp_path: Path) -> None:
    door = sources(tmp_path, hub)

    with pytest.raises(SourceMissingError, match="no such revision"):
        door.candidates(files("*", within=(repository("hf://datasets/ylecun/mnist@none"),)), base=tmp_path)
    with pytest.raises(UpstreamError, match="no such data set"):
        door.candidates(files("*", within=(repository("hf://datasets/nobody/none"),)), base=tmp_path)
    with pytest.raises(SourceMissingError) as caught:
        door.candidates(files("nowhere/*.parquet"), base=tmp_path)
    assert caught.value.facts["includes"] == "nowhere/*.parquet"


@pytest.mark.parametrize(
    "page",
    [
        b"[", b"{}", b"[1]", b'[{"type": "file"}]',
        b'[{"type": "file", "path": "../x.csv", "oid": "' + b"0" * 40 + b'", "size": 1}]',
        b'[{"type": "file", "path": "/etc/x.csv", "oid": "' + b"0" * 40 + b'", "size": 1}]',
        b'[{"type": "file", "path": "x.csv", "oid": "zz", "size": 1}]',
        b'[{"type": "file", "path": "x.csv", "oid": "' + b"0" * 40 + b'", "size": -1}]',
    ],
)  # fmt: skip
def test_a_hub_that_talks_nonsense_is_an_error(
    hub: Hub, tmp_path: Path, page: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hub as module

    monkeypatch.setattr(module._Handler, "tree", lambda self, *_: self.answer(200, page))
    with pytest.raises((UpstreamError, ForbiddenSourceError)):
        sources(tmp_path, hub).candidates(files("*.csv"), base=tmp_path)


@pytest.mark.parametrize(
    "url",
    [
        "hf://models/a/b", "hf://datasets/", "hf://datasets/a/b@x y", f"{PUBLIC}/datasets/a/b/c/d", f"{PUBLIC}/ylecun",
        f"{PUBLIC}/datasets/../x", f"{PUBLIC}/datasets/a/b/tree/..%2F..", "hf://datasets/a/b@main/../x",
        f"{PUBLIC}/datasets/a%2F..%2Fb/c", f"{PUBLIC}/datasets/a/b/blob/main/x.csv", f"{PUBLIC}/",
    ],
)  # fmt: skip
def test_addresses_that_name_no_data_set_are_refused(url: str) -> None:
    with pytest.raises(ForbiddenSourceError):
        parse_hub(url, endpoint=PUBLIC, subject="repo")


@pytest.mark.parametrize("url", ["https://huggingface.co.evil/datasets/a/b", "https://github.com/openai/gpt-3"])
def test_other_sites_are_no_hub(url: str) -> None:
    assert parse_hub(url, endpoint=PUBLIC, subject="repo") is None


def test_no_secret_reaches_a_lock_or_the_cache(hub: Hub, tmp_path: Path) -> None:
    door = sources(tmp_path, hub, token=hub.token)
    pins = locked(door.resolve(files("**/*.parquet", "**/*.csv", kind="any"), base=tmp_path))

    kept = b"".join(path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert hub.token.encode() not in kept
    assert "canary" not in json.dumps([item.url for item in pins])
    assert isinstance(hub.cdn, Site)
    assert b"canary" not in kept


def zipped(**content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, value in content.items():
            archive.writestr(name, value)
    return out.getvalue()

"""Git repositories elsewhere than the hub: one commit over real http, files as they are pinned, nothing run."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from archive_files import contents, files_in
from coralord_lightning.config import Config
from coralord_lightning.errors import (
    FetchLimitError,
    ForbiddenSourceError,
    OfflineError,
    SourceIntegrityError,
    SourceMissingError,
    UnsupportedCroissantError,
    UpstreamError,
)
from coralord_lightning.sources import Sources, open_sources
from coralord_lightning.sources.git import GitRepository, parse_git
from coralord_lightning.sources.git_process import GitLimits
from coralord_lightning.sources.hashes import HashCache
from coralord_lightning.sources.kept import KeptFiles
from coralord_lightning.sources.pins import LockedPins
from coralord_lightning.spec.lock import LockedSource
from coralord_lightning.spec.selection import FileObject, FileSet
from coralord_lightning.workspace.locking import _locked_source
from git_server import GitSite, git, make_repository, serve_git

FILES = {"data__a_jsonl": b'{"x": 1}\n', "data__b_jsonl": b'{"x": 2}\n' * 50_000, "README_md": b"hello"}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[GitSite]:
    make_repository(tmp_path / "served" / "data", **FILES)
    with serve_git(tmp_path / "served") as found:
        yield found


def sources(home: Path, **changes: object) -> Sources:
    config = Config(home=home, allow_private_hosts=frozenset({"127.0.0.1", "localhost"}))
    return open_sources(config, cache_dir=home / "cache", sleep=lambda _: None, **changes)


def repository(site: GitSite, suffix: str = "") -> FileObject:
    return FileObject(id="repo", content_url=f"{site.url}/data/.git{suffix}", format="git")


def jsonl(site: GitSite, suffix: str = "") -> FileSet:
    return files_in(repository(site, suffix), includes=("data/*.jsonl",), format="jsonl")


def commit_more(site: GitSite, **files: bytes) -> str:
    return make_repository(site.root / "data", **files)


def test_files_are_listed_first_and_fetched_when_they_are_pinned(site: GitSite, tmp_path: Path) -> None:
    door = sources(tmp_path)

    first, second = door.candidates(jsonl(site), base=tmp_path)
    assert [(item.name, item.path) for item in (first, second)] == [
        ("repo!data/a.jsonl", "data/a.jsonl"), ("repo!data/b.jsonl", "data/b.jsonl"),
    ]  # fmt: skip
    assert not (tmp_path / "cache/downloads").exists()
    listed = door.bytes_fetched
    assert listed > 0
    source, place = first.pin()
    assert source.identity == {"sha256": hashlib.sha256(FILES["data__a_jsonl"]).hexdigest()}
    assert place.path.read_bytes() == FILES["data__a_jsonl"]
    assert door.bytes_fetched > listed
    assert len(list((tmp_path / "cache/downloads/files").iterdir())) == 1


def test_all_files_come_in_order(site: GitSite, tmp_path: Path) -> None:
    found = contents(sources(tmp_path).resolve(files_in(repository(site)), base=tmp_path))

    assert found == {
        "repo!README.md": b"hello", "repo!data/a.jsonl": FILES["data__a_jsonl"],
        "repo!data/b.jsonl": FILES["data__b_jsonl"],
    }  # fmt: skip


def test_one_file_is_named_by_its_path(site: GitSite, tmp_path: Path) -> None:
    def node(url: str, **changes: object) -> FileObject:
        return FileObject(id="one", content_url=url, format="jsonl", within=repository(site), **changes)

    assert contents(sources(tmp_path).resolve(node("data/a.jsonl"), base=tmp_path)) == {"one": FILES["data__a_jsonl"]}
    with pytest.raises(SourceMissingError, match=r"data/a\.jsonl"):
        sources(tmp_path).candidates(node("a.jsonl"), base=tmp_path)
    with pytest.raises(SourceIntegrityError):
        sources(tmp_path).resolve(node("data/a.jsonl", sha256="0" * 64), base=tmp_path)


def test_a_branch_a_tag_and_a_commit_can_be_named(site: GitSite, tmp_path: Path) -> None:
    first = git(site.root / "data", "rev-parse", "HEAD")
    git(site.root / "data", "tag", "-a", "v1", "-m", "v1")
    git(site.root / "data", "branch", "team/old")
    commit_more(site, data__a_jsonl=b'{"x": 9}\n')

    def read(suffix: str) -> bytes:
        return contents(sources(tmp_path).resolve(jsonl(site, suffix), base=tmp_path))["repo!data/a.jsonl"]

    for suffix in ("/tree/v1", "/tree/team/old", "/tree/team%2Fold", f"/tree/{first}", "/tree/refs/tags/v1"):
        assert read(suffix) == FILES["data__a_jsonl"]
    assert read("") == read("/tree/main") == read("/tree/main/") == b'{"x": 9}\n'
    with pytest.raises(SourceMissingError, match="no such revision"):
        read("/tree/none")


def test_a_lock_holds_the_commit_whatever_the_branch_does(site: GitSite, tmp_path: Path) -> None:
    commit = git(site.root / "data", "rev-parse", "HEAD")
    before = sources(tmp_path).resolve(jsonl(site), base=tmp_path)
    pins = [_locked_source(source, place) for source, place in before]
    assert pins[0] == LockedSource(
        url=f"{site.url}/data/.git#commit={commit}&revision=HEAD!data/a.jsonl", size_bytes=9,
        sha256=hashlib.sha256(FILES["data__a_jsonl"]).hexdigest(),
    )  # fmt: skip
    commit_more(site, data__a_jsonl=b'{"x": 9}\n')

    site.requests.clear()
    assert sources(tmp_path).resolve(jsonl(site), base=tmp_path, pinned=pins) == before
    assert site.requests == []
    elsewhere = sources(tmp_path / "elsewhere").resolve(jsonl(site), base=tmp_path, pinned=pins)
    assert [source for source, _ in elsewhere] == [source for source, _ in before]
    moved = sources(tmp_path).resolve(jsonl(site), base=tmp_path)
    assert contents(moved)["repo!data/a.jsonl"] == b'{"x": 9}\n'


def test_what_was_read_before_is_planned_offline(site: GitSite, tmp_path: Path) -> None:
    before = sources(tmp_path).resolve(jsonl(site), base=tmp_path)
    site.requests.clear()

    door = sources(tmp_path, offline=True)
    assert door.resolve(jsonl(site), base=tmp_path) == before
    (readme,) = door.candidates(files_in(repository(site), includes=("README.md",)), base=tmp_path)
    with pytest.raises(OfflineError, match="repo"):
        readme.pin()
    with pytest.raises(OfflineError, match="repo"):
        sources(tmp_path / "new", offline=True).candidates(jsonl(site), base=tmp_path)
    assert site.requests == []


@pytest.mark.parametrize("setting", ["uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"])
def test_servers_that_can_less_are_read_too(site: GitSite, tmp_path: Path, setting: str) -> None:
    git(site.root / "data", "config", setting, "false")

    assert len(sources(tmp_path).resolve(jsonl(site), base=tmp_path)) == 2


def test_links_and_submodules_are_refused_where_they_are_meant(site: GitSite, tmp_path: Path) -> None:
    folder = site.root / "data"
    (folder / "link.txt").symlink_to("/etc/passwd")
    git(folder, "add", "-A")
    git(folder, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},module.txt")
    git(folder, "commit", "-q", "-m", "links")

    assert len(sources(tmp_path).resolve(jsonl(site), base=tmp_path)) == 2
    for name, word in (("link.txt", "symbolic link"), ("module.txt", "submodule")):
        with pytest.raises(ForbiddenSourceError, match=word):
            sources(tmp_path).candidates(files_in(repository(site), includes=(name,)), base=tmp_path)


def test_a_pointer_of_git_lfs_is_no_data(site: GitSite, tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12\n"
    commit_more(site, data__a_jsonl=pointer)

    for _ in range(2):
        with pytest.raises(UnsupportedCroissantError, match="Git LFS") as caught:
            sources(tmp_path).resolve(jsonl(site), base=tmp_path)
        assert "mapping" in caught.value.remedy


def test_nothing_of_a_repository_or_of_the_user_is_run(
    site: GitSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary, script = tmp_path / "canary", tmp_path / "evil.sh"
    script.write_text(f"#!/bin/sh\ntouch {canary}\ncat\n")
    script.chmod(0o755)
    (site.root / "data" / ".gitattributes").write_text("* filter=evil diff=evil\n")
    (site.root / "data" / ".gitmodules").write_text('[submodule "m"]\n\tpath = m\n\turl = ext::sh -c "touch canary"\n')
    commit_more(site, data__a_jsonl=b"{}\n")
    home = tmp_path / "user"
    home.mkdir()
    (home / ".gitconfig").write_text(
        f'[filter "evil"]\n\tsmudge = {script}\n[core]\n\thooksPath = {tmp_path}\n\tsshCommand = {script}\n'
        f'\tfsmonitor = {script}\n\taskPass = {script}\n[credential]\n\thelper = "!{script}"\n'
        f'[url "ext::{script} "]\n\tinsteadOf = {site.url}\n[init]\n\ttemplateDir = {tmp_path}\n'
    )
    (home / ".netrc").write_text("machine 127.0.0.1 login canary password canary\n")
    (tmp_path / "hooks").mkdir()
    for name in ("post-checkout", "reference-transaction", "post-index-change"):
        (tmp_path / name).write_text(script.read_text())
        (tmp_path / name).chmod(0o755)
    for name, value in {
        "HOME": home, "XDG_CONFIG_HOME": home, "GIT_CONFIG_GLOBAL": home / ".gitconfig", "GIT_SSH_COMMAND": script,
        "GIT_ASKPASS": script, "GIT_EXTERNAL_DIFF": script, "GIT_PROXY_COMMAND": script, "GIT_DIR": "/nowhere",
        "GIT_TEMPLATE_DIR": tmp_path, "http_proxy": "http://127.0.0.1:9",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, str(value))

    assert contents(sources(tmp_path).resolve(jsonl(site), base=tmp_path))["repo!data/a.jsonl"] == b"{}\n"
    assert not canary.exists()
    assert all("authorization" not in headers for headers in site.headers)
    assert not list((tmp_path / "cache").rglob("hooks/*"))


def test_redirects_are_not_followed(site: GitSite, tmp_path: Path) -> None:
    with serve_git(site.root) as other:
        site.redirect = other.url
        with pytest.raises(UpstreamError):
            sources(tmp_path).candidates(jsonl(site), base=tmp_path)
        assert other.requests == []


def test_a_private_address_is_not_asked(site: GitSite, tmp_path: Path) -> None:
    for host in ("127.0.0.1", "localhost"):
        url = site.url.replace("127.0.0.1", host)
        node = files_in(FileObject(id="repo", content_url=f"{url}/data/.git", format="git"))
        with (
            open_sources(Config(home=tmp_path), cache_dir=tmp_path / "cache") as door,
            pytest.raises(ForbiddenSourceError, match="public internet"),
        ):
            door.candidates(node, base=tmp_path)
    assert site.requests == []


def test_git_connects_to_the_address_that_was_checked(
    site: GitSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: object, *words: object, **changes: object) -> object:
        return real("127.0.0.1" if host == "rebound.test" else host, port, *words, **changes)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    url = site.url.replace("127.0.0.1", "rebound.test")  # which git itself cannot resolve
    config = Config(home=tmp_path, allow_private_hosts=frozenset({"rebound.test"}))
    node = files_in(FileObject(id="repo", content_url=f"{url}/data/.git", format="git"), includes=("*.md",))

    with open_sources(config, cache_dir=tmp_path / "cache") as door:
        assert contents(door.resolve(node, base=tmp_path)) == {"repo!README.md": b"hello"}


def test_user_and_password_go_to_that_server_and_into_no_file(site: GitSite, tmp_path: Path) -> None:
    url = site.url.replace("//", "//me:canary@")
    node = files_in(FileObject(id="repo", content_url=f"{url}/data/.git", format="git"), includes=("*.md",))

    found = sources(tmp_path).resolve(node, base=tmp_path)

    assert any(headers.get("authorization", "").startswith("Basic ") for headers in site.headers)
    assert "canary" not in str(found)
    assert not any(b"canary" in path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file())


def test_a_repository_that_takes_too_much_is_given_up(site: GitSite, tmp_path: Path) -> None:
    commit_more(site, big=os.urandom(3 * 1024 * 1024))
    git(site.root / "data", "config", "uploadpack.allowFilter", "false")

    def repo(name: str, limits: GitLimits) -> GitRepository:
        hashes = HashCache(tmp_path / "hashes")
        return GitRepository(
            f"{site.url}/data/.git", subject="repo", pins=LockedPins(), cache_dir=tmp_path / name,
            config=Config(home=tmp_path, allow_private_hosts=frozenset({"127.0.0.1"})), offline=False,
            kept=KeptFiles(tmp_path / "files", hashes), limits=limits,
        )  # fmt: skip

    assert repo("a", GitLimits()).blobs
    with pytest.raises(ForbiddenSourceError, match="takes more"):
        _ = repo("b", GitLimits(output_bytes=10)).blobs
    for limits, kind in (
        (GitLimits(size_bytes=1000), ForbiddenSourceError),
        (GitLimits(max_fetch=1000), FetchLimitError),
    ):
        with pytest.raises(kind, match="1000 bytes"):
            _ = repo("d" if limits.max_fetch else "e", limits).blobs


def test_what_is_not_there_is_missing(site: GitSite, tmp_path: Path) -> None:
    node = files_in(FileObject(id="repo", content_url=f"{site.url}/none/.git", format="git"))

    with pytest.raises(SourceMissingError):
        sources(tmp_path).candidates(node, base=tmp_path)


@pytest.mark.parametrize(
    "url",
    [
        "ssh://git@github.com/a/b", "git@github.com:a/b.git", "file:///etc", "ext::sh -c id", "git+ssh://host/x",
        "--upload-pack=id", "https://host/a/tree/--upload-pack=id", "https://host/a/tree/a..b", "/etc", "git://host/x",
        "https://host/a/tree/a%20b", "https://host/a/tree/a^b", "https://host/a/tree/@{-1}", "https://host/a/tree/a:b",
    ],
)  # fmt: skip
def test_other_transports_and_odd_revisions_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ForbiddenSourceError):
        parse_git(url, subject="repo")
    with pytest.raises(ForbiddenSourceError):
        sources(tmp_path).candidates(files_in(FileObject(id="repo", content_url=url, format="git")), base=tmp_path)


@pytest.mark.parametrize(
    ("url", "place", "revision"),
    [
        ("https://github.com/openai/gpt-3", "https://github.com/openai/gpt-3", "HEAD"),
        ("git+https://github.com/openai/gpt-3.git", "https://github.com/openai/gpt-3.git", "HEAD"),
        ("https://github.com/openai/gpt-3/tree/v1/", "https://github.com/openai/gpt-3", "v1"),
        ("https://github.com/a/b/tree/refs%2Fheads%2Fx", "https://github.com/a/b", "refs/heads/x"),
    ],
)
def test_addresses_of_repositories_are_understood(url: str, place: str, revision: str) -> None:
    found = parse_git(url, subject="repo")
    assert (found.url, found.revision) == (place, revision)


def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hashes = HashCache(tmp_path / "hashes")
        repository = GitRepository(
            f"http://127.0.0.1:{silent.getsockname()[1]}/data", subject="repo", pins=LockedPins(),
            cache_dir=tmp_path / "git", offline=False, kept=KeptFiles(tmp_path / "files", hashes),
            config=Config(home=tmp_path, allow_private_hosts=frozenset({"127.0.0.1"})), limits=GitLimits(seconds=0.5),
        )  # fmt: skip
        with pytest.raises(ForbiddenSourceError, match=r"0\.5 s"):
            _ = repository.commit

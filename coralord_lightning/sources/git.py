"""Git repositories elsewhere than the hub: one commit, its files as files under their hashes. Never checks one out.

Only the commit's trees are fetched at first; a file's bytes follow when it is pinned.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote, unquote

import filelock

from coralord_lightning.config import Config
from coralord_lightning.errors import (
    CoralError,
    FetchLimitError,
    ForbiddenSourceError,
    OfflineError,
    SourceMissingError,
    UnsupportedCroissantError,
)
from coralord_lightning.sources.address import public_url, require_http, split_userinfo
from coralord_lightning.sources.archives import ArchiveLimits, member_path
from coralord_lightning.sources.archives.limits import forbidden
from coralord_lightning.sources.git_process import Git, GitLimits
from coralord_lightning.sources.globs import Patterns
from coralord_lightning.sources.hashes import HashCache, HashedFile, replace_file
from coralord_lightning.sources.kept import Kept, KeptFiles
from coralord_lightning.sources.local import require_declared, source_of
from coralord_lightning.sources.pins import LockedPins
from coralord_lightning.sources.trees import Member, Pinned, inside
from coralord_lightning.spec.plan import LocalFile
from coralord_lightning.spec.selection import FileObject, FileSet

__all__ = ["GitAddress", "GitRepository", "GitTree", "parse_git"]

_COMMIT = re.compile(r"[0-9a-f]{40}")
_LFS = b"version https://git-lfs.github.com/spec/"
_PROBLEMS = {"120000": "is a symbolic link", "160000": "is a submodule"}


@dataclass(frozen=True, slots=True, kw_only=True)
class GitAddress:
    """A repository and a revision of it; `url` has no user, password or fragment."""

    url: str
    revision: str
    authorization: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Blob:
    oid: str
    problem: str


def parse_git(url: str, *, subject: str) -> GitAddress:
    """What a `contentUrl` of a repository means: `https://host/path[.git][/tree/REVISION]`, with or without `git+`.

    Raises:
        ForbiddenSourceError: it is no http(s) address, or its revision no name.
    """
    bare, userinfo = split_userinfo(require_http(url.removeprefix("git+"), subject=subject))
    place, _, revision = bare.rstrip("/").partition("/tree/")
    revision = unquote(revision) or "HEAD"
    if revision.startswith("-") or re.search(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|//|@\{", revision):
        raise forbidden(
            subject, "names a revision that is none", ascii(revision), remedy="name a branch, tag or commit"
        )
    authorization = None
    if userinfo is not None:
        authorization = "Basic " + base64.b64encode(":".join(userinfo).encode()).decode("ascii")
    return GitAddress(url=place, revision=revision, authorization=authorization)


class GitRepository:
    """One repository at one commit.

    Args:
        subject: what messages call it.
        kept: where its files go.
        offline: only what is here already.
    """

    def __init__(
        self,
        url: str,
        *,
        subject: str,
        pins: LockedPins,
        config: Config,
        cache_dir: Path,
        kept: KeptFiles,
        offline: bool,
        limits: GitLimits | None = None,
    ) -> None:
        self._address = parse_git(url, subject=subject)
        self.public = public_url(self._address.url)
        self._subject = subject
        self._pins = pins
        self._cache_dir = cache_dir
        self._kept = kept
        self._folder = cache_dir / f"{hashlib.sha256(self.public.encode()).hexdigest()[:32]}.git"
        self._git = Git(
            self._folder,
            self._address.url,
            subject=subject,
            config=config,
            offline=offline,
            authorization=self._address.authorization,
            limits=limits or GitLimits(),
        )
        self._alone = threading.RLock()
        self.bytes_fetched = 0

    @property
    def revision(self) -> str:
        return self._address.revision

    @functools.cached_property
    def commit(self) -> str:
        """The commit that is read: as a lock says, else as the server says now.

        Raises:
            SourceError: there is no such repository or revision, or it is out of reach.
        """
        locked = self._pins.commit(self.public, self.revision)
        if locked is not None or _COMMIT.fullmatch(self.revision):
            return locked or self.revision
        note = self._folder / "coral-revisions" / hashlib.sha256(self.revision.encode()).hexdigest()
        try:
            commit = self._ask()
        except OfflineError:
            with contextlib.suppress(OSError):
                known = note.read_text(encoding="ascii")
                if _COMMIT.fullmatch(known):
                    return known
            raise
        with self._held():
            replace_file(note, commit.encode())
        return commit

    @functools.cached_property
    def blobs(self) -> dict[str, _Blob]:
        """What is in it, by path.

        Raises:
            SourceError: it cannot be had.
        """
        self._ensure_commit()
        limits, out = ArchiveLimits(), {}
        for line in self._git.run("ls-tree", "-r", "-z", "--full-tree", self.commit).split(b"\0"):
            if not line:
                continue
            head, _, raw = line.partition(b"\t")
            mode, _, oid = head.decode().split(" ")
            path = member_path(raw.decode("utf-8", "surrogateescape"), subject=self._subject, limits=limits)
            out[path] = _Blob(oid=oid, problem=_PROBLEMS.get(mode, ""))
            if len(out) > limits.members:
                raise forbidden(self._subject, "has more files than a repository may", f"more than {limits.members}")
        return out

    def keep(self, path: str) -> Kept:
        """One of its files, under its hash.

        Raises:
            SourceError: it cannot be had, or its bytes lie elsewhere (Git LFS).
        """
        blob = self.blobs[path]
        known = self._noted(blob.oid)
        if known is not None:
            return known
        with self._counted(), self._git.stream("cat-file", "blob", blob.oid, network=True) as chunks:
            kept = self._kept.keep(chunks)
        if kept.size_bytes < 1024 and kept.path.read_bytes().startswith(_LFS):
            raise UnsupportedCroissantError(
                f"{self._subject}!{path}",
                "is kept in Git LFS, and what the repository has of it is a pointer",
                facts={"url": self.public, "commit": self.commit},
                remedy=f"clone it with git lfs, and name the folder: mapping: {{{self._subject}: folder}}",
            )
        note = {"sha256": kept.sha256}
        with contextlib.suppress(OSError):
            replace_file(self._note_path(blob.oid), json.dumps(note).encode())
        return kept

    def _ask(self) -> str:
        """The commit that the revision means to the server now."""
        name = self.revision
        wanted = ["HEAD"] if name == "HEAD" else [f"refs/heads/{name}", f"refs/tags/{name}^{{}}", f"refs/tags/{name}"]
        if name.startswith("refs/"):
            wanted = [f"{name}^{{}}", name]
        with self._held():
            found = self._git.run("ls-remote", "--", self._address.url, *wanted, network=True).decode(
                "utf-8", "replace"
            )
        lines = (line.partition("\t") for line in found.splitlines())
        refs = {ref: oid for oid, _, ref in lines}
        commit = next((refs[ref] for ref in wanted if ref in refs), None)
        if commit is None or not _COMMIT.fullmatch(commit):
            raise SourceMissingError(
                self._subject,
                "has no such revision",
                facts={"url": self.public, "revision": name},
                remedy=f"choose one of: git ls-remote {self.public}",
            )
        return commit

    def _ensure_commit(self) -> None:
        """Have the commit and its trees here; files' bytes only where the server cannot leave them out."""
        marker = self._folder / "coral-commits" / self.commit
        if marker.exists():
            return
        target = f"+{self.commit}:refs/coral/{self.commit}"
        words = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")
        tries = [("--depth=1", "--filter=blob:none", "origin", target), ("--depth=1", "origin", target)]
        if not _COMMIT.fullmatch(self.revision):  # servers that give no commit by its number, or no part of a history
            tries += [("--depth=1", "origin", f"+{self.revision}:refs/coral/{self.commit}")]
            tries += [("origin", f"+{self.revision}:refs/coral/{self.commit}")]
        with self._counted():
            for at, options in enumerate(tries):
                try:
                    self._git.run(*words, *options, network=True)
                    break
                except (FetchLimitError, ForbiddenSourceError, OfflineError, SourceMissingError):
                    raise  # another way would not help, and would find here what one that took too much has fetched
                except CoralError:
                    if at + 1 == len(tries):
                        raise
            got = self._git.run("rev-parse", "--verify", f"refs/coral/{self.commit}^{{commit}}").decode().strip()
            if got != self.commit:
                raise SourceMissingError(
                    self._subject,
                    "has moved on, and its server gives no older commit",
                    facts={"url": self.public, "expected": self.commit, "got": got},
                    remedy="run `coral update` on the descriptor to pin the new commit",
                )
            replace_file(marker, b"")

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        """Alone in the repository, counting what it grows by."""
        with self._held():
            before = self._git.size_bytes
            try:
                yield
            finally:
                self.bytes_fetched += max(0, self._git.size_bytes - before)

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        """The repository, made if needed, with others kept out: git's own locks do not wait."""
        with self._alone:
            self._cache_dir.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(f"{self._folder}.lock"):
                if not (self._folder / "coral-made").exists():
                    self._git.run("init", "--quiet", "--bare", "--template=")
                    self._git.run("config", "remote.origin.url", self._address.url)
                    (self._folder / "coral-made").touch()
                yield

    def _noted(self, oid: str) -> Kept | None:
        try:
            sha256 = json.loads(self._note_path(oid).read_bytes())["sha256"]
            return self._kept.lookup(sha256) if re.fullmatch(r"[0-9a-f]{64}", sha256) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _note_path(self, oid: str) -> Path:
        return self._cache_dir / "blobs" / oid[:2] / f"{oid}.json"


class GitTree:
    """A repository as something that holds files."""

    any_folder = False
    remote = True
    lone = False

    def __init__(self, name: str, repository: GitRepository, hashes: HashCache) -> None:
        self.name = name
        self._repository = repository
        self._hashes = hashes

    def members(self, patterns: Patterns) -> Iterator[Member]:
        for path, blob in self._repository.blobs.items():
            if patterns.match(path):
                yield Member(
                    path=path,
                    size_bytes=None,
                    pin=partial(self._pin, path),
                    require=partial(self._require, path, blob.problem),
                )

    def some_paths(self, folder: str) -> Iterator[str]:  # noqa: ARG002
        return iter(self._repository.blobs)

    def _require(self, path: str, problem: str) -> None:
        if problem:
            raise forbidden(self.name, f"has a member that {problem}", path, remedy=f"leave it out: excludes: {path!r}")

    def _pin(self, path: str, node: FileObject | FileSet, name: str) -> Pinned:
        repository = self._repository
        kept = repository.keep(path)
        found = HashedFile(sha256=kept.sha256, size_bytes=kept.size_bytes)
        require_declared(node, found, kept.path, place=f"{self.name}!{path}", hashes=self._hashes)
        revision = quote(repository.revision, safe="")
        url = inside(repository.public, path, commit=repository.commit, revision=revision)
        return source_of(name, node, found), LocalFile(path=kept.path, url=url)

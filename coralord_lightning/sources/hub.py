"""Data set repositories of the Hugging Face hub: a revision to its commit, a commit to its files. Never clones.

Source: https://huggingface.co/docs/hub/api, tried against a server of our own that speaks it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urljoin, urlsplit

from coralord_lightning.errors import ForbiddenSourceError, OfflineError, SourceMissingError, UpstreamError
from coralord_lightning.sources.archives import ArchiveLimits, member_path
from coralord_lightning.sources.globs import Patterns
from coralord_lightning.sources.hashes import HashCache, HashedFile, replace_file
from coralord_lightning.sources.local import require_declared, wrong_hash
from coralord_lightning.sources.trees import Member, Pinned
from coralord_lightning.spec.plan import LocalFile
from coralord_lightning.spec.selection import FileObject, FileSet

if TYPE_CHECKING:
    from coralord_lightning.sources.http import HttpClient, Reply
    from coralord_lightning.sources.pinning import RemoteFiles

__all__ = ["PUBLIC_HUB", "HubAddress", "HubRepository", "explain_refusal", "on_endpoint", "parse_hub"]

PUBLIC_HUB = "https://huggingface.co"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,96}(/[A-Za-z0-9._-]{1,96})?")
_MAX_PAGE_BYTES = 64 * 1024 * 1024
_MAX_PAGES = 10_000
_REFUSED = frozenset({401, 403, 404})


@dataclass(frozen=True, slots=True, kw_only=True)
class HubAddress:
    """A repository of the hub.

    Args:
        site: the hub, as it stands in the Croissant file.
        path: of one file in it; "" for the repository.
    """

    site: str
    name: str
    revision: str = "main"
    path: str = ""

    @property
    def public(self) -> str:
        """The repository's address as plans and locks keep it."""
        return f"{self.site}/datasets/{self.name}"


def parse_hub(url: str, *, endpoint: str, subject: str) -> HubAddress | None:
    """What an address means on the hub; None where it is another site's.

    `hf://datasets/NAME[@REVISION][/PATH]`, `https://huggingface.co/datasets/NAME[/tree/REVISION]`.

    Raises:
        ForbiddenSourceError: it is the hub's, but no data set.
    """
    if url.lower().startswith("hf://"):
        found = re.fullmatch(r"datasets/([^/@]+/[^/@]+|[^/@]+)(?:@([^/]+))?(?:/(.*))?", url[5:])
        if found is None:
            raise _no_data_set(url, subject)
        revision = unquote(found[2] or "main")
        there = HubAddress(site=PUBLIC_HUB, name=found[1], revision=revision, path=found[3] or "")
        return _checked(url, subject, there)
    site = next((site for site in (PUBLIC_HUB, endpoint) if f"{url}/".lower().startswith(f"{site}/".lower())), None)
    if site is None:
        return None
    parts = [unquote(part) for part in urlsplit(url).path.removeprefix(urlsplit(site).path).strip("/").split("/")]
    if parts[-1].endswith(".git"):
        parts[-1] = parts[-1].removesuffix(".git")
    if "tree" in parts[2:4]:
        at = parts.index("tree", 2)
        parts, revision = parts[:at], "/".join(parts[at + 1 :])
    else:
        revision = "main"
    if parts[0] != "datasets" or not 2 <= len(parts) <= 3 or not revision:
        raise _no_data_set(url, subject)
    return _checked(url, subject, HubAddress(site=site, name="/".join(parts[1:]), revision=revision))


def _checked(url: str, subject: str, address: HubAddress) -> HubAddress:
    """The address, if its parts can be put into others."""
    revision = re.search(r"[\x00-\x20\x7f\\]|\.\.", address.revision)
    if not _NAME.fullmatch(address.name) or ".." in address.name or revision:
        raise _no_data_set(url, subject)
    if not address.path:
        return address
    return replace(address, path=member_path(unquote(address.path), subject=subject, limits=ArchiveLimits()))


def on_endpoint(url: str, endpoint: str) -> str:
    """The address to ask for a file of the public hub at the endpoint that this site has set; others as they are."""
    bare = url.partition("#")[0]
    return endpoint + bare.removeprefix(PUBLIC_HUB) if bare.startswith(f"{PUBLIC_HUB}/datasets/") else bare


class HubRepository:
    """A repository of the hub at one commit: what is in it, and its files.

    Args:
        name: what its files' names begin with.
        endpoint: where the hub is asked.
        commit: what a lock says; None: the hub is asked once.
        cache_dir: where listings are kept: a commit's never change.
    """

    any_folder = False
    remote = True
    lone = False

    def __init__(
        self,
        name: str,
        address: HubAddress,
        *,
        endpoint: str,
        commit: str | None,
        client: HttpClient,
        remotes: RemoteFiles,
        hashes: HashCache,
        cache_dir: Path,
    ) -> None:
        self.name = name
        self._address = address
        self._endpoint = endpoint if address.site == PUBLIC_HUB else address.site
        self._commit = commit
        self._client = client
        self._remotes = remotes
        self._hashes = hashes
        self._cache_dir = cache_dir
        self._listed: dict[str, tuple[dict[str, Any], ...]] = {}

    @property
    def commit(self) -> str:
        """The commit that is read; the branch or tag is asked for once, and remembered for when there is no network.

        Raises:
            SourceError: there is no such data set or revision, it may not be read, or it is out of reach.
        """
        if self._commit is None:
            revision = self._address.revision
            self._commit = revision if _COMMIT.fullmatch(revision) else self._resolve(revision)
        return self._commit

    def members(self, patterns: Patterns) -> Iterator[Member]:
        for item in self._files(patterns.folder, deep=patterns.deep):
            if patterns.match(item["path"]):
                yield Member(path=item["path"], size_bytes=item["size"], pin=partial(self._pin, item))

    def some_paths(self, folder: str) -> Iterable[str]:
        return [item["path"] for item in self._files(folder, deep=False) or self._files("", deep=False)]

    def _pin(self, item: Mapping[str, Any], node: FileObject | FileSet, name: str) -> Pinned:
        """A file by its object id where it is read by ranges; whole, and by its hash, otherwise."""
        from coralord_lightning.sources.pinning import Wanted

        path = quote(item["path"])
        url = f"{self._endpoint}/datasets/{self._address.name}/resolve/{self.commit}/{path}"
        kind = "lfs" if "lfs" in item else "git"
        _require_same_object(node, item)
        try:
            source, place = self._remotes.pin_object(
                Wanted(name=name, format=node.format, url=url), oid={kind: item[kind]}, size_bytes=item["size"]
            )
        except UpstreamError as error:
            raise explain_refusal(error, self._address.name, self._endpoint) from error
        if isinstance(place, LocalFile):
            found = HashedFile(sha256=str(source.identity["sha256"]), size_bytes=source.size_bytes)
            require_declared(node, found, place.path, place=item["path"], hashes=self._hashes)
        at = f"{self._address.public}/resolve/{self.commit}/{path}"
        return source, replace(place, url=f"{at}#revision={quote(self._address.revision, safe='')}")

    def _resolve(self, revision: str) -> str:
        note = self._note("revision", revision)
        url = f"{self._endpoint}/api/datasets/{self._address.name}/revision/{quote(revision, safe='')}"
        try:
            answer, _ = self._ask(url)
        except OfflineError:
            known = _read_note(note)
            if isinstance(known, str) and _COMMIT.fullmatch(known):
                return known
            raise
        commit = answer.get("sha") if isinstance(answer, dict) else None
        if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
            raise self._nonsense(url, "no commit")
        _write_note(note, commit)
        return commit

    def _files(self, folder: str, *, deep: bool) -> tuple[dict[str, Any], ...]:
        key = f"{folder}{'/**' if deep else '/*'}"
        if key not in self._listed:
            note = self._note("tree", f"{self.commit} {key}")
            known = _read_note(note)
            if known is None:
                known = [item for item in self._pages(folder, deep=deep) if item is not None]
                _write_note(note, known)
            self._listed[key] = tuple(known)
        return self._listed[key]

    def _pages(self, folder: str, *, deep: bool) -> Iterator[dict[str, Any] | None]:
        """Every file beneath a folder at the commit, page after page, never from another origin."""
        from coralord_lightning.sources.address import origin

        place = f"/{quote(folder)}" if folder else ""
        url = f"{self._endpoint}/api/datasets/{self._address.name}/tree/{self.commit}{place}"
        url += f"?recursive={'true' if deep else 'false'}"
        for _ in range(_MAX_PAGES):
            try:
                page, following = self._ask(url)
            except SourceMissingError:
                if folder:
                    return  # no such folder: nothing matches, which is said better elsewhere
                raise
            if not isinstance(page, list):
                raise self._nonsense(url, "no list of files")
            yield from (self._parsed(item, url) for item in page)
            if following is None:
                return
            following = urljoin(url, following)
            if origin(following) != origin(self._endpoint):
                raise ForbiddenSourceError(
                    self.name,
                    "has a listing that goes on at another site",
                    facts={"from": url, "to": following},
                    remedy="ask the hub's operator, or name the files one by one",
                )
            url = following
        raise self._nonsense(url, f"more than {_MAX_PAGES} pages")

    def _parsed(self, item: Any, url: str) -> dict[str, Any] | None:
        """What we keep of a listed file: path, size, object id; None for folders."""
        try:
            if item["type"] != "file":
                return None
            path = member_path(item["path"], subject=self.name, limits=ArchiveLimits())
            lfs = item.get("lfs") or {}
            out = {"path": path, "size": lfs.get("size", item["size"]), "git": item["oid"], "lfs": lfs.get("oid")}
        except (KeyError, TypeError, AttributeError) as error:
            raise self._nonsense(url, f"no file: {item!r:.80}") from error
        whole = isinstance(out["size"], int) and out["size"] >= 0 and re.fullmatch(r"[0-9a-f]{40}", str(out["git"]))
        if not whole or not (out["lfs"] is None or re.fullmatch(r"[0-9a-f]{64}", str(out["lfs"]))):
            raise self._nonsense(url, f"no size or no hash: {item!r:.80}")
        return {key: value for key, value in out.items() if value is not None}

    def _ask(self, url: str) -> tuple[Any, str | None]:
        """One answer of the API, and the address of the next page."""

        def consume(reply: Reply) -> tuple[Any, str | None]:
            if reply.status in _REFUSED:
                raise self._refused(reply)
            body = bytearray()
            for chunk in reply.body():
                body += chunk
                if len(body) > _MAX_PAGE_BYTES:
                    raise self._nonsense(url, f"more than {_MAX_PAGE_BYTES} bytes")
            if reply.length is not None and reply.length != len(body):
                raise BrokenBodyError(f"{len(body)} of {reply.length} bytes")
            following = re.search(r'<([^>]*)>\s*;\s*rel="next"', reply.headers.get("link", ""))
            try:
                return json.loads(body), following[1] if following else None
            except (ValueError, RecursionError) as error:
                raise self._nonsense(url, "no JSON") from error

        from coralord_lightning.sources.http import BrokenBodyError

        return self._client.ask("GET", url, subject=self.name, consume=consume, accept=_REFUSED | {200})

    def _refused(self, reply: Reply) -> UpstreamError | SourceMissingError:
        code, name = reply.headers.get("x-error-code", ""), self._address.name
        facts = {"url": reply.shown, "got": f"status {reply.status} {code}".strip()}
        if code == "RevisionNotFound":
            facts["revision"] = self._address.revision
            return SourceMissingError(
                name,
                "has no such revision",
                facts=facts,
                remedy=f"choose one at {self._endpoint}/datasets/{name}/tree/main",
            )
        if reply.status == 404:
            return SourceMissingError(
                name, "is not on the hub", facts=facts, remedy=f"look for it at {self._endpoint}/datasets?search={name}"
            )
        return explain_refusal(
            UpstreamError(name, "may not be read by you", facts=facts, remedy=""), name, self._endpoint
        )

    def _nonsense(self, url: str, got: str) -> UpstreamError:
        return UpstreamError(
            self.name,
            "the hub's answer makes no sense",
            facts={"url": url, "got": got},
            remedy="check hf_endpoint in coral.toml; it must be the address of a Hugging Face hub",
        )

    def _note(self, kind: str, about: str) -> Path:
        text = f"{self._address.public}\n{self._endpoint}\n{kind}\n{about}"
        return self._cache_dir / f"{hashlib.sha256(text.encode()).hexdigest()}.json"


def explain_refusal(error: UpstreamError, name: str, endpoint: str) -> UpstreamError:
    """The error for a data set that the hub does not let this user read; others stay as they are."""
    if not any(f"status {status}" in error.facts.get("got", "") for status in (401, 403)):
        return error
    return UpstreamError(
        name,
        "may not be read by you: it is gated or private, or there is no such data set",
        facts=error.facts,
        remedy=f"accept its terms at {endpoint}/datasets/{name}, then: export HF_TOKEN=…  "
        f"# a token from {endpoint}/settings/tokens",
    )


def _require_same_object(node: FileObject | FileSet, item: Mapping[str, Any]) -> None:
    """Hold a declared SHA-256 against the hub's own, which a file that is read by ranges is known by."""
    if not isinstance(node, FileObject) or node.sha256 is None or "lfs" not in item:
        return
    if node.sha256.lower() != item["lfs"]:
        raise wrong_hash(node.id, expected=node.sha256.lower(), got=item["lfs"], place=item["path"])


def _no_data_set(url: str, subject: str) -> ForbiddenSourceError:
    return ForbiddenSourceError(
        subject,
        "is no data set of the hub",
        facts={"got": url, "expected": "https://huggingface.co/datasets/NAME[/tree/REVISION]"},
        remedy="write contentUrl as hf://datasets/NAME@REVISION",
    )


def _read_note(path: Path) -> Any:
    try:
        head, _, body = path.read_bytes().partition(b"\n")
        return json.loads(body) if head.decode() == hashlib.sha256(body).hexdigest() else None
    except (OSError, ValueError):
        return None


def _write_note(path: Path, value: Any) -> None:
    body = json.dumps(value).encode()
    with contextlib.suppress(OSError):  # keeping it only saves a request
        replace_file(path, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)

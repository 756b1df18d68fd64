"""Remote files of a dataset: pinned, and read exactly as pinned. Never decides which files a dataset has.

Parquet, CSV and JSON lines are read by ranges where the server can be held to its word, and are then known by address,
strong ETag and size, or by their object id in a repository's commit. All else is read whole and known by its hash.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from coralord_lightning.errors import OfflineError, SourceIntegrityError
from coralord_lightning.sources.hashes import HashCache
from coralord_lightning.spec.lock import LockedSource
from coralord_lightning.spec.plan import LocalFile, Location, RemoteFile, SourceFile
from coralord_lightning.spec.selection import ContainerFormat, FileFormat

if TYPE_CHECKING:
    from coralord_lightning.sources.downloads import Downloads, KeptFile
    from coralord_lightning.sources.fetch import RemoteState
    from coralord_lightning.sources.http import HttpClient
    from coralord_lightning.sources.remote import CoralFileSystem

__all__ = ["RemoteFiles", "Wanted"]

T = TypeVar("T")

_BY_RANGES = frozenset({"parquet", "csv", "tsv", "jsonl"})
_CONTAINERS = frozenset({"zip", "tar", "gzip", "git"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A remote file that a dataset names.

    Args:
        name: `SourceFile.name`, and what messages call it.
        format: how its rows are read; a container is read whole and is "any" to the plan.
        url: the absolute address, with what secrets it has; plans and messages never show those.
        sha256, md5: hex, as declared; md5 counts where there is no sha256.
    """

    name: str
    format: FileFormat | ContainerFormat
    url: str
    sha256: str | None = None
    md5: str | None = None


class RemoteFiles:
    """Pins remote files and reads them.

    Args:
        client: gives the one HTTP client; called when the first request is made.
        cache_dir: where downloads are kept.
    """

    def __init__(self, client: Callable[[], HttpClient], *, cache_dir: Path, hashes: HashCache) -> None:
        self._client = client
        self._cache_dir = cache_dir
        self._hashes = hashes
        self._asked: dict[str, str] = {}  # public address -> as asked for, with its secrets: plans and locks have none
        self._parquet: set[str] = set()  # public addresses
        self._seen: dict[str, str] = {}  # public address -> the first ETag of a file that was pinned without one
        self._lock = threading.Lock()
        self._kept: Downloads | None = None

    def pin(self, wanted: Wanted, *, pinned: Iterable[LockedSource] = ()) -> tuple[SourceFile, Location]:
        """Pin a file: by ranges where that holds, else fetched whole.

        Args:
            pinned: what a lock says; the file is taken as it says, without a request where it is read by ranges.
        Raises:
            SourceError: it is missing, forbidden, not the declared one, or out of reach.
        """
        from coralord_lightning.sources.fetch import read_state

        public, locked = self._public(wanted, pinned)
        state = None
        if _ranged(wanted) and (locked is None or locked.sha256 is None):
            if locked is not None and locked.etag is not None:
                return _by_ranges(wanted, public, locked.etag, locked.size_bytes)
            with contextlib.suppress(OfflineError):  # if it was once read whole, it still can be
                state = read_state(self._client(), wanted.url, subject=wanted.name)
            if state is not None and state.ranges and state.etag is not None and state.size_bytes is not None:
                return _by_ranges(wanted, public, state.etag, state.size_bytes)
        return _whole(wanted, public, self._fetch(wanted, locked, state))

    def fetch(self, wanted: Wanted, *, pinned: Iterable[LockedSource] = ()) -> tuple[SourceFile, LocalFile]:
        """Fetch a file whole, whatever its format: an archive, say.

        Raises:
            SourceError: it is missing, forbidden, not the declared one, or out of reach.
            StoreFullError: there is no room for it.
        """
        public, locked = self._public(wanted, pinned)
        return _whole(wanted, public, self._fetch(wanted, locked, None))

    def fetch_many(
        self, wanted: Sequence[Wanted], *, pinned: Iterable[LockedSource] = (), jobs: int = 4
    ) -> list[tuple[SourceFile, LocalFile]]:
        """Fetch files whole, several at once, in their order."""
        return _at_once(partial(self.fetch, pinned=tuple(pinned)), wanted, jobs)

    def pin_many(
        self, wanted: Sequence[Wanted], *, pinned: Iterable[LockedSource] = (), jobs: int = 4
    ) -> list[tuple[SourceFile, Location]]:
        """Pin files, several at once, in their order."""
        return _at_once(partial(self.pin, pinned=tuple(pinned)), wanted, jobs)

    def pin_object(self, wanted: Wanted, *, oid: Mapping[str, str], size_bytes: int) -> tuple[SourceFile, Location]:
        """Pin a file of a repository at a pinned commit.

        Args:
            wanted: its `url` names the commit, so that it gives the same bytes for ever.
            oid: {"lfs": SHA-256 of the file} or {"git": SHA-1 of the blob}, in hex.
        Returns:
            Where it is read by ranges, a `RemoteFile` without ETag: the first one seen is held against later ranges.
        """
        from coralord_lightning.sources.downloads import Declared

        public, _ = self._public(wanted, ())
        if wanted.format in _BY_RANGES:
            identity: dict[str, str | int] = {**oid, "size": size_bytes}
            source = SourceFile(name=wanted.name, format=_format(wanted), identity=identity, size_bytes=size_bytes)
            return source, RemoteFile(url=public, etag=None, size_bytes=size_bytes)
        declared = Declared(sha256=oid.get("lfs"), git=oid.get("git"))
        kept = self._downloads().fetch(wanted.url, subject=wanted.name, declared=declared)
        return _whole(wanted, public, kept)

    def filesystem(self, locations: Mapping[str, Location]) -> CoralFileSystem:
        """A file system `coral://` of the remote ones among `locations`, for DuckDB; the caller closes it."""
        from coralord_lightning.sources.remote import CoralFileSystem

        parquet = {name for name, place in locations.items() if place.url in self._parquet}
        return CoralFileSystem(locations, self.read_range, self._cache_dir / "ranges", parquet=parquet)

    def read_range(self, name: str, file: RemoteFile, start: int, stop: int) -> bytes:
        """Bytes [start, stop) of a pinned file.

        Raises:
            SourceIntegrityError: it is not the pinned one any more.
            UpstreamError: the server failed, or does not serve ranges as HTTP says.
        """
        from coralord_lightning.sources.fetch import read_range, require_same_etag

        url = self._asked.get(file.url, file.url)
        found = read_range(self._client(), url, start, stop, etag=file.etag, size_bytes=file.size_bytes, subject=name)
        if file.etag is None and found.etag is not None:
            with self._lock:
                first = self._seen.setdefault(file.url, found.etag)
            require_same_etag(first, found.etag, subject=name, url=file.url)
        return found.data

    def _public(self, wanted: Wanted, pinned: Iterable[LockedSource]) -> tuple[str, LockedSource | None]:
        from coralord_lightning.sources.address import public_url, require_http

        require_http(wanted.url, subject=wanted.name)
        public = public_url(wanted.url)
        self._asked[public] = wanted.url
        if wanted.format == "parquet":
            self._parquet.add(public)
        return public, next((item for item in pinned if item.url == public), None)

    def _fetch(self, wanted: Wanted, locked: LockedSource | None, state: RemoteState | None) -> KeptFile:
        from coralord_lightning.sources.address import redact
        from coralord_lightning.sources.downloads import Declared
        from coralord_lightning.sources.fetch import changed

        declared = Declared(sha256=wanted.sha256, md5=wanted.md5)
        expected = locked.sha256 if locked is not None and declared.sha256 is None else None
        if expected is not None:
            declared = replace(declared, sha256=expected)
        try:
            return self._downloads().fetch(wanted.url, subject=wanted.name, declared=declared, state=state)
        except SourceIntegrityError as error:
            if expected is None or error.facts.get("expected") != f"sha256 {expected}":
                raise
            shown = redact(wanted.url)
            raise changed(wanted.name, shown, expected=f"sha256 {expected}", got=error.facts["got"]) from error

    def _downloads(self) -> Downloads:
        from coralord_lightning.sources.downloads import Downloads

        client = self._client()
        with self._lock:
            if self._kept is None:
                self._kept = Downloads(self._cache_dir / "downloads", client, self._hashes)
            return self._kept


def _ranged(wanted: Wanted) -> bool:
    """Whether a file may be read by ranges. What is read in full anyway is better verified, where it can be."""
    if wanted.format not in _BY_RANGES:
        return False
    return wanted.format == "parquet" or (wanted.sha256 is None and wanted.md5 is None)


def _by_ranges(wanted: Wanted, url: str, etag: str, size_bytes: int) -> tuple[SourceFile, Location]:
    identity: dict[str, str | int] = {"url": url, "etag": etag, "size": size_bytes}
    source = SourceFile(name=wanted.name, format=_format(wanted), identity=identity, size_bytes=size_bytes)
    return source, RemoteFile(url=url, etag=etag, size_bytes=size_bytes)


def _whole(wanted: Wanted, url: str, kept: KeptFile) -> tuple[SourceFile, LocalFile]:
    source = SourceFile(
        name=wanted.name, format=_format(wanted), identity={"sha256": kept.sha256}, size_bytes=kept.size_bytes
    )
    return source, LocalFile(path=kept.path, url=url)


def _format(wanted: Wanted) -> FileFormat:
    return "any" if wanted.format in _CONTAINERS else wanted.format  # type: ignore[return-value]


def _at_once(call: Callable[[Wanted], T], wanted: Sequence[Wanted], jobs: int) -> list[T]:
    """What the call gives for each, in their order; the first error in that order is raised, and no further begun."""
    with ThreadPoolExecutor(max_workers=max(1, min(jobs, len(wanted))), thread_name_prefix="coral-fetch") as pool:
        futures = [pool.submit(call, item) for item in wanted]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise

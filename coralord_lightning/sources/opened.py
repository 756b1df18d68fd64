"""The sources of one run: Croissant files, data files and what pins them. The one door; it decides who does the work.

A purely local dataset imports neither httpx nor fsspec.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast
from urllib.parse import quote, urljoin

from coralord_lightning.config import Config
from coralord_lightning.errors import ForbiddenSourceError, SourceIntegrityError, UnsupportedCroissantError
from coralord_lightning.sources.hashes import HashCache
from coralord_lightning.sources.local import require_unchanged, resolve_file, resolve_set
from coralord_lightning.sources.texts import FetchedText, fetch_text, is_address, read_local_text, recall_text
from coralord_lightning.spec.fingerprint import canonical, canonical_bytes
from coralord_lightning.spec.lock import LockedSource
from coralord_lightning.spec.plan import LocalFile, Location, RemoteFile, SourceFile
from coralord_lightning.spec.selection import Distribution, FileObject, FileSet, InlineData

if TYPE_CHECKING:
    from coralord_lightning.sources.http import HttpClient
    from coralord_lightning.sources.remote import CoralFileSystem

__all__ = ["Sources", "open_sources"]

Resolved = tuple[tuple[SourceFile, Location | None], ...]


def open_sources(
    config: Config,
    *,
    cache_dir: Path,
    offline: bool = False,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.time,
) -> Sources:
    """Open the sources of one run; nothing is touched yet.

    Args:
        cache_dir: where hashes and downloads are kept; made when first needed.
        offline: every request raises OfflineError.
        sleep, clock: for waiting between tries of a request.
    """
    return Sources(config, cache_dir=cache_dir, offline=offline, sleep=sleep, clock=clock)


class Sources:
    """Every byte from outside, counted."""

    def __init__(
        self,
        config: Config,
        *,
        cache_dir: Path,
        offline: bool,
        sleep: Callable[[float], None],
        clock: Callable[[], float],
    ) -> None:
        self._config = config
        self._cache_dir = cache_dir
        self._offline = offline
        self._sleep = sleep
        self._clock = clock
        self._hashes = HashCache(cache_dir / "hashes", clock_ns=lambda: int(clock() * 1e9))
        self._client: HttpClient | None = None
        self._filesystems: list[CoralFileSystem] = []
        self._asked: dict[str, str] = {}  # public address -> as asked for, with its secrets: plans and locks have none

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def bytes_fetched(self) -> int:
        """Bytes of bodies received so far, by whatever request."""
        return self._client.bytes_fetched if self._client is not None else 0

    @property
    def hashes(self) -> HashCache:
        """The memory of local files' hashes."""
        return self._hashes

    @property
    def cache_dir(self) -> Path:
        """Where hashes, downloads and what was seen in files are kept."""
        return self._cache_dir

    def close(self) -> None:
        """End connections and drop what was kept for them."""
        for filesystem in self._filesystems:
            filesystem.close()
        if self._client is not None:
            self._client.close()

    def read_text(self, reference: str, *, base_dir: Path, sha256: str | None = None) -> FetchedText:
        """Read a Croissant file.

        Args:
            reference: path, relative to `base_dir`, or http(s) address.
            sha256: take the text of that hash without a request, if it is here; the caller compares.
        Raises:
            CroissantNotFoundError: there is none.
            CroissantSyntaxError: it is too large or not UTF-8.
            SourceError: the network failed or is ruled out.
        """
        if not is_address(reference):
            return read_local_text(reference, base_dir=base_dir)
        kept = recall_text(reference, sha256, self._cache_dir) if sha256 is not None else None
        return kept or fetch_text(reference, self._http(), self._cache_dir)

    def resolve(self, distribution: Distribution, *, base: str | Path, pinned: Iterable[LockedSource] = ()) -> Resolved:
        """Pin the files of a distribution, in their order.

        Args:
            base: `FetchedText.base` of the Croissant file.
            pinned: what a lock says of remote files; those are taken as it says, without a request.
        Returns:
            Each source and where it lies; None for rows that stand in the Croissant file itself.
        Raises:
            SourceError: a file is missing, forbidden, not the declared one, or out of reach.
        """
        if isinstance(distribution, InlineData):
            return ((_inline_source(distribution), None),)
        if isinstance(distribution, FileObject):
            if is_address(distribution.content_url):
                return (self._resolve_remote(distribution, distribution.content_url, pinned),)
            if isinstance(base, str):
                return (self._resolve_remote(distribution, _joined(base, distribution), pinned),)
            return (resolve_file(distribution, root=base, hashes=self._hashes),)
        if isinstance(base, str):
            raise _no_listing(distribution)
        return resolve_set(distribution, root=base, hashes=self._hashes)

    def require_unchanged(self, files: Iterable[tuple[SourceFile, Location]]) -> None:
        """Check that local files still are what was pinned: call it after they were read.

        Raises:
            SourceIntegrityError: one changed in between.
        """
        require_unchanged(files, hashes=self._hashes)

    def filesystem(self, locations: Mapping[str, Location]) -> CoralFileSystem:
        """A file system `coral://` of the remote ones among `locations`, for DuckDB."""
        from coralord_lightning.sources.fetch import read_range
        from coralord_lightning.sources.remote import CoralFileSystem

        def fetch(name: str, file: RemoteFile, start: int, stop: int) -> bytes:
            url = self._asked.get(file.url, file.url)
            return read_range(self._http(), url, start, stop, etag=file.etag, size_bytes=file.size_bytes, subject=name)

        filesystem = CoralFileSystem(locations, fetch, self._cache_dir / "ranges")
        self._filesystems.append(filesystem)
        return filesystem

    def _resolve_remote(
        self, node: FileObject, url: str, pinned: Iterable[LockedSource]
    ) -> tuple[SourceFile, Location]:
        """Pin a remote file: Parquet by ranges where the server can; everything else whole, by its hash."""
        from coralord_lightning.sources.address import public_url, redact, require_http
        from coralord_lightning.sources.downloads import Downloads
        from coralord_lightning.sources.fetch import changed, read_state

        require_http(url, subject=node.id)
        public = public_url(url)
        self._asked[public] = url
        locked = next((item for item in pinned if item.url == public), None)
        locked_sha256 = locked.sha256 if locked is not None else None
        state = None
        if node.format == "parquet" and locked_sha256 is None:
            if locked is not None and locked.etag is not None:
                return _by_ranges(node, public, locked.etag, locked.size_bytes)
            state = read_state(self._http(), url, subject=node.id)
            if state.ranges and state.etag is not None and state.size_bytes is not None:
                return _by_ranges(node, public, state.etag, state.size_bytes)
        downloads = Downloads(self._cache_dir / "downloads", self._http(), self._hashes)
        try:
            kept = downloads.fetch(url, subject=node.id, sha256=node.sha256 or locked_sha256, state=state)
        except SourceIntegrityError as error:
            if node.sha256 is not None or locked_sha256 is None:
                raise
            raise changed(node.id, redact(url), expected=f"sha256 {locked_sha256}", got=error.facts["got"]) from error
        source = SourceFile(
            name=node.id, format=node.format, identity={"sha256": kept.sha256}, size_bytes=kept.size_bytes
        )
        return source, LocalFile(path=kept.path, url=public)

    def _http(self) -> HttpClient:
        if self._client is None:
            from coralord_lightning.sources.http import HttpClient

            self._client = HttpClient(self._config, offline=self._offline, sleep=self._sleep, clock=self._clock)
        return self._client


def _by_ranges(node: FileObject, url: str, etag: str, size_bytes: int) -> tuple[SourceFile, Location]:
    identity: dict[str, str | int] = {"url": url, "etag": etag, "size": size_bytes}
    source = SourceFile(name=node.id, format=node.format, identity=identity, size_bytes=size_bytes)
    return source, RemoteFile(url=url, etag=etag, size_bytes=size_bytes)


def _joined(base: str, node: FileObject) -> str:
    """The address of a relative `contentUrl` in a remote Croissant file; it must stay on that site, and no file."""
    url = node.content_url
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", url) or "\\" in url or "\0" in url:
        raise ForbiddenSourceError(
            node.id,
            "a remote Croissant file may name http(s) addresses only",
            facts={"got": repr(url)},
            remedy="download the Croissant file and its data into one folder, and name that file in the descriptor",
        )
    return urljoin(base, quote(url, safe="/%?=&:@!$'()*+,;~-._"))


def _no_listing(node: FileSet) -> UnsupportedCroissantError:
    return UnsupportedCroissantError(
        node.id,
        "a FileSet in a remote Croissant file cannot be listed: http knows no folders",
        facts={"includes": ", ".join(node.includes)},
        remedy="name the files as FileObjects, or download the Croissant file and its data into one folder",
    )


def _inline_source(data: InlineData) -> SourceFile:
    content = canonical_bytes(canonical(cast("Any", data.rows)))
    sha256 = hashlib.sha256(content).hexdigest()
    return SourceFile(name="inline", format="inline", identity={"sha256": sha256}, size_bytes=len(content))

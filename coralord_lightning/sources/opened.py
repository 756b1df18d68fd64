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
from coralord_lightning.errors import ForbiddenSourceError, UnsupportedCroissantError
from coralord_lightning.sources.hashes import HashCache
from coralord_lightning.sources.local import require_unchanged, resolve_file, resolve_set
from coralord_lightning.sources.texts import FetchedText, fetch_text, is_address, read_local_text, recall_text
from coralord_lightning.spec.fingerprint import canonical, canonical_bytes
from coralord_lightning.spec.lock import LockedSource
from coralord_lightning.spec.plan import Location, SourceFile
from coralord_lightning.spec.selection import Distribution, FileObject, FileSet, InlineData

if TYPE_CHECKING:
    from coralord_lightning.sources.http import HttpClient
    from coralord_lightning.sources.pinning import RemoteFiles
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
        self._remotes: RemoteFiles | None = None

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
                return (self._pin_remote(distribution, distribution.content_url, pinned),)
            if isinstance(base, str):
                return (self._pin_remote(distribution, _joined(base, distribution), pinned),)
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
        filesystem = self.remotes.filesystem(locations)
        self._filesystems.append(filesystem)
        return filesystem

    def _pin_remote(self, node: FileObject, url: str, pinned: Iterable[LockedSource]) -> tuple[SourceFile, Location]:
        from coralord_lightning.sources.pinning import Wanted

        wanted = Wanted(name=node.id, format=node.format, url=url, sha256=node.sha256, md5=node.md5, live=node.live)
        return self.remotes.pin(wanted, pinned=pinned)

    @property
    def remotes(self) -> RemoteFiles:
        """What pins and reads remote files."""
        if self._remotes is None:
            from coralord_lightning.sources.pinning import RemoteFiles

            self._remotes = RemoteFiles(self._http, cache_dir=self._cache_dir, hashes=self._hashes)
        return self._remotes

    def _http(self) -> HttpClient:
        if self._client is None:
            from coralord_lightning.sources.http import HttpClient

            self._client = HttpClient(self._config, offline=self._offline, sleep=self._sleep, clock=self._clock)
        return self._client


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

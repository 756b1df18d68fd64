"""The sources of one run: Croissant files, data files and what pins them. The one door; it decides who does the work.

A purely local dataset imports neither httpx nor fsspec.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from coralord_lightning.config import Config
from coralord_lightning.sources.archives import ArchiveLimits
from coralord_lightning.sources.candidates import Candidate, Lister, pin_all
from coralord_lightning.sources.doors import SourceDoors, at_endpoint
from coralord_lightning.sources.hashes import HashCache, HashedFile
from coralord_lightning.sources.local import require_unchanged
from coralord_lightning.sources.pins import LockedPins
from coralord_lightning.sources.texts import FetchedText, fetch_text, is_address, read_local_text, recall_text
from coralord_lightning.spec.cuts import SLICE_ROWS, Slice
from coralord_lightning.spec.fingerprint import canonical, canonical_bytes
from coralord_lightning.spec.lock import LockedSource
from coralord_lightning.spec.plan import LocalFile, Location, SourceFile
from coralord_lightning.spec.selection import Distribution, InlineData

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
    limits: ArchiveLimits | None = None,
    max_fetch: int | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> Sources:
    """Open the sources of one run; nothing is touched yet.

    Args:
        cache_dir: where hashes and downloads are kept; made when first needed.
        offline: every request raises OfflineError.
        sleep, clock: for waiting between tries of a request.
        limits: what an archive may hold.
        max_fetch: bytes that may be fetched; None: what the configuration says. This machine's limit holds either way.
        on_bytes: told the sum of bytes as they come, by the thread that received them.
    """
    limit = config.fetch_limit(max_fetch)

    def client() -> HttpClient:
        from coralord_lightning.sources.http import HttpClient

        return HttpClient(config, offline=offline, sleep=sleep, clock=clock, max_fetch=limit, on_bytes=on_bytes)

    allowed = limits or ArchiveLimits()
    return Sources(
        config, cache_dir=cache_dir, offline=offline, make_client=client, clock=clock, limits=allowed, max_fetch=limit
    )


class Sources:
    """Every byte from outside, counted."""

    def __init__(
        self,
        config: Config,
        *,
        cache_dir: Path,
        offline: bool,
        make_client: Callable[[], HttpClient],
        clock: Callable[[], float],
        limits: ArchiveLimits,
        max_fetch: int | None,
    ) -> None:
        self._config = config
        self._cache_dir = cache_dir
        self._make_client = make_client
        self._hashes = HashCache(cache_dir / "hashes", clock_ns=lambda: int(clock() * 1e9))
        self._making = threading.RLock()  # files are pinned by several threads, with one client
        self._client: HttpClient | None = None
        self._filesystems: list[CoralFileSystem] = []
        self._remotes: RemoteFiles | None = None
        self._limits = limits
        self._doors = SourceDoors(
            config,
            cache_dir=cache_dir,
            hashes=self._hashes,
            client=self._http,
            remotes=lambda: self.remotes,
            offline=offline,
            clock=clock,
            limits=limits,
            max_fetch=max_fetch,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def bytes_fetched(self) -> int:
        """Bytes of bodies received so far, by whatever request."""
        by_http = self._client.bytes_fetched if self._client is not None else 0
        return by_http + self._doors.bytes_fetched

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
        self._doors.close()
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

    def candidates(
        self,
        distribution: Distribution,
        *,
        base: str | Path,
        pinned: Iterable[LockedSource] = (),
        mapping: Mapping[str, Path] | None = None,
    ) -> tuple[Candidate, ...]:
        """List the files that a distribution may give, in their order; each is pinned when its `pin` is called.

        Archives and repositories that they lie in are fetched and listed; no member is unpacked.

        Args:
            base: `FetchedText.base` of the Croissant file.
            pinned: what a lock says of remote files; those are taken as it says, without a request.
            mapping: FileObject @id -> absolute path of a file or folder that stands for it; see `require_mapped`.
        Raises:
            SourceError: nothing is meant, or what holds the files is missing, forbidden, damaged or out of reach.
        """
        if isinstance(distribution, InlineData):
            source = _inline_source(distribution)
            return (Candidate(name=source.name, path="", size_bytes=source.size_bytes, pin=lambda: (source, None)),)
        pins = LockedPins(sources=tuple(pinned))
        lister = Lister(doors=self._doors, base=base, pins=pins, mapping=mapping or {}, limits=self._limits)
        return lister.list(distribution)

    def resolve(
        self,
        distribution: Distribution,
        *,
        base: str | Path,
        pinned: Iterable[LockedSource] = (),
        mapping: Mapping[str, Path] | None = None,
    ) -> Resolved:
        """Pin all files of a distribution, in their order, several remote ones at once.

        Args:
            base, pinned, mapping: as of `candidates`.
        Returns:
            Each source and where it lies; None for rows that stand in the Croissant file itself.
        Raises:
            SourceError: a file is missing, forbidden, not the declared one, or out of reach.
        """
        return pin_all(self.candidates(distribution, base=base, pinned=pinned, mapping=mapping))

    def sliced(self, source: SourceFile, place: Location | None) -> SourceFile:
        """A source with where it is cut into partitions, if it is large JSON lines that lie here, uncompressed.

        Raises:
            SourceIntegrityError: the file is not what was pinned any more.
        """
        sha256 = source.identity.get("sha256")
        if source.format != "jsonl" or not isinstance(place, LocalFile) or not isinstance(sha256, str):
            return source
        found = HashedFile(sha256=sha256, size_bytes=source.size_bytes)
        return replace(source, slices=self._hashes.slices_of(place.path, found))

    def require_unchanged(self, files: Iterable[tuple[SourceFile, Location]]) -> None:
        """Check that local files still are what was pinned: call it after they were read.

        Raises:
            SourceIntegrityError: one changed in between.
        """
        require_unchanged(files, hashes=self._hashes)

    def filesystem(self, locations: Mapping[str, Location]) -> CoralFileSystem:
        """A file system `coral://` of the remote ones among `locations`, for DuckDB."""
        filesystem = self.remotes.filesystem(at_endpoint(locations, self._config))
        self._filesystems.append(filesystem)
        return filesystem

    @property
    def remotes(self) -> RemoteFiles:
        """What pins and reads remote files."""
        from coralord_lightning.sources.pinning import RemoteFiles

        with self._making:
            if self._remotes is None:
                self._remotes = RemoteFiles(self._http, cache_dir=self._cache_dir, hashes=self._hashes)
            return self._remotes

    def _http(self) -> HttpClient:
        with self._making:
            if self._client is None:
                self._client = self._make_client()
            return self._client


def _inline_source(data: InlineData) -> SourceFile:
    content = canonical_bytes(canonical(cast("Any", data.rows)))
    sha256 = hashlib.sha256(content).hexdigest()
    return SourceFile(
        name="inline",
        format="inline",
        identity={"sha256": sha256},
        size_bytes=len(content),
        slices=tuple(_inline_slices(data)) if len(data.rows) > SLICE_ROWS else (),
    )


def _inline_slices(data: InlineData) -> Iterator[Slice]:
    for start in range(0, len(data.rows), SLICE_ROWS):
        rows = data.rows[start : start + SLICE_ROWS]
        sha256 = hashlib.sha256(canonical_bytes(canonical(cast("Any", rows)))).hexdigest()
        yield Slice(start=start, stop=start + len(rows), first_row=start, sha256=sha256)

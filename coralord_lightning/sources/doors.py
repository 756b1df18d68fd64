"""Opens what holds files: archives, repositories, the hub; each once. Decides nothing about which files are meant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from coralord_lightning.config import Config
from coralord_lightning.sources.archives import Archive, ArchiveKind, ArchiveLimits
from coralord_lightning.sources.candidates import Candidate
from coralord_lightning.sources.hashes import HashCache
from coralord_lightning.sources.kept import KeptFiles
from coralord_lightning.sources.pins import LockedPins
from coralord_lightning.sources.trees import ArchiveTree, Pinned, Tree
from coralord_lightning.spec.lock import LockedSource
from coralord_lightning.spec.plan import LocalFile, Location, RemoteFile, SourceFile
from coralord_lightning.spec.selection import FileObject

if TYPE_CHECKING:
    from coralord_lightning.sources.git import GitRepository
    from coralord_lightning.sources.http import HttpClient
    from coralord_lightning.sources.hub import HubAddress, HubRepository
    from coralord_lightning.sources.pinning import RemoteFiles

__all__ = ["SourceDoors", "at_endpoint", "hub_endpoint"]


class SourceDoors:
    """What `Lister` asks of one run's sources.

    Args:
        client, remotes: give the one HTTP client and what pins by it; called when a request is needed.
    """

    def __init__(
        self,
        config: Config,
        *,
        cache_dir: Path,
        hashes: HashCache,
        client: Callable[[], HttpClient],
        remotes: Callable[[], RemoteFiles],
        offline: bool,
        clock: Callable[[], float],
        limits: ArchiveLimits,
        max_fetch: int | None,
    ) -> None:
        self.hashes = hashes
        self._config = config
        self._cache_dir = cache_dir
        self._client = client
        self._remotes = remotes
        self._offline = offline
        self._clock = clock
        self._limits = limits
        self._max_fetch = max_fetch
        self._kept = KeptFiles(cache_dir / "downloads" / "files", hashes)
        self._closing = ExitStack()
        self._archives: dict[tuple[str, str, str, Path], Archive] = {}
        self._repositories: dict[tuple[str, LockedPins], GitRepository] = {}

    @property
    def bytes_fetched(self) -> int:
        """Bytes that came by git, which makes its own requests."""
        return sum(repository.bytes_fetched for repository in self._repositories.values())

    def close(self) -> None:
        """Drop what was unpacked for a while."""
        self._closing.close()

    def pin_remote(self, node: FileObject, url: str, pinned: Iterable[LockedSource]) -> Pinned:
        from coralord_lightning.sources.pinning import Wanted

        wanted = Wanted(name=node.id, format=node.format, url=url, sha256=node.sha256, md5=node.md5)
        return self._remotes().pin(wanted, pinned=pinned)

    def open_archive(self, container: Candidate, source: SourceFile, place: LocalFile, kind: str) -> Tree:
        sha256 = str(source.identity["sha256"])
        key = (container.name, kind, sha256, place.path)
        if key not in self._archives:
            self._archives[key] = Archive(
                name=container.name,
                kind=cast("ArchiveKind", kind),
                path=place.path,
                sha256=sha256,
                inner=_inner(container.path),
                kept=self._kept,
                hashes=self.hashes,
                cache_dir=self._cache_dir / "archives",
                clock=self._clock,
                limits=self._limits,
            )
            self._closing.callback(self._archives[key].close)
        return ArchiveTree(self._archives[key], self.hashes, url=place.url, sha256=sha256)

    def open_repository(self, name: str, url: str, pins: LockedPins) -> Tree:
        from coralord_lightning.sources.hub import parse_hub

        there = parse_hub(url.removeprefix("git+"), endpoint=hub_endpoint(self._config), subject=name)
        if there is not None:
            return self._hub(name, there, pins)
        from coralord_lightning.sources.git import GitRepository, GitTree
        from coralord_lightning.sources.git_process import GitLimits

        key = (url, pins)
        if key not in self._repositories:
            self._repositories[key] = GitRepository(
                url,
                subject=name,
                pins=pins,
                config=self._config,
                cache_dir=self._cache_dir / "git",
                kept=self._kept,
                offline=self._offline,
                limits=GitLimits(max_fetch=self._max_fetch),
            )
        return GitTree(name, self._repositories[key], self.hashes)

    def open_hub_file(self, node: FileObject, pins: LockedPins) -> tuple[Tree, str]:
        from coralord_lightning.sources.hub import parse_hub

        there = parse_hub(node.content_url, endpoint=hub_endpoint(self._config), subject=node.id)
        assert there is not None  # noqa: S101 - it begins with hf://
        return self._hub(node.id, there, pins), there.path

    def _hub(self, name: str, there: HubAddress, pins: LockedPins) -> HubRepository:
        from coralord_lightning.sources.hub import HubRepository

        return HubRepository(
            name,
            there,
            endpoint=hub_endpoint(self._config),
            commit=pins.commit(there.public, there.revision),
            client=self._client(),
            remotes=self._remotes(),
            hashes=self.hashes,
            cache_dir=self._cache_dir / "hub",
        )


def hub_endpoint(config: Config) -> str:
    """Where the hub is asked, as this site has set it."""
    return config.hf_endpoint.rstrip("/")


def at_endpoint(locations: Mapping[str, Location], config: Config) -> dict[str, Location]:
    """The same places, those on the hub at the endpoint that this site has set: plans and locks name the public one."""
    from coralord_lightning.sources.hub import on_endpoint

    endpoint = hub_endpoint(config)
    return {
        name: replace(place, url=on_endpoint(place.url, endpoint)) if isinstance(place, RemoteFile) else place
        for name, place in locations.items()
    }


def _inner(path: str) -> str:
    """What the one file in a gzip file is called: `gunzip` says so too."""
    name = path.rpartition("/")[2]
    if name.lower().endswith(".tgz"):
        return name[:-4] + ".tar"
    return name[:-3] if name.lower().endswith(".gz") and len(name) > 3 else name or "content"

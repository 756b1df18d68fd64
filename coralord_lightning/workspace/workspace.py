"""The flow, whole: descriptor -> plan -> fingerprint -> built already? -> build -> publish -> version.

`Workspace.ensure` is that line; everything else here puts its parts together. Decides first, acts after.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from coralord_lightning.config import Config, num_cores
from coralord_lightning.errors import ShardMissingError, StaleError, StoreError
from coralord_lightning.sources import Sources, open_sources
from coralord_lightning.spec.descriptor import SubsetDescriptor
from coralord_lightning.spec.explain import Change, explain
from coralord_lightning.spec.manifest import Manifest
from coralord_lightning.spec.plan import EnvironmentPlan, Job, RemoteFile
from coralord_lightning.store import Store, open_store
from coralord_lightning.workspace.environments import (
    EnvironmentResolver,
    Override,
    overrides,
    require_same_image,
)
from coralord_lightning.workspace.locking import Update, pins_for, require_content, require_locked, write_entry
from coralord_lightning.workspace.planning import (
    DescriptorLike,
    Planned,
    plan_job,
    read_descriptor,
)
from coralord_lightning.workspace.progress import Silence
from coralord_lightning.workspace.version import Outcome, Version

if TYPE_CHECKING:
    from coralord_lightning.builder.build import Built, Extractor, Progress, Tools
    from coralord_lightning.builder.runners.base import Runner
    from coralord_lightning.workspace.foresight import Foreseen

__all__ = ["Workspace", "open_workspace"]

Verify = Literal["stat", "read"]


def open_workspace(
    config: Config,
    *,
    offline: bool = False,
    max_fetch: int | None = None,
    environment: Override = None,
    crash_point: Callable[[str], None] | None = None,
) -> Workspace:
    """Put the real parts together; touches nothing yet.

    Args:
        offline: rule the network out.
        max_fetch: bytes that one call may fetch, whatever descriptors say; the site's limit holds all the same.
        environment: where pipelines run, whatever descriptors say, for a try: no name and no lock stands for it.
        crash_point: hears the name of every step that reaches the disk; tests end the process there.
    """
    store = open_store(config.home) if crash_point is None else open_store(config.home, crash_point=crash_point)
    return Workspace(config=config, store=store, offline=offline, max_fetch=max_fetch, environment=environment)


class Workspace:
    """One store and one site configuration, and what can be asked of them."""

    def __init__(
        self,
        *,
        config: Config,
        store: Store,
        offline: bool = False,
        max_fetch: int | None = None,
        environment: Override = None,
    ) -> None:
        self.config = config
        self.store = store
        self.offline = offline
        self.max_fetch = max_fetch
        self.environment = environment

    def ensure(
        self,
        descriptor: DescriptorLike,
        *,
        base_dir: Path | None = None,
        update: Update = None,
        build: bool = True,
        verify: Verify = "stat",
        lock: bool = False,
        check: bool = False,
        progress: Progress | None = None,
    ) -> Outcome:
        """Make sure that the version a descriptor asks for is in the store.

        Args:
            build: False: a stale or missing version raises instead of being built.
            verify: "stat": shards are there with their sizes; "read": their bytes hash to what was built.
            lock: write `coral.lock` beside the descriptor where it has no entry (as `coral build` does).
            check: build it once more, under other circumstances, and require the same content before it is published.
        Raises:
            NotDeterministicError: two builds of it differ.
            StaleError: it would have to be built and `build` is False.
            CoralError: it cannot be planned or built; the store is as it was, finished partitions apart.
        """
        started = time.monotonic()
        asked = read_descriptor(descriptor, base_dir=base_dir)
        progress = progress or Silence()
        with self._sources(update, asked, progress) as sources:
            planned = self._plan(asked, sources, update)
            manifest = self._lookup(planned.job.fingerprint, verify)
            built: Built | None = None
            if manifest is None:
                if not build:
                    raise _stale(planned)
                manifest, built = self._build(planned, sources, verify, progress, check=check)
            if check and built is None:
                with _finishing(progress):
                    tools = self._tools(
                        planned.job, lambda: sources.filesystem(planned.job.locations), progress, sources
                    )
                    self._check(planned.job, manifest, tools)
            require_content(planned, manifest.content_digest)
            self._bind(planned, manifest, tolerant=built is None)
            if lock and self.environment is None:
                write_entry(planned, manifest.content_digest, move=False)
            return Outcome(
                version=Version(manifest=manifest, home=self.config.home, name=planned.job.name),
                built=built is not None,
                partitions_built=built.partitions_built if built else 0,
                partitions_reused=built.partitions_reused if built else len(manifest.partitions),
                bytes_fetched=sources.bytes_fetched,
                seconds=time.monotonic() - started,
                checked=check,
            )

    def plan(self, descriptor: DescriptorLike, *, base_dir: Path | None = None, update: Update = None) -> Job:
        """The job a descriptor stands for: every input pinned, nothing built."""
        return self.planned(descriptor, base_dir=base_dir, update=update).job

    def planned(self, descriptor: DescriptorLike, *, base_dir: Path | None = None, update: Update = None) -> Planned:
        """The job, with the descriptor and Croissant text it comes from."""
        asked = read_descriptor(descriptor, base_dir=base_dir)
        with self._sources(update, asked) as sources:
            return self._plan(asked, sources, update)

    def foresee(self, descriptor: DescriptorLike, *, base_dir: Path | None = None, update: Update = None) -> Foreseen:
        """The job, and what building it would take: rows, bytes to fetch, disk, partitions.

        Raises:
            FetchLimitError: it would fetch more than descriptor, workspace or site allow.
        """
        from coralord_lightning.workspace.foresight import foresee, require_within

        asked = read_descriptor(descriptor, base_dir=base_dir)
        with self._sources(update, asked) as sources:
            planned = self._plan(asked, sources, update)
            job = planned.job
            found = foresee(planned, store=self.store, filesystem=lambda: sources.filesystem(job.locations))
            require_within(found, self.config.fetch_limit(self._max_fetch(asked)))
            return found

    def version(self, fingerprint: str, *, verify: Verify = "stat", name: str | None = None) -> Version:
        """A version in the store.

        Args:
            fingerprint: whole, or a prefix that only one version has.
        Raises:
            VersionNotFoundError: there is none, or there are several.
            ShardMissingError: it is there, but not whole.
        """
        manifest = self.store.require_manifest(fingerprint, verify)
        self.store.check_shards(manifest, mode=verify)
        return Version(manifest=manifest, home=self.config.home, name=name)

    def changes(self, job: Job) -> tuple[str | None, tuple[Change, ...]]:
        """What the last version under the job's name was, and what is different now.

        Returns:
            its fingerprint, None where the name was never built; and the differences.
        """
        last = self.store.latest_pin(job.name)
        manifest = self.store.read_manifest(last) if last is not None else None
        if manifest is None:
            return None, ()
        return last, explain(manifest.plan, job.canonical)

    def _plan(self, asked: SubsetDescriptor, sources: Sources, update: Update) -> Planned:
        pins = pins_for(asked, update)
        if update == "locked" and pins is not None and self.environment is None:
            require_same_image(asked, pins)
        offline = self.offline or update == "offline"
        resolver = EnvironmentResolver(self.config, override=self.environment, offline=offline)
        planned = plan_job(asked, sources=sources, environment=resolver, pins=pins)
        if update == "locked" and pins is not None:
            require_locked(planned, pins, self._changes_since(pins.fingerprint, planned.job))
        return planned

    def _changes_since(self, fingerprint: str, job: Job) -> tuple[Change, ...]:
        manifest = self.store.read_manifest(fingerprint)
        return () if manifest is None else explain(manifest.plan, job.canonical)

    def _sources(
        self, update: Update, asked: SubsetDescriptor, progress: Progress | None = None
    ) -> AbstractContextManager[Sources]:
        return open_sources(
            self.config,
            cache_dir=self.config.home / "cache",
            offline=self.offline or update == "offline",
            max_fetch=self._max_fetch(asked),
            on_bytes=progress.fetching if progress is not None else None,
        )

    def _max_fetch(self, asked: SubsetDescriptor) -> int | None:
        """What one call may fetch: as this workspace says, else as the descriptor does."""
        return self.max_fetch if self.max_fetch is not None else asked.max_fetch

    def _lookup(self, fingerprint: str, verify: Verify) -> Manifest | None:
        """The finished version, whole; None where it has to be built (again)."""
        manifest = self.store.read_manifest(fingerprint, verify)
        if manifest is None:
            return None
        try:
            self.store.check_shards(manifest, mode=verify)
        except ShardMissingError:
            self.store.set_damaged_aside(manifest)
            return None
        return manifest

    def _build(
        self, planned: Planned, sources: Sources, verify: Verify, progress: Progress, *, check: bool
    ) -> tuple[Manifest, Built | None]:
        """Build and publish under the version's lock, or take what another process built meanwhile."""
        job = planned.job
        progress.phase(f"building {job.name} {job.fingerprint[:12]}")
        with self.store.build_lock(job.fingerprint, timeout_s=self.config.lock_timeout_s), _finishing(progress):
            done = self._lookup(job.fingerprint, verify)
            if done is not None:
                return done, None
            filesystem = lru_cache(maxsize=1)(lambda: sources.filesystem(job.locations))
            self._foretell(planned, sources, filesystem, progress)
            tools = self._tools(job, filesystem, progress, sources)
            built = _built(job, tools)
            try:
                self.store.check_shards(built.manifest, mode=verify)
            except ShardMissingError:  # of a partition that was reused; what is damaged has been put aside
                built = _built(job, tools)
            built = _on_record(built, overrides(self.config, self.environment))
            if check:
                self._check(job, built.manifest, tools)
            sources.require_unchanged(job.located)
            progress.phase("publishing")
            self.store.publish_manifest(built.manifest)
            return built.manifest, built

    def _check(self, job: Job, manifest: Manifest, tools: Tools) -> None:
        from coralord_lightning.workspace.checking import require_reproducible

        tools.progress.phase("building once more, to compare")
        require_reproducible(job, manifest, tools=tools, home=self.config.home)

    def _foretell(self, planned: Planned, sources: Sources, filesystem: Callable[[], Any], progress: Progress) -> None:
        """Say how much will be fetched, and refuse to fetch more than is allowed."""
        if not any(isinstance(place, RemoteFile) for place in planned.job.locations.values()):
            return
        from coralord_lightning.workspace.foresight import foresee, require_within, text_bytes

        spent = sources.bytes_fetched - text_bytes(planned)
        found = foresee(planned, store=self.store, filesystem=filesystem)
        require_within(found, self.config.fetch_limit(self._max_fetch(planned.descriptor)), spent=spent)
        progress.fetching(sources.bytes_fetched, spent + found.forecast.bytes_to_fetch)

    def _tools(self, job: Job, filesystem: Callable[[], Any], progress: Progress, sources: Sources) -> Tools:
        from coralord_lightning.builder.build import Tools

        def open_extractor(job: Job, spill: Path) -> AbstractContextManager[Extractor]:
            from coralord_lightning.builder.extract import open_extractor as opened

            unchanged = sources.require_unchanged
            return opened(job, filesystem=lambda _: filesystem(), spill_dir=spill, unchanged=unchanged)

        environment = job.plan.environment
        return Tools(
            store=self.store,
            open_extractor=open_extractor,
            runner=None if environment is None else self._runner(environment),
            image=lambda: self._image(environment),
            progress=progress,
            jobs=self.config.jobs or num_cores(),
        )

    def _runner(self, environment: EnvironmentPlan) -> Runner:
        if environment.kind == "local":
            from coralord_lightning.builder.runners.local import LocalRunner

            return LocalRunner()
        from coralord_lightning.builder.runners.docker import DockerRunner

        return DockerRunner(self.config)

    def _image(self, environment: EnvironmentPlan | None) -> str | None:
        if environment is None or environment.kind == "local":
            return None
        from coralord_lightning.builder.runners.image import ensure_image

        return ensure_image(environment, config=self.config, offline=self.offline)

    def _bind(self, planned: Planned, manifest: Manifest, *, tolerant: bool) -> None:
        """Bind name and description to the version; a hit on a store that cannot be written still is a hit."""
        name = planned.job.name
        try:
            self.store.describe(manifest.fingerprint, planned.description)
            if self.environment is not None or self.store.latest_pin(name) == manifest.fingerprint:
                return  # a try takes no name
            self.store.pin(name, manifest.fingerprint, origin=planned.descriptor.origin)
            self.store.sync_catalog()
        except StoreError:
            if not tolerant:
                raise


def _on_record(built: Built, chosen: Mapping[str, str]) -> Built:
    """Put what was overridden beside what was enforced, where something ran."""
    if not chosen or built.manifest.isolation is None:
        return built
    return replace(built, manifest=replace(built.manifest, isolation={**built.manifest.isolation, **chosen}))


def _built(job: Job, tools: Tools) -> Built:
    from coralord_lightning.builder.build import build  # late: a hit needs no Arrow

    return build(job, tools, created_at=datetime.now(UTC).isoformat(timespec="seconds"))


@contextmanager
def _finishing(progress: Progress) -> Iterator[None]:
    try:
        yield
    finally:
        progress.finish()


def _stale(planned: Planned) -> StaleError:
    return StaleError(
        planned.job.name,
        "is not built, and building was ruled out (build=False)",
        facts={"expected": planned.job.fingerprint},
        remedy=f"coral build {planned.descriptor.origin}",
    )

"""Whether versions in the store are what was built: which files are damaged, and what mends them. Changes nothing."""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from coralord_lightning.config import num_cores
from coralord_lightning.errors import StoreError, VersionNotFoundError
from coralord_lightning.spec.manifest import Manifest, Shard
from coralord_lightning.store import Store
from coralord_lightning.store.soundness import Flaw, pin_flaw, read_manifest, record_flaw, shard_flaw, size_flaw

__all__ = ["Damage", "Verified", "Watch", "verify"]


class Watch(Protocol):
    """Who is told how far the reading is; called by several threads."""

    def start(self, total_bytes: int) -> None:
        """Know how much there is to read."""
        ...

    def advance(self, count: int) -> None:
        """Count bytes that were read."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One damaged file.

    Args:
        path: relative to the home.
        remedy: a command that mends it.
    """

    path: str
    what: str
    remedy: str

    def to_json(self) -> dict[str, str]:
        """The damage as plain values."""
        return {"path": self.path, "what": self.what, "remedy": self.remedy}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """One version that was looked at.

    Args:
        fingerprint: None for damaged pins of which nobody can tell whose they were.
        num_files: how many files it consists of, as far as is known.
        size_bytes: of its shards.
    """

    fingerprint: str | None
    damaged: tuple[Damage, ...] = ()
    num_files: int = 0
    size_bytes: int = 0

    @property
    def ok(self) -> bool:
        """Whether all is as it was built."""
        return not self.damaged

    def to_json(self) -> dict[str, Any]:
        """The finding as plain values."""
        return {"fingerprint": self.fingerprint, "ok": self.ok, "damaged": [item.to_json() for item in self.damaged]}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Looked:
    """What was found of one version, before its shards are read."""

    fingerprint: str
    manifest: Manifest | None
    flaws: Mapping[Path, Flaw]
    num_files: int


def verify(
    store: Store,
    prefixes: Sequence[str] = (),
    *,
    deep: bool = False,
    options: str = "",
    threads: int | None = None,
    watch: Watch | None = None,
) -> list[Verified]:
    """Look whether versions are whole: manifests by their checksum, shards by their size.

    Args:
        prefixes: fingerprints, or their first digits; none: every version of the home.
        deep: read every byte of shards, manifests, partition records and pins.
        options: of `coral build`, as they are typed, for remedies.
        threads: that read and hash; default: one a core.
    Raises:
        VersionNotFoundError: a prefix is no version's, or several versions'.
        StoreError: the home cannot be looked into.
    """
    _require_listable(store.home)
    looked = [_look(store, fingerprint, deep=deep) for fingerprint in _chosen(store, prefixes)]
    shards = {shard.path: shard for item in looked if item.manifest for shard in item.manifest.shards()}
    flaws = _read(store.home, shards, threads, watch) if deep else _stat(store.home, shards)
    mender = _Mender(store, options)
    found = [_verified(store.home, item, flaws, mender) for item in looked]
    pins = _pins(store, [item.fingerprint for item in looked], mender) if deep else {}
    found = [replace(item, damaged=(*item.damaged, *pins.get(item.fingerprint, ()))) for item in found]
    return [*found, Verified(fingerprint=None, damaged=tuple(pins[None]))] if None in pins else found


def _require_listable(home: Path) -> None:
    """Refuse to call a home sound whose folders do not say what is in them.

    Raises:
        StoreError: one is there and cannot be listed.
    """
    for folder in (home, home / "manifests", home / "pins"):
        try:
            os.scandir(folder).close()
        except FileNotFoundError:
            continue
        except OSError as error:
            facts = {"got": error.strerror or error}
            remedy = f"ls -ld {shlex.quote(str(folder))}   # it must be a folder that you may read"
            raise StoreError(str(folder), "cannot be looked into", facts=facts, remedy=remedy) from error


def _chosen(store: Store, prefixes: Sequence[str]) -> list[str]:
    """Whole fingerprints, each once: of what has a manifest, and of what a name stands for and should have one."""
    pinned = {pin for name in store.names() if (pin := store.latest_pin(name)) is not None}
    lost = sorted(pinned - set(store.fingerprints()))
    if not prefixes:
        return sorted({*store.fingerprints(), *lost})
    found = []
    for prefix in prefixes:
        gone = [fingerprint for fingerprint in lost if prefix and fingerprint.startswith(prefix.lower())]
        there = any(fingerprint.startswith(prefix.lower()) for fingerprint in store.fingerprints())
        found.append(gone[0] if len(gone) == 1 and not there else _find(store, prefix))
    return list(dict.fromkeys(found))


def _find(store: Store, prefix: str) -> str:
    try:
        return store.find(prefix)
    except VersionNotFoundError as error:
        remedy = error.remedy.replace("coral show", "coral verify")
        raise VersionNotFoundError(error.subject, error.message, facts=error.facts, remedy=remedy) from None


def _look(store: Store, fingerprint: str, *, deep: bool) -> _Looked:
    path = store.home / "manifests" / f"{fingerprint}.json"
    manifest = read_manifest(store, path)
    if isinstance(manifest, Flaw):
        return _Looked(fingerprint=fingerprint, manifest=None, flaws={path: manifest}, num_files=1)
    # a record only saves work, so that one which is gone is no damage
    records = [store.home / "partitions" / f"{key}.json" for key in dict.fromkeys(manifest.partitions)]
    found = [(record, record_flaw(record, manifest)) for record in records] if deep else []
    found = [(record, flaw) for record, flaw in found if flaw is None or flaw.kind != "missing"]
    flaws = {record: flaw for record, flaw in found if flaw is not None}
    return _Looked(fingerprint=fingerprint, manifest=manifest, flaws=flaws, num_files=1 + len(found))


def _stat(home: Path, shards: Mapping[str, Shard]) -> dict[str, Flaw | None]:
    return {path: size_flaw(home, shard) for path, shard in shards.items()}


def _read(
    home: Path, shards: Mapping[str, Shard], threads: int | None, watch: Watch | None
) -> Mapping[str, Flaw | None]:
    """Read every shard once, whatever many versions have it; an interrupt ends it within a chunk."""
    advance: Callable[[int], None] = watch.advance if watch else lambda _: None
    if watch:
        watch.start(sum(shard.size_bytes for shard in shards.values()))
    stop = threading.Event()
    pool = ThreadPoolExecutor(max_workers=threads or num_cores(), thread_name_prefix="coral-verify")
    try:
        futures: dict[str, Future[Flaw | None]] = {
            path: pool.submit(shard_flaw, home, shard, on_bytes=advance, stopped=stop.is_set)
            for path, shard in shards.items()
        }
        return {path: future.result() for path, future in futures.items()}
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _verified(home: Path, item: _Looked, flaws: Mapping[str, Flaw | None], mender: _Mender) -> Verified:
    shards = {shard.path: shard for shard in item.manifest.shards()} if item.manifest else {}
    every = dict(item.flaws)
    every |= {home / path: flaw for path in shards if (flaw := flaws[path]) is not None}
    return Verified(
        fingerprint=item.fingerprint,
        damaged=tuple(mender.damage(item.fingerprint, path, flaw) for path, flaw in every.items()),
        num_files=item.num_files + len(shards),
        size_bytes=sum(shard.size_bytes for shard in shards.values()),
    )


def _pins(store: Store, chosen: Sequence[str], mender: _Mender) -> Mapping[str | None, Sequence[Damage]]:
    """Damaged pins by version; under None those that no longer say whose they were, and so may be any version's."""
    found: dict[str | None, list[Damage]] = {}
    known = {*store.fingerprints(), *chosen}
    for path in store.pin_files():
        flaw = pin_flaw(path)
        if flaw is None or flaw.kind == "missing":
            continue
        owner = next(_named(path, known), None)
        found.setdefault(owner, []).append(mender.damage(owner, path, flaw))
    return found


def _named(path: Path, fingerprints: set[str]) -> Iterator[str]:
    """The versions whose fingerprint stands in a file, however damaged it is."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    yield from sorted(fingerprint for fingerprint in fingerprints if fingerprint in text)


class _Mender:
    """Says of each file what mends it: a build makes anew what is gone, and replaces shards.

    Args:
        options: of `coral build`, as they are typed.
    """

    def __init__(self, store: Store, options: str) -> None:
        self._home = store.home
        self._options = options
        self._build = lru_cache(maxsize=None)(store.how_to_rebuild)  # it reads every pin

    def damage(self, fingerprint: str | None, path: Path, flaw: Flaw) -> Damage:
        """A flaw with its remedy."""
        relative = path.relative_to(self._home)
        return Damage(
            path=relative.as_posix(),
            what=flaw.what,
            remedy=self._remedy(fingerprint, relative.parts[0], shlex.quote(str(path)), flaw),
        )

    def _remedy(self, fingerprint: str | None, kind: str, quoted: str, flaw: Flaw) -> str:
        if flaw.kind == "unreadable":
            return f"ls -ld {quoted}   # be allowed to read it; if you are, check the disk"
        if kind == "objects":
            read = "--verify read" if flaw.kind == "bytes" else ""
            return self._build(fingerprint or "", f"{self._options} {read}".strip())
        remove = f"rm -r {quoted}" if flaw.kind == "folder" else f"rm {quoted}"
        if kind == "partitions":
            return f"{remove}   # it only saves work: the next build that needs it makes it anew"
        if fingerprint is None:
            command = f"coral build {self._options}".rstrip()
            return f"{remove}   # `{command}` on its descriptor binds the name again"
        build = self._build(fingerprint, self._options)
        if flaw.kind == "missing":
            return build
        return f"{remove} && {build}" if build.startswith("coral ") else f"{remove}   # then {build}"

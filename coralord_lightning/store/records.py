"""Manifests, partition records and runs as JSON files. A manifest comes last: what it names is there already."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from coralord_lightning.errors import ManifestCorruptError, NotDeterministicError, UsageError, VersionNotFoundError
from coralord_lightning.spec.description import Description
from coralord_lightning.spec.fingerprint import canonical, plain
from coralord_lightning.spec.manifest import Manifest, PartitionRecord, parse_manifest
from coralord_lightning.store.disk import Disk
from coralord_lightning.store.documents import (
    is_fingerprint,
    print_document,
    print_sealed,
    read_bytes,
    read_sealed,
    read_tolerant,
    warn_damaged,
)
from coralord_lightning.store.objects import Objects

__all__ = ["Records"]

_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SHOWN_CANDIDATES = 8


class Records:
    """`manifests/` and `descriptions/<fingerprint>.json`, `partitions/<key>.json`, `runs/<uuid>.json`."""

    def __init__(self, disk: Disk, objects: Objects) -> None:
        self._disk = disk
        self._objects = objects

    def read_manifest(self, fingerprint: str, mode: Literal["stat", "read"] = "stat") -> Manifest | None:
        """The manifest of a version; None where there is none.

        Args:
            mode: "read" requires every byte to be as it was written, those that change no value among them.
        Raises:
            ManifestCorruptError: it is damaged, or another version's.
        """
        path = self._path("manifests", fingerprint)
        data = read_bytes(self._disk, path)
        if data is None:
            return None
        remedy = f"rm {str(path)!r}   # then run `coral build` on its descriptor again"
        try:
            body = json.loads(data)
            exact = mode == "stat" or print_document(body) == data
        except (ValueError, RecursionError) as error:
            raise ManifestCorruptError(str(path), "is no JSON", facts={"got": error}, remedy=remedy) from error
        manifest = parse_manifest(body, origin=str(path))
        if manifest.fingerprint != fingerprint:
            facts = {"got": manifest.fingerprint, "expected": fingerprint}
            raise ManifestCorruptError(str(path), "is another version's manifest", facts=facts, remedy=remedy)
        if not exact:  # a checksum over values does not see a changed blank
            raise ManifestCorruptError(str(path), "has other bytes than were written", remedy=remedy)
        return manifest

    def require_manifest(self, prefix: str, mode: Literal["stat", "read"] = "stat") -> Manifest:
        """The manifest of the one version whose fingerprint begins so."""
        fingerprint = self.find(prefix)
        manifest = self.read_manifest(fingerprint, mode)
        if manifest is None:
            raise self._not_found(fingerprint, [])
        return manifest

    def publish_manifest(self, manifest: Manifest) -> None:
        """Make a version visible. Again with the same content: fine.

        Raises:
            NotDeterministicError: the fingerprint has another content already; the new manifest is kept as evidence.
        """
        path = self._path("manifests", manifest.fingerprint)
        data = print_document(manifest.to_json())
        while not self._disk.publish_bytes("manifests", path, data):
            try:
                kept = self.read_manifest(manifest.fingerprint)
            except ManifestCorruptError:
                self._disk.quarantine(path)
                continue
            if kept is None:
                continue
            if kept.content_digest != manifest.content_digest:
                raise self._contradiction(path, kept, manifest, data)
            if not self._objects.has(kept.shards()):  # the same values in new shards, for the old ones are lost
                self._disk.replace_bytes("manifests", path, data)
            return

    def lookup_partition(self, key: str) -> PartitionRecord | None:
        """A built partition, if every shard of it is there with its size."""
        record = self._read_partition(key)
        if record is None:
            return None
        shards = [shard for part in record.splits.values() for shard in part.shards]
        return record if self._objects.has(shards) else None

    def publish_partition(self, record: PartitionRecord) -> None:
        """Keep a built partition for reuse; newer replaces older."""
        self._keep("partitions", self._path("partitions", record.key), print_sealed(record.to_json()))

    def describe(self, fingerprint: str, description: Description) -> None:
        """Keep what is said of a version; newer replaces older."""
        self._keep(
            "descriptions", self._path("descriptions", fingerprint), print_sealed(canonical(description.to_json()))
        )

    def read_description(self, fingerprint: str) -> Description | None:
        """What is said of a version; None where nothing readable is."""
        path = self._path("descriptions", fingerprint)
        body = read_sealed(path)
        try:
            return None if body is None else Description.from_json(plain(body))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            warn_damaged(path, repr(error))
            return None

    def write_run(self, run_id: str, body: Mapping[str, Any]) -> None:
        """Record a run; again under the same id replaces it."""
        if not _RUN.fullmatch(run_id):
            raise UsageError(
                run_id,
                "is no id for a run",
                facts={"expected": "letters, digits, '.', '_' and '-'"},
                remedy="use str(uuid.uuid4())",
            )
        self._keep("runs", self._disk.root / "runs" / f"{run_id}.json", print_document(dict(body)))

    def read_runs(self) -> dict[str, dict[str, Any]]:
        """Every readable run by its id."""
        paths = sorted((self._disk.root / "runs").glob("*.json"))
        bodies = {path.stem: read_tolerant(path) for path in paths}
        return {run_id: body for run_id, body in bodies.items() if body is not None}

    def fingerprints(self) -> list[str]:
        """Every version that has a manifest, sorted."""
        stems = (path.stem for path in (self._disk.root / "manifests").glob("*.json"))
        return sorted(stem for stem in stems if is_fingerprint(stem))

    def find(self, prefix: str) -> str:
        """The one fingerprint that begins so.

        Raises:
            VersionNotFoundError: none does, or several do; names them.
        """
        wanted = prefix.lower()
        found = [fingerprint for fingerprint in self.fingerprints() if fingerprint.startswith(wanted)] if prefix else []
        if len(found) != 1:
            raise self._not_found(prefix, found)
        return found[0]

    def _not_found(self, prefix: str, found: list[str]) -> VersionNotFoundError:
        candidates = found or [fingerprint for fingerprint in self.fingerprints() if fingerprint != prefix]
        shown = "\n".join(candidates[:_SHOWN_CANDIDATES]) or "none, the store is empty"
        more = len(candidates) - _SHOWN_CANDIDATES
        return VersionNotFoundError(
            prefix or "''",
            f"{len(found)} versions begin so" if found else "no version in the store begins so",
            facts={"home": self._disk.root, "versions": shown + (f"\nand {more} more" if more > 0 else "")},
            remedy=f"coral show {candidates[0]}" if candidates else "coral list",
        )

    def _read_partition(self, key: str) -> PartitionRecord | None:
        path = self._path("partitions", key)
        body = read_sealed(path)
        if body is None:
            return None
        try:
            record = PartitionRecord.from_json(body)
            if record.key != key:
                raise ValueError(f"it is the record of {record.key}")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            warn_damaged(path, repr(error))
            return None
        return record

    def _contradiction(self, path: Path, kept: Manifest, new: Manifest, data: bytes) -> NotDeterministicError:
        evidence = self._disk.root / "quarantine" / f"{new.fingerprint}.{new.content_digest}.json"
        self._disk.publish_bytes("manifests", evidence, data)
        return NotDeterministicError(
            new.fingerprint[:12],
            "two builds of one fingerprint gave two different contents",
            facts={"kept": kept.content_digest, "new": new.content_digest, "evidence": evidence},
            remedy=f"diff {path} {evidence}   # shows the blocks; then make the pipeline deterministic",
        )

    def _keep(self, kind: str, path: Path, data: bytes) -> None:
        """Write a document that a newer one may replace; nothing is written where it says so already."""
        if read_bytes(self._disk, path) != data and not self._disk.publish_bytes(kind, path, data):
            self._disk.replace_bytes(kind, path, data)

    def _path(self, kind: str, key: str) -> Path:
        if not is_fingerprint(key):
            raise VersionNotFoundError(
                repr(key),
                "is no fingerprint",
                facts={"expected": "64 lowercase hexadecimal digits"},
                remedy="coral list",
            )
        return self._disk.root / kind / f"{key}.json"

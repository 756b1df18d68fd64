"""The catalog's tables, and the rows that the store's JSON files give. Writes nothing, knows no connection."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from coralord_lightning.spec.manifest import Manifest, parse_manifest
from coralord_lightning.store.documents import is_fingerprint, read_tolerant, warn_damaged
from coralord_lightning.store.pins import Pin, parse_pin

__all__ = ["ORDERED_BY", "SCHEMA_VERSION", "TABLES", "Known", "Rows", "rows_of", "scan"]

SCHEMA_VERSION = 1

TABLES: Mapping[str, Mapping[str, str]] = {
    "entries": {
        "name": "VARCHAR",
        "fingerprint": "VARCHAR",
        "content_digest": "VARCHAR",
        "num_rows": "BIGINT",
        "size_bytes": "BIGINT",
        "num_shards": "BIGINT",
        "splits": "MAP(VARCHAR, BIGINT)",
        "environment_kind": "VARCHAR",
        "image_digest": "VARCHAR",
        "pipeline": "VARCHAR",
        "created_at": "TIMESTAMP",
        "pinned_at": "TIMESTAMP",
    },
    "shards": {
        "fingerprint": "VARCHAR",
        "split": "VARCHAR",
        "position": "BIGINT",
        "path": "VARCHAR",
        "num_rows": "BIGINT",
        "size_bytes": "BIGINT",
        "sha256": "VARCHAR",
    },
    "sources": {
        "fingerprint": "VARCHAR",
        "name": "VARCHAR",
        "format": "VARCHAR",
        "sha256": "VARCHAR",
        "url": "VARCHAR",
        "etag": "VARCHAR",
        "size_bytes": "BIGINT",
    },
    "pins": {
        "name": "VARCHAR",
        "number": "BIGINT",
        "fingerprint": "VARCHAR",
        "pinned_at": "TIMESTAMP",
        "origin": "VARCHAR",
    },
    "runs": {
        "run_id": "VARCHAR",
        "name": "VARCHAR",
        "fingerprint": "VARCHAR",
        "content_digest": "VARCHAR",
        "started_at": "TIMESTAMP",
        "details": "VARCHAR",
    },
    "indexed_files": {"path": "VARCHAR", "stamp": "VARCHAR"},
}

ORDERED_BY: Mapping[str, str] = {
    "entries": "pinned_at, name, fingerprint",
    "shards": "fingerprint, split, position",
    "sources": "fingerprint, name",
    "pins": "name, number",
    "runs": "started_at, run_id",
}
"""What users query, and in which order it comes: the same whether rows came one by one or in a rebuild."""

Row = dict[str, Any]
Rows = dict[str, list[Row]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is indexed already.

    Args:
        stamps: file -> its stamp.
        pins: (name, fingerprint, first pinned at), oldest first.
        entries: (name, fingerprint).
    """

    stamps: Mapping[str, str] = field(default_factory=dict)
    pins: tuple[tuple[str, str, str], ...] = ()
    entries: frozenset[tuple[str, str]] = frozenset()


def scan(home: Path) -> dict[str, str]:
    """Every JSON file that is truth for the catalog, relative to the home, with size and time of change."""
    found: dict[str, str] = {}
    for kind, depth in (("manifests", 0), ("pins", 2), ("runs", 0)):
        for entry in _json_files(home / kind, depth):
            state = entry.stat()
            relative = Path(entry.path).relative_to(home).as_posix()
            found[relative] = f"{state.st_size}:{state.st_mtime_ns}:{state.st_ino}"
    return found


def rows_of(home: Path, stamps: Mapping[str, str], known: Known) -> Rows:
    """The rows that are missing.

    Args:
        stamps: what `scan` found.
    """
    rows: Rows = {table: [] for table in TABLES}
    fresh = sorted(stamps.keys() - known.stamps.keys())
    rows["indexed_files"] = [{"path": path, "stamp": stamps[path]} for path in fresh]
    manifests: dict[str, Manifest | None] = {}
    for path in (path for path in fresh if path.startswith("manifests/")):
        manifest = _read_manifest(home / path)
        manifests[Path(path).stem] = manifest
        if manifest is not None:
            rows["shards"] += _shard_rows(manifest)
            rows["sources"] += _source_rows(manifest)
    found = (parse_pin(home / path) for path in fresh if path.startswith("pins/"))
    pins = sorted((pin for pin in found if pin is not None), key=lambda pin: (pin.name, pin.number))
    rows["pins"] = [_pin_row(pin) for pin in pins]
    rows["runs"] = list(_run_rows(home, (path for path in fresh if path.startswith("runs/"))))
    bound = [*known.pins, *((pin.name, pin.fingerprint, pin.created_at) for pin in pins)]
    rows["entries"] = list(_entry_rows(home, bound, known.entries, manifests))
    return rows


def _json_files(folder: Path, depth: int) -> Iterator[os.DirEntry[str]]:
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.name.endswith(".json") and entry.is_file():
            yield entry
        elif depth and entry.is_dir():
            yield from _json_files(Path(entry.path), depth - 1)


def _read_manifest(path: Path) -> Manifest | None:
    """The manifest in a file; None, with a warning, where it is damaged."""
    body = read_tolerant(path)
    if body is None:
        return None
    try:
        manifest = parse_manifest(body, origin=str(path))
    except Exception as error:  # noqa: BLE001  # an index must survive any file; `read_manifest` raises on it
        warn_damaged(path, repr(error))
        return None
    if path.stem != manifest.fingerprint or not is_fingerprint(path.stem):
        warn_damaged(path, "it is another version's manifest")
        return None
    return manifest


def _entry_rows(
    home: Path,
    bound: Iterable[tuple[str, str, str]],
    present: frozenset[tuple[str, str]],
    manifests: dict[str, Manifest | None],
) -> Iterator[Row]:
    done = set(present)
    for name, fingerprint, pinned_at in bound:
        if (name, fingerprint) in done:
            continue
        if fingerprint not in manifests:
            manifests[fingerprint] = _read_manifest(home / "manifests" / f"{fingerprint}.json")
        manifest = manifests[fingerprint]
        if manifest is not None:
            done.add((name, fingerprint))
            yield _entry_row(name, pinned_at, manifest)


def _entry_row(name: str, pinned_at: str, manifest: Manifest) -> Row:
    environment = _mapping(manifest.plan.get("environment"))
    pipeline = _mapping(manifest.plan.get("pipeline"))
    return {
        "name": name,
        "fingerprint": manifest.fingerprint,
        "content_digest": manifest.content_digest,
        "num_rows": manifest.num_rows,
        "size_bytes": manifest.size_bytes,
        "num_shards": len({shard.path for shard in manifest.shards()}),
        "splits": {split: manifest.rows_of(split) for split in manifest.splits},
        "environment_kind": environment.get("kind"),
        "image_digest": environment.get("image") or _mapping(manifest.isolation).get("image"),
        "pipeline": f"{pipeline.get('file')}:{pipeline.get('function')}" if pipeline else None,
        "created_at": _timestamp(manifest.created_at),
        "pinned_at": _timestamp(pinned_at),
    }


def _shard_rows(manifest: Manifest) -> list[Row]:
    return [
        {"fingerprint": manifest.fingerprint, "split": split, "position": position, **shard.to_json()}
        for split in manifest.splits
        for position, shard in enumerate(manifest.shards(split))
    ]


def _source_rows(manifest: Manifest) -> list[Row]:
    plain = ("name", "format", "sha256", "url", "etag")
    return [
        {"fingerprint": manifest.fingerprint, "size_bytes": source.get("size")}
        | {column: source.get(column) for column in plain}
        for source in map(_mapping, manifest.plan.get("sources") or ())
    ]


def _pin_row(pin: Pin) -> Row:
    return {
        "name": pin.name,
        "number": pin.number,
        "fingerprint": pin.fingerprint,
        "pinned_at": _timestamp(pin.created_at),
        "origin": pin.origin,
    }


def _run_rows(home: Path, paths: Iterable[str]) -> Iterator[Row]:
    for path in paths:
        body = read_tolerant(home / path)
        if body is not None:
            text = {key: _text(body.get(key)) for key in ("name", "fingerprint", "content_digest")}
            started_at = _timestamp(body.get("started_at") or body.get("created_at"))
            details = json.dumps(body, sort_keys=True, ensure_ascii=False)
            yield {"run_id": Path(path).stem, **text, "started_at": started_at, "details": details}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _timestamp(value: Any) -> str | None:
    """ISO 8601 in UTC as DuckDB reads it; None for what is no time."""
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S")

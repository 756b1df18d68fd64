"""Looks at single files of the store and says what is wrong with them; changes nothing, and knows no remedy."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from coralord_lightning.errors import ManifestCorruptError, StoreError
from coralord_lightning.spec.manifest import Manifest, PartitionRecord, Shard
from coralord_lightning.store.documents import print_document, require_seal
from coralord_lightning.store.home import Store
from coralord_lightning.store.pins import Pin, require_pin

__all__ = ["Flaw", "pin_flaw", "read_manifest", "record_flaw", "shard_flaw", "size_flaw"]

_CHUNK_BYTES = 1 << 20
_BAD = (LookupError, TypeError, ValueError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """What is wrong with one file.

    Args:
        kind: missing: nothing lies there; unreadable: the system refuses it; folder: something else than a file does;
            size and bytes: of a shard, where a look at its size tells or only its bytes do; text: of a JSON file.
    """

    kind: Literal["missing", "unreadable", "folder", "size", "bytes", "text"]
    what: str


def size_flaw(home: Path, shard: Shard) -> Flaw | None:
    """What a look at a shard's directory entry tells."""
    found = _size(home / shard.path)
    if isinstance(found, Flaw):
        return found
    if found != shard.size_bytes:
        what = f"has another size than was written: {found} bytes, expected {shard.size_bytes}"
        return Flaw(kind="size", what=what)
    return None


def shard_flaw(
    home: Path,
    shard: Shard,
    *,
    on_bytes: Callable[[int], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Flaw | None:
    """What reading every byte of a shard tells.

    Args:
        on_bytes: called with how many bytes were read since the last call.
        stopped: asked once a chunk; True ends the reading, and nothing is found.
    """
    flaw = size_flaw(home, shard)
    if flaw is not None:
        return flaw
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    try:
        with (home / shard.path).open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                digest.update(buffer[:count])  # other threads go on meanwhile
                on_bytes(count)
                if stopped():
                    return None
    except OSError as error:
        return _refused(error)
    if digest.hexdigest() == shard.sha256:
        return None
    what = f"has other bytes than were written: sha256 {digest.hexdigest()}, expected {shard.sha256}"
    return Flaw(kind="bytes", what=what)


def read_manifest(store: Store, path: Path) -> Manifest | Flaw:
    """The manifest in a file, or what is wrong with it."""
    found = _size(path)
    if isinstance(found, Flaw):
        return found
    try:
        manifest = store.read_manifest(path.stem, mode="read")
    except ManifestCorruptError as error:
        return Flaw(kind="text", what=": ".join([error.message, *error.facts.values()]))
    except StoreError as error:
        return Flaw(kind="unreadable", what=f"cannot be read: {error.facts.get('got', error.message)}")
    return Flaw(kind="missing", what="is gone") if manifest is None else manifest


def record_flaw(path: Path, manifest: Manifest) -> Flaw | None:
    """What is wrong with the record of one of a version's partitions.

    One that an older release wrote has no checksum: it must say of shards and rows what the manifest says.
    """
    body = _document(path)
    if isinstance(body, Flaw):
        return body
    try:
        record = PartitionRecord.from_json(body)
        if record.key != path.stem:
            raise ValueError(f"it is the record of {record.key}")
        if "checksum" not in body:
            _require_unsealed(body, record.to_json())
            _require_agreement(record, manifest)
    except _BAD as error:
        return _damaged(error)
    return None


def pin_flaw(path: Path) -> Flaw | None:
    """What is wrong with a pin; one that an older release wrote has no checksum."""
    body = _document(path)
    if isinstance(body, Flaw):
        return body
    try:
        pin: Pin = require_pin(path, body)
        if "checksum" not in body:
            _require_unsealed(body, pin.to_json())
    except _BAD as error:
        return _damaged(error)
    return None


def _document(path: Path) -> dict[str, Any] | Flaw:
    """A JSON object that has every byte as it was written."""
    found = _size(path)
    if isinstance(found, Flaw):
        return found
    try:
        data = path.read_bytes()
        body = json.loads(data)
        if not isinstance(body, dict):
            return Flaw(kind="text", what="holds no JSON object")
        require_seal(body)
        if print_document(body) != data:
            return Flaw(kind="text", what="has other bytes than were written")
    except OSError as error:
        return _refused(error)
    except _BAD as error:
        return _damaged(error)
    return body


def _require_unsealed(body: dict[str, Any], known: dict[str, Any]) -> None:
    if body != known:
        strange = sorted(body.keys() - known.keys())
        raise ValueError(f"no release writes it so: {', '.join(strange) or 'a value is of another kind'}")


def _require_agreement(record: PartitionRecord, manifest: Manifest) -> None:
    if record.columns not in (None, manifest.columns):
        raise ValueError("it has other columns than the manifest")
    for index, key in enumerate(manifest.partitions):
        if key != record.key:
            continue
        for split, parts in manifest.splits.items():
            told, kept = record.splits.get(split), parts[index]
            if (told.shards, told.blocks) != (kept.shards, kept.blocks) if told else kept.shards:
                raise ValueError(f"it has other rows in split '{split}' than the manifest")


def _size(path: Path) -> int | Flaw:
    try:
        state = path.stat()
    except OSError as error:
        return _refused(error)
    if not stat.S_ISREG(state.st_mode):  # opening a pipe would wait for ever
        kind = "a folder" if stat.S_ISDIR(state.st_mode) else "something else"
        return Flaw(kind="folder", what=f"is no file: {kind} lies there")
    return state.st_size


def _refused(error: OSError) -> Flaw:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Flaw(kind="missing", what="is gone")
    return Flaw(kind="unreadable", what=f"cannot be read: {error.strerror or error}")


def _damaged(error: Exception) -> Flaw:
    said = f"{type(error).__name__} {error}" if isinstance(error, KeyError) else str(error)
    return Flaw(kind="text", what=f"is damaged: {said}")

"""Versions for tests of the store: shards of arbitrary bytes, since the store never looks inside one."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime

from coralord_lightning.spec.manifest import Block, Column, Manifest, PartitionRecord, Shard, SplitPart

COLUMNS = (Column(name="x", type="int64"),)


def sha(text):
    return hashlib.sha256(str(text).encode()).hexdigest()


def clock():
    return datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def admit(store, data):
    with store.temp_dir() as folder:
        temp = folder / "shard"
        temp.write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        path = store.admit_shard(temp, digest, len(data))
    return Shard(path=path, num_rows=3, size_bytes=len(data), sha256=digest)


def part_of(*shards):
    return SplitPart(shards=shards, blocks=tuple(Block(num_rows=3, sha256=shard.sha256) for shard in shards))


def manifest_of(seed, shards, **changes):
    values = {
        "fingerprint": sha(seed),
        "content_digest": sha(f"content of {seed}"),
        "created_at": "2026-01-02T03:04:05+00:00",
        "columns": COLUMNS,
        "splits": {"train": (part_of(*shards),), "test": (part_of(),)},
        "partitions": (sha("partition"),),
        "plan": {
            "sources": [
                {"name": "a.parquet", "format": "parquet", "sha256": sha("a")},
                {"name": "b.csv", "format": "csv", "url": "https://example.org/b.csv", "etag": '"1"', "size": 9},
            ],
            "pipeline": {"file": "pipeline.py", "function": "scale"},
            "environment": {"kind": "docker", "image": "sha256:" + sha("image")},
        },
    }
    return Manifest(**values | changes)


def record_of(seed, *shards, **changes):
    values = {"key": sha(seed), "columns": COLUMNS, "splits": {"train": part_of(*shards)}}
    return PartitionRecord(**values | changes)


def publish(store, seed, *, name="digits", data=None):
    """A whole version: shard, partition, manifest, pin, catalog."""
    shard = admit(store, data or f"rows of {seed}".encode())
    store.publish_partition(record_of(seed, shard))
    manifest = manifest_of(seed, [shard])
    store.publish_manifest(manifest)
    store.pin(name, manifest.fingerprint)
    store.sync_catalog()
    return manifest


def bad_manifest(seed):
    """JSON of a manifest that was changed after it was written."""
    body = manifest_of(seed, []).to_json()
    return json.dumps(body | {"num_rows": 7})

"""The manifest: what one version is, immutable, with a checksum of itself. Pure: parse and print, no disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import rfc8785

from coralord_lightning.errors import ManifestCorruptError
from coralord_lightning.spec.statistics import FieldStatistics, Tally

__all__ = ["Block", "Column", "Manifest", "PartitionRecord", "Shard", "SplitPart", "parse_manifest"]

Json = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a version.

    Args:
        name: the field's name.
        type: Arrow type of one element, canonical: no dictionary, no large or view variants.
        shape: fixed dimensions around the element, outermost first; () for a scalar.
            A ragged list stands in `type` (`list<item: float>`).
    """

    name: str
    type: str
    shape: tuple[int, ...] = ()

    def to_json(self) -> Json:
        return {"name": self.name, "type": self.type, "shape": list(self.shape)}

    @classmethod
    def from_json(cls, value: Json) -> Column:
        return cls(name=value["name"], type=value["type"], shape=tuple(value["shape"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One immutable Arrow IPC stream file, one record batch inside; `path` is relative to the home."""

    path: str
    num_rows: int
    size_bytes: int
    sha256: str

    def to_json(self) -> Json:
        return {"path": self.path, "num_rows": self.num_rows, "size_bytes": self.size_bytes, "sha256": self.sha256}

    @classmethod
    def from_json(cls, value: Json) -> Shard:
        return cls(**value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A run of rows cut by content, and the hash of its values. Blocks know nothing of shards."""

    num_rows: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitPart:
    """What one partition gives to one split, in row order.

    Args:
        tallies: what its values come to, by column; None where an older release built it, and in manifests, which have
            the sum of all partitions.
    """

    shards: tuple[Shard, ...] = ()
    blocks: tuple[Block, ...] = ()
    tallies: Mapping[str, Tally] | None = None

    @property
    def num_rows(self) -> int:
        return sum(shard.num_rows for shard in self.shards)

    def to_json(self) -> Json:
        out: dict[str, Json] = {
            "shards": [shard.to_json() for shard in self.shards],
            "blocks": [[block.num_rows, block.sha256] for block in self.blocks],
        }
        if self.tallies is not None:
            out["tallies"] = {name: tally.to_json() for name, tally in self.tallies.items()}
        return out

    @classmethod
    def from_json(cls, value: Json) -> SplitPart:
        return cls(
            shards=tuple(Shard.from_json(item) for item in value["shards"]),
            blocks=tuple(Block(num_rows=rows, sha256=digest) for rows, digest in value["blocks"]),
            tallies={name: Tally.from_json(item) for name, item in value["tallies"].items()}
            if "tallies" in value
            else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionRecord:
    """One built partition, under a key of its own inputs, so that versions and descriptors share it.

    Args:
        columns: None where the partition gave no row to any split.
        unassigned_rows: selected rows that are in no split.
        forms: field -> what its decoded values were, where the descriptor left that open.
    """

    key: str
    columns: tuple[Column, ...] | None
    splits: Mapping[str, SplitPart]
    unassigned_rows: int = 0
    forms: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)

    def to_json(self) -> Json:
        forms = {"forms": {name: dict(form) for name, form in self.forms.items()}} if self.forms else {}
        return forms | {
            "key": self.key,
            "columns": None if self.columns is None else [column.to_json() for column in self.columns],
            "splits": {name: part.to_json() for name, part in self.splits.items()},
            "unassigned_rows": self.unassigned_rows,
        }

    @classmethod
    def from_json(cls, value: Json) -> PartitionRecord:
        columns = value["columns"]
        return cls(
            key=value["key"],
            columns=None if columns is None else tuple(Column.from_json(item) for item in columns),
            splits={name: SplitPart.from_json(part) for name, part in value["splits"].items()},
            unassigned_rows=value["unassigned_rows"],
            forms=value.get("forms", {}),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One version. Names are not in it: pins bind them.

    Args:
        created_at: ISO 8601 in UTC, to the second.
        splits: split name -> its parts in partition order.
        partitions: partition keys, in the order of `plan["partitions"]`.
        plan: the whole canonical plan.
        isolation: what the runner says it enforced; None without a pipeline.
        classes: field -> its classes in the order of their numbers, of every field with `encode: category`.
        statistics: split -> column -> what its values come to; a split that an older release built in part has none.
    """

    fingerprint: str
    content_digest: str
    created_at: str
    columns: tuple[Column, ...]
    splits: Mapping[str, tuple[SplitPart, ...]]
    partitions: tuple[str, ...]
    plan: Mapping[str, Json]
    unassigned_rows: int = 0
    isolation: Mapping[str, Json] | None = None
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    statistics: Mapping[str, Mapping[str, FieldStatistics]] = field(default_factory=dict)
    extra: Mapping[str, Json] = field(default_factory=dict)

    @property
    def num_rows(self) -> int:
        return sum(self.rows_of(name) for name in self.splits)

    @property
    def size_bytes(self) -> int:
        return sum(shard.size_bytes for shard in {shard.path: shard for shard in self.shards()}.values())

    def rows_of(self, split: str) -> int:
        """Rows in one split."""
        return sum(part.num_rows for part in self.splits[split])

    def shards(self, split: str | None = None) -> Iterator[Shard]:
        """Shards of one split, or of all, in row order."""
        for name, parts in self.splits.items():
            if split in (None, name):
                for part in parts:
                    yield from part.shards

    def to_json(self) -> dict[str, Json]:
        """The manifest as JSON values, checksum included."""
        body: dict[str, Json] = {
            "format": 1,
            "fingerprint": self.fingerprint,
            "content_digest": self.content_digest,
            "created_at": self.created_at,
            "num_rows": self.num_rows,
            "unassigned_rows": self.unassigned_rows,
            "columns": [column.to_json() for column in self.columns],
            "splits": {name: [part.to_json() for part in parts] for name, parts in self.splits.items()},
            "partitions": list(self.partitions),
            "plan": dict(self.plan),
            **self.extra,
        }
        if self.isolation is not None:
            body["isolation"] = dict(self.isolation)
        if self.classes:
            body["classes"] = {name: list(known) for name, known in self.classes.items()}
        if self.statistics:
            body["statistics"] = {
                split: {name: item.to_json() for name, item in columns.items()}
                for split, columns in self.statistics.items()
            }
        return body | {"checksum": _checksum(body)}


def parse_manifest(body: Json, *, origin: str) -> Manifest:
    """The manifest in decoded JSON.

    Args:
        origin: the file's path, for messages.
    Raises:
        ManifestCorruptError: it is not a manifest, or not the one that was written.
    """
    known = {
        "format", "fingerprint", "content_digest", "created_at", "num_rows", "unassigned_rows", "columns",
        "splits", "partitions", "plan", "isolation", "classes", "statistics",
        "checksum",
    }  # fmt: skip
    try:
        stated = body["checksum"]
        rest = {key: value for key, value in body.items() if key != "checksum"}
        if stated != _checksum(rest):
            raise ValueError("its checksum does not fit its text")
        if body["format"] != 1:
            raise ValueError(f"format {body['format']} is newer than this release reads")
        manifest = Manifest(
            fingerprint=body["fingerprint"],
            content_digest=body["content_digest"],
            created_at=body["created_at"],
            columns=tuple(Column.from_json(item) for item in body["columns"]),
            splits={name: tuple(SplitPart.from_json(part) for part in parts) for name, parts in body["splits"].items()},
            partitions=tuple(body["partitions"]),
            plan=dict(body["plan"]),
            unassigned_rows=body["unassigned_rows"],
            isolation=body.get("isolation"),
            classes={name: tuple(known) for name, known in body.get("classes", {}).items()},
            statistics={
                split: {name: FieldStatistics.from_json(item) for name, item in columns.items()}
                for split, columns in body.get("statistics", {}).items()
            },
            extra={key: value for key, value in rest.items() if key not in known},
        )
        if manifest.num_rows != body["num_rows"]:
            raise ValueError(f"its shards have {manifest.num_rows} rows, and it says {body['num_rows']}")
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ManifestCorruptError(
            origin,
            "is damaged",
            facts={"got": error},
            remedy=f"rm {origin!r}   # then run `coral build` on its descriptor again",
        ) from error
    return manifest


def _checksum(body: Mapping[str, Json]) -> str:
    return hashlib.sha256(rfc8785.dumps(dict(body))).hexdigest()

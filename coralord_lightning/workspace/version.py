"""What the flow hands out: a built version, and how it came about. Values; reads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from coralord_lightning.errors import UsageError
from coralord_lightning.spec.fingerprint import plain
from coralord_lightning.spec.manifest import Manifest
from coralord_lightning.spec.statistics import FieldStatistics

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Outcome", "Version"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One built state of a dataset.

    Args:
        home: the store directory its shards lie in.
        name: the name it was asked for by; None where it was asked for by fingerprint.
    """

    manifest: Manifest
    home: Path
    name: str | None = None

    @property
    def fingerprint(self) -> str:
        """Identity of the plan: 64 lowercase hex digits."""
        return self.manifest.fingerprint

    @property
    def content_digest(self) -> str:
        """Identity of the values: 64 lowercase hex digits."""
        return self.manifest.content_digest

    @property
    def num_rows(self) -> int:
        """Rows in all splits together."""
        return self.manifest.num_rows

    @property
    def splits(self) -> dict[str, int]:
        """Split name -> rows."""
        return {name: self.manifest.rows_of(name) for name in self.manifest.splits}

    @property
    def created_at(self) -> datetime:
        """When it was built, UTC."""
        return datetime.fromisoformat(self.manifest.created_at)

    @property
    def plan(self) -> dict[str, Any]:
        """Everything that decided the data, as plain values."""
        return dict(plain(self.manifest.plan))

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """Field -> its classes in the order of their numbers, of every field with `encode: category`."""
        return MappingProxyType(dict(self.manifest.classes))

    @property
    def statistics(self) -> Mapping[str, Mapping[str, FieldStatistics]]:
        """Split -> field -> what its values come to; a split of a version that an older release built has none."""
        return MappingProxyType({split: MappingProxyType(dict(of)) for split, of in self.manifest.statistics.items()})

    def stats(self, split: str) -> Mapping[str, FieldStatistics]:
        """Field -> what its values in one split come to.

        Raises:
            UsageError: nobody has counted that split, or it has no row.
        """
        if split not in self.manifest.statistics:
            raise UsageError(
                "stats",
                f"nothing is known of split '{split}': it has no row, or an older release built it",
                facts={"known": ", ".join(self.manifest.statistics) or "no split", "splits": ", ".join(self.splits)},
                remedy="coral build DESCRIPTOR --home NEW_HOME     # this release counts what it builds",
            )
        return self.statistics[split]

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of every split."""
        from coralord_lightning.spec.digest import arrow_schema

        return arrow_schema(self.manifest.columns)

    @property
    def manifest_path(self) -> Path:
        """Where its manifest lies."""
        return self.home / "manifests" / f"{self.fingerprint}.json"

    def _repr_html_(self) -> str:
        """The version in a notebook: what it is, and its columns."""
        from coralord_lightning.workspace.notebook import html_of_facts, html_of_rows, html_of_version_facts

        manifest = self.manifest
        facts = html_of_version_facts(self.fingerprint, self.content_digest, self.splits)
        facts |= {"built": f"{self.created_at:%Y-%m-%d %H:%M:%S} UTC", "size": f"{manifest.size_bytes:,} bytes"}
        columns = [(column.name, column.type, _shape_of(column.shape)) for column in manifest.columns]
        below = html_of_rows(("column", "type", "shape"), columns)
        return html_of_facts(f"Version of {self.name}" if self.name else "Version", facts, below=below)

    def to_json(self) -> dict[str, Any]:
        """What is logged with a run and kept in its checkpoint: primitives only."""
        environment: Mapping[str, Any] = self.manifest.plan.get("environment", {"kind": "none"})
        out: dict[str, Any] = {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "content_digest": self.content_digest,
            "num_rows": self.num_rows,
            "splits": self.splits,
            "created_at": self.manifest.created_at,
            "environment": environment["kind"],
        }
        image = environment.get("image") or (self.manifest.isolation or {}).get("image")
        return out | ({"image_digest": image} if image else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A version and what it took to get it.

    Args:
        built: whether anything was built; False is a hit.
        bytes_fetched: every byte received from the network.
        checked: whether it was built twice and compared.
    """

    version: Version
    built: bool
    partitions_built: int
    partitions_reused: int
    bytes_fetched: int
    seconds: float
    checked: bool = False

    @property
    def image_digest(self) -> str | None:
        """Digest or ID of the image the pipeline ran in; None for `local` or without a pipeline."""
        return self.version.to_json().get("image_digest")

    def to_json(self) -> dict[str, Any]:
        version = self.version
        return {
            "name": version.name,
            "fingerprint": version.fingerprint,
            "content_digest": version.content_digest,
            "built": self.built,
            "num_rows": version.num_rows,
            "splits": version.splits,
            "unassigned_rows": version.manifest.unassigned_rows,
            "partitions_built": self.partitions_built,
            "partitions_reused": self.partitions_reused,
            "bytes_fetched": self.bytes_fetched,
            "image_digest": self.image_digest,
            "seconds": round(self.seconds, 3),
            "checked": self.checked,
        }


def _shape_of(shape: Sequence[int]) -> str:
    return " x ".join("?" if length < 0 else str(length) for length in shape)

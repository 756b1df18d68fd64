"""Owns a version as a folder: Parquet, croissant.json, and dataset.yaml, which reads it back. It chooses no place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from coralord_lightning.share.croissant.document import croissant_document, readback_descriptor, require_exportable
from coralord_lightning.share.croissant.parquet import write_files
from coralord_lightning.spec.description import Description
from coralord_lightning.spec.manifest import Manifest

__all__ = ["write_folder"]


def write_folder(folder: Path, manifest: Manifest, description: Description | None, shards: Mapping[str, Path]) -> None:
    """Write data, description and descriptor.

    Args:
        description: what is said of the version; None where nothing is known.
        shards: where each shard of the manifest lies, by its `path` there; known to be whole.
    Raises:
        UsageError: the version would not read back the same; nothing is written.
        ShardMissingError: a shard cannot be read.
    """
    require_exportable(manifest)
    said = description or Description(
        name="subset", descriptor={}, croissant_name="a dataset", croissant_sha256="0" * 64, record_set="records"
    )
    document = croissant_document(manifest, said, write_files(folder, manifest, shards))
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    (folder / "croissant.json").write_text(text, encoding="utf-8")
    (folder / "dataset.yaml").write_text(readback_descriptor(document, manifest), encoding="utf-8")

"""Owns what a version is exported as: finds it and what is said of it, and hands both to `share`; reads no row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coralord_lightning.errors import NotYetSupportedError

if TYPE_CHECKING:
    from coralord_lightning.workspace import Workspace

__all__ = ["Exported", "export_croissant", "export_hf"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A folder that was written.

    Args:
        kind: "hf" or "croissant".
        set_aside: where a folder of others that lay there is now.
    """

    kind: str
    fingerprint: str
    content_digest: str
    folder: Path
    files: tuple[str, ...]
    size_bytes: int
    num_rows: int
    set_aside: Path | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "fingerprint": self.fingerprint,
            "content_digest": self.content_digest,
            "folder": str(self.folder),
            "files": list(self.files),
            "size_bytes": self.size_bytes,
            "num_rows": self.num_rows,
            "set_aside": None if self.set_aside is None else str(self.set_aside),
        }


def export_hf(workspace: Workspace, fingerprint: str, folder: Path, *, force: bool = False) -> Exported:
    """Write a version as a folder that `datasets.load_dataset` reads: Parquet, a dataset card, its Croissant.

    Args:
        fingerprint: whole, or a prefix that only one version has.
        folder: new, empty, or an earlier export; `force`: anything, and what lay there is set aside.
    Raises:
        UsageError: something else lies there.
    """
    raise NotYetSupportedError("export hf", "is not in this release", remedy="coral export croissant FP DIR")


def export_croissant(workspace: Workspace, fingerprint: str, folder: Path, *, force: bool = False) -> Exported:
    """Write a version as a Croissant dataset of its own: Parquet and JSON-LD.

    Args:
        fingerprint: whole, or a prefix that only one version has.
        folder: new, empty, or an earlier export; `force`: anything, and what lay there is set aside.
    Raises:
        UsageError: something else lies there.
    """
    raise NotYetSupportedError("export croissant", "is not in this release", remedy="coral export hf FP DIR")

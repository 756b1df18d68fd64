"""Owns what a version is exported as: finds it and what is said of it, and hands both to `share`; reads no row."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coralord_lightning.errors import ConfigError, OfflineError
from coralord_lightning.share.folders import Place, list_files, publish_folder, write_marker
from coralord_lightning.share.huggingface import require_datasets

if TYPE_CHECKING:
    from coralord_lightning.share.huggingface.push import Pushed
    from coralord_lightning.spec.description import Description
    from coralord_lightning.workspace import Version, Workspace

__all__ = ["Exported", "export_croissant", "export_hf", "push_hf"]


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
        UsageError: something else lies there, or Hugging Face datasets is not installed.
        ShardMissingError: a shard is gone or damaged; every byte is read.
    """
    version = workspace.version(fingerprint, verify="read")
    with publish_folder(folder, _about("hf", version), force=force, keep_out=workspace.config.home) as place:
        _write_hf(workspace, version, place.temp)
    return _exported("hf", version, place)


def push_hf(
    workspace: Workspace,
    fingerprint: str,
    repository: str,
    *,
    branch: str = "main",
    private: bool = False,
    force: bool = False,
    progress: bool = False,
) -> Pushed:
    """Commit what `export_hf` writes to a dataset repository of the hub.

    Args:
        repository: org/name; it is made where there is none, and is private if `private` says so.
        force: also to a repository that holds something else than an export of ours.
        progress: draw the bars of huggingface_hub.
    Returns:
        the commit, to load the data by.
    Raises:
        ConfigError: there is no token.
        UpstreamError: the hub refuses.
    """
    require_datasets("push")
    from coralord_lightning.share.huggingface.push import push_folder

    config = workspace.config
    if workspace.offline:
        raise OfflineError(repository, "cannot be committed to without a request", remedy="leave --offline out")
    token = None if config.hf_token is None else config.hf_token.reveal_if_there()
    if token is None:
        raise ConfigError(
            "hf_token", "is not set, and a commit needs it", remedy="export HF_TOKEN=…     # or hf auth login"
        )
    version = workspace.version(fingerprint, verify="read")
    with workspace.store.temp_dir() as temp:
        _write_hf(workspace, version, temp)
        write_marker(temp, _about("hf", version))
        return push_folder(
            temp,
            repository,
            endpoint=config.hf_endpoint.rstrip("/"),
            token=token,
            message=f"Version {version.fingerprint[:12]}, content {version.content_digest[:12]}",
            branch=branch,
            private=private,
            force=force,
            progress=progress,
        )


def _write_hf(workspace: Workspace, version: Version, folder: Path) -> None:
    require_datasets("export hf")
    from coralord_lightning.share.huggingface.croissant import croissant_of_export
    from coralord_lightning.share.huggingface.features import features_of
    from coralord_lightning.share.huggingface.folder import write_folder
    from coralord_lightning.sources import open_sources
    from coralord_lightning.workspace.describe import describe

    manifest = version.manifest
    description = _said(workspace, version)
    splits = {
        split: [version.home / shard.path for shard in manifest.shards(split) if shard.num_rows]
        for split in manifest.splits
    }
    features = features_of(manifest, description)
    written = write_folder(folder, splits, features=features, manifest=manifest, description=description)
    with open_sources(workspace.config, cache_dir=workspace.config.home / "cache", offline=True) as sources:
        files = describe(folder / "data", beside=folder, sources=sources).document
    document = croissant_of_export(files, [item.name for item in written], manifest, description)
    (folder / "croissant.json").write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _said(workspace: Workspace, version: Version) -> Description | None:
    """What is said of a version, without the secrets of addresses in any of its texts."""
    from coralord_lightning.sources.address import without_secrets
    from coralord_lightning.spec.description import Description

    found = workspace.store.read_description(version.fingerprint)
    return None if found is None else Description.from_json(without_secrets(found.to_json()))


def _about(kind: str, version: Version) -> dict[str, Any]:
    return {"kind": kind, "fingerprint": version.fingerprint, "content_digest": version.content_digest}


def _exported(kind: str, version: Version, place: Place) -> Exported:
    files = list_files(place.folder)
    return Exported(
        kind=kind,
        fingerprint=version.fingerprint,
        content_digest=version.content_digest,
        folder=place.folder,
        files=tuple(files),
        size_bytes=sum((place.folder / name).stat().st_size for name in files),
        num_rows=version.num_rows,
        set_aside=place.set_aside,
    )


def export_croissant(workspace: Workspace, fingerprint: str, folder: Path, *, force: bool = False) -> Exported:
    """Write a version as a Croissant dataset of its own: Parquet and JSON-LD.

    Args:
        fingerprint: whole, or a prefix that only one version has.
        folder: new, empty, or an earlier export; `force`: anything, and what lay there is set aside.
    Raises:
        UsageError: something else lies there, or Croissant cannot say what a column is.
        ShardMissingError: a shard is gone or damaged; every byte is read.
    """
    from coralord_lightning.share.croissant.document import require_exportable
    from coralord_lightning.share.croissant.folder import write_folder

    version = workspace.version(fingerprint, verify="read")
    manifest = version.manifest
    require_exportable(manifest)
    shards = {shard.path: version.home / shard.path for shard in manifest.shards()}
    with publish_folder(folder, _about("croissant", version), force=force, keep_out=workspace.config.home) as place:
        write_folder(place.temp, manifest, _said(workspace, version), shards)
    return _exported("croissant", version, place)

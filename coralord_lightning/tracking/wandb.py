"""The words of Weights & Biases: the run's config, and an artifact of type dataset that the run uses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from coralord_lightning.tracking.entry import HPARAMS_KEY, Entry

if TYPE_CHECKING:
    from coralord_lightning.workspace import Version

__all__ = ["tell"]

_MAX_NAME_CHARS = 128


def tell(logger: Any, entry: Entry) -> None:
    """Write the entry to a WandbLogger; lineage then leads from the run to the manifest of each version."""
    logger.log_hyperparams({HPARAMS_KEY: entry.to_json()})
    run = logger.experiment
    if getattr(run, "disabled", False):
        return
    for version in {version.fingerprint: version for version in entry.versions.values()}.values():
        _use(run, _artifact(version))


def _artifact(version: Version) -> Any:
    import wandb

    name = re.sub(r"[^A-Za-z0-9._-]", ".", version.name or "pinned")[:_MAX_NAME_CHARS]
    artifact = wandb.Artifact(name, type="dataset", metadata=version.to_json())
    artifact.add_reference(version.manifest_path.absolute().as_uri(), name="manifest.json", checksum=False)
    return artifact


def _use(run: Any, artifact: Any) -> None:
    aliases = [f"fp-{artifact.metadata['fingerprint'][:12]}"]
    if not getattr(run, "offline", False):
        run.use_artifact(artifact, aliases=aliases)
    elif hasattr(run, "_log_artifact"):  # what use_artifact does itself, but for its refusal of an offline run
        run._log_artifact(artifact, aliases=aliases, is_user_created=True, use_after_commit=True)  # noqa: SLF001
    else:
        run.log_artifact(artifact, aliases=aliases)

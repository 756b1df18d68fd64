"""The words of MLflow: tags, and a dataset input of the run. No parameters: those can never change, and are cut."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from coralord_lightning.tracking.entry import HPARAMS_KEY, Entry

if TYPE_CHECKING:
    from coralord_lightning.workspace import Version

__all__ = ["DIGEST_CHARS", "tell"]

DIGEST_CHARS = 36
"""What MLflow keeps of a dataset's digest; the whole fingerprint is a tag."""

_MAX_SCHEMA_CHARS = 65_535
_GIT_COMMIT = "mlflow.source.git.commit"
_CONTEXTS = {"main": "training", "val": "validation", "test": "testing", "predict": "prediction"}
_TYPES = {
    "bool": "boolean", "int8": "integer", "int16": "integer", "int32": "integer", "uint8": "integer",
    "uint16": "integer", "int64": "long", "uint32": "long", "uint64": "long", "float16": "float", "float": "float",
    "halffloat": "float", "double": "double", "string": "string", "binary": "binary", "date32[day]": "datetime",
}  # fmt: skip


def tell(logger: Any, entry: Entry) -> None:
    """Write the entry to an MLFlowLogger; again into the same run is fine."""
    client, run_id = logger.experiment, logger.run_id
    known = client.get_run(run_id)
    for name, value in _tags(entry, known.data.tags).items():
        client.set_tag(run_id, name, value)
    there = {(item.dataset.name, item.dataset.digest) for item in getattr(known.inputs, "dataset_inputs", None) or []}
    inputs = [_input(role, version) for role, version in entry.versions.items()]
    new = [item for item in inputs if (item.dataset.name, item.dataset.digest) not in there]
    if new:
        client.log_inputs(run_id, new)


def _tags(entry: Entry, known: dict[str, str]) -> dict[str, str]:
    tags = {}
    shown = {HPARAMS_KEY: entry.version} | {f"{HPARAMS_KEY}.{role}": version for role, version in entry.others.items()}
    for prefix, version in shown.items():
        tags[f"{prefix}.name"] = version.name or ""
        tags[f"{prefix}.fingerprint"] = version.fingerprint
        tags[f"{prefix}.content_digest"] = version.content_digest
    if entry.repository is not None:
        tags[f"{HPARAMS_KEY}.git.commit"] = entry.repository.commit
        tags[f"{HPARAMS_KEY}.git.dirty"] = str(entry.repository.dirty).lower()
        if _GIT_COMMIT not in known:  # MLflow's own, which its pages show
            tags[_GIT_COMMIT] = entry.repository.commit
    return tags


def _input(role: str, version: Version) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        name=version.name or "pinned",
        digest=version.fingerprint[:DIGEST_CHARS],
        source_type="local",
        source=json.dumps({"uri": version.manifest_path.absolute().as_uri()}),
        schema=_schema(version),
        profile=json.dumps({"num_rows": version.num_rows, "splits": version.splits}),
    )
    context = _CONTEXTS.get(role, "training" if role.startswith("mixture.") else role)
    return DatasetInput(dataset, tags=[InputTag("mlflow.data.context", context)])


def _schema(version: Version) -> str:
    """The columns in MLflow's own form; tensors as arrays of their element's type."""
    columns = []
    for column in version.manifest.columns:
        kind: dict[str, Any] = {"type": _TYPES.get(column.type, "string")}
        for _ in column.shape:
            kind = {"type": "array", "items": kind}
        columns.append({**kind, "name": column.name, "required": False})
    text = json.dumps({"mlflow_colspec": columns})
    return text if len(text) <= _MAX_SCHEMA_CHARS else json.dumps({"mlflow_colspec": [], "num_columns": len(columns)})

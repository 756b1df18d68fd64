"""Owns how a run's data look in a notebook, before and after they are resolved. Resolves nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping

from coralord_lightning.datamodule.roles import Asked
from coralord_lightning.workspace import Version
from coralord_lightning.workspace.notebook import html_of_facts, html_of_rows

__all__ = ["html_of_run"]


def html_of_run(
    title: str, asked: Mapping[str, Asked], versions: Mapping[str, Version] | None, options: Mapping[str, object]
) -> str:
    """What is asked for by role, and which versions that is, as far as it is known."""
    rows = [(role, *_told(data, (versions or {}).get(role))) for role, data in asked.items()]
    facts = {name: value for name, value in options.items() if value is not None}
    if versions is None:
        facts |= {"state": "not resolved yet: dm.prepare_data(); dm.setup(), or a Trainer, does it"}
    return html_of_facts(title, facts, below=html_of_rows(("data", "descriptor", "version", "rows"), rows))


def _told(data: Asked, version: Version | None) -> tuple[str, str, str]:
    said = data.descriptor
    name = "" if said is None else os.fspath(said) if isinstance(said, str | os.PathLike) else "given as a mapping"
    if version is None:
        return name, "" if data.pin is None else f"pin {os.fspath(data.pin)}", ""
    rows = ", ".join(f"{split} {count:,}" for split, count in version.splits.items())
    return name, version.fingerprint[:12], rows

"""The floors of the house as HTML, made of the import contract; knows no site and no page."""

from __future__ import annotations

import tomllib
from pathlib import Path

__all__ = ["floors"]

_OWNS = {
    "cli": "coral build, status, …",
    "versions": "status, update, verify, export",
    "datamodule": "CoralDataModule",
    "tracking": "loggers",
    "dataset": "load()",
    "workspace": "descriptor → plan → built already? → build → publish",
    "builder": "extract → run → admit",
    "share": "Hugging Face, Croissant",
    "store": "objects, manifests, pins, catalog",
    "stream": "order, gather, loader",
    "sources": "folders, http(s), buckets, archives, repositories",
    "spec": "descriptor, predicate, Croissant, compiler, plan, fingerprint, digest, manifest, lock",
    "config": "this site's settings",
    "errors": "the error tree",
}


def floors(project: Path) -> str:
    """One row a floor, the uppermost first; imports go down only."""
    tool = tomllib.loads(project.read_text(encoding="utf-8"))["tool"]
    (contract,) = tool["importlinter"]["contracts"]
    rows = []
    for layer in contract["layers"]:
        rooms = [name.strip() for name in layer.split("|")]
        cells = "".join(f"<div><strong>{name}</strong><span>{_OWNS.get(name, '')}</span></div>" for name in rooms)
        rows.append(f'<div class="floor">{cells}</div>')
    return "\n".join(['<div class="floors">', *rows, "</div>"])

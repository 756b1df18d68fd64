"""Owns what the Croissant of an exported folder says beside files and columns: splits, whose, of what. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from coralord_lightning.share.croissant.said import PREFIXES, carried, provenance
from coralord_lightning.spec.description import Description
from coralord_lightning.spec.infer import split_record_set
from coralord_lightning.spec.manifest import Manifest

__all__ = ["croissant_of_export"]


def croissant_of_export(
    document: Mapping[str, Any], splits: Sequence[str], manifest: Manifest, description: Description | None
) -> dict[str, Any]:
    """The Croissant of exported files, with what is said of the version.

    Args:
        document: what describes the files themselves.
        splits: as files are named by.
    """
    out = dict(document) | {"recordSet": _with_splits(document, splits)}
    out["@context"] = {**document["@context"], **PREFIXES}
    if description is not None:
        out |= {term: value for term, value in carried(description).items() if term not in document}
        out |= provenance(manifest, description)
        out["name"] = description.name.replace("/", "-") or out["name"]
        _tell_fields(out["recordSet"], description)
    out.setdefault("description", f"A dataset built by coralord-lightning: {manifest.num_rows:,} rows.")
    out.setdefault("citeAs", "n/a")
    return out | {
        "datePublished": manifest.created_at[:10],
        "version": "1.0.0",
        "cl:fingerprint": manifest.fingerprint,
        "cl:contentDigest": manifest.content_digest,
    }


def _with_splits(document: Mapping[str, Any], splits: Sequence[str]) -> list[dict[str, Any]]:
    """The record set of all rows, with a field for the split that a file's name says, where there are several files."""
    if len(document["distribution"]) != 1:  # files that look unlike: as where a column has values in one of them only
        return list(document["recordSet"])
    rows = dict(document["recordSet"][-1])
    guessed = {item["key"]["@id"] for item in document["recordSet"][:-1]}
    fields = [item for item in rows["field"] if item.get("references", {}).get("field", {}).get("@id") not in guessed]
    (files,) = document["distribution"]
    if files["@type"] != "cr:FileSet":
        return [rows | {"field": fields}]
    taken = {item["name"] for item in fields}
    called = next(name for name in ("split", "file_split", "split_of_file") if name not in taken)
    names = "|".join(re.escape(name) for name in splits)
    field = {
        "@type": "cr:Field",
        "@id": f"{rows['@id']}/{called}",
        "name": called,
        "dataType": "sc:Text",
        "source": {
            "fileSet": {"@id": files["@id"]},
            "extract": {"fileProperty": "fullpath"},
            "transform": {"regex": f"(?:data/)?({names})(?:-|$)"},
        },
        "references": {"field": {"@id": "splits/name"}},
    }
    listed = split_record_set("splits", "splits/name", splits)
    return [listed, rows | {"field": [field, *fields]}]


def _tell_fields(record_sets: list[dict[str, Any]], said: Description) -> None:
    for record_set in record_sets:
        for field in record_set["field"]:
            known = said.fields.get(str(field.get("name", "")).rpartition("/")[2])
            if known is not None and known.text:
                field.setdefault("description", known.text)

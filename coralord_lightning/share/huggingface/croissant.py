"""Owns what the Croissant of an exported folder says beside files and columns: splits, whose, of what. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from coralord_lightning.sources.address import public_url
from coralord_lightning.spec.description import Description
from coralord_lightning.spec.manifest import Manifest

__all__ = ["croissant_of_export"]

_OWN = {"prov": "http://www.w3.org/ns/prov#", "cl": "https://w3id.org/coralord-lightning/ns#"}


def croissant_of_export(
    document: Mapping[str, Any], splits: Sequence[str], manifest: Manifest, description: Description | None
) -> dict[str, Any]:
    """The Croissant of exported files, with what is said of the version.

    Args:
        document: what describes the files themselves.
        splits: as files are named by.
    """
    out = dict(document) | {"recordSet": _with_splits(document, splits)}
    out["@context"] = {**document["@context"], **_OWN}
    said = {} if description is None else {_bare(term): value for term, value in description.metadata.items()}
    out |= {term: value for term, value in said.items() if term not in document}
    if description is not None and description.name:
        out["name"] = description.name.replace("/", "-")
    out.setdefault("description", f"A dataset built by coralord-lightning: {manifest.num_rows:,} rows.")
    out.setdefault("datePublished", manifest.created_at[:10])
    out.setdefault("version", "1.0.0")
    out["cl:fingerprint"] = manifest.fingerprint
    out["cl:contentDigest"] = manifest.content_digest
    if description is not None and description.croissant_name:
        out |= _derivation(manifest, description)
        _tell_fields(out["recordSet"], description)
    return out


def _with_splits(document: Mapping[str, Any], splits: Sequence[str]) -> list[dict[str, Any]]:
    """The record set of all rows, with a field for the split that a file's name says, where there are several files."""
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
    listed = {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [{"@type": "cr:Field", "@id": "splits/name", "name": "splits/name", "dataType": "sc:Text"}],
        "data": [{"splits/name": name} for name in splits],
    }
    return [listed, rows | {"field": [field, *fields]}]


def _derivation(manifest: Manifest, said: Description) -> dict[str, Any]:
    origin: dict[str, Any] = {
        "@type": "prov:Entity",
        "name": said.croissant_name,
        "cl:recordSet": said.record_set,
        "cl:croissantSha256": said.croissant_sha256,
    }
    if said.croissant_url:
        origin["@id"] = public_url(said.croissant_url)
    agent = {
        "@type": "prov:SoftwareAgent",
        "name": "coralord-lightning",
        "softwareVersion": version("coralord-lightning"),
    }
    activity = {
        "@type": "prov:Activity",
        "prov:endedAtTime": manifest.created_at,
        "prov:wasAssociatedWith": agent,
    }
    return {"prov:wasDerivedFrom": origin, "prov:wasGeneratedBy": activity}


def _tell_fields(record_sets: list[dict[str, Any]], said: Description) -> None:
    for record_set in record_sets:
        for field in record_set["field"]:
            known = said.fields.get(field.get("name", ""))
            if known is not None and known.text:
                field.setdefault("description", known.text)


def _bare(term: str) -> str:
    """A term as the context of the document has it."""
    return term.partition(":")[2] if term.startswith(("sc:", "cr:")) else term

"""Owns the JSON-LD of an exported version, a Croissant 1.1 dataset, and the descriptor that reads it back. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coralord_lightning.errors import UsageError
from coralord_lightning.share.croissant.fields import FieldWriter, require_columns
from coralord_lightning.share.croissant.parquet import ParquetFile
from coralord_lightning.share.croissant.said import PREFIXES, carried, provenance
from coralord_lightning.sources.address import without_secrets
from coralord_lightning.spec.description import Description
from coralord_lightning.spec.infer import CONTEXT, split_record_set
from coralord_lightning.spec.infer_names import Names, slug
from coralord_lightning.spec.manifest import Manifest

__all__ = ["CONFORMS_TO", "croissant_document", "readback_descriptor", "require_exportable"]

Json = Any

CONFORMS_TO = ("http://mlcommons.org/croissant/1.1", "https://w3id.org/coralord-lightning/subset/0.1")
_FILES = "data-files"
_KINDS: Mapping[type, str] = {str: "sc:Text", bool: "sc:Boolean", int: "sc:Integer", float: "sc:Float"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listing:
    """An Enumeration: @id of its key field, and its record set."""

    key: str
    node: Mapping[str, Json]


def require_exportable(manifest: Manifest) -> None:
    """Refuse a version that would not read back the same, before anything is written.

    Raises:
        UsageError: a column cannot be said in Croissant; two splits are one to a file system without case.
    """
    require_columns(manifest.columns)
    seen: dict[str, str] = {}
    for split in manifest.splits:
        other = seen.setdefault(split.lower(), split)
        if other != split:
            raise UsageError(
                split,
                f"and '{other}' would be one folder on a disk that knows no case",
                remedy="rename one of them under `splits:`",
            )


def croissant_document(manifest: Manifest, description: Description, files: Sequence[ParquetFile]) -> dict[str, Json]:
    """The JSON-LD.

    Args:
        files: all Parquet files, as they were written.
    """
    names = Names()
    record_set = names.unique(slug(description.record_set.rpartition("/")[2] or "records"))
    splits = _splits(manifest, names)
    listings = _listings(manifest, description, names)
    source = {"fileSet": {"@id": _FILES}}
    writer = FieldWriter(
        record_set=record_set,
        source=source,
        said=description.fields,
        references={name: listing.key for name, listing in listings.items()},
        names=names,
    )
    fields = [writer.node(column) for column in manifest.columns]
    fields.append(_split_field(manifest, writer, splits.key))
    said = carried(description)
    return {
        "@context": {**CONTEXT, **PREFIXES, "selection": {"@id": "cl:selection", "@type": "@json"}},
        "@type": "sc:Dataset",
        "name": description.name.replace("/", "-") or "subset",
        "description": f"{manifest.num_rows:,} rows of {description.croissant_name}, built by coralord_lightning.",
        "license": "unknown",
        "citeAs": "n/a",
        "url": without_secrets(description.croissant_url) or f"urn:sha256:{manifest.content_digest}",
        **said,
        "conformsTo": [*CONFORMS_TO, *_more_conformance(description)],
        "datePublished": manifest.created_at[:10],
        "version": "1.0.0",
        **provenance(manifest, description),
        "distribution": _distribution(files),
        "recordSet": [
            splits.node,
            *(listing.node for listing in listings.values()),
            {
                "@type": "cr:RecordSet",
                "@id": record_set,
                "name": record_set,
                "cl:rowCount": manifest.num_rows,
                "selection": without_secrets(_selection(description)),
                "field": fields,
            },
        ],
    }


def readback_descriptor(document: Mapping[str, Json], manifest: Manifest) -> str:
    """The YAML of a descriptor that builds the same content out of an export."""
    record_set = document["recordSet"][-1]
    lines = [
        "# The exported rows as they are: `coral build dataset.yaml` gives the same content digest.",
        f"name: {re.sub(r'[^a-z0-9-]+', '-', document['name'].lower())[:100]}",
        "croissant: croissant.json",
        f"record_set: {json.dumps(record_set['@id'])}",
        f"fields: {json.dumps([column.name for column in manifest.columns], ensure_ascii=False)}",
        "splits:",
        *(f"  {json.dumps(split)}: {{source: {json.dumps(split)}}}" for split in manifest.splits),
    ]
    return "\n".join(lines) + "\n"


def _distribution(files: Sequence[ParquetFile]) -> list[Json]:
    objects = [
        {
            "@type": "cr:FileObject",
            "@id": file.path,
            "name": file.path,
            "contentUrl": file.path,
            "contentSize": f"{file.size_bytes} B",
            "encodingFormat": "application/x-parquet",
            "sha256": file.sha256,
        }
        for file in files
    ]
    every = {
        "@type": "cr:FileSet",
        "@id": _FILES,
        "name": _FILES,
        "encodingFormat": "application/x-parquet",
        "includes": "data/*/*.parquet",
    }
    return [every, *objects]


def _splits(manifest: Manifest, names: Names) -> _Listing:
    identity = names.unique("splits")
    key = names.unique(f"{identity}/name")
    return _Listing(key=key, node=split_record_set(identity, key, manifest.splits))


def _split_field(manifest: Manifest, writer: FieldWriter, key: str) -> dict[str, Json]:
    """The split of a row, which is the folder of its file."""
    taken = {column.name for column in manifest.columns}
    name = Names(taken=taken).unique("split")
    identity = writer.names.unique(f"{writer.record_set}/{name}")
    return {
        "@type": "cr:Field",
        "@id": identity,
        "name": f"{writer.record_set}/{name}",
        "dataType": "sc:Text",
        "source": {
            **writer.source,
            "extract": {"fileProperty": "fullpath"},
            "transform": {"regex": _split_regex(manifest)},
        },
        "references": {"field": {"@id": key}},
    }


def _split_regex(manifest: Manifest) -> str:
    """The folder in a path; mlcroissant applies it to what it found once more, and warns where that does not match."""
    names = "|".join(split.replace(".", r"\.") for split in manifest.splits)
    return f"^(?:(?:.*/)?data/)?({names})(?:/[^/]+)?$"


def _listings(manifest: Manifest, description: Description, names: Names) -> dict[str, _Listing]:
    """The Enumeration of every field that has classes, or references an Enumeration of the parent."""
    out = {}
    for column in manifest.columns:
        said = description.fields.get(column.name)
        if column.name in manifest.classes:
            rows = [{"id": number, "name": text} for number, text in enumerate(manifest.classes[column.name])]
            out[column.name] = _listing(f"{slug(column.name)}_classes", "id", rows, names)
        elif said is not None and said.enumeration is not None:
            key, known = said.enumeration
            listed = [dict(row) for row in known]
            if _fits(column.type, key, listed):
                out[column.name] = _listing(f"{slug(column.name)}_values", key, listed, names)
    return out


def _fits(kind: str, key: str, rows: Sequence[Mapping[str, Json]]) -> bool:
    """Whether the values of a column can be keys of these rows, all of them plain and alike."""
    wanted = str if kind == "string" else int if kind.startswith(("int", "uint")) else None
    same = bool(rows) and all(set(row) == set(rows[0]) for row in rows)
    plain = same and all(
        len({type(row[name]) for row in rows}) == 1 and type(rows[0][name]) in _KINDS for name in rows[0]
    )
    return plain and key in rows[0] and type(rows[0][key]) is wanted


def _listing(wanted: str, key: str, rows: Sequence[Mapping[str, Json]], names: Names) -> _Listing:
    identity = names.unique(wanted)
    ids = {name: names.unique(f"{identity}/{slug(name)}") for name in rows[0]}
    fields = [
        {"@type": "cr:Field", "@id": ids[name], "name": ids[name], "dataType": _KINDS[type(value)]}
        for name, value in rows[0].items()
    ]
    node = {
        "@type": "cr:RecordSet",
        "@id": identity,
        "name": identity,
        "dataType": "sc:Enumeration",
        "key": {"@id": ids[key]},
        "field": fields,
        "data": [{ids[name]: value for name, value in row.items()} for row in rows],
    }
    return _Listing(key=ids[key], node=node)


def _more_conformance(description: Description) -> list[str]:
    said = description.metadata.get("dct:conformsTo", [])
    texts = [
        item.get("@id") if isinstance(item, Mapping) else item for item in (said if isinstance(said, list) else [said])
    ]
    return [
        text
        for text in texts
        if isinstance(text, str) and text not in CONFORMS_TO and not re.search(r"croissant/\d[\d.]*/?$", text)
    ]


def _selection(description: Description) -> dict[str, Json]:
    keys = ("fields", "where", "order_by", "limit", "splits", "split_key")
    asked = description.descriptor
    return {"record_set": description.record_set, **{key: asked[key] for key in keys if asked.get(key) is not None}}

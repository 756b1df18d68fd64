"""Small Croissant documents, and what is read of them."""

from __future__ import annotations

from coralord_lightning.spec.croissant import Field, File, RecordSet, parse_croissant

__all__ = ["SHA", "SPLITS", "column", "document", "field", "file_of", "record_set"]

SHA = "0123456789abcdef" * 4
SPLITS = {
    "@type": "cr:RecordSet",
    "@id": "splits",
    "dataType": "cr:Split",
    "key": {"@id": "splits/name"},
    "field": [{"@type": "cr:Field", "@id": "splits/name", "dataType": "sc:Text"}],
    "data": [{"splits/name": "train"}, {"splits/name": "test"}],
}


def column(name: str, /, data_type: object = "sc:Integer", **more: object) -> dict[str, object]:
    return {
        "@type": "cr:Field",
        "@id": f"digits/{name}",
        "name": name,
        "dataType": data_type,
        "source": {"fileObject": {"@id": "table"}, "extract": {"column": name}},
    } | more


def document(*fields: dict[str, object], **changes: object) -> dict[str, object]:
    """A dataset of one Parquet file; without a context, so that standard terms hold."""
    return {
        "@type": "sc:Dataset",
        "name": "digits",
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": "table",
                "contentUrl": "digits.parquet",
                "encodingFormat": "application/x-parquet",
                "sha256": SHA,
            }
        ],
        "recordSet": [{"@type": "cr:RecordSet", "@id": "digits", "field": list(fields) or [column("label")]}],
    } | changes


def record_set(value: dict[str, object], index: int = 0) -> RecordSet:
    return parse_croissant(value, origin="croissant.json").record_sets[index]


def field(value: dict[str, object]) -> Field:
    return record_set(document(value)).fields[0]


def file_of(**changes: object) -> File:
    base = document()
    base["distribution"][0] |= changes  # type: ignore[index]
    base["distribution"][0] = {key: item for key, item in base["distribution"][0].items() if item is not None}  # type: ignore[index]
    return parse_croissant(base, origin="croissant.json").files["table"]

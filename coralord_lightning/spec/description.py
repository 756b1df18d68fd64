"""What people say of a version: who made its data, under which licence, what a field means. Never fingerprinted.

It stands beside the manifest, and the newest one counts: a licence may change while the data do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from coralord_lightning.spec.croissant.model import CroissantDataset, Field, RecordSet
from coralord_lightning.spec.descriptor import SubsetDescriptor
from coralord_lightning.spec.descriptor.jsonld import descriptor_keys
from coralord_lightning.spec.selection import Selection

__all__ = ["Description", "FieldDescription", "describe_selection"]

_MAX_ENUMERATED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldDescription:
    """What the Croissant says of one field.

    Args:
        id: its @id there.
        text: its description; "" where there is none.
        data_types: its dataTypes, folded (`sc:Text`, `cr:Int64`).
        media: what its bytes are where nothing decodes them: "image", "audio", "video"; None for other fields.
        enumeration: of a field that references an Enumeration whose rows stand in the Croissant: the name of the
            column that its values are of, and the rows.
    """

    id: str
    text: str = ""
    data_types: tuple[str, ...] = ()
    media: str | None = None
    enumeration: tuple[str, tuple[Mapping[str, Any], ...]] | None = None

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"id": self.id, "data_types": list(self.data_types)}
        if self.text:
            out["text"] = self.text
        if self.media is not None:
            out["media"] = self.media
        if self.enumeration is not None:
            out["enumeration"] = {"key": self.enumeration[0], "rows": [dict(row) for row in self.enumeration[1]]}
        return out

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FieldDescription:
        listed = value.get("enumeration")
        return cls(
            id=value["id"],
            text=value.get("text", ""),
            data_types=tuple(value["data_types"]),
            media=value.get("media"),
            enumeration=None if listed is None else (listed["key"], tuple(dict(row) for row in listed["rows"])),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What the descriptor and its Croissant said when the version was last built or looked up.

    Args:
        name: of the dataset, as the descriptor has it.
        descriptor: the descriptor as plain values, as it was written.
        croissant_name: of the dataset that it is a subset of.
        croissant_url: where that Croissant is; None where it lies beside the descriptor or is inferred.
        croissant_sha256: of its text.
        metadata: what it says of the dataset: licence, citation, RAI, provenance, usage; terms folded (`sc:license`).
        record_set: @id of the record set that the rows are of.
        fields: by the name of a selected field; fields that a pipeline makes are not known to the Croissant.
    """

    name: str
    descriptor: Mapping[str, Any]
    croissant_name: str
    croissant_sha256: str
    record_set: str
    croissant_url: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, FieldDescription] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {
            "format": 1,
            "name": self.name,
            "descriptor": dict(self.descriptor),
            "croissant": {"name": self.croissant_name, "sha256": self.croissant_sha256, "record_set": self.record_set},
            "metadata": dict(self.metadata),
            "fields": {name: item.to_json() for name, item in self.fields.items()},
        }
        if self.croissant_url is not None:
            out["croissant"]["url"] = self.croissant_url
        return out

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Description:
        croissant = value["croissant"]
        return cls(
            name=value["name"],
            descriptor=value["descriptor"],
            croissant_name=croissant["name"],
            croissant_url=croissant.get("url"),
            croissant_sha256=croissant["sha256"],
            record_set=croissant["record_set"],
            metadata=value["metadata"],
            fields={name: FieldDescription.from_json(item) for name, item in value["fields"].items()},
        )


def describe_selection(
    descriptor: SubsetDescriptor, dataset: CroissantDataset, selection: Selection, *, sha256: str, url: str | None
) -> Description:
    """What descriptor and Croissant say of a selection.

    Args:
        sha256: of the Croissant text; `url` where it was fetched.
    """
    (record_set,) = (item for item in dataset.record_sets if item.id == selection.record_set)
    known = {item.name: item for item in record_set.fields}
    return Description(
        name=descriptor.name,
        descriptor=descriptor_keys(descriptor),
        croissant_name=dataset.name,
        croissant_url=url,
        croissant_sha256=sha256,
        record_set=record_set.id,
        metadata=dataset.metadata,
        fields={item.name: _describe(known[item.name], dataset) for item in selection.fields if item.name in known},
    )


def _describe(item: Field, dataset: CroissantDataset) -> FieldDescription:
    return FieldDescription(
        id=item.id,
        text=item.description,
        data_types=item.data_types,
        media=item.media,
        enumeration=next(
            (found for found in (_enumeration(one.field, dataset) for one in item.references) if found), None
        ),
    )


def _enumeration(referenced: str | None, dataset: CroissantDataset) -> tuple[str, tuple[Mapping[str, Any], ...]] | None:
    """The rows of the Enumeration that has this field."""
    for record_set in dataset.record_sets:
        key = next((item.name for item in record_set.fields if item.id == referenced), None)
        if key is None or not _is_listed(record_set) or record_set.data is None:
            continue
        return key, record_set.data.rows
    return None


def _is_listed(record_set: RecordSet) -> bool:
    return record_set.is_enumeration and record_set.data is not None and len(record_set.data.rows) <= _MAX_ENUMERATED

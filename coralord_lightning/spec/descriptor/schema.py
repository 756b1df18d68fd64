"""The JSON Schema of a descriptor, for editors and for the documentation; never decides whether one is right.

It is made of the model, so that no key is forgotten, and says what the model's validators take from a user besides:
sizes with units, one text for a list of one, `environment: local`. It accepts every descriptor that the model accepts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from coralord_lightning.spec.descriptor import model
from coralord_lightning.spec.descriptor.problems import EXPECTED

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["DIALECT", "TEXTS", "descriptor_schema"]

DIALECT = "http://json-schema.org/draft-07/schema#"
"""The dialect that editors know best."""

TEXTS: Mapping[str, str] = {
    "name": "What the dataset is called in the store: versions are pinned to it, `coral log NAME` lists them.",
    "croissant": "The Croissant description of the data: a path from this file's folder, or an address.",
    "files": "Plain files instead of a Croissant; what they hold is inferred. `coral describe` writes that down.",
    "record_set": "Which record set of the Croissant, by @id or name; needed only where there is more than one.",
    "fields": "Which fields are handed out, in this order; without it all. A mapping says options of each.",
    "fields.*": "What to make of one field while building.",
    "fields.*.decode": "Turns an encoded picture or sound into a tensor.",
    "fields.*.shape": "The shape of the tensor; -1 where it may differ from row to row. Pictures are never resized.",
    "fields.*.dtype": "The type of the tensor's values.",
    "fields.*.layout": "Where the channels of a picture stand: last (HWC) or first (CHW).",
    "fields.*.sample_rate": "The sample rate that sound must have, in Hz; nothing is resampled.",
    "fields.*.encode": "`category` turns text into the number of its class; `{category: [a, b]}` says the classes too.",
    "fields.*.classes": "The texts that have a number, in the order of their numbers; any other text is an error.",
    "fields.*.nulls": "What becomes of nulls in a tensor: an error, a value (`fill`), or 0 with a field NAME_is_null.",
    "fields.*.fill": "What stands for a null under `nulls: fill`.",
    "where": "Which rows are taken: a condition over field names in restricted SQL.",
    "order_by": "The order of rows over the whole dataset, each field with asc (the default) or desc.",
    "limit": "How many rows each split has at most.",
    "splits": "The parts of the data by name; without it one part, `train`, has all of it.",
    "splits.*": "Which rows this split takes: by `where`, by `source`, or by `from` with `fraction`.",
    "splits.*.where": "Takes the rows that this condition is true for, before any fraction is taken.",
    "splits.*.source": "Takes the rows of this split of the Croissant.",
    "splits.*.from": "Takes a part of `rest` (what no other split has claimed), or of one split of the Croissant.",
    "splits.*.fraction": "Which part of `from`: fractions of the same rows are disjoint and add up to at most 1.",
    "splits.*.group_by": "Rows that agree in these fields stay together in one split.",
    "splits.*.stratify_by": "Each value of these fields is divided by the same fractions.",
    "split_key": "The fields whose values decide which fraction a row falls into; else the record set's own key.",
    "pipeline": "The code that makes the data of the selection; without it the selection is the data.",
    "pipeline.entrypoint": "The function: `def scale(batch: pa.RecordBatch, **params)` returns batches or tables.",
    "pipeline.per": "What one call gets: a batch, or a reader over a partition or over the whole dataset.",
    "pipeline.params": "Keyword arguments of the function; a change makes the version stale.",
    "pipeline.files": "Files that the code may read besides; their bytes are part of the version.",
    "environment": "Where the pipeline runs: a container by default; `local` is this interpreter.",
    "environment.local": "This interpreter, no container; what is installed here is then not pinned.",
    "environment.image": "An image; a tag is resolved to its digest once, and coral.lock keeps that.",
    "environment.dockerfile": "A Dockerfile that is built first; a path from this file's folder.",
    "environment.context": "The folder whose files that build is sent; by default the Dockerfile's own.",
    "environment.build_args": "Values of the Dockerfile's ARGs.",
    "environment.target": "The stage to stop at; by default the last.",
    "environment.memory": "The memory that the pipeline may use.",
    "environment.cpus": "The cores that the pipeline may use.",
    "environment.timeout": "How long one partition may take.",
    "environment.output": "How much the pipeline may write into its output directory.",
    "environment.network": "Lets the pipeline reach the network; the version is then recorded as not hermetic.",
    "mapping": "Reads a FileObject of the Croissant, by @id, from a file or folder of this machine.",
    "max_fetch": "A build that would fetch more than this does not begin.",
}
"""Dotted key -> what it is for, in one or two sentences."""

_UNITS = r"^\s*[0-9]+(\.[0-9]+)?\s*([kKmMgGtT]([iI]?[bB])?|[bB])?\s*$"
_SIZE = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": _UNITS}]}
_POSITIVE_SIZE = {"anyOf": [{"type": "integer", "minimum": 1}, _SIZE["anyOf"][1]]}
_TEXTS = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "uniqueItems": True}]}
_PATH = r"^(?!/)(?!\.\.(/|$))(?!.*/\.\.(/|$))[^\\]+"
_TAKEN: Mapping[str, Mapping[str, Any]] = {
    "name": {"type": "string", "pattern": r"^[a-z0-9-]+(/[a-z0-9-]+)?$", "maxLength": 100},
    "files": {
        "anyOf": [
            {"type": "string", "pattern": _PATH + "$"},
            {"type": "array", "items": {"type": "string", "pattern": _PATH + "$"}, "uniqueItems": True},
        ]
    },
    "order_by": _TEXTS,
    "split_key": _TEXTS,
    "splits.*.group_by": _TEXTS,
    "splits.*.stratify_by": _TEXTS,
    "fields.*.encode": {
        "anyOf": [
            {"const": "category"},
            {
                "type": "object",
                "properties": {"category": {"type": ["array", "null"], "items": {"type": "string"}}},
                "required": ["category"],
                "additionalProperties": False,
            },
        ]
    },
    "fields.*.classes": {"type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": True},
    "fields.*.fill": {"type": ["boolean", "number", "string"]},
    "pipeline.entrypoint": {"type": "string", "pattern": _PATH.replace("[^\\\\]+", r"[^:\\]+") + r"\.py:[A-Za-z_]\w*$"},
    "pipeline.files": {"type": "array", "items": {"type": "string", "pattern": _PATH + "$"}, "uniqueItems": True},
    "environment.dockerfile": {"type": "string", "pattern": "^(?!.*://).+$"},
    "environment.context": {"type": "string", "pattern": "^(?!.*://).+$"},
    "environment.build_args": {
        "type": "object",
        "propertyNames": {"pattern": r"^[A-Za-z_][A-Za-z0-9_]*$"},
        "additionalProperties": {"type": "string"},
    },
    "environment.target": {"type": "string", "pattern": r"^[\w.-]+$"},
    "environment.image": {
        "type": "string",
        "pattern": r"^(([^\s@]+@)?sha256:[0-9a-f]{64}"
        r"|(?!sha256:)([A-Za-z0-9.-]+(:[0-9]+)?/)?[a-z0-9._/-]+(:\w[\w.-]*)?)$",
    },
    "environment.memory": _POSITIVE_SIZE,
    "environment.output": _POSITIVE_SIZE,
    "environment.timeout": {
        "anyOf": [
            {"type": "number", "exclusiveMinimum": 0, "maximum": 366 * 86_400},
            {"type": "string", "pattern": r"^\s*[0-9.]+\s*([sSmMhHdD]|[sS][eE][cC]|[mM][iI][nN])?\s*$"},
        ]
    },
    "mapping": {
        "type": "object",
        "additionalProperties": {"type": "string", "minLength": 1, "pattern": "^(?!.*://)"},
    },
    "max_fetch": _SIZE,
}
"""Where the model's own schema says what is kept, and not what a user may write."""
_PARTS: Mapping[str, type[BaseModel]] = {
    "fields.*": model.FieldOptions,
    "splits.*": model.SplitOptions,
    "pipeline": model.PipelineOptions,
    "environment": model.EnvironmentOptions,
}


def descriptor_schema() -> dict[str, Any]:
    """The JSON Schema of a descriptor, draft 7, as plain values; the same on every call and machine."""
    top = _mapping(model.SubsetDescriptor, "")
    properties = top["properties"]
    properties["fields"] |= {
        "anyOf": [
            {"type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": True},
            {"type": "object", "minProperties": 1, "additionalProperties": _or_null(_part("fields.*"))},
            {"type": "null"},
        ]
    }
    properties["splits"] |= {
        "anyOf": [
            {
                "type": "object",
                "minProperties": 1,
                "propertyNames": {"pattern": r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$"},
                "additionalProperties": _or_null(_part("splits.*")),
            },
            {"type": "null"},
        ]
    }
    properties["pipeline"] |= _or_null(_part("pipeline"))
    properties["environment"] |= {"anyOf": [{"const": "local"}, _part("environment"), {"type": "null"}]}
    one_source = {"oneOf": [_said("croissant"), _said("files")]}
    return {"$schema": DIALECT, "title": "CoralORD descriptor", **top, **one_source}


def _mapping(cls: type[BaseModel], prefix: str) -> dict[str, Any]:
    """A mapping with the keys of that part, none of which may be misspelt."""
    own = cls.model_json_schema(by_alias=True)
    keys = {name: _key(f"{prefix}{name}", item) for name, item in own["properties"].items()}
    required = {"required": own["required"]} if "required" in own else {}
    described = (cls.__doc__ or "").splitlines()[0]
    return {"description": described, "type": "object", "properties": keys, **required, "additionalProperties": False}


def _key(path: str, own: Mapping[str, Any]) -> dict[str, Any]:
    expected, example = EXPECTED[path]
    text = f"{TEXTS[path]}\n\nTakes {expected}.\n\nExample: {example}"
    said = {"title": path.rpartition(".")[2], "description": text}
    default = {"default": own["default"]} if own.get("default") not in (None, []) else {}
    if path in _PARTS or path in ("fields", "splits"):
        return said | default
    return said | default | (_or_null(_TAKEN[path]) if path in _TAKEN and path not in _REQUIRED else _type(path, own))


_REQUIRED = frozenset({"name", "pipeline.entrypoint", "pipeline.files"})
"""What has a value of its own wherever it is said: null is none."""


def _type(path: str, own: Mapping[str, Any]) -> dict[str, Any]:
    kept = _TAKEN.get(path, own)
    return {name: value for name, value in kept.items() if name not in ("title", "description", "default")}


def _or_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    choices = schema["anyOf"] if set(schema) == {"anyOf"} else [dict(schema)]
    return {"anyOf": [*choices, {"type": "null"}]}


def _part(path: str) -> dict[str, Any]:
    made = _mapping(_PARTS[path], f"{path}.")
    made["description"] = TEXTS[path]
    return made | _TOGETHER.get(path, {})


def _said(*names: str) -> dict[str, Any]:
    """Every one of these keys is there and says something."""
    nothing: dict[str, list[object]] = {"enum": [None, "", False, [], {}]}
    return {"required": list(names), "properties": {name: {"not": nothing} for name in names}}


def _never(*schemas: Mapping[str, Any]) -> dict[str, Any]:
    return {"not": {"anyOf": list(schemas)}}


def _only_with(owner: str, *names: str) -> list[dict[str, Any]]:
    """Keys that mean nothing without another."""
    return [{"if": _said(name), "then": _said(owner)} for name in names]


_TOGETHER: Mapping[str, dict[str, Any]] = {
    "splits.*": {
        **_never(_said("where", "source"), _said("where", "from"), _said("source", "from")),
        "allOf": _only_with("from", "fraction", "group_by", "stratify_by"),
    },
    "environment": {
        **_never(_said("image", "dockerfile"), _said("image", "local"), _said("dockerfile", "local")),
        "allOf": _only_with("dockerfile", "context", "build_args", "target"),
    },
    "fields.*": _never(
        {
            "required": ["encode", "classes"],
            "properties": {"encode": {"type": "object"}},
        }
    ),
}

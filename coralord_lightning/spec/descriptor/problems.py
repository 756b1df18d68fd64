"""What is wrong with a descriptor, said in its own words: which key, which line, what was expected, what to write."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from coralord_lightning.errors import DescriptorValueError, nearest
from coralord_lightning.spec.descriptor import model

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

    from coralord_lightning.spec.descriptor.model import Provenance, SubsetDescriptor

__all__ = ["EXPECTED", "check_supported", "explain"]

EXPECTED: Mapping[str, tuple[str, str]] = {
    "name": ("lower-case letters, digits and -, or team/name", "name: digits-even"),
    "croissant": ("the path or URL of a Croissant file", "croissant: croissant.json"),
    "files": ("a glob, or a list of globs, inside the descriptor's folder", "files: data/*.parquet"),
    "mapping": ("a mapping from @ids of FileObjects to local paths", "mapping: {repo: ../checkout}"),
    "max_fetch": ("a size of at most 1048576t", "max_fetch: 50GB"),
    "record_set": ("the @id or name of a record set", "record_set: digits"),
    "fields": ("a list of field names, or a mapping from names to options", "fields: [image, label]"),
    "fields.*": ("a mapping of options", "image: {decode: image, shape: [28, 28]}"),
    "fields.*.decode": ("image or audio", "decode: image"),
    "fields.*.shape": ("a list of sizes, -1 where they differ", "shape: [28, 28]"),
    "fields.*.dtype": ("uint8, uint16, int32 or float32", "dtype: uint8"),
    "fields.*.layout": ("HWC or CHW", "layout: CHW"),
    "fields.*.sample_rate": ("a whole number above 0, in Hz", "sample_rate: 16000"),
    "fields.*.encode": ("category", "encode: category"),
    "fields.*.classes": ("a list of texts", "classes: [cat, dog]"),
    "fields.*.nulls": ("error, fill or mask", "nulls: mask"),
    "fields.*.fill": ("a number, a boolean or a text", "fill: 0"),
    "where": ("an SQL condition over field names, as text", 'where: "label % 2 = 0 AND label < 8"'),
    "order_by": ("a list of field names, each with asc or desc", "order_by: [label, id desc]"),
    "limit": ("a whole number above 0 and below 2**63, or null", "limit: 1000"),
    "splits": ("a mapping from split names to what they take", "splits: {train: {from: rest, fraction: 0.9}}"),
    "splits.*": ("one of where, source, and from with fraction", "train: {from: rest, fraction: 0.9}"),
    "splits.*.where": ("an SQL condition over field names, as text", "where: \"part = 'test'\""),
    "splits.*.source": ("the name of a split of the Croissant file", "source: test"),
    "splits.*.from": ("rest, or the name of a split of the Croissant file", "from: rest"),
    "splits.*.fraction": ("a number above 0 and at most 1", "fraction: 0.9"),
    "splits.*.group_by": ("a list of field names", "group_by: [patient]"),
    "splits.*.stratify_by": ("a list of field names", "stratify_by: [label]"),
    "split_key": ("a list of field names", "split_key: [id]"),
    "pipeline": ("a mapping with an entrypoint", "pipeline: {entrypoint: pipeline.py:scale}"),
    "pipeline.entrypoint": ("file.py:function, inside the descriptor's folder", "entrypoint: pipeline.py:scale"),
    "pipeline.per": ("batch, partition or dataset", "per: batch"),
    "pipeline.params": ("a mapping from names to JSON values", "params: {max: 16}"),
    "pipeline.files": ("a list of paths inside the descriptor's folder", "files: [vocab.json]"),
    "environment": ("local, or a mapping with image or dockerfile, and limits", "environment: local"),
    "environment.image": ("an image by tag or digest", "image: ghcr.io/team/etl:1.2"),
    "environment.dockerfile": ("the path of a Dockerfile", "dockerfile: Dockerfile"),
    "environment.context": ("the path of the folder that is sent", "context: ."),
    "environment.build_args": ("a mapping from ARG names to texts; numbers in quotes", 'build_args: {PYTHON: "3.11"}'),
    "environment.target": ("the name of a stage of the Dockerfile", "target: runtime"),
    "environment.memory": ("a size above 0, at most 1048576t", "memory: 4g"),
    "environment.cpus": ("a number of at least 0.01", "cpus: 2"),
    "environment.timeout": ("a duration above 0, at most 366d", "timeout: 10m"),
    "environment.output": ("a size above 0, at most 1048576t", "output: 20g"),
    "environment.network": ("true or false", "network: false"),
    "environment.local": ("true or false", "environment: local"),
}
"""Dotted key, with `*` for a name of the user's -> what it takes, and an example."""
_KEYS: Mapping[str, type[BaseModel]] = {
    "splits.*": model.SplitOptions,
    "fields.*": model.FieldOptions,
    "pipeline": model.PipelineOptions,
    "environment": model.EnvironmentOptions,
}
_BY_TAG = re.compile(
    r"([A-Za-z0-9.-]+(:[0-9]+)?/)?[a-z0-9]+((\.|_{1,2}|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_{1,2}|-+)[a-z0-9]+)*)*"
    r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?",
    re.ASCII,
)
_BY_DIGEST = re.compile(r"([^\s@]+@)?sha256:[0-9a-f]{64}")


def explain(error: ValidationError, keys: Mapping[str, Any], provenance: Provenance) -> DescriptorValueError:
    """The first thing that pydantic found wrong, as our error."""
    problems = error.errors(include_url=False)
    # an unknown key is mostly a misspelt one: say so, not that the right spelling is missing
    problem = next((item for item in problems if item["type"] == "extra_forbidden"), problems[0])
    path = _path(problem["loc"])
    key = ".".join(path) or "descriptor"
    at = {"at": model.line_of(provenance, key)}
    expected, example = _expected(path)
    if problem["type"] == "extra_forbidden":
        return _unknown_key(path, keys, at)
    if problem["type"] == "missing":
        return DescriptorValueError(key, "is missing", facts=at | {"expected": expected}, remedy=example)
    got = _shown(problem["input"])
    reason = str(problem["ctx"]["error"]) if problem["type"] == "value_error" else f"cannot be {got}"
    return DescriptorValueError(key, reason, facts=at | {"got": got, "expected": expected}, remedy=example)


def check_supported(descriptor: SubsetDescriptor) -> None:
    """Refuse keys whose machinery is not in this release, and a descriptor of nothing.

    Raises:
        NotYetSupportedError: naming the key and what to write instead.
        DescriptorValueError: there is no `croissant`.
    """
    _check_top(descriptor)
    if descriptor.environment is not None:
        _check_environment(descriptor, descriptor.environment)


def _check_top(descriptor: SubsetDescriptor) -> None:
    if descriptor.croissant and descriptor.files:
        raise DescriptorValueError(
            "files",
            "is said beside croissant, and the data is described by one of them",
            facts={"at": descriptor.key_line("files"), "expected": "either croissant or files"},
            remedy="take out files, or croissant",
        )
    if not descriptor.croissant and not descriptor.files:
        expected, example = EXPECTED["croissant"]
        raise DescriptorValueError(
            "croissant",
            "is missing",
            facts={
                "at": descriptor.key_line("croissant"),
                "expected": f"{expected}; or files: {EXPECTED['files'][0]}",
            },
            remedy=example,
        )


def _check_environment(descriptor: SubsetDescriptor, environment: model.EnvironmentOptions) -> None:
    image = environment.image
    if image is None or _BY_DIGEST.fullmatch(image):
        return
    if not _BY_TAG.fullmatch(image) or image.startswith("sha256:"):
        expected, example = EXPECTED["environment.image"]
        raise DescriptorValueError(
            "environment.image",
            "is no name of an image",
            facts={"at": descriptor.key_line("environment.image"), "got": image, "expected": expected},
            remedy=example,
        )


def _path(location: tuple[int | str, ...]) -> tuple[str, ...]:
    """The user's path: `fields.options.image.decode` in the model is `fields.image.decode` in the descriptor."""
    parts = tuple(map(str, location))
    if parts[:1] == ("fields",) and parts[1:2] in (("options",), ("names",)):
        return (parts[0], *parts[2:])
    return parts


def _pattern(path: tuple[str, ...]) -> str:
    starred = (path[0], "*", *path[2:]) if len(path) > 1 and path[0] in ("splits", "fields") else path
    return ".".join(starred)


def _expected(path: tuple[str, ...]) -> tuple[str, str]:
    """What the key, or the nearest one above it, takes, and an example."""
    for end in range(len(path), 0, -1):
        found = EXPECTED.get(_pattern(path[:end]))
        if found is not None:
            return found
    return "a mapping of keys to values", "name: digits\ncroissant: croissant.json"


def _unknown_key(path: tuple[str, ...], keys: Mapping[str, Any], at: Mapping[str, str]) -> DescriptorValueError:
    owner = _KEYS.get(_pattern(path[:-1]), model.SubsetDescriptor)
    known = [info.alias or name for name, info in owner.model_fields.items()]
    guess = nearest(path[-1], known)
    value: Any = keys
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    remedy = f"{guess}: {_shown(value)}" if guess else f"use one of: {', '.join(known)}"
    return DescriptorValueError(
        ".".join(path), f"unknown key {path[-1]!r}", facts={**at, "expected": ", ".join(known)}, remedy=remedy
    )


def _shown(value: Any) -> str:
    """A value as YAML on one line, not too long."""
    try:
        text = value if isinstance(value, str) and re.fullmatch(r"\w[\w./ -]*", value) else json.dumps(value)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 100 else text[:100] + " …"

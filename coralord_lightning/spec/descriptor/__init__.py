"""The descriptor: what a user asks for, from YAML or a mapping, parsed once at the edge. Reads no file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coralord_lightning.spec.descriptor.model import (
    EnvironmentOptions,
    FieldChoice,
    FieldOptions,
    PipelineOptions,
    Provenance,
    SplitOptions,
    SubsetDescriptor,
)

__all__ = [
    "EnvironmentOptions",
    "FieldChoice",
    "FieldOptions",
    "PipelineOptions",
    "SplitOptions",
    "SubsetDescriptor",
    "descriptor_from_mapping",
    "key_line",
    "parse_descriptor",
]


def parse_descriptor(text: str, *, origin: str, base_dir: Path) -> SubsetDescriptor:
    """Read a descriptor from YAML, or from the Croissant JSON-LD that says the same.

    Args:
        origin: the file's name, for messages.
        base_dir: what relative paths in it start from.
    Raises:
        DescriptorSyntaxError: not YAML 1.2, a key said twice, a tag.
        DescriptorValueError: a key is unknown, missing or has a value of the wrong kind.
        NotYetSupportedError: a key whose machinery is not in this release.
    """
    from coralord_lightning.spec.descriptor.jsonld import is_json, read_jsonld
    from coralord_lightning.spec.descriptor.reader import read_yaml

    if is_json(text):
        return descriptor_from_mapping(read_jsonld(text, origin=origin), origin=origin, base_dir=base_dir)
    read = read_yaml(text, origin=origin)
    return SubsetDescriptor.load(read.values, Provenance(origin=origin, base_dir=base_dir, lines=read.lines))


def descriptor_from_mapping(value: Mapping[Any, Any], *, origin: str, base_dir: Path) -> SubsetDescriptor:
    """Read a descriptor from a mapping: a dict, or an OmegaConf `DictConfig`.

    Args:
        origin: what to call it in messages.
        base_dir: what relative paths in it start from.
    Raises:
        DescriptorSyntaxError: it is no mapping.
        DescriptorValueError: a key is unknown, missing or has a value of the wrong kind.
        NotYetSupportedError: a key whose machinery is not in this release.
    """
    from coralord_lightning.spec.descriptor.values import plain_values

    return SubsetDescriptor.load(plain_values(value, origin=origin), Provenance(origin=origin, base_dir=base_dir))


def key_line(descriptor: SubsetDescriptor, key: str) -> str:
    """Where a dotted key stands: `digits.yaml:7`; the nearest key above it, or the file, where it has no line."""
    return descriptor.key_line(key)

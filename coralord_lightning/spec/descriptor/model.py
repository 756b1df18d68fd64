"""The typed descriptor: what a user may ask for, key by key. Reads no file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from coralord_lightning.spec.descriptor.environment import EnvironmentOptions
from coralord_lightning.spec.descriptor.options import Options
from coralord_lightning.spec.descriptor.units import parse_size, relative_path

__all__ = [
    "EnvironmentOptions",
    "FieldChoice",
    "FieldOptions",
    "PipelineOptions",
    "SplitOptions",
    "SubsetDescriptor",
]

_NAME = re.compile(r"[a-z0-9-]+(/[a-z0-9-]+)?")
_SPLIT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_ENTRYPOINT = re.compile(r"(?P<file>[^:]+\.py):(?P<function>[^\W\d]\w*)")


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _without_repeats(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if names.count(name) > 1:
            message = f"{name!r} is said twice"
            raise ValueError(message)
    return names


Names = Annotated[tuple[str, ...], Field(strict=False)]


class FieldOptions(Options):
    """What to make of one field while building.

    Args:
        decode: an encoded picture or sound to a tensor.
        shape: of the tensor; -1 where it may differ from row to row.
        sample_rate: of sound, in Hz.
        encode: text to the number of its class; `encode: {category: [a, b]}` says `classes` too.
        classes: the texts that have a number, in the order of their numbers.
        fill: what stands for a null under `nulls: fill`.
    """

    decode: Literal["image", "audio"] | None = None
    shape: tuple[int, ...] | None = Field(default=None, strict=False, min_length=1, max_length=8)
    dtype: Literal["uint8", "uint16", "int32", "float32"] | None = None
    layout: Literal["HWC", "CHW"] | None = None
    sample_rate: int | None = Field(default=None, gt=0, lt=2**31)
    encode: Literal["category"] | None = None
    classes: tuple[str, ...] | None = Field(default=None, strict=False, min_length=1)
    nulls: Literal["error", "fill", "mask"] | None = None
    fill: bool | int | float | str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_user(cls, value: Any) -> Any:
        encode = value.get("encode") if isinstance(value, dict) else None
        if not isinstance(encode, dict):
            return value
        if encode.keys() != {"category"} or "classes" in value:
            message = "encode takes category alone, and classes are said once"
            raise ValueError(message)
        listed = encode["category"]
        return value | {"encode": "category"} | ({} if listed is None else {"classes": listed})

    @field_validator("classes")
    @classmethod
    def _check_classes(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if value is None else _without_repeats(value)

    @field_validator("fill")
    @classmethod
    def _check_fill(cls, value: Any) -> Any:
        _check_finite(value, "fill")
        return value


class FieldChoice(Options):
    """Which fields are handed out.

    Args:
        names: the fields asked for.
        ordered: True for a list, whose order is kept; a mapping means the order of the Croissant file.
        options: by field name.
    """

    names: tuple[str, ...]
    ordered: bool
    options: dict[str, FieldOptions] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_user(cls, value: Any) -> Any:
        if isinstance(value, FieldChoice):
            return value
        if isinstance(value, dict) and value:
            options = {name: {} if item is None else item for name, item in value.items()}
            return {"names": tuple(value), "ordered": False, "options": options}
        if isinstance(value, list) and value and all(isinstance(name, str) for name in value):
            return {"names": _without_repeats(tuple(value)), "ordered": True}
        message = "is neither a list of field names nor a mapping from names to options"
        raise ValueError(message)


class SplitOptions(Options):
    """Which rows one split takes: `where`, or `source`, or `from` with `fraction`; all of them without any."""

    where: str | None = None
    source: str | None = None
    group: str | None = Field(default=None, alias="from")
    fraction: float | None = Field(default=None, gt=0, le=1)
    group_by: Annotated[Names, BeforeValidator(_as_list)] = ()
    stratify_by: Annotated[Names, BeforeValidator(_as_list)] = ()

    @field_validator("group_by", "stratify_by", mode="before")
    @classmethod
    def _none_is_nothing(cls, value: Any) -> Any:
        return () if value is None else value

    @field_validator("group_by", "stratify_by")
    @classmethod
    def _check_repeats(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _without_repeats(value)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        ways = [name for name, value in (("where", self.where), ("source", self.source), ("from", self.group)) if value]
        if len(ways) > 1:
            message = f"says both {ways[0]} and {ways[1]}"
            raise ValueError(message)
        if self.fraction is not None and self.group is None:
            message = "has a fraction and does not say of what"
            raise ValueError(message)
        if (self.group_by or self.stratify_by) and self.group is None:
            message = f"has {'group_by' if self.group_by else 'stratify_by'} and no from to take a fraction of"
            raise ValueError(message)
        return self


class PipelineOptions(Options):
    """The user's code, and how it is called."""

    entrypoint: str
    per: Literal["batch", "partition", "dataset"] = "batch"
    params: dict[str, Any] = Field(default_factory=dict)
    files: Names = ()

    @field_validator("entrypoint")
    @classmethod
    def _check_entrypoint(cls, value: str) -> str:
        found = _ENTRYPOINT.fullmatch(value)
        if found is None:
            message = f"{value!r} is not `file.py:function`"
            raise ValueError(message)
        return f"{relative_path(found['file'])}:{found['function']}"

    @field_validator("files")
    @classmethod
    def _check_files(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _without_repeats(tuple(map(relative_path, value)))

    @field_validator("params")
    @classmethod
    def _check_params(cls, value: dict[str, Any]) -> dict[str, Any]:
        _check_finite(value, "params")
        return value

    @property
    def file(self) -> str:
        """The pipeline's file, relative to the descriptor's folder."""
        return self.entrypoint.partition(":")[0]

    @property
    def function(self) -> str:
        """The function in it."""
        return self.entrypoint.partition(":")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a descriptor was read, for messages and relative paths; never part of what it says."""

    origin: str = field(default="descriptor", compare=False)
    base_dir: Path = field(default=Path(), compare=False)
    lines: Mapping[str, int] = field(default_factory=dict, compare=False)


class SubsetDescriptor(Options):
    """What a run needs: a Croissant dataset, a subset of it, a pipeline and where that runs.

    Two descriptors that say the same are equal, wherever they were read.
    """

    name: str
    croissant: str | None = None
    files: Annotated[Names, BeforeValidator(_as_list)] = ()
    record_set: str | None = None
    fields: FieldChoice | None = None
    where: str | None = None
    order_by: Annotated[Names, BeforeValidator(_as_list)] = ()
    limit: int | None = Field(default=None, gt=0, lt=2**63)
    splits: dict[str, SplitOptions] | None = None
    split_key: Annotated[Names, BeforeValidator(_as_list)] = ()
    pipeline: PipelineOptions | None = None
    environment: EnvironmentOptions | None = None
    mapping: dict[str, str] = Field(default_factory=dict)
    max_fetch: Annotated[int, BeforeValidator(parse_size), Field(ge=0, le=2**60)] | None = None
    _provenance: Provenance = PrivateAttr(default_factory=Provenance)

    def __init__(self, /, **keys: Any) -> None:
        self._load(keys, Provenance())

    @classmethod
    def load(cls, keys: Mapping[str, Any], provenance: Provenance) -> SubsetDescriptor:
        """The descriptor with these keys, read there.

        Raises:
            DescriptorValueError: a key is unknown, missing or has a value of the wrong kind.
            NotYetSupportedError: a key whose machinery is not in this release.
        """
        self = cls.__new__(cls)
        self._load(keys, provenance)
        return self

    def _load(self, keys: Mapping[str, Any], provenance: Provenance) -> None:
        from coralord_lightning.spec.descriptor.problems import check_supported, explain

        try:
            super().__init__(**keys)
        except ValidationError as error:
            raise explain(error, keys, provenance) from None
        self._provenance = provenance
        check_supported(self)

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if len(value) > 100 or _NAME.fullmatch(value) is None:
            message = f"{value!r} has other characters than lower-case letters, digits and -"
            raise ValueError(message)
        return value

    @field_validator("files", "order_by", "split_key", mode="before")
    @classmethod
    def _none_is_nothing(cls, value: Any) -> Any:
        return () if value is None else value

    @field_validator("mapping", mode="before")
    @classmethod
    def _no_mapping_is_an_empty_one(cls, value: Any) -> Any:
        return {} if value is None else value

    @field_validator("files")
    @classmethod
    def _check_files(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _without_repeats(tuple(map(relative_path, value)))

    @field_validator("mapping")
    @classmethod
    def _check_mapping(cls, value: dict[str, str]) -> dict[str, str]:
        for name, path in value.items():
            if not name or not path or "\0" in path or "://" in path:
                message = f"maps {name!r} to {path!r}, which is no path on this machine"
                raise ValueError(message)
        return value

    @field_validator("order_by", "split_key")
    @classmethod
    def _check_repeats(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _without_repeats(value)

    @field_validator("splits", mode="before")
    @classmethod
    def _check_splits(cls, value: Any) -> Any:
        if value is None:
            return None
        if not isinstance(value, dict) or not value:
            message = "is no mapping from split names to what they take"
            raise ValueError(message)
        for name in value:
            if not _SPLIT_NAME.fullmatch(name):
                message = f"{name!r} is no name for a split: letters, digits, _ . and - are"
                raise ValueError(message)
        return {name: {} if options is None else options for name, options in value.items()}

    @property
    def origin(self) -> str:
        """The file it was read from, or a word for a value."""
        return self._provenance.origin

    @property
    def base_dir(self) -> Path:
        """What its relative paths start from."""
        return self._provenance.base_dir

    @property
    def mapped(self) -> dict[str, Path]:
        """Where `mapping` reads FileObjects from, by @id: absolute where it is, else beneath `base_dir`."""
        return {name: self.base_dir / Path(path).expanduser() for name, path in self.mapping.items()}

    def at(self, base_dir: Path) -> SubsetDescriptor:
        """The same descriptor with other relative paths."""
        copy = self.model_copy()
        moved = Provenance(origin=self.origin, base_dir=base_dir, lines=self._provenance.lines)
        copy._provenance = moved  # noqa: SLF001  # our own class
        return copy

    def key_line(self, key: str) -> str:
        """Where a dotted key stands, `digits.yaml:7`; the nearest key above it, or the file, where it has no line."""
        return line_of(self._provenance, key)


def line_of(provenance: Provenance, key: str) -> str:
    """`origin:line` of a dotted key, of the nearest key above it, or the origin alone."""
    while key:
        if key in provenance.lines:
            return f"{provenance.origin}:{provenance.lines[key]}"
        key = key.rpartition(".")[0]
    return provenance.origin


def _check_finite(value: Any, path: str) -> None:
    if isinstance(value, float) and not isfinite(value):
        message = f"{path} is {value}, which JSON cannot hold"
        raise ValueError(message)
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        _check_finite(item, f"{path}.{key}")

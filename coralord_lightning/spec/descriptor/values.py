"""A mapping handed in from Python, or an OmegaConf configuration, to the plain values that YAML would give. Pure."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

from coralord_lightning.errors import DescriptorSyntaxError, DescriptorValueError
from coralord_lightning.spec.descriptor.reader import MAX_DEPTH, is_storable

__all__ = ["plain_values", "resolved"]


def plain_values(value: object, *, origin: str) -> dict[str, Any]:
    """Plain values, whatever the mapping's type.

    Args:
        value: a mapping with text keys; `DictConfig` is resolved first.
        origin: what to call it in messages.
    Raises:
        DescriptorValueError: a value is none that YAML or JSON can hold.
    """
    value = resolved(value, origin)
    if not isinstance(value, Mapping):
        raise DescriptorSyntaxError(
            origin,
            "is no mapping of keys to values",
            facts={"got": type(value).__name__},
            remedy='{"name": "digits", "croissant": "croissant.json"}',
        )
    return {key: _plain(item, (key,), origin) for key, item in _items(value, (), origin)}


def resolved(value: object, origin: str) -> object:
    """An OmegaConf configuration as plain containers; anything else as it is.

    Raises:
        DescriptorValueError: it has an interpolation or a missing value that cannot be resolved.
    """
    # only who made a DictConfig has OmegaConf: nobody else pays for the import
    if not type(value).__module__.startswith("omegaconf."):
        return value
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise DescriptorValueError(
            origin,
            "cannot be resolved",
            facts={"got": str(error).splitlines()[0]},
            remedy="give every ${…} and ??? of the configuration a value",
        ) from error


def _items(value: Mapping[Any, Any], path: tuple[str, ...], origin: str) -> list[tuple[str, Any]]:
    for key in value:
        if not isinstance(key, str):
            raise DescriptorValueError(
                ".".join(path) or origin,
                "has a key that is no text",
                facts={"at": origin, "got": repr(key)},
                remedy=f'write the key as "{key}"',
            )
    return list(value.items())


def _plain(value: object, path: tuple[str, ...], origin: str) -> Any:
    value = resolved(value, origin)
    if len(path) > MAX_DEPTH:
        raise DescriptorSyntaxError(
            origin, f"nests deeper than {MAX_DEPTH}", facts={"at": ".".join(path[:3]) + "…"}, remedy="write it flatter"
        )
    if isinstance(value, Mapping):
        return {key: _plain(item, (*path, key), origin) for key, item in _items(value, path, origin)}
    if isinstance(value, list | tuple):
        return [_plain(item, (*path, str(index)), origin) for index, item in enumerate(value)]
    if isinstance(value, os.PathLike) and path[0] in ("croissant", "files", "mapping"):
        return os.fspath(value)
    # exactly these types: a subclass (an enum, a numpy scalar) may print as something else
    if value is None or type(value) in (bool, int) or (type(value) is float and math.isfinite(value)):
        return value
    if type(value) is str and is_storable(value):
        return value
    raise DescriptorValueError(
        ".".join(path),
        "has a value that YAML and JSON cannot hold",
        facts={
            "at": origin,
            "got": f"{value!r} ({type(value).__name__})",
            "expected": "text, number, true, false, null",
        },
        remedy=f'{path[-1]}: "{value}"',
    )

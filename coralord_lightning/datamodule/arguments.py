"""Owns what the arguments of `CoralDataModule` may be, and which of them a checkpoint keeps. Pure."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from coralord_lightning.errors import NotYetSupportedError, UsageError, nearest
from coralord_lightning.spec.descriptor import SubsetDescriptor
from coralord_lightning.spec.descriptor.values import resolved

__all__ = ["Transform", "hyperparameters", "plain_arguments", "rows_per_rank", "transforms_by_split"]

Transform = Callable[[Any], Any]

_SPLITS = ("train", "val", "test", "predict")


def plain_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments, with OmegaConf's containers made plain ones; Hydra hands those in.

    Raises:
        DescriptorValueError: a configuration cannot be resolved.
        NotYetSupportedError: an argument is set whose machinery is not in this release.
    """
    if given["checkpoint_code"] is not None:
        raise NotYetSupportedError(
            "checkpoint_code",
            "is documented, but not in this release yet",
            facts={"got": repr(given["checkpoint_code"])},
            remedy="leave checkpoint_code= out",
        )
    plain = {name: _without_omegaconf(value, name) for name, value in given.items()}
    for name in ("descriptor", "val", "test", "predict"):
        if plain[name] is not given[name]:
            plain[name] = _without_nulls(plain[name])
    return plain


def _without_nulls(descriptor: Any) -> Any:
    """A descriptor that says only what was said: a typed configuration has null for every key that was not."""
    if not isinstance(descriptor, Mapping):
        return descriptor
    said = {key: value for key, value in descriptor.items() if value is not None}
    if isinstance(said.get("splits"), Mapping):
        said["splits"] = {name: _without_nulls(options) for name, options in said["splits"].items()}
    return said


def _without_omegaconf(value: Any, name: str) -> Any:
    value = resolved(value, name)
    if isinstance(value, Mapping):
        return {key: _without_omegaconf(item, name) for key, item in value.items()}
    return value


def transforms_by_split(transform: Transform | Mapping[str, Transform] | None) -> dict[str, Transform]:
    """Give each split its transform.

    Raises:
        UsageError: a key is none of train, val, test, predict.
    """
    if transform is None:
        return {}
    if not isinstance(transform, Mapping):
        return dict.fromkeys(_SPLITS, transform)
    for name in transform:
        if name not in _SPLITS:
            near = nearest(name, _SPLITS)
            raise UsageError(
                f"transform.{name}",
                "is no part of a run",
                facts={"parts": ", ".join(_SPLITS)},
                remedy=f"write '{near}'" if near else "name one of these parts",
            )
    return dict(transform)


def rows_per_rank(batch_size: int | None, global_batch_size: int | None, world_size: int) -> int:
    """Rows in a training batch of one rank.

    Raises:
        UsageError: not exactly one of the two is given, or the global batch cannot be shared equally.
    """
    given: list[Any] = [size for size in (batch_size, global_batch_size) if size is not None]
    if len(given) != 1:
        raise UsageError(
            "batch_size",
            "give either batch_size (rows of one rank) or global_batch_size (rows of all ranks)",
            facts={"got": f"batch_size={batch_size}, global_batch_size={global_batch_size}"},
            remedy="batch_size=256",
        )
    size = given[0]
    if batch_size is not None:
        return batch_size
    if not isinstance(size, int) or size < 1:
        raise UsageError(
            "global_batch_size",
            "has a value that no loader can use",
            facts={"got": repr(size)},
            remedy="global_batch_size=256",
        )
    share, rest = divmod(size, world_size)
    if rest:
        raise UsageError(
            "global_batch_size",
            "is no multiple of the number of processes",
            facts={"got": size, "processes": world_size},
            remedy=f"global_batch_size={max(share, 1) * world_size}",
        )
    return share


def hyperparameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that are plain values, so that `load_from_checkpoint` works and no class is pickled.

    Pins are left out: the state beside them names the versions of the run, by fingerprint and for every role.
    """
    plain = {name: value for name, value in given.items() if name != "pin"}
    if isinstance(given["descriptor"], SubsetDescriptor):
        plain["base_dir"] = given["base_dir"] or given["descriptor"].base_dir
    for name in ("descriptor", "val", "test", "predict"):
        plain[name] = _as_mapping(plain[name], with_base=name != "descriptor")
    if isinstance(given["mixture"], Mapping):
        plain["mixture"] = {name: _source(value) for name, value in given["mixture"].items()}
    return {name: _plain(value) for name, value in plain.items() if _is_plain(value) and value is not None}


def _source(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _as_mapping(item) if key == "descriptor" else item for key, item in value.items() if key != "pin"}


def _as_mapping(descriptor: Any, *, with_base: bool = True) -> Any:
    if not isinstance(descriptor, SubsetDescriptor):
        return descriptor
    dumped = descriptor.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return dumped | ({"base_dir": os.fspath(descriptor.base_dir)} if with_base else {})


def _is_plain(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str | Path)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return os.fspath(value) if isinstance(value, Path) else value

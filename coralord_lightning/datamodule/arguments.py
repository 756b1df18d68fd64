"""Owns what the arguments of `CoralDataModule` may be, and which of them a checkpoint keeps. Pure."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from coralord_lightning.errors import NotYetSupportedError, UsageError, nearest
from coralord_lightning.spec.descriptor import SubsetDescriptor

__all__ = ["Transform", "hyperparameters", "require_supported", "transforms_by_split"]

Transform = Callable[[Any], Any]

_SPLITS = ("train", "val", "test", "predict")
_LATER = (
    "collate", "val", "test", "predict", "mixture", "weights", "stopping", "epoch_size", "skip", "resume_batch",
    "checkpoint_code",
)  # fmt: skip


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


def require_supported(given: Mapping[str, Any]) -> None:
    """Refuse arguments of the public surface that later releases bring.

    Raises:
        NotYetSupportedError: one of them is set.
    """
    for name in _LATER:
        if given[name] is not None:
            raise _not_yet(name, given[name], f"leave {name}= out")
    if given["lanes"] != 1:
        raise _not_yet("lanes", given["lanes"], "lanes=1")


def _not_yet(name: str, value: object, remedy: str) -> NotYetSupportedError:
    return NotYetSupportedError(
        name, "is documented, but not in this release yet", facts={"got": repr(value)}, remedy=remedy
    )


def hyperparameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that are plain values, so that `load_from_checkpoint` works and no class is pickled."""
    descriptor = given["descriptor"]
    plain = dict(given)
    if isinstance(descriptor, SubsetDescriptor):
        plain["descriptor"] = descriptor.model_dump(mode="json", by_alias=True, exclude_unset=True)
        plain["base_dir"] = given["base_dir"] or descriptor.base_dir
    elif type(descriptor).__name__ == "DictConfig":
        from omegaconf import OmegaConf

        plain["descriptor"] = OmegaConf.to_container(descriptor, resolve=True)
    return {name: _plain(value) for name, value in plain.items() if _is_plain(value) and value is not None}


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

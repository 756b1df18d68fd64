"""Owns what Hydra knows of us: typed schemas of data module and descriptor, and two resolvers. Composes nothing.

A key that none of them has is an error when a configuration is composed, and the error names the keys. Hydra and
OmegaConf are imported here and in `hydra_plugins`, and nowhere else before a `DictConfig` is handed in.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from coralord_lightning.errors import UsageError, nearest

__all__ = ["CoralDataModuleSchema", "SubsetSchema", "base_dir", "register", "shipped"]

_PACKAGE = Path(__file__).resolve().parent.parent
_SHIPPED = ("digits",)

_S = TypeVar("_S")


def _naming_keys(cls: type[_S]) -> type[_S]:
    """Give a schema a name that lists its keys: OmegaConf says "Key 'wher' not in '<name>'", and nothing else."""
    known = ", ".join(item.name for item in fields(cls) if not item.name.startswith("_"))  # type: ignore[arg-type]
    cls.__name__ = f"{cls.__name__.removesuffix('Schema')} (keys: {known})"  # pickles go by __qualname__
    return cls


def _split_schema() -> type[Any]:
    """Make the schema of a split by hand: `from`, one of its keys, is a word of Python's own."""
    kinds: dict[str, Any] = {
        "where": str | None,
        "source": str | None,
        "from": str | None,
        "fraction": float | None,
        "group_by": Any,
        "stratify_by": Any,
    }
    body = {
        "__annotations__": kinds,
        "__module__": __name__,
        "__doc__": "Which rows a split takes.",
        **dict.fromkeys(kinds),
    }
    return dataclass(init=False, repr=False, eq=False)(type("SplitSchema", (), body))


SplitSchema = _naming_keys(_split_schema())
"""Which rows a split takes."""


@_naming_keys
@dataclass
class PipelineSchema:
    """The user's code, and how it is called."""

    entrypoint: str = "???"
    per: str = "batch"
    params: dict[str, Any] = field(default_factory=dict)
    files: Any = None


@_naming_keys
@dataclass
class SubsetSchema:
    """A descriptor, and the folder that its relative paths start from."""

    name: str = "???"
    croissant: str | None = None
    files: Any = None
    record_set: str | None = None
    fields: Any = None
    where: str | None = None
    order_by: Any = None
    limit: int | None = None
    splits: dict[str, SplitSchema | None] | None = None  # type: ignore[valid-type]  # a class made by hand
    split_key: Any = None
    pipeline: PipelineSchema | None = None
    environment: Any = None
    mapping: dict[str, str] | None = None
    max_fetch: Any = None
    base_dir: str | None = None


@_naming_keys
@dataclass
class CoralDataModuleSchema:
    """The arguments of `CoralDataModule`."""

    _target_: str = "coralord_lightning.CoralDataModule"
    descriptor: Any = None
    batch_size: int | None = None
    global_batch_size: int | None = None
    eval_batch_size: int | None = None
    shuffle: Any = True
    seed: int = 0
    num_workers: int = 0
    drop_last: bool = False
    pin_memory: bool = False
    transform: Any = None
    collate: Any = None
    batch_as: list[str] | None = None
    val: Any = None
    test: Any = None
    predict: Any = None
    mixture: dict[str, Any] | None = None
    weights: str | None = None
    stopping: str | None = None
    epoch_size: int | None = None
    verify: str = "stat"
    lanes: int = 1
    skip: Any = None
    resume_batch: str | None = None
    checkpoint_code: bool | None = None
    base_dir: str | None = None
    home: str | None = None
    pin: str | None = None
    update: str | None = None
    build: bool = True


def shipped(name: str) -> str:
    """The folder of data that come with the package, absolute.

    Raises:
        UsageError: no such data come with it.
    """
    for folder in (_PACKAGE / "shipped" / name, _PACKAGE.parent / "examples" / name):
        if name in _SHIPPED and (folder / "croissant.json").is_file():
            return str(folder)
    near = nearest(name, _SHIPPED)
    raise UsageError(
        f"coralord.shipped:{name}",
        "names no data that come with the package",
        facts={"shipped": ", ".join(_SHIPPED)},
        remedy=f"${{coralord.shipped:{near or _SHIPPED[0]}}}",
    )


def base_dir(path: str = "") -> str:
    """A path from the folder where the program was started, absolute; also where Hydra has left that folder since."""
    from hydra.core.hydra_config import HydraConfig

    start = HydraConfig.get().runtime.cwd if HydraConfig.initialized() else Path.cwd()
    return os.fspath(Path(start, Path(path).expanduser()).absolute())


def register() -> None:
    """Put the schemas into Hydra's ConfigStore and the resolvers into OmegaConf; a second time changes nothing."""
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    store = ConfigStore.instance()
    store.store(group="subset", name="schema", node=SubsetSchema, provider="coralord-lightning")
    store.store(group="data/coralord", name="schema", node=CoralDataModuleSchema, provider="coralord-lightning")
    OmegaConf.register_new_resolver("coralord.shipped", shipped, replace=True)
    OmegaConf.register_new_resolver("coralord.base_dir", base_dir, replace=True)

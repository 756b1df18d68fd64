"""Owns which data a run asks for, and in which role: the arguments that name data, parsed once. Pure."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from coralord_lightning.errors import UsageError, nearest
from coralord_lightning.spec.descriptor import SubsetDescriptor
from coralord_lightning.stream.feed import require_weight
from coralord_lightning.stream.mixing import MAX_SOURCES, Stopping

__all__ = ["EVAL_PARTS", "MAIN", "Asked", "DescriptorLike", "MixtureSource", "PathLike", "Roles", "roles_of"]

PathLike = str | os.PathLike[str]

if TYPE_CHECKING:
    DescriptorLike = str | os.PathLike[str] | Mapping[str, Any] | SubsetDescriptor
else:
    # What LightningCLI reads at run time: with a class in the union it would read a descriptor's file itself and hand
    # its keys on without the folder that they start from, and with PathLike it would make a text of a mapping.
    DescriptorLike = Mapping[str, Any] | str

MAIN = "main"
"""The role of the data that `descriptor` names."""

EVAL_PARTS = ("val", "test", "predict")

_SOURCE_KEYS = ("weight", "descriptor", "split", "pin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Data that a run asks for.

    Args:
        base_dir: what relative paths in a mapping are relative to.
        pin: this version and no other.
    """

    descriptor: DescriptorLike | None
    base_dir: PathLike | None = None
    pin: PathLike | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtureSource:
    """A source that training rows are drawn from.

    Args:
        split: None: "train", or the only one.
    """

    name: str
    weight: float
    split: str | None = None

    @property
    def role(self) -> str:
        """The role of its data."""
        return f"mixture.{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """All data that a run asks for.

    Args:
        asked: role -> data: "main", "val", "test", "predict", "mixture.<name>"; the first one is the run's `version`.
        mixture: what training draws from; empty: the main data's split `train`.
        stopping: when an epoch of the mixture ends.
        pin: the run's own: of the main data, or a checkpoint, which pins every role that it knows.
    """

    asked: Mapping[str, Asked]
    mixture: tuple[MixtureSource, ...] = field(default=())
    stopping: Stopping = "first"
    pin: PathLike | None = None


def roles_of(given: Mapping[str, Any]) -> Roles:
    """Parse the arguments of a data module that name data.

    Raises:
        UsageError: no data are named, a mixture is none, or an argument needs another one that is not given.
    """
    descriptor, mixture, pin = given["descriptor"], given["mixture"], given["pin"]
    if descriptor is None and mixture is None and pin is None:
        raise UsageError("descriptor", "names no data", remedy='CoralDataModule("digits.yaml", batch_size=256)')
    asked: dict[str, Asked] = {}
    if descriptor is not None or mixture is None:
        asked[MAIN] = _main(descriptor, given["base_dir"])
    sources = _sources(mixture, given["base_dir"])
    asked |= {source.role: data for source, data in sources}
    asked |= {part: _asked(given[part], given["base_dir"]) for part in EVAL_PARTS if given[part] is not None}
    _require_partners(given)
    return Roles(
        asked=asked, mixture=tuple(source for source, _ in sources), stopping=given["stopping"] or "first", pin=pin
    )


def _main(descriptor: Any, base_dir: PathLike | None) -> Asked:
    if isinstance(descriptor, SubsetDescriptor):
        return Asked(descriptor=descriptor, base_dir=base_dir)
    return _asked(descriptor, base_dir)


def _asked(descriptor: Any, base_dir: PathLike | None, pin: PathLike | None = None) -> Asked:
    if isinstance(descriptor, Mapping) and "base_dir" in descriptor:  # where several are given, each may say its own
        rest = {key: value for key, value in descriptor.items() if key != "base_dir"}
        own = descriptor["base_dir"]
        return Asked(descriptor=rest, base_dir=base_dir if own is None else own, pin=pin)
    return Asked(
        descriptor=descriptor, base_dir=None if isinstance(descriptor, SubsetDescriptor) else base_dir, pin=pin
    )


def _sources(mixture: Any, base_dir: PathLike | None) -> list[tuple[MixtureSource, Asked]]:
    if mixture is None:
        return []
    if not isinstance(mixture, Mapping):
        raise _no_mixture("mixture", mixture)
    if not 1 <= len(mixture) <= MAX_SOURCES:
        raise UsageError("mixture", f"has {len(mixture)} sources", remedy=f"name 1 to {MAX_SOURCES} sources")
    return [_source(name, value, base_dir) for name, value in mixture.items()]


def _source(name: Any, value: Any, base_dir: PathLike | None) -> tuple[MixtureSource, Asked]:
    if not isinstance(name, str) or not name:
        raise _no_mixture("mixture", name)
    if not isinstance(value, Mapping):
        raise _no_mixture(f"mixture.{name}", value)
    for key in value:
        if key not in _SOURCE_KEYS:
            near = nearest(str(key), _SOURCE_KEYS)
            raise UsageError(
                f"mixture.{name}.{key}",
                "is no key of a mixture's source",
                facts={"keys": ", ".join(_SOURCE_KEYS)},
                remedy=f"write '{near}'" if near else "use one of these keys",
            )
    weight: Any = value.get("weight")
    split = value.get("split")
    require_weight(name, weight)
    if split is not None and not isinstance(split, str):
        raise UsageError(f"mixture.{name}.split", "is no name", facts={"got": repr(split)}, remedy="split: train")
    source = MixtureSource(name=name, weight=weight, split=split)
    descriptor = value.get("descriptor")
    return source, _asked(name if descriptor is None else descriptor, base_dir, value.get("pin"))


def _no_mixture(subject: str, got: object) -> UsageError:
    return UsageError(
        subject,
        "must name each source, with its weight",
        facts={"got": repr(got)},
        remedy='mixture={"digits.yaml": {"weight": 0.7}, "letters.yaml": {"weight": 0.3}}',
    )


def _require_partners(given: Mapping[str, Any]) -> None:
    """Refuse an argument that means nothing without, or beside, another one."""
    mixture, draws = given["mixture"], given["mixture"] is not None or given["weights"] is not None
    if given["stopping"] not in (None, "first", "all"):
        raise _usage("stopping", given["stopping"], "says when an epoch ends", 'stopping="first"     # or "all"')
    if given["stopping"] is not None and mixture is None:
        raise _usage("stopping", given["stopping"], "is of a mixture, and none is given", "leave stopping= out")
    if given["stopping"] is not None and given["epoch_size"] is not None:
        raise _usage(
            "stopping", given["stopping"], "and epoch_size both say when an epoch ends", "leave one of them out"
        )
    if given["epoch_size"] is not None and not draws:
        raise _usage(
            "epoch_size",
            given["epoch_size"],
            "counts the rows that a mixture or weights draw, and neither is given",
            "Trainer(limit_train_batches=…), or give mixture= or weights=",
        )
    if mixture is not None and given["weights"] is not None:
        raise _usage(
            "weights", given["weights"], "do not go with a mixture, whose sources have weights", "weights=None"
        )
    if mixture is not None and given["lanes"] != 1:
        raise _usage("lanes", given["lanes"], "do not go with a mixture", "lanes=1")


def _usage(name: str, got: object, message: str, remedy: str) -> UsageError:
    return UsageError(name, message, facts={"got": repr(got)}, remedy=remedy)

"""Statistics of one field in one split: how they are kept, merged and told. Pure numbers; reads no row.

A `Tally` is what partitions keep: it can be merged, and whole numbers are exact. `FieldStatistics` is what a version
tells of all partitions together. `count` counts values that are not null, NaN and infinite ones among them; `min`,
`max`, `mean` and `std` are of the finite ones. `std` is that of a population (divided by the count). Of tensors and
lists, all elements count.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["MAX_DISTINCT", "MAX_TEXT", "FieldStatistics", "Kind", "Tally", "Value", "merge_tallies"]

Json = Any
Kind = Literal["bool", "int", "float", "text", "other"]
Value = bool | int | float | str

MAX_DISTINCT = 64
"""So many different values are counted one by one; of more, none are."""
MAX_TEXT = 64
"""Characters of a text that is counted as a value."""

_EXACT_JSON = 2**53 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldStatistics:
    """One field in one split.

    Args:
        count: values that are not null.
        nulls: null values, and null elements inside those that are not.
        nan, inf: how many values are not a number, or infinite with either sign.
        min, max, mean, std: of finite numbers; None where there are none, or where they overflow a double.
        distinct: value -> how often, in the order of the values; None where there are too many, or of floats.
    """

    kind: Kind
    count: int
    nulls: int = 0
    nan: int = 0
    inf: int = 0
    min: int | float | None = None
    max: int | float | None = None
    mean: float | None = None
    std: float | None = None
    distinct: Mapping[Value, int] | None = None

    def to_json(self) -> Json:
        """As JSON values; what is absent is left out."""
        out: dict[str, Json] = {"kind": self.kind, "count": self.count, "nulls": self.nulls}
        out |= {name: value for name, value in (("nan", self.nan), ("inf", self.inf)) if value}
        numbers = {"min": self.min, "max": self.max, "mean": self.mean, "std": self.std}
        out |= {name: _to_json(value) for name, value in numbers.items() if value is not None}
        return out if self.distinct is None else out | {"distinct": _pairs(self.distinct)}

    @classmethod
    def from_json(cls, value: Json) -> FieldStatistics:
        kind: Kind = value["kind"]
        ends: dict[str, Any] = {name: _number(kind, value[name]) for name in ("min", "max") if name in value}
        means: dict[str, Any] = {name: float(value[name]) for name in ("mean", "std") if name in value}
        counts: dict[str, Any] = {name: int(value.get(name, 0)) for name in ("count", "nulls", "nan", "inf")}
        return cls(kind=kind, distinct=_distinct(kind, value.get("distinct")), **counts, **ends, **means)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What has been counted so far; see `FieldStatistics` for what is not said here.

    Args:
        total, squares: of whole numbers and booleans: their sum, and that of their squares, exact.
        mean, m2: of finite floats: their mean, and the sum of squared distances from it; not finite where it overflows.
    """

    kind: Kind
    count: int = 0
    nulls: int = 0
    nan: int = 0
    inf: int = 0
    min: int | float | None = None
    max: int | float | None = None
    total: int = 0
    squares: int = 0
    mean: float = 0.0
    m2: float = 0.0
    distinct: Mapping[Value, int] | None = field(default_factory=dict)

    @property
    def finite(self) -> int:
        """Values that are numbers."""
        return self.count - self.nan - self.inf

    def merged(self, other: Tally) -> Tally:
        """Both together."""
        mean, m2 = _merged_moments(self, other)
        return Tally(
            kind=self.kind,
            count=self.count + other.count,
            nulls=self.nulls + other.nulls,
            nan=self.nan + other.nan,
            inf=self.inf + other.inf,
            min=min((end for end in (self.min, other.min) if end is not None), default=None),
            max=max((end for end in (self.max, other.max) if end is not None), default=None),
            total=self.total + other.total,
            squares=self.squares + other.squares,
            mean=mean,
            m2=m2,
            distinct=_merged_distinct(self.distinct, other.distinct),
        )

    def statistics(self) -> FieldStatistics:
        """What it comes to."""
        mean, std = self._mean_and_std()
        return FieldStatistics(
            kind=self.kind, count=self.count, nulls=self.nulls, nan=self.nan, inf=self.inf, min=self.min, max=self.max,
            mean=mean, std=std, distinct=None if self.distinct is None else dict(sorted(self.distinct.items())),
        )  # fmt: skip

    def _mean_and_std(self) -> tuple[float | None, float | None]:
        number = self.finite
        if not number or self.kind not in ("bool", "int", "float"):
            return None, None
        if self.kind == "float":
            std = math.sqrt(self.m2 / number) if math.isfinite(self.m2) else None
            return self.mean if math.isfinite(self.mean) else None, std
        return self.total / number, math.sqrt((number * self.squares - self.total**2) / number**2)

    def to_json(self) -> Json:
        """As JSON values, exact; what is nothing is left out."""
        numbers = {name: getattr(self, name) for name in ("count", "nulls", "nan", "inf", "total", "squares")}
        out: dict[str, Json] = {
            "kind": self.kind,
            **{name: _to_json(value) for name, value in numbers.items() if value},
        }
        out |= {name: _to_json(end) for name, end in (("min", self.min), ("max", self.max)) if end is not None}
        if self.kind == "float":
            out |= {"mean": repr(self.mean), "m2": repr(self.m2)}
        return out if self.distinct is None else out | {"distinct": _pairs(self.distinct)}

    @classmethod
    def from_json(cls, value: Json) -> Tally:
        kind: Kind = value["kind"]
        counts: dict[str, Any] = {
            name: int(value.get(name, 0)) for name in ("count", "nulls", "nan", "inf", "total", "squares")
        }
        ends: dict[str, Any] = {name: _number(kind, value[name]) for name in ("min", "max") if name in value}
        moments: dict[str, Any] = {name: float(value.get(name, 0)) for name in ("mean", "m2")}
        return cls(kind=kind, distinct=_distinct(kind, value.get("distinct")), **counts, **ends, **moments)


def merge_tallies(parts: Iterable[Mapping[str, Tally]]) -> dict[str, Tally]:
    """By field, the tallies of several parts together, in their order."""
    merged: dict[str, Tally] = {}
    for part in parts:
        for name, tally in part.items():
            merged[name] = merged[name].merged(tally) if name in merged else tally
    return merged


def _merged_moments(one: Tally, other: Tally) -> tuple[float, float]:
    """Mean and squared distances of both, after Chan, Golub and LeVeque (1979)."""
    if not one.finite or not other.finite:
        known = one if one.finite else other
        return known.mean, known.m2
    number = one.finite + other.finite
    delta = other.mean - one.mean
    mean = one.mean + delta * (other.finite / number)
    return mean, one.m2 + other.m2 + delta * delta * (one.finite / number * other.finite)


def _merged_distinct(one: Mapping[Value, int] | None, other: Mapping[Value, int] | None) -> dict[Value, int] | None:
    if one is None or other is None:
        return None
    merged = {value: one.get(value, 0) + other.get(value, 0) for value in {**one, **other}}
    return merged if len(merged) <= MAX_DISTINCT else None


def _pairs(distinct: Mapping[Value, int]) -> Json:
    return [[_to_json(value), count] for value, count in sorted(distinct.items())]


def _distinct(kind: Kind, pairs: Json) -> dict[Value, int] | None:
    if pairs is None:
        return None
    return {value if kind in ("bool", "text") else int(value): int(count) for value, count in pairs}


def _to_json(value: Value) -> Json:
    """A value that RFC 8785 can write; numbers that it cannot as text."""
    if isinstance(value, bool | str):
        return value
    return value if abs(value) <= _EXACT_JSON else repr(value)


def _number(kind: Kind, value: Json) -> int | float:
    return float(value) if kind == "float" else int(value)

"""Counts what passes: the statistics of every column, batch by batch, vectorised. Keeps no row.

Whole numbers are summed exactly, whatever their width. A field's different values are counted while they are few.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from coralord_lightning.builder.buffers import numbers, validity
from coralord_lightning.spec.manifest import Column
from coralord_lightning.spec.statistics import MAX_DISTINCT, MAX_TEXT, Kind, Tally, Value

__all__ = ["Meter"]

Values = npt.NDArray[Any]

_SAMPLE = 4096
_CHUNK = 1 << 18
_BYTES_CHUNK = 1 << 17
_ROW = 256
"""So many squares of bytes add up exactly in a float32."""
_DENSE = 1 << 16
_LIMB = 21


class Meter:
    """Takes batches, tells tallies.

    Args:
        columns: canonical, of all batches.
    """

    def __init__(self, columns: Iterable[Column]) -> None:
        kinds = {column.name: _kind(column) for column in columns}
        self._tallies = {name: _nothing(kind) for name, kind in kinds.items()}

    def update(self, batch: pa.RecordBatch) -> None:
        """Count a batch of canonical columns."""
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            known = self._tallies[name]
            values, nulls = _elements(column)
            self._tallies[name] = known.merged(_tally(values, nulls, known))

    def finish(self) -> dict[str, Tally]:
        """What has been counted, by column."""
        return dict(self._tallies)


def _nothing(kind: Kind) -> Tally:
    return Tally(kind=kind, distinct=None if kind in ("float", "other") else {})


def _kind(column: Column) -> Kind:
    kind = column.type
    while kind.startswith("list<item: ") and kind.endswith(">"):
        kind = kind.removeprefix("list<item: ")[:-1]
    names: dict[str, Kind] = {
        "halffloat": "float",
        "float": "float",
        "double": "float",
        "string": "text",
        "bool": "bool",
    }
    return "int" if kind.removeprefix("u") in ("int8", "int16", "int32", "int64") else names.get(kind, "other")


def _elements(column: Any) -> tuple[Any, int]:
    """What lies in all lists of a column, without what lies beneath null lists; and how many nulls there are."""
    nulls = column.null_count
    while pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
        kind = column.type
        if pa.types.is_fixed_size_list(kind) and not column.null_count:
            column = column.values.slice(column.offset * kind.list_size, len(column) * kind.list_size)
        else:
            column = column.flatten()
        nulls += column.null_count
    return column, nulls


def _tally(values: Any, nulls: int, known: Tally) -> Tally:
    """One batch's elements; which values there are is only looked at while `known` still counts them."""
    track = known.distinct is not None
    count = len(values) - values.null_count
    if known.kind == "other" or not count:
        return replace(_nothing(known.kind), count=count, nulls=nulls)
    if known.kind == "text":
        return Tally(kind="text", count=count, nulls=nulls, distinct=_text_counts(values) if track else None)
    if known.kind == "bool":
        true = int(values.true_count)
        found: dict[Value, int] = {value: number for value, number in ((False, count - true), (True, true)) if number}
        return Tally(
            kind="bool", count=count, nulls=nulls, min=int(true == count), max=int(true > 0), total=true, squares=true,
            distinct=found,
        )  # fmt: skip
    plain = numbers(values)
    if values.null_count:
        plain = plain[validity(values)]
    tally = _floats(plain) if known.kind == "float" else _integers(plain, track=track)
    return replace(tally, nulls=nulls)


def _text_counts(values: Any) -> dict[Value, int] | None:
    """How often each text is there; None where there are too many of them, or long ones."""
    for part in (values.slice(0, _SAMPLE), values):
        found = pc.value_counts(part.drop_null())
        if len(found) > MAX_DISTINCT:
            return None
    counts = dict(zip(found.field(0).to_pylist(), found.field(1).to_pylist(), strict=True))
    return counts if all(len(text) <= MAX_TEXT for text in counts) else None


def _floats(values: Values) -> Tally:
    tally = Tally(kind="float", distinct=None)
    for start in range(0, len(values), _CHUNK):
        chunk = values[start : start + _CHUNK].astype(np.float64)
        finite = chunk[np.isfinite(chunk)]
        nan = int(np.isnan(chunk).sum()) if len(finite) < len(chunk) else 0
        part: dict[str, Any] = {"kind": "float", "count": len(chunk), "nan": nan, "inf": len(chunk) - len(finite) - nan}
        if len(finite):
            with np.errstate(over="ignore", invalid="ignore"):
                mean = float(np.mean(finite))
                apart = finite - mean
                m2 = float(np.dot(apart, apart))
            part |= {"min": float(finite.min()), "max": float(finite.max()), "mean": mean, "m2": m2}
        tally = tally.merged(Tally(distinct=None, **part))
    return tally


def _integers(values: Values, *, track: bool) -> Tally:
    """Sums of numbers and squares by way of their distances from a base, which are never negative."""
    base, distinct = 0, None
    few = track and _looks_few(values)
    if values.dtype == np.uint8 and not few:
        low, high, total, squares = _byte_sums(values)
    else:
        base = low = int(values.min())
        high = int(values.max())
        if few:
            distinct, (total, squares) = _counted(values, low, high)
        else:
            total, squares = _wide_sums(_above(values, low), high - low)
    count = len(values)
    return Tally(
        kind="int",
        count=count,
        min=low,
        max=high,
        total=total + count * base,
        squares=squares + 2 * base * total + count * base * base,
        distinct=distinct,
    )


def _looks_few(values: Values) -> bool:
    return len(np.unique(values[:: max(1, len(values) // _SAMPLE)])) <= MAX_DISTINCT


def _above(values: Values, low: int) -> Values:
    """Distances from the least value: uint64, whatever the type."""
    wide = values.astype(np.uint64 if values.dtype.kind == "u" else np.int64).view(np.uint64)
    result: Values = wide - np.uint64(low % 2**64)
    return result


def _counted(values: Values, low: int, high: int) -> tuple[dict[Any, int] | None, tuple[int, int]]:
    """How often each value is there (None: too many of them), and the sums of distances and of their squares."""
    if high - low >= _DENSE:
        kinds, counts = np.unique(values, return_counts=True)
        kinds = _above(kinds, low)
    else:
        every = _histogram(values, low, high)
        kinds = np.flatnonzero(every)
        counts = every[kinds]
    pairs = list(zip(kinds.tolist(), counts.tolist(), strict=True))
    sums = sum(kind * count for kind, count in pairs), sum(kind * kind * count for kind, count in pairs)
    return {low + kind: count for kind, count in pairs} if len(pairs) <= MAX_DISTINCT else None, sums


def _histogram(values: Values, low: int, high: int) -> Values:
    """How often each value from the least on is there: int64[high - low + 1]."""
    if values.dtype == np.uint8:
        return _byte_histogram(values)[low : high + 1]
    every = np.zeros(high - low + 1, np.int64)
    for start in range(0, len(values), _CHUNK):
        part = values[start : start + _CHUNK]
        every += np.bincount(_above(part, low).view(np.int64), minlength=len(every))
    return every


def _byte_histogram(values: Values) -> Values:
    """int64[256], counted in pairs: half as many to count."""
    even = len(values) // 2 * 2
    pairs = np.ascontiguousarray(values[:even]).view(np.uint16)
    every = np.zeros(2**16, np.int64)
    for start in range(0, len(pairs), _CHUNK):
        every += np.bincount(pairs[start : start + _CHUNK], minlength=len(every))
    square = every.reshape(256, 256)
    counts: Values = square.sum(axis=0) + square.sum(axis=1)
    return counts + np.bincount(values[even:], minlength=256)


def _byte_sums(values: Values) -> tuple[int, int, int, int]:
    """Least, greatest, sum, and sum of squares of uint8: in float32, so few at a time that every step is exact."""
    flat = np.empty(_BYTES_CHUNK, np.float32)
    room = flat.reshape(-1, _ROW)
    ones = np.ones(_ROW, np.float32)
    low, high, total, squares = 255, 0, 0.0, 0.0
    for start in range(0, len(values), _BYTES_CHUNK):
        part = values[start : start + _BYTES_CHUNK]
        low, high = min(low, int(part.min())), max(high, int(part.max()))
        flat[: len(part)] = part
        flat[len(part) :] = 0
        total += float((room @ ones).sum(dtype=np.float64))
        squares += float(np.vecdot(room, room).sum(dtype=np.float64))
    return low, high, int(total), int(squares)


def _wide_sums(distances: Values, largest: int) -> tuple[int, int]:
    """Sum, and sum of squares, of uint64: in limbs so short that no sum of products overflows."""
    limbs = max(1, -(-largest.bit_length() // _LIMB))
    total = squares = 0
    for start in range(0, len(distances), _CHUNK):
        part = distances[start : start + _CHUNK]
        pieces = [((part >> np.uint64(_LIMB * at)) & np.uint64(2**_LIMB - 1)).astype(np.int64) for at in range(limbs)]
        total += sum(int(piece.sum()) << (_LIMB * at) for at, piece in enumerate(pieces))
        for (i, one), (j, other) in itertools.combinations_with_replacement(enumerate(pieces), 2):
            squares += int(np.dot(one, other)) << (_LIMB * (i + j) + (i != j))
    return total, squares

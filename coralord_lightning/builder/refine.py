"""What is made of selected rows before the pipeline: values decoded, texts numbered, nulls settled. Opens no file.

Decoding is done by `decode`, in a process of its own. Rows keep their order and number; batches are cut anew, since a
decoded picture is larger than an encoded one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from coralord_lightning.builder.batching import rebatch
from coralord_lightning.builder.buffers import bitmap, numbers, validity
from coralord_lightning.builder.decode import Decoded, Decoder, Undecodable
from coralord_lightning.builder.refine_errors import (
    cannot_decode,
    fill_too_large,
    foreign_class,
    null_found,
    other_form,
)
from coralord_lightning.spec.plan import BatchBounds
from coralord_lightning.spec.selection import Refinement, SelectedField

__all__ = ["Origin", "Refiner", "needs_refining"]

_SLICE_BYTES = 4 * 1024 * 1024
_SLICE_ROWS = 4096
_ROWS_UNSEEN = 64
"""How many rows are decoded at once while nobody knows how large their values are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Whose rows these are, for messages.

    Args:
        label: partition and split.
        locate: row of these -> (source's name, row in it), both for people; asked on failure only.
    """

    label: str
    locate: Callable[[int], tuple[str, int] | None]

    def of(self, row: int) -> str:
        """Where a row comes from."""
        place = self.locate(row)
        return f"row {row} of {self.label}" if place is None else f"row {place[1]} of {place[0]}"


def needs_refining(fields: Sequence[SelectedField]) -> bool:
    """Whether anything is to be made of these fields."""
    return any(item.refine is not None for item in fields)


class Refiner:
    """Refines the rows of one build; remembers what undeclared shapes and rates turned out to be.

    Args:
        fields: the selection's, in the order of the columns.
        classes: field -> its classes, of every field with `encode`.
        forms: field -> {"shape" or "sample_rate": what values without a declared one were in partitions before}.
    """

    def __init__(
        self,
        fields: Sequence[SelectedField],
        *,
        decoder: Decoder,
        bounds: BatchBounds,
        classes: Mapping[str, Sequence[str]],
        forms: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self._fields = tuple(fields)
        self._decoder = decoder
        self._bounds = bounds
        self._classes = {name: texts(known) for name, known in classes.items()}
        self._forms = {name: dict(form) for name, form in forms.items()}
        self._seen: dict[str, dict[str, Any]] = {}

    def expect(self, forms: Mapping[str, Mapping[str, Any]]) -> None:
        """Hold values to what they turned out to be elsewhere."""
        self._forms |= {name: dict(form) for name, form in forms.items()}

    @property
    def seen(self) -> dict[str, dict[str, Any]]:
        """What values without a declared shape or rate were since `take_forms`, by field."""
        return dict(self._seen)

    def take_forms(self) -> dict[str, dict[str, Any]]:
        """What values without a declared shape or rate were since the last call, by field."""
        seen, self._seen = self._seen, {}
        return seen

    def refine(self, reader: Any, origin: Origin) -> Any:
        """The same rows, refined, as a pyarrow.RecordBatchReader; without a column where there is no row.

        Raises:
            CoralError: while reading, a value that cannot be decoded, has no class, or is a null that must not be.
        """
        cut = rebatch(self._pieces(reader, origin), self._bounds)
        first = next(cut, None)
        if first is None:
            return pa.RecordBatchReader.from_batches(pa.schema([]), [])
        return pa.RecordBatchReader.from_batches(first.schema, itertools.chain([first], cut))

    def _pieces(self, reader: Any, origin: Origin) -> Iterator[pa.RecordBatch]:
        row = 0
        for batch in reader:
            start = 0
            while start < batch.num_rows:
                piece = self._piece(batch.slice(start, self._stride(batch, start)), origin, row)
                start, row = start + piece.num_rows, row + piece.num_rows
                yield piece

    def _stride(self, batch: pa.RecordBatch, start: int) -> int:
        """How many rows to refine at once: what is decoded of them has to fit into memory."""
        rows = int(batch.num_rows) - start
        for column, item in zip(batch.columns, self._fields, strict=True):
            if item.refine is None or item.refine.decode is None:
                continue
            known = item.refine.shape is not None or item.name in self._forms
            rows = min(rows, _SLICE_ROWS if known else _ROWS_UNSEEN)
            sizes = np.cumsum(numbers(pc.binary_length(column.slice(start, rows)).fill_null(0)), dtype=np.int64)
            rows = min(rows, max(1, int(np.searchsorted(sizes, _SLICE_BYTES, side="right"))))
        return rows

    def _piece(self, batch: pa.RecordBatch, origin: Origin, row: int) -> pa.RecordBatch:
        """Leading rows of a batch, refined: as many as the decoder hands out at once."""
        rows = batch.num_rows
        decoded: dict[str, Any] = {}
        for column, item in zip(batch.columns, self._fields, strict=True):
            if item.refine is not None and item.refine.decode is not None:
                decoded[item.name] = self._decode(column.slice(0, rows), item, item.refine, origin, row)
                rows = len(decoded[item.name])
        names, columns = [], []
        for column, item in zip(batch.columns, self._fields, strict=True):
            found = decoded.get(item.name, column).slice(0, rows)
            for suffix, made in self._settled(found, item, origin, row):
                names.append(item.name + suffix)
                columns.append(made)
        return pa.RecordBatch.from_arrays(columns, names=names)

    def _decode(self, column: Any, item: SelectedField, refine: Refinement, origin: Origin, row: int) -> Any:
        form = self._forms.get(item.name, {})
        try:
            decoded = self._decoder.decode(column, refine, shape=form.get("shape"), sample_rate=form.get("sample_rate"))
        except Undecodable as error:
            raise cannot_decode(item, error.answer, origin.of(row + error.row), form) from None
        if decoded.shape is None:
            raise other_form(item, origin.of(row))
        self._learn(item.name, refine, decoded)
        return decoded.column

    def _learn(self, name: str, refine: Refinement, decoded: Decoded) -> None:
        """Remember what was not declared; the decoder holds later values to it."""
        form: dict[str, Any] = {}
        if refine.shape is None:
            form["shape"] = decoded.shape
        if refine.decode == "audio" and refine.sample_rate is None and decoded.sample_rate is not None:
            form["sample_rate"] = decoded.sample_rate
        if form:
            self._forms[name] = form
            self._seen[name] = {key: list(value) if key == "shape" else value for key, value in form.items()}

    def _settled(self, column: Any, item: SelectedField, origin: Origin, row: int) -> Iterator[tuple[str, Any]]:
        """A column with its texts numbered and its nulls settled, and the mask where there is one."""
        refine = item.refine
        if refine is None:
            yield "", column
            return
        if refine.nulls == "error":
            _require_values(column, item, origin, row)
        if refine.encode is not None:
            column = self._encoded(column, item, refine, origin, row)
        if refine.nulls == "fill" and refine.encode is None:
            _require_fits(column, item, refine.fill)
            column = _filled(column, refine.fill)
        if refine.nulls != "mask":
            yield "", column
            return
        valid = validity(column)
        inner = _first_null_inside(column)
        if inner is not None:
            raise null_found(item, origin.of(row + inner), inside=True)
        yield "", _filled(column, 0)
        yield "_is_null", pa.Array.from_buffers(pa.bool_(), len(column), [None, bitmap(~valid)])

    def _encoded(self, column: Any, item: SelectedField, refine: Refinement, origin: Origin, row: int) -> Any:
        known = self._classes[item.name]
        if refine.nulls == "fill":
            column = pc.fill_null(column, pa.scalar(refine.fill, column.type))
        codes = pc.index_in(column, options=pc.SetLookupOptions(value_set=known))
        foreign = np.flatnonzero(validity(column) & ~validity(codes))
        if len(foreign):
            value = column[int(foreign[0])].as_py()
            raise foreign_class(item, value, known.to_pylist(), origin.of(row + int(foreign[0])))
        return codes.cast(pa.int64())


def texts(values: Sequence[str]) -> Any:
    """Texts as an Arrow column; `pyarrow.array` would import pandas."""
    encoded = [value.encode() for value in values]
    offsets = np.cumsum([0, *map(len, encoded)]).astype(np.int32)
    return pa.Array.from_buffers(
        pa.string(), len(values), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    )


def _require_values(column: Any, item: SelectedField, origin: Origin, row: int) -> None:
    if column.null_count:
        _refuse_null(item, origin, row + int(np.flatnonzero(~validity(column))[0]))
    inner = _first_null_inside(column)
    if inner is not None:
        _refuse_null(item, origin, row + inner, inside=True)


def _refuse_null(item: SelectedField, origin: Origin, row: int, *, inside: bool = False) -> NoReturn:
    raise null_found(item, origin.of(row), inside=inside)


def _first_null_inside(column: Any) -> int | None:
    """The first row that is no null and has one inside its lists; None where there is none."""
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)):
        return None
    items = column.flatten()
    lengths = numbers(pc.list_value_length(column).fill_null(0)).astype(np.int64)
    if pa.types.is_fixed_size_list(kind):
        lengths = np.where(validity(column), lengths, 0)
    bad = int(np.flatnonzero(~validity(items))[0]) if items.null_count else _first_null_inside(items)
    return None if bad is None else int(np.searchsorted(np.cumsum(lengths), bad, side="right"))


def _require_fits(column: Any, item: SelectedField, fill: Any) -> None:
    """Refuse a fill that the column, as wide as its file has it, would change."""
    values = _leaves(column)[0]
    with np.errstate(over="ignore"):
        there = np.array(fill).astype(values.dtype).item()
    fits = math.isfinite(there) if values.dtype.kind == "f" else there == fill
    if not fits:
        raise fill_too_large(item, fill, str(values.dtype))


def _filled(column: Any, fill: Any) -> Any:
    """Numbers of fixed shape without a null: what was one, or lies beneath one, is `fill`."""
    values, valid, sizes = _leaves(column)
    full = np.where(valid, values, np.array(fill).astype(values.dtype))
    kind = column.type
    for _ in sizes:
        kind = kind.value_type
    buffer = bitmap(full) if pa.types.is_boolean(kind) else pa.py_buffer(full)
    filled = pa.Array.from_buffers(kind, len(full), [None, buffer])
    for size in reversed(sizes):
        filled = pa.Array.from_buffers(pa.list_(filled.type, size), len(filled) // size, [None], children=[filled])
    return filled


def _leaves(column: Any) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_], list[int]]:
    """The numbers at the bottom of nested fixed-size lists, which of them count, and the sizes of the lists."""
    valid, sizes = validity(column), []
    while pa.types.is_fixed_size_list(column.type):
        size = column.type.list_size
        column = column.values.slice(column.offset * size, len(column) * size)
        valid = np.repeat(valid, size) & validity(column)
        sizes.append(size)
    if not pa.types.is_boolean(column.type):
        return numbers(column), valid, sizes
    bits = np.unpackbits(np.frombuffer(column.buffers()[1], np.uint8), bitorder="little")
    return bits[column.offset : column.offset + len(column)].astype(np.bool_), valid, sizes

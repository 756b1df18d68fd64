"""The content digest: a hash of values in row order, over blocks cut by content. Knows nothing of files or shards.

A block ends after a row whose 64-bit hash has its low 15 bits zero (at least 8,192 rows, at most 262,144), so that an
inserted row changes one block and not all. Neither cuts nor hashes see batch sizes, chunking, slicing, dictionary,
large or view encodings, or what lies under nulls. Buffers are taken as little-endian, as on every platform we support.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import rfc8785

from coralord_lightning.spec.columns import arrow_schema, canonical_batch, canonical_schema, columns_of
from coralord_lightning.spec.manifest import Block, Column

__all__ = [
    "BlockBounds",
    "ContentHasher",
    "arrow_schema",
    "canonical_batch",
    "columns_of",
    "content_digest",
]

_MAX_WORDS = 64
_LIST_SAMPLES = 8
_UPDATE_BYTES = 1 << 30
_NULL_HASH = np.uint64(0x9E3779B97F4A7C15)
_NAN_BITS = {2: 0x7E00, 4: 0x7FC00000, 8: 0x7FF8000000000000}

_Words = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockBounds:
    """How blocks are cut. The defaults are part of what a content digest is; others are for tests."""

    min_rows: int = 8_192
    max_rows: int = 262_144
    cut_bits: int = 15


def content_digest(columns: Iterable[Column], splits: Mapping[str, Sequence[Block]]) -> str:
    """The root: SHA-256 in hex over canonical JSON of columns and, by split, the blocks in row order."""
    body: Any = {
        "format": 1,
        "columns": [column.to_json() for column in columns],
        "splits": {name: [[block.num_rows, block.sha256] for block in blocks] for name, blocks in splits.items()},
    }
    return hashlib.sha256(rfc8785.dumps(body)).hexdigest()


class ContentHasher:
    """Hashes the rows of one (partition, split), batch by batch, into blocks.

    Args:
        columns: canonical columns or a schema; every batch must have these columns, in any encoding.
    """

    def __init__(self, columns: Iterable[Column] | pa.Schema, *, bounds: BlockBounds | None = None) -> None:
        self._bounds = bounds or BlockBounds()
        self._schema = canonical_schema(columns) if isinstance(columns, pa.Schema) else arrow_schema(columns)
        self._blocks: list[Block] = []
        self._num_rows = 0
        self._nodes = [_Node(item.type) for item in self._schema]

    def update(self, batch: pa.RecordBatch) -> None:
        """Take the next rows.

        Raises:
            TypeError: the batch has other columns than the stream.
        """
        if batch.nbytes > _UPDATE_BYTES and batch.num_rows > 1:  # keeps 32-bit offsets of canonical types enough
            middle = batch.num_rows // 2
            self.update(batch.slice(0, middle))
            self.update(batch.slice(middle))
            return
        batch = batch if batch.schema == self._schema else canonical_batch(batch)
        if batch.schema != self._schema:
            raise TypeError(f"columns changed within a stream: {batch.schema} is not {self._schema}")
        if batch.num_rows:
            self._take(batch, _cut_candidates(batch, self._bounds.cut_bits))

    def finish(self) -> tuple[Block, ...]:
        """Close the last block and return all of them; () for a stream without rows."""
        if self._num_rows:
            self._close()
        return tuple(self._blocks)

    def _take(self, batch: pa.RecordBatch, candidates: npt.NDArray[np.intp]) -> None:
        start = 0
        while start < batch.num_rows:
            block_start = start - self._num_rows
            earliest = max(start, block_start + self._bounds.min_rows - 1)
            later = candidates[np.searchsorted(candidates, earliest) :]
            cut = min(int(later[0]) + 1 if len(later) else batch.num_rows + 1, block_start + self._bounds.max_rows)
            end = min(cut, batch.num_rows)
            for node, column in zip(self._nodes, batch.columns, strict=True):
                node.update(column.slice(start, end - start))
            self._num_rows += end - start
            start = end
            if cut == end:
                self._close()

    def _close(self) -> None:
        root = hashlib.sha256(self._num_rows.to_bytes(8, "little"))
        for node in self._nodes:
            root.update(node.digest())
        self._blocks.append(Block(num_rows=self._num_rows, sha256=root.hexdigest()))
        self._num_rows = 0
        self._nodes = [_Node(item.type) for item in self._schema]


class _Node:
    """Streaming hash of one level of a column: where nulls are, lengths, then values or children without nulls."""

    def __init__(self, kind: pa.DataType) -> None:
        self._count = 0
        self._nulls = hashlib.sha256()
        self._lengths = hashlib.sha256()
        self._values = hashlib.sha256()
        self._children = [_Node(child) for child in _child_types(kind)]

    def update(self, array: pa.Array) -> None:
        if array.null_count:
            positions = np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)) + self._count
            self._nulls.update(positions.astype("<u8").data)
        self._count += len(array)
        array = array.drop_null() if array.null_count else array
        if len(array) == 0:
            return
        kind = array.type
        if pa.types.is_struct(kind):
            for number, child in enumerate(self._children):
                child.update(array.field(number))
        elif pa.types.is_fixed_size_list(kind):
            self._children[0].update(array.flatten())
        elif pa.types.is_list(kind) or pa.types.is_map(kind):
            offsets, items = _items_of(array)
            self._lengths.update(np.diff(offsets).astype("<u4").data)
            self._children[0].update(items)
        elif _is_bytes(kind):
            offsets, data = _bytes_of(array)
            self._lengths.update(np.diff(offsets).astype("<u4").data)
            self._values.update(data.data)
        else:
            self._values.update(_fixed_width(array).data)

    def digest(self) -> bytes:
        root = hashlib.sha256(self._count.to_bytes(8, "little"))
        for part in (self._nulls, self._lengths, self._values):
            root.update(part.digest())
        for child in self._children:
            root.update(child.digest())
        return root.digest()


def _child_types(kind: pa.DataType) -> list[pa.DataType]:
    if pa.types.is_struct(kind):
        return [item.type for item in kind]
    if pa.types.is_map(kind):
        return [pa.struct([kind.key_field, kind.item_field])]
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return [kind.value_type]
    return []


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_binary(kind))


def _items_of(array: pa.Array) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """Offsets from 0 and the items between them, of a list or map array without nulls."""
    offsets = array.offsets.to_numpy().astype(np.int64)
    return offsets - offsets[0], array.values.slice(offsets[0], offsets[-1] - offsets[0])


def _bytes_of(array: pa.Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Offsets from 0 and the bytes between them, of a text or binary array without nulls."""
    _, offsets_buffer, data_buffer = array.buffers()
    raw = np.frombuffer(offsets_buffer, np.int32)[array.offset : array.offset + len(array) + 1]
    offsets = raw.astype(np.int64)
    if data_buffer is None:
        return offsets - offsets[0], np.empty(0, np.uint8)
    return offsets - offsets[0], np.frombuffer(data_buffer, np.uint8)[offsets[0] : offsets[-1]]


def _fixed_width(array: pa.Array) -> npt.NDArray[np.uint8]:
    """Canonical value bytes, uint8[rows, width], of a fixed-width array; anything under nulls."""
    if pa.types.is_null(array.type) or array.type.bit_width == 0:
        return np.empty((len(array), 0), np.uint8)
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.uint8())
    width = array.type.bit_width // 8
    start = array.offset * width
    data = np.frombuffer(array.buffers()[1], np.uint8)[start : start + len(array) * width]
    if pa.types.is_floating(array.type):
        nans = np.isnan(data.view(f"<f{width}"))
        if nans.any():
            bits = data.view(f"<u{width}").copy()
            bits[nans] = _NAN_BITS[width]
            data = bits.view(np.uint8)
    return data.reshape(len(array), width)


def _cut_candidates(batch: pa.RecordBatch, bits: int) -> npt.NDArray[np.intp]:
    """Row numbers after which a block may end."""
    total = _weighted([_row_hashes(column) for column in batch.columns], batch.num_rows)
    return np.flatnonzero(_mix(total) & np.uint64((1 << bits) - 1) == 0)


def _row_hashes(array: pa.Array) -> _Words:  # noqa: PLR0911  # one return a kind of type
    """uint64[rows]: a hash of (a sample of) each row's values, of nothing but that row; for cutting, never identity."""
    if array.null_count:
        out = np.full(len(array), _NULL_HASH, np.uint64)
        out[array.is_valid().to_numpy(zero_copy_only=False)] = _row_hashes(array.drop_null())
        return out
    if len(array) == 0:
        return np.empty(0, np.uint64)
    kind = array.type
    if pa.types.is_fixed_size_list(kind):
        return _fixed_list_hashes(array)
    if pa.types.is_list(kind) or pa.types.is_map(kind):
        return _list_hashes(array)
    if pa.types.is_struct(kind):
        children = [_row_hashes(array.field(number)) for number in range(kind.num_fields)]
        return _mix(_weighted(children, len(array)))
    if _is_bytes(kind):
        return _bytes_hashes(*_bytes_of(array))
    words = _sampled_words(_fixed_width(array))
    return words[0] if len(words) == 1 else _mix(_weighted(words, len(array)))  # whoever sums single words mixes them


def _fixed_list_hashes(array: pa.FixedSizeListArray) -> _Words:
    rows = len(array)
    valid: npt.NDArray[np.bool_] = np.ones(rows, np.bool_)
    while pa.types.is_fixed_size_list(array.type):
        size = array.type.list_size
        array = array.values.slice(array.offset * size, len(array) * size)
        valid = np.repeat(valid, size)
        if array.null_count:
            valid &= array.is_valid().to_numpy(zero_copy_only=False)
    if _child_types(array.type) or _is_bytes(array.type):
        items = _row_hashes(array).view(np.uint8).reshape(len(array), -1)
    else:
        items = _fixed_width(array)
    if not valid.all():
        items = np.where(valid[:, None], items, np.uint8(0))
    return _mix(_weighted(_sampled_words(np.ascontiguousarray(items).reshape(rows, -1)), rows))


def _list_hashes(array: pa.Array) -> _Words:
    """Length and up to eight items spread over the list."""
    offsets, items = _items_of(array)
    starts, lengths = offsets[:-1], np.diff(offsets)
    out = lengths.astype(np.uint64)
    filled = np.flatnonzero(lengths)
    if len(filled):
        steps = np.arange(_LIST_SAMPLES, dtype=np.int64)
        picks = starts[filled, None] + (lengths[filled, None] - 1) * steps // (_LIST_SAMPLES - 1)
        sample = _row_hashes(items.take(pa.array(picks.ravel())))
        out[filled] += _weighted(sample.reshape(len(filled), -1).T, len(filled))
    return _mix(out)


def _bytes_hashes(offsets: npt.NDArray[np.int64], data: npt.NDArray[np.uint8]) -> _Words:
    """Length, first 16 and last 16 bytes."""
    padded = np.concatenate([data, np.zeros(32, np.uint8)])
    words = np.ndarray((len(padded) - 7,), "<u8", buffer=padded.data, strides=(1,))
    starts, lengths = offsets[:-1], np.diff(offsets)
    tails = np.maximum(starts, offsets[1:] - 16)
    parts = [lengths.astype(np.uint64)]
    for origin, left in ((starts, lengths), (starts + 8, lengths - 8), (tails, lengths), (tails + 8, lengths - 8)):
        inside = np.clip(left, 0, 8).astype(np.uint64)
        # a shift by 64 is undefined, so a full word shifts by 0 and an empty one is multiplied away
        shift = (np.uint64(8) - np.maximum(inside, 1)) * np.uint64(8)
        parts.append((words[origin] << shift) * (inside > 0))
    return _mix(_weighted(parts, len(lengths)))


def _sampled_words(rows: npt.NDArray[np.uint8]) -> list[_Words]:
    """Columns of 64-bit words, at most 64 and evenly spread, of contiguous uint8[rows, width]."""
    count, width = rows.shape
    if width in (1, 2, 4, 8):
        return [rows.reshape(-1).view(f"<u{width}").astype(np.uint64)]
    if width < 8:
        padded = np.zeros((count, 8), np.uint8)
        padded[:, :width] = rows
        return [padded.reshape(-1).view("<u8")]
    number = min(_MAX_WORDS, -(-width // 8))
    places = [index * (width - 8) // max(number - 1, 1) for index in range(number)]
    return [np.ndarray((count,), "<u8", buffer=rows.data, offset=place, strides=(width,)) for place in places]


def _weighted(parts: Iterable[_Words], rows: int) -> _Words:
    total = np.zeros(rows, np.uint64)
    parts = list(parts)
    for part, factor in zip(parts, _factors(len(parts)), strict=True):
        total += part * factor
    return total


def _factors(count: int) -> list[np.uint64]:
    """Odd multipliers, one a position, so that the order of values counts."""
    numbers = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0xD1342543DE82EF95)
    return list(_mix(numbers) | np.uint64(1))


def _mix(value: _Words) -> _Words:
    """MurmurHash3's 64-bit finaliser: spreads the high bits, which products depend on most, over the low ones."""
    value = value ^ (value >> np.uint64(33))
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        value *= np.uint64(factor)
        value ^= value >> np.uint64(33)
    return value

"""Parquet footers: where the chunks of columns lie and what row groups hold. Reads footers and nothing else."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from coralord_lightning.builder.pruning import Span
from coralord_lightning.errors import SourceFormatError
from coralord_lightning.spec.cuts import rows_in
from coralord_lightning.spec.plan import Location, RemoteFile, SourceFile
from coralord_lightning.spec.selection import SelectedField

__all__ = ["Footer", "RangeReader", "length", "read_footer"]

FOOTER_BYTES = 64 * 1024
"""What is read from the end of a Parquet file in one go."""
GAP_BYTES = 16 * 1024
"""Needed stretches this near to one another are fetched as one."""
LEAST_BYTES = 8 * 1024
"""No request is for less."""
_SAFE = {
    "integer": frozenset({"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}),
    "float": frozenset({"float", "double"}),
    "float32": frozenset({"float"}),
    "float64": frozenset({"float", "double"}),
    "text": frozenset({"string", "large_string"}),
    "bool": frozenset({"bool"}),
    "date": frozenset({"date32[day]"}),
    "timestamp": frozenset({"timestamp[s]", "timestamp[ms]", "timestamp[us]", "timestamp[ns]"}),
    **{f"int{bits}": frozenset(f"int{n}" for n in (8, 16, 32, 64) if n <= bits) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": frozenset(f"uint{n}" for n in (8, 16, 32, 64) if n <= bits) for bits in (8, 16, 32, 64)},
}
"""Field type -> column types of which DuckDB compares without a look at the rows: a checked cast it has to compute."""


class RangeReader(Protocol):
    """Remote files by ranges; `sources` has the one."""

    def path_of(self, name: str) -> str:
        """The path of a remote source."""
        ...

    def read_at(self, path: str, start: int, stop: int) -> bytes:
        """Bytes [start, stop), cut at the file's end."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """A Parquet file's footer.

    Args:
        leaves: for each of its leaf columns, which column at the top it belongs to.
        types: column at the top -> its Arrow type as text.
    """

    metadata: Any
    leaves: tuple[str, ...]
    types: Mapping[str, str]
    size_bytes: int

    @property
    def tail(self) -> tuple[int, int]:
        """The stretch that is read to have the footer."""
        return max(0, self.size_bytes - max(FOOTER_BYTES, self.metadata.serialized_size + 8)), self.size_bytes

    def rows_in(self, window: tuple[int, int]) -> tuple[int, int]:
        """The rows [first, stop) of a window of its bytes."""
        return rows_in(window, self._middles, size_bytes=self.size_bytes)

    def groups_in(self, window: tuple[int, int]) -> tuple[int, ...]:
        """The row groups of a window."""
        first, stop = self.rows_in(window)
        starts = itertools.accumulate((rows for _, rows in self._middles), initial=0)
        return tuple(at for at, start in enumerate(starts) if first <= start < stop)

    @property
    def _middles(self) -> list[tuple[int, int]]:
        """The middle byte of each row group, and its rows."""
        groups = (self.metadata.row_group(index) for index in range(self.metadata.num_row_groups))
        return [(_middle(group), group.num_rows) for group in groups]

    def chunks(self, group: Any, columns: Iterable[str]) -> list[Any]:
        """The column chunks of a row group that these columns are in."""
        wanted = set(columns)
        return [group.column(leaf) for leaf, top in enumerate(self.leaves) if top in wanted]

    def stretches(self, group: Any, columns: Iterable[str]) -> list[tuple[int, int]]:
        """Where those chunks lie, near ones as one."""
        extents = [_extent(chunk) for chunk in self.chunks(group, columns)]
        return _merged([(low, min(high, self.size_bytes)) for low, high in extents])

    def spans(self, group: Any, fields: Iterable[SelectedField]) -> dict[str, Span]:
        """What it says of fields in a row group, where DuckDB takes its word for it."""
        found: dict[str, Span] = {}
        for item in fields:
            plain = item.kind == "column" and not item.transforms and not item.shape
            if not plain or self.types.get(item.column) not in _SAFE.get(item.dtype, ()):
                continue
            span = _span(group.column(self.leaves.index(item.column)).statistics, group.num_rows)
            if span is not None:
                found[item.name] = span
        return found


def _span(statistics: Any, num_rows: int) -> Span | None:
    if statistics is None:
        return None
    bounds = (statistics.min, statistics.max) if statistics.has_min_max else (None, None)
    nulls = statistics.null_count if statistics.has_null_count else None
    return Span(low=_plain(bounds[0]), high=_plain(bounds[1]), num_rows=num_rows, num_nulls=nulls)


def _plain(value: Any) -> Any:
    """A bound without its zone, which is UTC; what is no plain value of Python's is no bound."""
    zone = getattr(value, "tzinfo", None)
    return value.replace(tzinfo=None) if zone is not None else value


def _middle(group: Any) -> int:
    """The byte in the middle of a row group; of one without columns, the first."""
    chunks = [group.column(index) for index in range(group.num_columns)]
    start = min((_first_byte(chunk) for chunk in chunks), default=0)
    size: int = sum(chunk.total_compressed_size for chunk in chunks)
    return max(0, start + size // 2)


def _extent(chunk: Any) -> tuple[int, int]:
    first = _first_byte(chunk)
    return first, first + max(chunk.total_compressed_size, LEAST_BYTES)


def _first_byte(chunk: Any) -> int:
    dictionary: int | None = chunk.dictionary_page_offset
    data: int = chunk.data_page_offset
    return dictionary if dictionary is not None and 0 < dictionary < data else data


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans near to one another made one."""
    out: list[tuple[int, int]] = []
    for low, high in sorted(spans):
        if out and low - out[-1][1] <= GAP_BYTES:
            out[-1] = (out[-1][0], max(high, out[-1][1]))
        else:
            out.append((low, high))
    return out


def length(spans: list[tuple[int, int]]) -> int:
    """Bytes in any of the spans."""
    total = end = 0
    for low, high in sorted(spans):
        total += max(0, high - max(low, end))
        end = max(end, high)
    return total


def read_footer(source: SourceFile, place: Location, remote: RangeReader | None) -> Footer:
    """The footer of a Parquet file, here or remote.

    Raises:
        SourceError: there is none, or it cannot be had.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    file: Any = _Ranges(source, place, remote) if isinstance(place, RemoteFile) else place.path
    try:
        metadata = pq.read_metadata(file)
        schema = metadata.schema.to_arrow_schema()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceFormatError(
            source.name,
            "has no Parquet footer that can be read",
            facts={"got": str(error).splitlines()[0]},
            remedy="fetch the file again, or correct its encodingFormat in the Croissant file",
        ) from error
    leaves = tuple(item.name for item in schema for _ in range(_leaf_count(item.type)))
    types = {item.name: str(item.type).replace(", tz=UTC", "") for item in schema}
    return Footer(metadata=metadata, leaves=leaves, types=types, size_bytes=source.size_bytes)


def _leaf_count(kind: Any) -> int:
    children = kind.num_fields
    return sum(_leaf_count(kind.field(index).type) for index in range(children)) if children else 1


class _Ranges(io.RawIOBase):
    """A remote file as Arrow reads one."""

    def __init__(self, source: SourceFile, place: RemoteFile, remote: RangeReader | None) -> None:
        super().__init__()
        if remote is None:
            raise AssertionError(source.name)  # whoever plans remote sources has what reads them
        self._remote, self._path = remote, remote.path_of(source.name)
        self._size, self._at = place.size_bytes, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence] + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        stop = self._size if size is None or size < 0 else min(self._at + size, self._size)
        data = self._remote.read_at(self._path, self._at, stop) if stop > self._at else b""
        self._at += len(data)
        return data

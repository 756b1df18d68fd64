"""Files that DuckDB cannot read itself, read into a Parquet file: JSON documents, lines of text, ARFF. Never runs code.

Rows stream through in batches, so that memory stays bounded; only a JSON path with slices, filters or `..` needs its
document as a whole, which is bounded too.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.machinery import PathFinder
from importlib.metadata import distribution
from importlib.util import module_from_spec
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from coralord_lightning.builder.arff import ArffError, attributes, rows_of
from coralord_lightning.builder.kinds import JSON, TEXT, ColumnType
from coralord_lightning.builder.scans import Staged
from coralord_lightning.errors import SourceFormatError
from coralord_lightning.spec.json_path import DESCENDANTS, is_plain, name_of, path_segments, relative_path
from coralord_lightning.spec.selection import SelectedField

__all__ = ["stage_arff", "stage_json", "stage_lines"]

_GZIP = b"\x1f\x8b"
_CHUNK = 4 * 1024 * 1024
_BATCH_ROWS = 16_384
_BATCH_BYTES = 16 * 1024 * 1024
_MAX_DOCUMENT = 1024 * 1024 * 1024
_MAX_LINE = 256 * 1024 * 1024
_MAX_TEXT_LINE = 64 * 1024 * 1024
_MAX_UNPACKED = 1024**4
_MAX_DEPTH = 2_000
_SHALLOW = 200
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NOISE = re.compile(rb"[^\s\[\]{},:0-9+.eEtrufalsn-]")
_IJSON: Mapping[str, Any] = {"use_float": True, "multiple_values": True, "buf_size": _CHUNK}
_LINE = (("file_property", "lines"), ("file_property", "lineNumbers"))


def stage_lines(path: Path, target: Path, *, name: str) -> Staged:
    """The lines of a text file, without their ends, and their numbers from 0.

    Source: Croissant 1.1, Extract: "lines: the byte content of each line in the file".

    Raises:
        SourceFormatError: a line is longer than any line.
    """
    schema = pa.schema([("c0", pa.binary()), ("c1", pa.int64())])
    with _opened(path, name) as file, _writer(target, schema) as sink:
        number = 0
        for lines in _line_batches(file, name):
            numbers = range(number, number + len(lines))
            sink.write_batch(_batch(schema, lines, list(numbers)))
            number += len(lines)
    return Staged(path=str(target), places=_LINE, types=(ColumnType("BLOB"), ColumnType("BIGINT")))


def stage_json(path: Path, target: Path, *, name: str, row_path: str, fields: Sequence[SelectedField]) -> Staged:
    """The rows of a JSON document: each wanted path as JSON text; what a row does not have is null.

    Args:
        fields: what is read from the file, by `json_path`, or by `column`, which is a key of the rows.
    Raises:
        SourceFormatError: it is no JSON, or too large for what the path asks for.
    """
    places = list(dict.fromkeys((item.kind, item.column) for item in fields if item.kind in ("json_path", "column")))
    wanted = [_segments(kind, column, row_path) for kind, column in places]
    schema = pa.schema([(f"c{at}", pa.string()) for at in range(len(places))])
    for backend in (None, "python"):
        try:
            with _opened(path, name) as file, _writer(target, schema) as sink:
                found = _json_rows(file, row_path, wanted, name, backend)
                _write_texts(sink, schema, ([_found(row, segments) for segments in wanted] for row in found), name)
            break
        except _WideIntegerError:  # slowly then; the fast one can read them too, and crashes at some thousand digits
            continue
    return Staged(path=str(target), places=places, types=[JSON] * len(places), truncates=True)


def stage_arff(path: Path, target: Path, *, name: str) -> Staged:
    """The rows of a dense ARFF file, as texts; `?` is null.

    Source: https://waikato.github.io/weka-wiki/formats_and_processing/arff_stable/

    Raises:
        SourceFormatError: it has no attributes, or is sparse, or a row has another number of values.
    """
    with _opened(path, name) as file, io.TextIOWrapper(file, encoding="utf-8", newline="") as decoded:
        text = _lines_of(decoded, name)
        names = attributes(text)
        schema = pa.schema([(f"c{at}", pa.string()) for at in range(len(names))])
        with _writer(target, schema) as sink:
            _write_texts(sink, schema, rows_of(text, len(names)), name, plain=True)
    places = [("column", column) for column in names]
    return Staged(path=str(target), places=places, types=[TEXT] * len(names))


@contextmanager
def _opened(path: Path, name: str) -> Iterator[IO[bytes]]:
    with path.open("rb") as raw:
        zipped = raw.read(2) == _GZIP
        raw.seek(0)
        try:
            if zipped:
                with gzip.GzipFile(fileobj=raw) as file:
                    yield file  # type: ignore[misc]  # reads as IO[bytes] does
            else:
                yield raw
        except (OSError, EOFError, UnicodeDecodeError, RecursionError, ArffError) as error:
            raise _unreadable(name, error) from error
        except MemoryError as error:
            raise _too_large(name, "one value that does not fit into memory") from error


@contextmanager
def _writer(target: Path, schema: pa.Schema) -> Iterator[Any]:
    with pq.ParquetWriter(target, schema, compression="zstd", compression_level=1, use_dictionary=False) as sink:
        yield sink


def _line_batches(file: IO[bytes], name: str) -> Iterator[list[bytes]]:
    rest = b""
    total = 0
    while chunk := file.read(_CHUNK):
        total += len(chunk)
        if total > _MAX_UNPACKED:
            raise _too_large(name, f"more than {_MAX_UNPACKED:,} bytes unpacked")
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        if len(rest) > _MAX_LINE:
            raise _too_large(name, f"a line of more than {_MAX_LINE:,} bytes")
        yield [line.removesuffix(b"\r") for line in lines]
    if rest:
        yield [rest.removesuffix(b"\r")]


def _write_texts(sink: Any, schema: pa.Schema, rows: Iterable[list[Any]], name: str, *, plain: bool = False) -> None:
    """Write rows in batches of bounded size; values as JSON text, or as they are."""
    waiting: list[list[str | None]] = []
    size = 0
    for row in rows:
        texts = [value if plain or value is None else _dumped(value, name) for value in row]
        size += sum(len(text) for text in texts if text is not None)
        waiting.append(texts)
        if len(waiting) >= _BATCH_ROWS or size >= _BATCH_BYTES:
            sink.write_batch(_batch(schema, *zip(*waiting, strict=True)))
            waiting, size = [], 0
    if waiting:
        sink.write_batch(_batch(schema, *zip(*waiting, strict=True)))


def _batch(schema: pa.Schema, *columns: Sequence[Any]) -> pa.RecordBatch:
    arrays = [
        pa.array(list(values), kind.type, from_pandas=False) for values, kind in zip(columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _dumped(value: Any, name: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise _unreadable(name, error) from error


def _segments(kind: str, column: str, row_path: str) -> tuple[str, ...]:
    return relative_path(column, row_path) if kind == "json_path" else path_segments(f"$['{_quoted(column)}']")


def _quoted(key: str) -> str:
    return key.replace("\\", "\\\\").replace("'", "\\'")


class _WideIntegerError(Exception):
    """A document has a whole number beyond int64, which the fast reader refuses."""


def _json_rows(
    file: IO[bytes], row_path: str, wanted: Sequence[tuple[str, ...]], name: str, backend: str | None
) -> Iterator[Any]:
    import ijson

    items = ijson.items if backend is None else ijson.get_backend(backend).items
    prefix = _prefix(row_path)
    try:
        if prefix is not None:
            yield from items(_Counted(file, _MAX_UNPACKED, name), prefix, **_IJSON)
            return
        for document in items(_Counted(file, _MAX_DOCUMENT, name), "", **_IJSON):
            yield from _rows_in(document, row_path, wanted)
    except (ijson.JSONError, ValueError) as error:
        if backend is None and "integer overflow" in str(error):
            raise _WideIntegerError from error
        raise _unreadable(name, error) from error


def _prefix(row_path: str) -> str | None:
    """A row path of names and `[*]` as ijson says it; None where it cannot."""
    parts = []
    for segment in path_segments(row_path):
        name = name_of(segment)
        if segment == "[*]":
            parts.append("item")
        elif name is None or "." in name or name in ("item", "") or segment.startswith(".."):
            return None
        else:
            parts.append(name)
    return ".".join(parts) if row_path == "$" or parts[-1:] == ["item"] else None


def _rows_in(document: Any, row_path: str, wanted: Sequence[tuple[str, ...]]) -> Iterator[Any]:
    if not row_path.endswith(DESCENDANTS):
        yield from _matches(document, row_path)
        return
    keys = {name for segments in wanted if segments and (name := name_of(segments[0])) is not None}
    for start in _matches(document, row_path.removesuffix(DESCENDANTS)):
        yield from _objects_with(start, keys)


def _objects_with(start: Any, keys: set[str]) -> Iterator[Any]:
    """Objects anywhere in a value that have one of the keys, in the order of the document."""
    waiting = [start]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping):
            if keys & value.keys():
                yield value
            waiting.extend(reversed(list(value.values())))
        elif isinstance(value, list):
            waiting.extend(reversed(value))


def _found(row: Any, segments: tuple[str, ...]) -> Any:
    """What a path leads to in one row: one value, or the list of those that it can mean."""
    path = "$" + "".join(segments)
    if not is_plain(path):
        return list(_matches(row, path))
    value = row
    for segment in segments:
        name = name_of(segment)
        if name is not None:
            value = value.get(name) if isinstance(value, Mapping) else None
        else:
            at = int(segment[1:-1])
            value = value[at] if isinstance(value, list) and -len(value) <= at < len(value) else None
    return value


def _matches(value: Any, path: str) -> Iterator[Any]:
    library, environment = _json_paths()
    try:
        for found in environment.finditer(path, value):
            yield found.obj
    except library.JSONPathError as error:
        raise ValueError(f"{path}: {error}") from error


@cache
def _json_paths() -> tuple[Any, Any]:
    """python-jsonpath, and its environment of standard paths.

    jsonpath-rw, which mlcroissant needs, installs a script `jsonpath.py`, and the folder of the script that runs comes
    first on Python's path: `import jsonpath` would be that script under `coral`.
    """
    folder = distribution("python-jsonpath").locate_file("")
    spec = PathFinder.find_spec("jsonpath", [str(folder)])
    if spec is None or spec.loader is None:
        raise ImportError("python-jsonpath is not where it says it is")
    library = module_from_spec(spec)
    sys.modules["jsonpath"] = library  # its parts import each other by that name
    spec.loader.exec_module(library)
    environment = library.JSONPathEnvironment(strict=True)
    environment.function_extensions.clear()  # match() and search() run Python's own regular expressions
    return library, environment


class _Counted:
    """A JSON file that ends in an error past so many bytes, or so many brackets in each other.

    ijson keeps the whole way to each value: what it needs grows with the square of the depth.
    """

    def __init__(self, file: IO[bytes], limit: int, name: str) -> None:
        self._file = file
        self._left = limit
        self._limit = limit
        self._name = name
        self._depth = 0
        self._unquoted = 0

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise _too_large(self._name, f"more than {self._limit:,} bytes")
        self._unquoted = 0 if re.search(rb'["\]}]', data) else self._unquoted + len(data)
        if self._unquoted > _MAX_LINE:
            raise _too_large(self._name, f"a text of more than {_MAX_LINE:,} bytes")
        net, most = _brackets(data)
        if most > _SHALLOW:  # perhaps only brackets in texts
            net, most = _brackets(_without_texts(data))
            if self._depth + most > _MAX_DEPTH:
                raise _too_large(self._name, f"values more than {_MAX_DEPTH:,} deep in each other")
            self._depth = max(0, self._depth + net)
        return data


def _without_texts(data: bytes) -> bytes:
    """A part of a JSON document without its texts; of the two ways to pair quotes, the one that leaves less noise."""
    ways = [_STRING.sub(b"", data), _STRING.sub(b"", data.partition(b'"')[2])] if b'"' in data else [data]
    return min(ways, key=lambda rest: len(_NOISE.findall(rest)))


def _brackets(data: bytes) -> tuple[int, int]:
    """How many more brackets open than close, and the most that are open at once."""
    found = np.frombuffer(data, np.uint8) | 0x20  # `[` and `]` become `{` and `}`
    steps = (found == ord("{")).astype(np.int8) - (found == ord("}")).astype(np.int8)
    levels = np.cumsum(steps[steps != 0], dtype=np.int64)
    return (int(levels[-1]), int(levels.max())) if len(levels) else (0, 0)


def _lines_of(text: io.TextIOWrapper, name: str) -> Iterator[str]:
    while line := text.readline(_MAX_TEXT_LINE):
        if len(line) >= _MAX_TEXT_LINE:
            raise _too_large(name, f"a line of more than {_MAX_TEXT_LINE:,} characters")
        yield line


def _unreadable(name: str, error: Exception) -> SourceFormatError:
    return SourceFormatError(
        name,
        "cannot be read as the format that the Croissant file declares",
        facts={"got": str(error)[:300] or type(error).__name__},
        remedy="fetch the file again, or correct its encodingFormat in the Croissant file",
    )


def _too_large(name: str, got: str) -> SourceFormatError:
    return SourceFormatError(
        name,
        "is larger than can be read in this format",
        facts={"got": got},
        remedy="convert it to JSON lines or Parquet, and describe that",
    )

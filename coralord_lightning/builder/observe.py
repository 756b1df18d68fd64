"""What a plain file holds: columns and types, read strictly. Looks at files on this machine, never changes one.

Parquet is told by its footer. CSV and JSON lines are read to the end, and a column has a type only where every value
in the file is written as that type writes it: `00707` stays text.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coralord_lightning.errors import SourceFormatError
from coralord_lightning.spec.infer import NOTHING, STRUCT, ObservedColumn, ObservedFile, ObservedFormat
from coralord_lightning.spec.plan import SourceFile

__all__ = ["SUFFIXES", "format_of", "observe"]

SUFFIXES: Mapping[str, ObservedFormat] = {
    "parquet": "parquet", "pq": "parquet", "csv": "csv", "tsv": "tsv", "tab": "tsv",
    "jsonl": "jsonl", "ndjson": "jsonl", "jsonlines": "jsonl",
    "jpg": "image", "jpeg": "image", "png": "image", "gif": "image", "bmp": "image", "webp": "image", "tif": "image",
    "tiff": "image", "wav": "audio", "flac": "audio", "ogg": "audio", "mp3": "audio",
}  # fmt: skip
_HEAD_BYTES = 1024 * 1024
_MAGIC = (
    (b"\x89PNG\r\n", "sc:ImageObject"), (b"\xff\xd8\xff", "sc:ImageObject"), (b"GIF8", "sc:ImageObject"),
    (b"BM", "sc:ImageObject"), (b"II*\0", "sc:ImageObject"), (b"MM\0*", "sc:ImageObject"),
    (b"fLaC", "sc:AudioObject"), (b"OggS", "sc:AudioObject"), (b"ID3", "sc:AudioObject"),
)  # fmt: skip
_DECIMALS = r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?"
_CLOCK = r"[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?"
_ZONE = r"(Z|[+-][0-9]{2}(:?[0-9]{2})?)"
_DAY = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_WHOLE = "regexp_full_match({x}, '-?(0|[1-9][0-9]*)') AND {x} <> '-0'"
_CSV_TESTS: Mapping[str, str] = {
    "sc:Integer": f"{_WHOLE} AND TRY_CAST({{x}} AS BIGINT) IS NOT NULL",
    "cr:UInt64": f"{_WHOLE} AND TRY_CAST({{x}} AS UBIGINT) IS NOT NULL",
    # a whole number that a double cannot hold is a key, not a measure
    "sc:Float": f"regexp_full_match({{x}}, '{_DECIMALS}') AND isfinite(TRY_CAST({{x}} AS DOUBLE)) AND "
    "(regexp_matches({x}, '[.eE]') OR abs(TRY_CAST({x} AS HUGEINT)) <= 9007199254740992)",
    "sc:Boolean": "lower({x}) IN ('true', 'false')",
    "sc:Date": f"regexp_full_match({{x}}, '{_DAY}') AND TRY_CAST({{x}} AS DATE) IS NOT NULL",
    "sc:DateTime": f"regexp_full_match({{x}}, '{_DAY}{_CLOCK}') AND TRY_CAST({{x}} AS TIMESTAMP) IS NOT NULL",
    "sc:DateTime ": f"regexp_full_match({{x}}, '{_DAY}{_CLOCK}{_ZONE}') AND TRY_CAST({{x}} AS TIMESTAMPTZ) IS NOT NULL",
}
"""Data type (the first that holds is taken) -> SQL of one value; a moment with a zone and one without do not mix."""


def format_of(name: str) -> ObservedFormat | None:
    """The format that a file's ending names; None where it names none that we read."""
    return SUFFIXES.get(name.rpartition(".")[2].lower()) if "." in name else None


def observe(path: Path, name: str, kind: ObservedFormat) -> ObservedFile:
    """What the file at `path` holds.

    Args:
        name: what to call it.
    Raises:
        SourceFormatError: it is not of that format.
    """
    match kind:
        case "parquet":
            return _parquet(path, name)
        case "csv" | "tsv":
            with _looking(path, name) as look:
                return _csv(look, name, kind)
        case "jsonl":
            with _looking(path, name) as look:
                return _json_lines(look, name)
        case _:
            return ObservedFile(name=name, format=kind, num_rows=1)


def _csv(look: _Look, name: str, kind: ObservedFormat) -> ObservedFile:
    from coralord_lightning.builder.scans import csv_table

    with Path(look.place).open("rb") as file:
        head = file.read(_HEAD_BYTES)
    source = SourceFile(name=name, format=kind, identity={}, size_bytes=0)  # type: ignore[arg-type]  # csv or tsv
    table = csv_table(source, 0, look.place, head, delimiter="," if kind == "csv" else "\t")
    columns_sql = {column: value.sql for (place, column), value in table.values.items() if place == "column"}
    _require_delimiter(name, kind, list(columns_sql))
    named = {column: sql for column, sql in columns_sql.items() if column}
    tests = [
        f"coalesce(bool_and({test.replace('{x}', sql)}) FILTER ({sql} IS NOT NULL), FALSE)"
        for sql in named.values()
        for test in _CSV_TESTS.values()
    ]
    counts = [f"count({sql})" for sql in named.values()]
    found = look.ask(f"SELECT {', '.join(['count(*)', *counts, *tests])} FROM {table.relation}")  # noqa: S608
    kinds = [kind.strip() for kind in _CSV_TESTS]
    columns = []
    for index, column in enumerate(named):
        held = found[1 + len(named) + index * len(kinds) :][: len(kinds)]
        dtype = next((kind for kind, holds in zip(kinds, held, strict=True) if holds), "sc:Text")
        columns.append(ObservedColumn(name=column, kind=dtype if found[1 + index] else NOTHING))
    left_out = dict.fromkeys(sorted(table.repeated), "the header has it twice")
    left_out |= {"": "it has no name in the header"} if "" in columns_sql else {}
    return ObservedFile(name=name, format=kind, columns=tuple(columns), num_rows=found[0], left_out=left_out)


def _require_delimiter(name: str, kind: ObservedFormat, header: Sequence[str]) -> None:
    """Refuse a file whose header is one column only because something else stands between its columns."""
    between = next((mark for mark in (";", "\t", "|", ",") if len(header) == 1 and mark in header[0]), None)
    if between is None:
        return
    expected = "commas" if kind == "csv" else "tabs"
    raise SourceFormatError(
        name,
        f"has columns that are not apart by {expected}",
        facts={"got": repr(header[0][:80]), "expected": expected},
        remedy="name it .tsv" if between == "\t" and kind == "csv" else f"save it with {expected} between its columns",
    )


def _json_lines(look: _Look, name: str) -> ObservedFile:
    from coralord_lightning.spec.predicate import quote_literal

    relation = f"read_ndjson_objects({quote_literal(look.place)}, ignore_errors = false, compression = 'uncompressed')"
    num_rows, structure = look.ask(f"SELECT count(*), json_group_structure(json) FROM {relation}")  # noqa: S608
    shape: Any = json.loads(structure) if structure is not None else {}
    if not isinstance(shape, dict):
        raise SourceFormatError(
            name,
            "has lines that are no JSON objects",
            facts={"got": structure, "expected": '{"name": value, …} on each line'},
            remedy="write one JSON object a line",
        )
    left_out: dict[str, str] = {}
    found = [_json_column(key, value, key, left_out) for key, value in shape.items()]
    columns = _checked_integers(look, relation, [column for column in found if column is not None])
    return ObservedFile(name=name, format="jsonl", columns=tuple(columns), num_rows=num_rows, left_out=left_out)


_JSON_KINDS = {
    "UBIGINT": "sc:Integer", "BIGINT": "sc:Integer", "HUGEINT": "sc:Integer", "DOUBLE": "sc:Float",
    "VARCHAR": "sc:Text", "BOOLEAN": "sc:Boolean", "NULL": NOTHING,
}  # fmt: skip


def _json_column(key: str, value: Any, top: str, left_out: dict[str, str]) -> ObservedColumn | None:
    """One key of DuckDB's `json_structure`; None, with the reason noted, where Croissant cannot say it."""
    depth = 0
    while isinstance(value, list):
        value, depth = value[0] if value else "NULL", depth + 1
    if not key or "/" in key:
        left_out[top] = "its name cannot be that of a field" if key else "it has no name"
    elif isinstance(value, dict) and depth:
        left_out[top] = "it is a list of objects"
    elif isinstance(value, dict):
        children = [_json_column(name, inner, top, left_out) for name, inner in value.items()]
        if None not in children and children:
            return ObservedColumn(name=key, kind=STRUCT, children=tuple(child for child in children if child))
    elif value not in _JSON_KINDS:
        left_out[top] = "its values are of several kinds"
    else:
        return ObservedColumn(name=key, kind=_JSON_KINDS[value], shape=(-1,) * depth)
    left_out.setdefault(top, "it is empty")
    return None


def _checked_integers(look: _Look, relation: str, columns: list[ObservedColumn]) -> list[ObservedColumn]:
    """The columns, those of whole numbers by what they need: 64 bits, unsigned 64 bits, or a double."""
    from coralord_lightning.spec.predicate import quote_literal

    whole = [column.name for column in columns if column.kind == "sc:Integer" and not column.shape]
    if not whole:
        return columns
    values = [f"TRY_CAST(json ->> {quote_literal(_pointer(key))} AS HUGEINT)" for key in whole]
    asked = ", ".join(f"min({value}), max({value})" for value in values)
    found = look.ask(f"SELECT {asked} FROM {relation}")  # noqa: S608 - quoted
    kinds = {key: _width(*found[2 * index : 2 * index + 2]) for index, key in enumerate(whole)}
    return [
        ObservedColumn(name=column.name, kind=kinds.get(column.name, column.kind), shape=column.shape,
                       children=column.children)
        for column in columns
    ]  # fmt: skip


def _width(low: int, high: int) -> str:
    if low >= -(2**63) and high < 2**63:
        return "sc:Integer"
    return "cr:UInt64" if low >= 0 else "sc:Float"


def _pointer(key: str) -> str:
    return "/" + key.replace("~", "~0").replace("/", "~1")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """One file, open to queries: `place` is what DuckDB calls it."""

    place: str
    ask: Callable[[str], tuple[Any, ...]]


@contextmanager
def _looking(path: Path, name: str) -> Iterator[_Look]:
    """A locked-down DuckDB that can read one file, by a link, for its name could be a glob to DuckDB."""
    from coralord_lightning.builder.duck import Complaints, open_locked

    with tempfile.TemporaryDirectory(prefix="coral-") as folder:
        place = Path(folder) / "file"
        place.symlink_to(path.absolute())
        complaints = Complaints(subject=name, names={str(place): name}, filesystem=None)
        spill = Path(folder) / "spill"
        with open_locked([str(place)], filesystem=None, temp_dir=spill, threads=1, memory_bytes=None) as database:

            def ask(sql: str) -> tuple[Any, ...]:
                with complaints.translated():
                    return tuple(database.sql(sql).fetchall()[0])

            yield _Look(place=str(place), ask=ask)


def _parquet(path: Path, name: str) -> ObservedFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            schema, num_rows = file.schema_arrow, file.metadata.num_rows
            sniffed = {column: _sniffed(file, column) for column in _binaries(schema)}
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceFormatError(
            name,
            "cannot be read as Parquet",
            facts={"got": str(error).splitlines()[0]},
            remedy="fetch the file again, or give it the ending of what it is",
        ) from error
    left_out: dict[str, str] = {}
    columns = []
    for column, count in {field: schema.names.count(field) for field in schema.names}.items():
        if count > 1:
            left_out[column] = "the file has it twice"
            continue
        found = _arrow_column(column, schema.field(column).type, sniffed.get(column))
        if isinstance(found, ObservedColumn):
            columns.append(found)
        else:
            left_out[column] = found
    return ObservedFile(name=name, format="parquet", columns=tuple(columns), num_rows=num_rows, left_out=left_out)


def _binaries(schema: Any) -> list[str]:
    """Columns of bytes, and of Hugging Face's structs of bytes and path."""
    names = [column for column in schema.names if schema.names.count(column) == 1]
    return [column for column in names if _is_bytes(schema.field(column).type) or _is_media(schema.field(column).type)]


def _is_bytes(kind: Any) -> bool:
    import pyarrow.types as t

    return any(test(kind) for test in (t.is_binary, t.is_large_binary, t.is_binary_view, t.is_fixed_size_binary))


def _is_media(kind: Any) -> bool:
    import pyarrow.types as t

    return t.is_struct(kind) and {kind.field(i).name for i in range(kind.num_fields)} == {"bytes", "path"}


def _sniffed(file: Any, column: str) -> str | None:
    """What the first value's bytes are: a picture, a sound, or neither."""
    for batch in file.iter_batches(batch_size=64, columns=[column]):
        values = [value for value in batch.column(0).to_pylist() if value is not None]
        values = [value["bytes"] if isinstance(value, dict) else value for value in values]
        first = next((value for value in values if value), None)
        if first is not None:
            if first[:4] == b"RIFF":
                return {b"WAVE": "sc:AudioObject", b"WEBP": "sc:ImageObject"}.get(first[8:12])
            return next((kind for magic, kind in _MAGIC if first.startswith(magic)), None)
    return None


def _arrow_column(name: str, kind: Any, media: str | None) -> ObservedColumn | str:
    """A column of an Arrow type, or why Croissant cannot say it."""
    import pyarrow.types as t

    if not name or "/" in name:
        return "its name cannot be that of a field" if name else "it has no name"
    if media is not None:
        return ObservedColumn(name=name, kind=media, path="bytes" if t.is_struct(kind) else "")
    element, shape = _unlisted(kind)
    if t.is_struct(element):
        if shape:
            return "it is a list of structs"
        children = [
            _arrow_column(item.name, item.type, None) for item in (element.field(i) for i in range(element.num_fields))
        ]
        why = next((child for child in children if isinstance(child, str)), None)
        if why is not None or not children:
            return why or "it is an empty struct"
        return ObservedColumn(
            name=name, kind=STRUCT, children=tuple(c for c in children if isinstance(c, ObservedColumn))
        )
    dtype = _arrow_kind(element)
    return (
        f"Croissant has no data type for {element}"
        if dtype is None
        else ObservedColumn(name=name, kind=dtype, shape=shape)
    )


def _unlisted(kind: Any) -> tuple[Any, tuple[int, ...]]:
    """The elements of lists in lists, and their lengths: -1 where they may differ."""
    import pyarrow as pa
    import pyarrow.types as t

    shape: list[int] = []
    while True:
        if isinstance(kind, pa.FixedShapeTensorType):
            return kind.value_type, (*shape, *kind.shape)
        if isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        elif t.is_dictionary(kind):
            kind = kind.value_type
        elif t.is_fixed_size_list(kind):
            shape.append(kind.list_size)
            kind = kind.value_type
        elif any(test(kind) for test in (t.is_list, t.is_large_list, t.is_list_view, t.is_large_list_view)):
            shape.append(-1)
            kind = kind.value_type
        else:
            return kind, tuple(shape)


def _arrow_kind(kind: Any) -> str | None:
    import pyarrow.types as t

    if t.is_decimal(kind):
        return "sc:Integer" if kind.scale == 0 and kind.precision <= 18 else "sc:Float"
    tests = (
        (t.is_null, NOTHING), (t.is_boolean, "sc:Boolean"), (t.is_date, "sc:Date"), (t.is_timestamp, "sc:DateTime"),
        (t.is_time, "sc:Time"), (t.is_string, "sc:Text"), (t.is_large_string, "sc:Text"), (t.is_string_view, "sc:Text"),
        (t.is_integer, f"cr:{str(kind).replace('uint', 'UInt').replace('int', 'Int')}"),
        (t.is_float16, "cr:Float16"), (t.is_float32, "cr:Float32"), (t.is_float64, "cr:Float64"),
    )  # fmt: skip
    return next((name for test, name in tests if test(kind)), None)

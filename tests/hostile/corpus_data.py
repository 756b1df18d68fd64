"""Attacks by data files: JSON, CSV, Parquet, ARFF, lines of text; bombs, lies and ruins."""

# ruff: noqa: E501  # attacks are long

from __future__ import annotations

import gzip
import io
import json
import os
import struct
from typing import Any

from hostile.cases import Ask, Place, add, case, document, file_object, record_set, source

from coralord_lightning.errors import (
    BuildError,
    CroissantError,
    SourceError,
    SourceFormatError,
    UnsupportedCroissantError,
)

BROKEN = (SourceFormatError,)
ZEROS = 300_000_000


def bomb(before: bytes, byte: bytes, after: bytes, size: int = ZEROS) -> bytes:
    """A gzip file of few bytes that unpacks to many."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as file:
        file.write(before)
        for _ in range(size // 1_000_000):
            file.write(byte * 1_000_000)
        file.write(after)
    return out.getvalue()


def _json(content: str | bytes, path: str = "$[*].a", kind: str = "sc:Integer") -> Any:
    def lay(place: Place) -> Any:
        place.write("a.json", content)
        return document(file_object("a.json", "application/json"), record_set(("a", kind, source(path, "jsonPath"))))

    return lay


JSON = {
    "deep": "[" * 100_000 + "]" * 100_000,
    "deep-object": '[{"a": ' + '{"a": ' * 50_000 + "1" + "}" * 50_000 + "}]",
    "nan": '[{"a": NaN}]',
    "infinity": '[{"a": -Infinity}]',
    "huge-number": '[{"a": ' + "9" * 5_000 + "}]",
    "above-64-bits": '[{"a": 99999999999999999999}]',
    "huge-exponent": '[{"a": 1e99999}]',
    "not-utf8": b'[{"a": "\xff\xfe"}]',
    "lone-surrogate": '[{"a": "\\ud800"}]',
    "unclosed": '[{"a": 1}',
    "trailing": '[{"a": 1}] x',
    "empty": "",
    "null-byte": '[{"a": 1\x00}]',
    "single-quotes": "[{'a': 1}]",
    "comment": '[{"a": 1} /* x */]',
    "text-for-number": '[{"a": "x"}]',
    "object-for-number": '[{"a": {"b": 1}}]',
    "utf-16": '[{"a": 1}]'.encode("utf-16"),
}
for _name, _text in JSON.items():
    add(f"json-{_name}", f"a JSON document {_text[:30]!r}", _json(_text), refused=BROKEN)

add(
    "json-duplicate-keys",
    "a key twice: the last one counts, as everywhere",
    _json('[{"a": 1, "a": 2}]'),
    rows=[{"a": 2}],
)
add("json-bom", "a byte order mark", _json(b"\xef\xbb\xbf" + b'[{"a": 1}]'), refused=BROKEN)
add("json-bomb", "a gzip bomb in one text", _json(bomb(b'[{"a": "', b"x", b'"}]')), refused=(SourceError, BuildError))
add("json-bomb-of-rows", "a gzip bomb of brackets", _json(bomb(b"", b"[", b"")), refused=(SourceError, BuildError))

PATHS = {
    "unclosed": "$[", "filter": "$[?(@.a == 1)].a[", "empty": "", "sql": "$.a'; DROP TABLE x; --", "number": 7,
    "huge-index": "$[" + "9" * 5000 + "]", "script": "$[(@.length-1)]",
    "function": "$[?match(@.a, '(a+)+$')].a", "search": "$[?search(@.a, '(a+)+$')].a", "deep-filter": "$[?" + "(" * 2000 + "@.a" + ")" * 2000 + "].a",
}  # fmt: skip
for _name, _path in PATHS.items():
    add(
        f"json-path-{_name}", f"the jsonPath {str(_path)[:40]!r}",
        _json(json.dumps([{"a": "a" * 40 + "b"}]), _path, "sc:Integer"),  # type: ignore[arg-type]
        refused=(CroissantError, SourceFormatError),
    )  # fmt: skip

for _name, _path in {"long": "$[*]" + ".a" * 20_000, "dunder": "$[*].__class__.__mro__"}.items():
    add(
        f"json-path-{_name}",
        f"the jsonPath {_path[:40]!r} leads nowhere",
        _json('[{"a": 1}]', _path),
        rows=[{"a": None}],
    )
add("json-path-slice", "a path to no row", _json('[{"a": 1}]', "$[::0].a"), refused=(BuildError, SourceFormatError))
add(
    "json-brackets-in-texts",
    "brackets in texts are none",
    _json(json.dumps([{"b": ":[" * 3000, "a": 1}])),
    rows=[{"a": 1}],
)
add(
    "json-path-descends",
    "a path that descends again and again",
    _json(json.dumps([{"a": 1}] * 50), "$" + "..a" * 10),
    refused=(CroissantError, SourceFormatError, BuildError),
)
add(
    "json-path-stars", "a path of ten stars over lists of lists",
    _json(json.dumps([[[[[[1] * 5] * 5] * 5] * 5] * 5]), "$" + "[*]" * 6), rows=[{"a": 1}] * 100,
)  # fmt: skip


def _table(content: str | bytes, format_: str = "text/csv", name: str = "a.csv", kind: str = "sc:Integer") -> Any:
    def lay(place: Place) -> Any:
        place.write(name, content)
        return document(file_object(name, format_), record_set(("a", kind)))

    return lay


CSV = {
    "nul": "a\n1\x00\n",
    "unclosed-quote": 'a\n"1\n2\n',
    "unclosed-header": '"a\n1\n',
    "ragged-more": "a\n1,2,3\n",
    "ragged-less": "b,a\n1\n",
    "quote-inside": 'a\n1"2"\n',
    "latin": b"\xe4,a\n1,2\n",
    "latin-row": b"b,a\n\xe4,2\n",
    "utf-16": "a\n1\n".encode("utf-16"),
    "empty": "",
    "newline-only": "\n",
    "binary": os.urandom(64) + b"\xff\xfe\x00",
    "wide": ",".join(f"x{number}" for number in range(50_000)) + "\n",
    "parquet-inside": b"PAR1" + b"\0" * 100 + b"PAR1",
    "formula": "a\n=cmd|'/c calc'!A0\n",
    "gzip-cut": gzip.compress(b"a\n1\n" * 1000)[:-20],
    "gzip-garbage": gzip.compress(b"a\n1\n") + b"garbage",
    "gzip-header-only": b"\x1f\x8b",
}
for _name, _content in CSV.items():
    add(f"csv-{_name}", f"a CSV file {_content[:30]!r}", _table(_content), refused=(SourceFormatError, CroissantError))

add(
    "csv-bomb",
    "a gzip bomb of one line",
    _table(bomb(b"a\n", b"1", b"\n"), name="a.csv.gz"),
    refused=(SourceError, BuildError),
)
add(
    "csv-bomb-header",
    "a gzip bomb of one header",
    _table(bomb(b"a", b"x", b"\n1\n"), name="a.csv.gz"),
    refused=(SourceError, BuildError),
)
add(
    "csv-giant-line",
    "a line of forty million characters",
    _table("a\n" + "1" * 40_000_000 + "\n"),
    refused=(SourceError, BuildError),
)
add("csv-carriage-returns", "lines that end in \\r", _table("a\r1\r2\r"), rows=[{"a": 1}, {"a": 2}])

JSONL = {
    "deep": '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}\n",
    "list": "[1, 2]\n",
    "number": "7\n",
    "unclosed": '{"a": 1\n',
    "two-on-a-line": '{"a": 1}{"a": "x"}\n',
    "nan": '{"a": NaN}\n',
    "not-utf8": b'{"a": "\xff"}\n',
    "giant": '{"a": "' + "x" * 40_000_000 + '"}\n',
    "garbage": b"\x00\x01\x02\n",
    "bomb": bomb(b'{"a": "', b"x", b'"}\n'),
}
for _name, _content in JSONL.items():
    lay = _table(_content, "application/jsonlines", "a.jsonl")
    add(f"jsonl-{_name}", f"JSON lines {_content[:30]!r}", lay, refused=(SourceError, BuildError))

ARFF = {
    "no-data": "@RELATION x\n@ATTRIBUTE a NUMERIC\n",
    "no-attributes": "@DATA\n1\n",
    "nameless": "@ATTRIBUTE\n@DATA\n1\n",
    "blank-name": "@ATTRIBUTE   \n@DATA\n1\n",
    "sparse": "@ATTRIBUTE a NUMERIC\n@DATA\n{0 1}\n",
    "ragged": "@ATTRIBUTE a NUMERIC\n@DATA\n1,2\n",
    "unclosed-quote": "@ATTRIBUTE 'a\n@DATA\n'1\n",
    "twice": "@ATTRIBUTE a NUMERIC\n@ATTRIBUTE a NUMERIC\n@DATA\n1,2\n",
    "nul": "@ATTRIBUTE a NUMERIC\n@DATA\n1\x00\n",
    "latin": b"@ATTRIBUTE a NUMERIC\n@DATA\n\xff\n",
    "giant-field": "@ATTRIBUTE a NUMERIC\n@DATA\n" + "1" * 1_000_000 + "\n",
    "bomb": bomb(b"@ATTRIBUTE a NUMERIC\n@DATA\n", b"1", b"\n"),
}
for _name, _content in ARFF.items():
    lay = _table(_content, "application/x-arff", "a.arff")
    add(f"arff-{_name}", f"an ARFF file {_content[:40]!r}", lay, refused=(SourceError, BuildError))


def _lines(content: bytes) -> Any:
    def lay(place: Place) -> Any:
        place.write("a.txt", content)
        where = source("lines", "fileProperty")
        return document(file_object("a.txt", "text/plain"), record_set(("a", "sc:Text", where)))

    return lay


add("lines-bomb", "a gzip bomb of one line", _lines(bomb(b"", b"x", b"")), refused=(SourceError, BuildError))
add("lines-binary", "lines that are no text", _lines(b"\xff\xfe\n\x00\n"), refused=BROKEN)
add("lines-nul", "lines with NUL and \\r", _lines(b"a\x00b\r\nc\rd\n"), rows=[{"a": "a\x00b"}, {"a": "c\rd"}])


def whole_parquet(**columns: Any) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(pa.table(columns or {"a": list(range(1000))}), out, compression="none", use_dictionary=False)
    return out.getvalue()


def _parquet(change: Any) -> Any:
    def lay(place: Place) -> Any:
        place.write("a.parquet", change(whole_parquet()))
        return document(file_object("a.parquet"))

    return lay


def _footer(size: int) -> Any:
    return lambda data: data[:-8] + struct.pack("<I", size) + b"PAR1"


PARQUET = {
    "truncated": lambda data: data[: len(data) // 2],
    "no-tail": lambda data: data[:-4],
    "magic-only": lambda data: b"PAR1",
    "magic-twice": lambda data: b"PAR1PAR1",
    "encrypted": lambda data: b"PARE" + data[4:-4] + b"PARE",
    "footer-huge": _footer(0xFFFFFFFF),
    "footer-2gb": _footer(0x7FFFFFFF),
    "footer-zero": _footer(0),
    "footer-short": _footer(10),
    "footer-whole": lambda data: _footer(len(data) - 8)(data),
    "footer-garbage": lambda data: data[:-108] + b"\xff" * 100 + data[-8:],
    "page-header": lambda data: data[:4] + b"\xff" * 40 + data[44:],
    "page-header-size": lambda data: data[:4] + b"\x15\x00\x15\xfe\xff\xff\xff\x0f\x15\xfe\xff\xff\xff\x0f" + data[18:],
    "cut-middle": lambda data: data[:500] + data[1500:],
    "csv": lambda data: b"a\n1\n",
    "zip": lambda data: b"PK\x03\x04" + b"\0" * 100,
    "html": lambda data: b"<html>404</html>",
}
for _name, _change in PARQUET.items():
    add(f"parquet-{_name}", f"a Parquet file: {_name}", _parquet(_change), refused=(SourceFormatError, BuildError))


def _large(**keys: Any) -> Any:
    """Four hundred million rows of one value, in few bytes."""

    def lay(place: Place) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        with pq.ParquetWriter(place.folder / "a.parquet", pa.schema([("a", pa.int64())]), compression="zstd") as sink:
            batch = pa.record_batch({"a": pa.array([7]).take(pa.array([0] * 1_000_000))})
            for _ in range(20):
                sink.write_batch(batch)
        return Ask(croissant=document(file_object("a.parquet")), keys=keys)

    return lay


add("parquet-rows-limit", "a bomb of rows, of which ten are asked for", _large(limit=10), rows=[{"a": 7}] * 10)
add("parquet-rows-where", "a bomb of rows, of which none fits", _large(where="a = 8"), refused=BuildError)


@case("a Parquet column nested fifty lists deep", refused=(SourceFormatError, CroissantError))
def parquet_nested(place: Place) -> Any:
    import pyarrow as pa

    kind, value = pa.int64(), 1
    for _ in range(50):
        kind, value = pa.list_(kind), [value]  # type: ignore[assignment]
    place.write("a.parquet", whole_parquet(a=pa.array([value], kind)))
    return document(file_object("a.parquet"))


@case("a Parquet file of twenty thousand columns", rows=[{"a": 1}])
def parquet_wide(place: Place) -> Any:
    place.parquet(**{f"x{number}": [1] for number in range(5_000)}, a=[1])
    return document(file_object("a.parquet"))


@case("a Parquet file with a huge text in its metadata", rows=[{"a": 1}])
def parquet_metadata(place: Place) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"a": [1]}, metadata={"ARROW:schema": "x" * 5_000_000, "pandas": "__import__('os')"})
    pq.write_table(table, place.folder / "a.parquet")
    return document(file_object("a.parquet"))


@case("numbers in a text column that cannot be the field", refused=SourceFormatError)
def parquet_texts(place: Place) -> Any:
    return document(file_object(place.parquet(a=["1", "x\x1fcoral:value\x1f"])))


LIES = {"sha256": "0" * 64, "md5": "0" * 32, "sha256-base64": "A" * 43 + "="}
for _name, _said in LIES.items():
    add(
        f"lie-{_name}", "a declared hash is not the file's",
        lambda place, name=_name, said=_said: document(file_object(place.parquet(), **{name.partition("-")[0]: said})),
        refused=SourceError,
    )  # fmt: skip


@case("a placeholder for a hash is none", rows=[{"a": 1}, {"a": 2}])
def hash_placeholder(place: Place) -> Any:
    url = "https://github.com/mlcommons/croissant/issues/80"
    return document(file_object(place.parquet(), sha256=url))


@case("the formats of a pickle, a script and a DuckDB database are not opened", refused=UnsupportedCroissantError)
def pickled(place: Place) -> Any:
    place.write("a.pkl", b"cos\nsystem\n(S'true'\ntR.")
    return document(file_object("a.pkl", "application/octet-stream"))

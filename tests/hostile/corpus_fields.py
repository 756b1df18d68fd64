"""Attacks by what fields say: names, columns, transforms, constants, inline rows, and the descriptor's own texts."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

from hostile.cases import Ask, Place, add, case, document, file_object, record_set, source

from coralord_lightning.errors import (
    BuildError,
    CroissantSyntaxError,
    DescriptorError,
    SourceFormatError,
    UnsupportedCroissantError,
)

TWO = [{"a": 1}, {"a": 2}]
SQL = "a\"'; COPY (SELECT 42) TO '/tmp/pwned'; --"
EVIL = {
    "sql": SQL,
    "sql-comment": "a/*",
    "read-file": "(SELECT content FROM read_text('/etc/passwd'))",
    "quote": '"',
    "quotes": "'\"'\"",
    "semicolon": ";",
    "parenthesis": ")) FROM x --",
    "dollar": "$$; DROP TABLE x; $$",
    "backslash": "a\\",
    "format": "{0.__class__}%s%n",
    "control": "a\x01\x1f\x7f",
    "separator": "coral:value\x1fx\x1fy",
    "newline": "a\nb\r\nc",
    "right-to-left": "a\u202eb",
    "combining": "e\u0301",
    "proto": "__proto__",
    "dunder": "__class__",
    "reserved": "select",
    "rowid": "rowid",
    "row-number": "file_row_number",
    "filename": "filename",
    "internal": "f0",
    "internal-src": "src",
    "long": "x" * 5_000,
    "spaces": "  ",
    "emoji": "\U0001f40d",
}


def _column(name: str) -> Any:
    return lambda place: document(
        file_object(place.parquet(**{name: [1, 2]})), record_set(("a", "sc:Integer", source(name)))
    )


for _name, _text in EVIL.items():
    add(f"column-{_name}", f"a column called {_text[:40]!r}", _column(_text), rows=TWO)

HEADER = {name: text for name, text in EVIL.items() if name != "spaces"}


@case("CSV columns with names of all evil", rows=[{name: at for at, name in enumerate(HEADER)}])
def csv_columns(place: Place) -> Any:
    header = ",".join('"' + text.replace('"', '""') + '"' for text in HEADER.values())
    place.write("a.csv", header + "\n" + ",".join(map(str, range(len(HEADER)))) + "\n")
    fields = [(name, "sc:Integer", source(text)) for name, text in HEADER.items()]
    return document(file_object("a.csv", "text/csv"), record_set(*fields))


@case("JSON keys with names of all evil", rows=[{name: at for at, name in enumerate(EVIL)}])
def jsonl_keys(place: Place) -> Any:
    place.write("a.jsonl", json.dumps({text: at for at, text in enumerate(EVIL.values())}) + "\n")
    fields = [(name, "sc:Integer", source(text)) for name, text in EVIL.items()]
    return document(file_object("a.jsonl", "application/jsonlines"), record_set(*fields))


NAMES = {text.rpartition("/")[2] or text: at for at, text in enumerate(EVIL.values())}


@case("fields with names of all evil", rows=[NAMES])
def fields_named(place: Place) -> Any:
    place.parquet(**{f"c{at}": [at] for at in range(len(EVIL))})
    fields = [(text, "sc:Integer", source(f"c{at}")) for at, text in enumerate(EVIL.values())]
    return document(file_object("a.parquet"), record_set(*fields))


@case("inline rows whose fields have names of all evil", rows=[NAMES])
def fields_inline(place: Place) -> Any:
    fields = [(text, "sc:Integer", {}) for text in EVIL.values()]
    return document([], record_set(*fields, data=[{f"r/{text}": at for at, text in enumerate(EVIL.values())}]))


@case("a field called ..", rows=[{"..": 1}, {"..": 2}])
def field_dots(place: Place) -> Any:
    return document(file_object(place.parquet()), record_set(("..", "sc:Integer", source("a"))))


@case("fields that DuckDB would fold to one", rows=[{"a": 1, "A": 2}])
def fields_by_case(place: Place) -> Any:
    place.parquet(a=[1], A=[2])
    return document(file_object("a.parquet"), record_set("a", "A"))


@case("fields that differ in how a letter is composed", rows=[{"\u00e9": 1, "e\u0301": 2}])
def fields_by_composition(place: Place) -> Any:
    place.parquet(**dict(zip(("\u00e9", "e\u0301"), ([1], [2]), strict=True)))
    return document(file_object("a.parquet"), record_set("\u00e9", "e\u0301"))


def _texts(*transforms: dict[str, Any], values: list[str], kind: str = "sc:Text", **terms: Any) -> Any:
    """One field over a column of texts, transformed."""

    def lay(place: Place) -> Any:
        file = file_object(place.parquet(a=values))
        node = {
            "@type": "cr:Field", "@id": "r/a", "dataType": kind, "source": source("a", transform=list(transforms)),
            **terms,
        }  # fmt: skip
        return document(file, record_set(node))

    return lay


LONG = "a" * 200_000
add(
    "regex-exponential",
    "(a+)+$ on a long text",
    _texts({"regex": "((a+)+)$"}, values=[LONG + "b"]),
    rows=[{"a": LONG + "b"}],
)
add("regex-alternatives", "(a|aa)+$", _texts({"regex": "((a|aa)+)$"}, values=[LONG + "b"]), rows=[{"a": LONG + "b"}])
add(
    "regex-many-stars",
    "(.*){20}x",
    _texts({"regex": "(.*)" * 20 + "x"}, values=["a" * 20_000]),
    rows=[{"a": "a" * 20_000}],
)

add(
    "regex-deep",
    "five thousand groups in each other",
    _texts({"regex": "(" * 5000 + ")" * 5000}, values=["a"]),
    rows=[{"a": ""}],
)

PATTERNS = {
    "unclosed": "(a",
    "back-reference": r"(a)\1",
    "look-behind": "(?<=a)b",
    "look-ahead": "a(?=b)",
    "atomic": "(?>a+)b",
    "recursive": "(?R)",
    "conditional": "(a)?(?(1)b|c)",
    "repeat-1000-1000": "(a{1000}){1000}",
    "repeat-1001": "(a{1001})",
    "repeat-nested": "((((a{30}){30}){30}){30})",
    "class-range": "[z-a]",
    "bad-escape": r"\q(a)",
    "code": "(?{ system('true') })",
    "nul": "a\x00(b)",
    "number": 7,
    "empty": "",
    "list": ["a", "b"],
}
for _name, _pattern in PATTERNS.items():
    add(
        f"regex-{_name}", f"the regex {str(_pattern)[:40]!r}", _texts({"regex": _pattern}, values=["a"]),
        refused=(CroissantSyntaxError, SourceFormatError),
    )  # fmt: skip

for _name in ("sql", "quote", "quotes", "parenthesis", "dollar", "backslash", "control", "newline", "read-file"):
    _text = EVIL[_name]
    add(
        f"separator-{_name}",
        "a separator of SQL",
        _texts({"separator": _text}, values=[f"x{_text}y"], isArray=True),
        rows=[{"a": ["x", "y"]}],
    )

add(
    "replace-sql",
    "a replacement of SQL",
    _texts({"replace": "x/'; DROP TABLE t; --"}, values=["axb"]),
    rows=[{"a": "a'; DROP TABLE t; --b"}],
)
add(
    "replace-group",
    "a replacement that names a group that is not there",
    _texts({"replace": r"x/\9"}, values=["axb"]),
    refused=(SourceFormatError, CroissantSyntaxError),
)
add(
    "replace-bomb",
    "a replacement that multiplies itself",
    _texts(*[{"replace": "a/aaaaaaaaaa"}] * 30, values=["a"]),
    refused=(SourceFormatError, CroissantSyntaxError, BuildError),
)
add(
    "format-sql",
    "a date format of SQL",
    _texts({"format": "%Y'; DROP TABLE t; --"}, values=["2020'; DROP TABLE t; --"], kind="sc:Date"),
    rows=[{"a": date(2020, 1, 1)}],
)
add(
    "format-unknown",
    "a date format that is none",
    _texts({"format": "%Q%%%"}, values=["2020"], kind="sc:Date"),
    refused=(SourceFormatError, CroissantSyntaxError),
)
add(
    "format-letters",
    "a date format of letters",
    _texts({"format": "qqqq"}, values=["2020"], kind="sc:Date"),
    refused=(SourceFormatError, CroissantSyntaxError),
)
add(
    "format-long",
    "a date format of a million letters",
    _texts({"format": "%Y" * 500_000}, values=["2020"], kind="sc:Date"),
    refused=(SourceFormatError, CroissantSyntaxError),
)
add(
    "transform-unknown",
    "a transform that runs code",
    _texts({"eval": "__import__('os').system('true')"}, values=["x"]),
    refused=UnsupportedCroissantError,
)
add("transform-text", "a transform that is no object", _texts("x", values=["x"]), refused=CroissantSyntaxError)  # type: ignore[arg-type]
add(
    "transforms-many",
    "a thousand transforms",
    _texts(*[{"regex": "(.*)"}] * 1000, values=["x"]),
    refused=(SourceFormatError, CroissantSyntaxError, BuildError),
)
add("transforms-hundred", "a hundred transforms", _texts(*[{"regex": "(.*)"}] * 100, values=["x"]), rows=[{"a": "x"}])

SHAPES = {
    "huge": "1000000000,1000000000", "negative": "-5", "zero": "0", "text": "x", "sql": "1); DROP TABLE t; --",
    "many": ",".join(["1"] * 5000), "digits": "9" * 5000, "arabic": "\u0663",
}  # fmt: skip
for _name, _shape in SHAPES.items():
    add(
        f"shape-{_name}", f"arrayShape {_shape[:30]!r}",
        _texts({"separator": ","}, values=["1,2"], kind="sc:Integer", isArray=True, arrayShape=_shape),
        refused=(CroissantSyntaxError, SourceFormatError, UnsupportedCroissantError),
    )  # fmt: skip

for _name in ("sql", "quotes", "separator", "control", "format", "newline"):
    _text = EVIL[_name]
    add(
        f"constant-{_name}", f"a constant {_text[:30]!r}",
        lambda place, text=_text: document(
            file_object(place.parquet(a=[1])),
            record_set("a", {"@type": "cr:Field", "@id": "r/c", "dataType": "sc:Text", "value": text}),
        ),
        rows=[{"a": 1, "c": _text}],
    )  # fmt: skip


def _inline(data: Any, kind: str = "sc:Integer", **terms: Any) -> Any:
    return lambda place: document([], record_set(("a", kind, {}), data=data, **terms))


INLINE = {
    "nan": [{"a": float("nan")}],
    "infinity": [{"a": float("inf")}],
    "text-for-number": [{"a": "x'; DROP TABLE t; --"}],
    "list-for-number": [{"a": [1, 2]}],
    "object-for-number": [{"a": {"b": 1}}],
    "huge-number": [{"a": 10**400}],
    "above-64-bits": [{"a": 2**64}],
    "fraction": [{"a": "1e999"}],
    "no-objects": [1, 2],
    "unknown-key": [{"b": 1}],
    "a-number": 7,
    "deep": [{"a": [[[[[[[[[[1]]]]]]]]]]}],
}
for _name, _data in INLINE.items():
    add(
        f"inline-{_name}",
        f"inline rows {str(_data)[:40]}",
        _inline(_data),
        refused=(CroissantSyntaxError, SourceFormatError),
    )

add(
    "inline-sql",
    "inline texts of SQL",
    _inline([{"a": text} for text in EVIL.values()], "sc:Text"),
    rows=[{"a": text} for text in EVIL.values()],
)
add(
    "inline-proto",
    "inline rows with a key of JavaScript's",
    _inline([{"a": 1, "__proto__": {"a": 2}}]),
    refused=CroissantSyntaxError,
)


@case("a hundred thousand inline rows", rows=[{"a": number} for number in range(100)])
def inline_many(place: Place) -> Any:
    return _inline([{"a": number} for number in range(100_000)])(place)


DESCRIPTOR = {
    "where-second": {"where": "a > 0; DROP TABLE x"},
    "where-comment": {"where": "a > 0 --"},
    "where-subquery": {"where": "a IN (SELECT 1)"},
    "where-read": {"where": "a > (SELECT count(*) FROM read_text('/etc/passwd'))"},
    "where-function": {"where": "getenv('HOME') = 'x'"},
    "where-closing": {"where": "1=1) UNION ALL SELECT * FROM read_csv('/etc/passwd'"},
    "where-deep": {"where": "(" * 5000 + "a > 0" + ")" * 5000},
    "where-long": {"where": " AND ".join(["a > 0"] * 50_000)},
    "where-nul": {"where": "a > 0\x00"},
    "where-copy": {"where": "COPY x TO 'y'"},
    "where-regex": {"where": "regexp_matches(a, '(')"},
    "fields-sql": {"fields": [SQL]},
    "fields-many": {"fields": ["a"] * 100_000},
    "order-sql": {"order_by": ["a; DROP TABLE x"]},
    "order-function": {"order_by": ["random()"]},
    "split-name": {"splits": {"../../x": {}}},
    "split-name-sql": {"splits": {"x'; --": {}}},
    "split-where": {"splits": {"x": {"where": "a > 0; DROP TABLE x"}}},
    "split-group": {"splits": {"x": {"from": "rest", "fraction": 0.5, "group_by": [SQL]}}},
    "name-up": {"name": "../../x"},
    "name-absolute": {"name": "/tmp/x"},
    "files-up": {"croissant": None, "files": ["../outside/*.parquet"]},
    "files-absolute": {"croissant": None, "files": ["/etc/*"]},
    "record-set-sql": {"record_set": SQL},
}
for _name, _keys in DESCRIPTOR.items():
    add(
        f"descriptor-{_name}", f"the descriptor says {str(_keys)[:60]}",
        lambda place, keys=_keys: Ask(croissant=document(file_object(place.parquet())), keys=keys),
        refused=DescriptorError,
    )  # fmt: skip

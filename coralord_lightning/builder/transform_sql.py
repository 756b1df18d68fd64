"""Croissant transforms as SQL: regex, separator, replace, json_path, format. Pure text, runs nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from coralord_lightning.builder.kinds import JSON, TEXT, ColumnType, NoCastError, Value
from coralord_lightning.spec.croissant.formats import BOX_FORMATS
from coralord_lightning.spec.croissant.sources import split_replace
from coralord_lightning.spec.json_path import is_plain, name_of, path_segments
from coralord_lightning.spec.predicate import quote_literal
from coralord_lightning.spec.selection import DType, Transform

__all__ = ["as_text", "bound", "file_property", "json_path", "transformed"]

_SIMPLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")
_PARTS = re.compile(
    r"""\\Q.*?(?:\\E|$)|\\.|\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\])*\]|(?P<group>\((?!\?)|\(\?P?<\w+>)""", re.DOTALL
)
"""What is no group (quoted, escaped, a class of characters), or the beginning of a group that captures."""
_MAX_GROUPS = 9
_MAX_REPLACED = 256 * 1024 * 1024
_DATES: dict[str, str] = {"date": "DATE", "timestamp": "TIMESTAMP", "time": "TIME"}


def transformed(value: Value, steps: Sequence[Transform], *, dtype: DType, failure: Callable[[str, str], str]) -> Value:
    """A value after its transforms, in their order.

    Args:
        failure: (SQL of what to show, what it is not) -> SQL that stops the query with our own message.
    Raises:
        NoCastError: a step cannot be applied to what is there.
    """
    for step in steps:
        value = _apply(value, step, dtype, failure)
    return value


def file_property(path: str, name: str) -> str:
    """What a file's name or path is.

    Source: Croissant 1.1, Extract: fullpath is the path within the dataset's folder or archive.
    """
    return path.rpartition("/")[2] if name == "filename" else path


def bound(sql: str, make: Callable[[str], str]) -> str:
    """An expression of a value that it needs several times, written once: nested steps would grow exponentially."""
    if _SIMPLE.fullmatch(sql):
        return make(sql)
    return f"list_transform([{sql}], lambda v: {make('v')})[1]"


def as_text(value: Value) -> str:
    """SQL of a scalar value as text."""
    if value.type.element == "VARCHAR":
        return value.sql
    if value.type.element == "BLOB":
        return f"decode({value.sql})"
    if value.type.element == "JSON":
        return f"json_extract_string({value.sql}, '$')"
    return f"CAST({value.sql} AS VARCHAR)"


def json_path(value: Value, path: str) -> Value:
    """What a path leads to within a struct, a map, a list of these, or JSON text.

    Raises:
        NoCastError: there is no such thing.
    """
    segments = path_segments(path)
    for at, segment in enumerate(segments):
        if value.type.element in ("JSON", "VARCHAR", "BLOB"):
            return _into_json(value, segments[at:], path)
        value = _into(value, segment, path)
    return value


def _apply(value: Value, step: Transform, dtype: DType, failure: Callable[[str, str], str]) -> Value:
    if step.op == "json_path":
        return json_path(value, step.argument)
    if value.type.depth:
        name = f"e{value.type.depth}"
        inner = _apply(Value(name, value.type.item), step, dtype, failure)
        return Value(f"list_transform({value.sql}, lambda {name}: {inner.sql})", inner.type.listed(1))
    if step.op == "format":
        return _parsed(value, step.argument, dtype, failure)
    text = as_text(value)
    if step.op == "regex":
        return Value(bound(text, lambda x: _group(x, step.argument)), TEXT)
    if step.op == "separator":
        return Value(f"string_split({text}, {quote_literal(step.argument)})", TEXT.listed(1))
    return Value(bound(text, lambda x: _replaced(x, step.argument, failure)), TEXT)


def _replaced(x: str, argument: str, failure: Callable[[str, str], str]) -> str:
    """Every match replaced; a text that would grow beyond all memory, as by `a/aaaaaa` again and again, is refused."""
    pattern, replacement = split_replace(argument)
    done = f"regexp_replace({x}, {quote_literal(pattern)}, {quote_literal(replacement)}, 'g')"
    if len(replacement) <= 1:
        return done
    most = _MAX_REPLACED // len(replacement.encode())
    return f"CASE WHEN strlen({x}) > {most} THEN {failure(x, 'is too long to replace parts of it')} ELSE {done} END"


def _group(x: str, pattern: str) -> str:
    """The first group that took part in a match at the text's beginning, as the official reader has it; else the text.

    `regexp_extract_all` has null for a group that took no part, where `regexp_extract` has an empty text.
    """
    pattern, count = _few_groups(pattern)
    anchored = quote_literal(f"^(?:{pattern})")
    groups = [f"regexp_extract_all({x}, {anchored}, {number})[1]" for number in range(1, count + 1)]
    return f"coalesce({', '.join([*groups, x])})" if groups else x


def _few_groups(pattern: str) -> tuple[str, int]:
    """A pattern in RE2 syntax, and how many groups it captures: those that DuckDB can be asked for, and no more.

    What RE2 needs to find all groups grows with the square of their number.
    """
    count = 0

    def seen(found: re.Match[str]) -> str:
        nonlocal count
        if not found["group"]:
            return found[0]
        count += 1
        return found[0] if count <= _MAX_GROUPS else "(?:"

    return _PARTS.sub(seen, pattern), min(count, _MAX_GROUPS)


def _parsed(value: Value, pattern: str, dtype: DType, failure: Callable[[str, str], str]) -> Value:
    if pattern in BOX_FORMATS:
        return value
    if value.type.element in ("DATE", "TIME") or value.type.element.startswith("TIMESTAMP"):
        return value  # the file has it as what it is
    text = as_text(value)
    if dtype in _DATES:
        quoted = quote_literal(pattern)

        def parse(x: str) -> str:
            broken = failure(x, f"is not written like {pattern}")
            # both strftime and CLDR take Z for an offset of zero, and DuckDB does not
            given = f"regexp_replace({x}, 'Z$', '+00:00')" if pattern.endswith("%z") else x
            return f"coalesce(try_strptime({given}, {quoted}), CASE WHEN {x} IS NOT NULL THEN {broken} END)"

        return Value(f"CAST({bound(text, parse)} AS {_DATES[dtype]})", ColumnType(_DATES[dtype]))
    if "%" not in pattern and dtype not in ("text", "bytes", "bool", "struct"):
        return Value(f"replace({text}, ',', '')", TEXT) if "," in pattern else value
    raise NoCastError(f"the format {pattern!r} is for dates, times and numbers, and it is {dtype}")


def _into(value: Value, segment: str, path: str) -> Value:
    kind = value.type
    name = name_of(segment)
    if segment == "[*]" and kind.depth:
        return value
    if kind.depth and name is not None:
        item = f"e{kind.depth}"
        inner = _into(Value(item, kind.item), segment, path)
        return Value(f"list_transform({value.sql}, lambda {item}: {inner.sql})", inner.type.listed(1))
    if kind.depth and segment[1:-1].removeprefix("-").isdecimal():
        at = int(segment[1:-1])
        return Value(f"({value.sql})[{at + 1 if at >= 0 else at}]", kind.item)
    fields = dict(kind.fields)
    if kind.element == "STRUCT" and name in fields:
        return Value(f"struct_extract({value.sql}, {quote_literal(name)})", fields[name])
    if kind.element == "MAP" and name is not None:
        return Value(f"map_extract({value.sql}, {quote_literal(name)})[1]", fields["value"])
    there = ", ".join(fields) or kind.element
    raise NoCastError(f"the path {path!r} leads to nothing: there is {there}")


def _into_json(value: Value, segments: Sequence[str], path: str) -> Value:
    if value.type.depth:
        name = f"e{value.type.depth}"
        inner = _into_json(Value(name, value.type.item), segments, path)
        return Value(f"list_transform({value.sql}, lambda {name}: {inner.sql})", inner.type.listed(1))
    many = not is_plain("$" + "".join(segments))
    text = value.sql if value.type.element == "JSON" else f"CAST({as_text(value)} AS JSON)"
    found = f"json_extract({text}, {quote_literal('$' + ''.join(map(_duckdb_segment, segments)))})"
    return Value(found, JSON.listed(1) if many else JSON)


def _duckdb_segment(segment: str) -> str:
    name = name_of(segment)
    if name is None:
        if segment != "[*]" and not segment[1:-1].removeprefix("-").isdecimal():
            raise NoCastError(f"the part {segment!r} of a JSON path is read in JSON documents only")
        return segment if not segment.startswith("[-") else f"[#{segment[1:]}"
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'..."{quoted}"'[1:] if segment.startswith("..") else f'."{quoted}"'

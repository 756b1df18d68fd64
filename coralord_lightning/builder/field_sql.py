"""One field as SQL: from a column as its file types it to what the selection asks for. Pure text, runs nothing.

A cast that could change a value is checked: where it would, the query stops with a message that starts with `MARK` and
names file, field and value. Shapes come out as lists, flat where all dimensions are fixed, their lengths checked;
`reshape` makes them nested fixed-size lists.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from coralord_lightning.builder.kinds import ColumnType, NoCastError, Value
from coralord_lightning.builder.transform_sql import bound
from coralord_lightning.spec.predicate import quote_literal
from coralord_lightning.spec.selection import DType, SelectedField

__all__ = ["MARK", "SEPARATOR", "cast_sql", "element_type", "failure_sql"]

MARK = "coral:value"
SEPARATOR = "\x1f"
"""Stands between the parts of a message; the names and values around it may hold anything one can type."""

_SIGNED = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT")
_UNSIGNED = ("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
_INTEGERS = frozenset({*_SIGNED, *_UNSIGNED, "HUGEINT", "UHUGEINT", "BIGNUM"})
_FLOATS = frozenset({"FLOAT", "DOUBLE"})
_DAYS = frozenset({"TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"})
_ZONED = frozenset({"TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ", "TIMESTAMPTZ_NS"})
_CLOCKS = frozenset({"TIME", "TIME_NS", "TIME WITH TIME ZONE", "TIMETZ"})
_PRINTED = _INTEGERS | _FLOATS | _DAYS | {"BOOLEAN", "DATE", "TIME", "UUID", "JSON"}
_FIXED: dict[DType, str] = {
    "bool": "BOOLEAN",
    "int8": "TINYINT",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "uint8": "UTINYINT",
    "uint16": "USMALLINT",
    "uint32": "UINTEGER",
    "uint64": "UBIGINT",
    "float16": "FLOAT",  # DuckDB has no half floats; `reshape` narrows them
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "text": "VARCHAR",
    "bytes": "BLOB",
    "date": "DATE",
    "time": "TIME",
}
_WHOLE_NUMBER = r"regexp_full_match({x}, '\s*[+-]?[0-9]+(\.0*)?\s*')"
_WHOLE_DAY = "TRY_CAST({x} AS TIMESTAMP) = TRY_CAST({x} AS DATE)"


def element_type(dtype: DType, columns: Iterable[ColumnType]) -> str:
    """The DuckDB type of a field's elements over all files that give it.

    `integer` and `float` keep the files' own width, the widest where they differ; where files have none, they are
    BIGINT and DOUBLE.
    """
    found = {column.element for column in columns} - {'"NULL"'}
    if dtype == "integer":
        return _common_integer(found)
    if dtype == "float":
        return "FLOAT" if found == {"FLOAT"} else "DOUBLE"
    if dtype == "timestamp":
        return "TIMESTAMP_NS" if "TIMESTAMP_NS" in found else "TIMESTAMP"
    if dtype == "time":
        return "TIME_NS" if "TIME_NS" in found else "TIME"
    return _FIXED[dtype]


def _common_integer(found: set[str]) -> str:
    if found and found <= set(_UNSIGNED):
        return max(found, key=_UNSIGNED.index)
    if found and found <= {*_SIGNED, *_UNSIGNED}:
        ranks = [_SIGNED.index(name) if name in _SIGNED else _UNSIGNED.index(name) + 1 for name in found]
        return _SIGNED[min(max(ranks), len(_SIGNED) - 1)]
    return "BIGINT"


def cast_sql(field: SelectedField, value: Value, target: str, *, file: str, truncates: bool = False) -> str:
    """The expression of one field without subfields in one file.

    Args:
        value: the column after its transforms.
        target: DuckDB type of the elements, of `element_type`.
        file: SQL of the file's logical name, for messages.
        truncates: a fraction becomes the whole number before it, as in JSON documents, whose numbers have one type.
    Raises:
        NoCastError: the column can never be this field.
    """
    column = value.type
    cast = _Cast(field=field, file=file, source=column.element, target=target, truncates=truncates)
    if column.element == "JSON" and field.shape:
        return _json_sql(cast, value.sql, column.depth)
    depth = len(field.shape)
    if column.element == "JSON" and column.depth == 1 and depth == 0:
        return bound(f"({value.sql})[1]", cast.scalar)  # a path that could give many values, of which a scalar is asked
    flat = depth > 1 and column.depth == 1 and -1 not in field.shape
    if column.depth != depth and not flat and column.element != '"NULL"':
        raise NoCastError(f"it is {_lists(column.depth)} there, and its shape {list(field.shape)} asks for {depth}")
    if column.element == '"NULL"':
        return f"CAST(NULL AS {target}{'[]' * min(depth, 1 if -1 not in field.shape else depth)})"
    if depth == 0:
        return bound(value.sql, cast.scalar)
    return bound(value.sql, lambda x: cast.shaped(x, (math.prod(field.shape),) if flat else field.shape))


def failure_sql(field: SelectedField, file: str) -> Callable[[str, str], str]:
    """How a value that a field cannot be stops the query: (SQL to show, what it is not) -> SQL.

    Args:
        file: SQL of the file's logical name.
    """
    start = f"{quote_literal(MARK + SEPARATOR)} || {file} || {quote_literal(SEPARATOR + field.name + SEPARATOR)}"

    def failure(shown: str, wanted: str) -> str:
        return f"error({start} || left({shown}, 100) || {quote_literal(SEPARATOR + wanted + SEPARATOR)})"

    return failure


def _lists(depth: int) -> str:
    return "no list" if depth == 0 else f"{depth} lists deep"


def _json_sql(cast: _Cast, value: str, depth: int) -> str:
    """An array in JSON: nested lists, or one flat list where the shape is fixed.

    Args:
        depth: lists of JSON values around it already.
    """
    shape = cast.field.shape
    if depth:
        return cast.shaped(_json_texts(value, depth, len(shape) - depth), shape)

    def nested(x: str) -> str:
        deep = cast.shaped(f"CAST({x} AS VARCHAR{'[]' * len(shape)})", shape)
        if -1 in shape or len(shape) == 1:
            return deep
        flat = cast.shaped(f"CAST({x} AS VARCHAR[])", (math.prod(shape),))
        return f"CASE WHEN json_type({x}, '$[0]') = 'ARRAY' THEN {deep} ELSE {flat} END"

    return bound(value, nested)


def _json_texts(value: str, depth: int, inner: int) -> str:
    """Lists of JSON values as lists of texts; a cast of JSON to text would keep its quotes.

    Args:
        inner: how many lists deep each JSON value is itself.
    """
    if depth == 0:
        return f"CAST({value} AS VARCHAR{'[]' * inner})" if inner > 0 else f"json_extract_string({value}, '$')"
    name = f"j{depth}"
    return f"list_transform({value}, lambda {name}: {_json_texts(name, depth - 1, inner)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cast:
    """How one column's elements become one field's."""

    field: SelectedField
    file: str
    source: str
    target: str
    truncates: bool = False

    def scalar(self, value: str) -> str:
        """One value cast exactly, or the error."""
        if self.source == "JSON":
            text = replace(self, source="VARCHAR")
            return bound(f"json_extract_string({value}, '$')", text.scalar)
        if self.source == self.target:
            return value
        if self._is_safe():
            return f"CAST({value} AS {self.target})"
        checked = self._checked()
        if checked is None:
            raise NoCastError(f"it is {self.source} there, which cannot become {self.field.dtype}")
        failure = self._failure(f"CAST({value} AS VARCHAR)", f"is no {self.field.dtype}")
        return f"coalesce({checked.replace('{x}', value)}, CASE WHEN {value} IS NOT NULL THEN {failure} END)"

    def shaped(self, value: str, shape: tuple[int, ...]) -> str:
        """A list of checked lengths: flat where all dimensions are fixed, nested as it is otherwise."""
        if self.source == "JSON":
            return replace(self, source="VARCHAR").shaped(value, shape)
        flat = value
        if -1 not in shape:
            for _ in shape[1:]:
                flat = f"flatten({flat})"
            cast = self._elements(flat, 1)
        else:
            cast = self._elements(value, len(shape))
        wanted = f"has not the shape {list(self.field.shape)}"
        failure = self._failure(f"'a list of ' || len({value})", wanted)
        checks = _length_check(value, shape)
        if checks == "TRUE":
            return cast
        return f"CASE WHEN {value} IS NULL THEN NULL WHEN coalesce({checks}, FALSE) THEN {cast} ELSE {failure} END"

    def _elements(self, value: str, depth: int) -> str:
        if depth == 0:
            return self.scalar(value)
        if self.source == self.target:
            return value
        if self._is_safe():
            return f"CAST({value} AS {self.target}{'[]' * depth})"
        return f"list_transform({value}, lambda e{depth}: {self._elements(f'e{depth}', depth - 1)})"

    def _is_safe(self) -> bool:
        """Whether every value of the source type is one of the target type (floats round, as floats do)."""
        source, target = self.source, self.target
        if target in _FLOATS:
            return source in _INTEGERS | {"BOOLEAN"} or source.startswith("DECIMAL") or source == "FLOAT"
        if target == "VARCHAR":
            return source in _PRINTED or source.startswith(("DECIMAL", "ENUM"))
        if target in _DAYS:
            return source in {"DATE", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP"} or source in _ZONED
        if target in ("TIME", "TIME_NS"):
            return source in _CLOCKS
        return target in _INTEGERS and (source == "BOOLEAN" or _widens(source, target))

    def _checked(self) -> str | None:
        """SQL of `{x}`, null where the cast would fail or change the value; None where there is no such cast."""
        source, target = self.source, self.target
        tried = f"TRY_CAST({{x}} AS {target})"
        rules: tuple[tuple[bool, str], ...] = (
            (target in _INTEGERS and source in _INTEGERS, tried),
            (target in _INTEGERS and _is_fraction(source), f"CASE WHEN {{x}} = trunc({{x}}) THEN {tried} END"),
            (target in _INTEGERS and source == "VARCHAR" and self.truncates, _truncated(target)),
            (target in _INTEGERS and source == "VARCHAR", f"CASE WHEN {_WHOLE_NUMBER} THEN {tried} END"),
            (target in _FLOATS and source == "VARCHAR", _float(tried)),
            (target in _FLOATS and source in _FLOATS, tried),
            (target == "BOOLEAN" and source in _INTEGERS, f"CASE WHEN {{x}} IN (0, 1) THEN {tried} END"),
            (target == "DATE" and source in _DAYS | {"VARCHAR"}, f"CASE WHEN {_WHOLE_DAY} THEN {tried} END"),
            # by way of a moment in UTC: a cast of text straight to TIMESTAMP drops its offset
            (target in _DAYS and source == "VARCHAR", "CAST(TRY_CAST({x} AS TIMESTAMPTZ) AS TIMESTAMP)"),
            # a time of day has no offset, and a cast of text drops it
            (target == "TIME" and source == "VARCHAR", f"CASE WHEN NOT regexp_matches({{x}}, '[+-]') THEN {tried} END"),
            (target == "BOOLEAN" and source == "VARCHAR", tried),
            (target == "VARCHAR" and source == "BLOB", "TRY(decode({x}))"),
            (target == "BLOB" and source == "VARCHAR", "encode({x})"),
        )
        return next((sql for holds, sql in rules if holds), None)

    def _failure(self, shown: str, wanted: str) -> str:
        return failure_sql(self.field, self.file)(shown, wanted)


def _float(tried: str) -> str:
    """A number in text; one that is too large is none, where DuckDB makes it infinite."""
    word = "NOT regexp_matches({x}, '[0-9]')"
    cases = f"WHEN contains({{x}}, '_') THEN NULL WHEN isfinite({tried}) THEN {tried} WHEN {word} THEN {tried}"
    return f"CASE {cases} END"


def _truncated(target: str) -> str:
    whole = f"CASE WHEN {_WHOLE_NUMBER} THEN TRY_CAST({{x}} AS {target}) END"
    return f"coalesce({whole}, TRY_CAST(trunc(TRY_CAST({{x}} AS DOUBLE)) AS {target}))"


def _is_fraction(source: str) -> bool:
    return source in _FLOATS or source.startswith("DECIMAL")


def _widens(source: str, target: str) -> bool:
    for family in (_SIGNED, _UNSIGNED):
        if source in family and target in family:
            return family.index(source) < family.index(target)
    return source in _UNSIGNED and target in _SIGNED and _UNSIGNED.index(source) < _SIGNED.index(target)


def _length_check(value: str, shape: tuple[int, ...]) -> str:
    """SQL: whether a list has the shape's fixed lengths, at every level; TRUE where none is fixed."""
    checks = [] if shape[0] == -1 else [f"len({value}) = {shape[0]}"]
    if any(size != -1 for size in shape[1:]):
        name = f"s{len(shape)}"
        inner = _length_check(name, shape[1:])
        checks.append(f"len(list_filter({value}, lambda {name}: NOT coalesce({inner}, FALSE))) = 0")
    return " AND ".join(checks) or "TRUE"

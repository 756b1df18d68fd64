"""Whether a stretch of rows can hold one that a predicate accepts, by least and greatest values. Pure; reads no file.

It says "maybe" wherever DuckDB would look, so that what is left out here is what DuckDB leaves out (found by experiment
with DuckDB 1.5 and 2.0, see `tests/test_builder_pruning.py`): comparisons of a field with a constant and what AND, OR
and NOT make of them; with 2.0 also beginnings of texts and bare flags; nothing through other functions or arithmetic.
"""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from coralord_lightning.spec.predicate.syntax import Call, Constant, FieldRef, Node, Predicate

__all__ = ["Span", "can_hold", "conjuncts", "is_plain", "must_hold"]

_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "!=": "!="} | {
    "is not distinct from": "is not distinct from"
}
_MAYBE = (True, True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The values of one field in a stretch of rows.

    Args:
        low, high: least and greatest; None where nobody knows.
        num_rows: of the stretch.
        num_nulls: None where nobody counted them.
    """

    low: Any = None
    high: Any = None
    num_rows: int
    num_nulls: int | None = None


def can_hold(predicate: Predicate | None, spans: Mapping[str, Span]) -> bool:
    """Whether the predicate can be true of a row; fields without a span may have any value."""
    return predicate is None or _truths(predicate.root, spans)[0]


def conjuncts(predicate: Predicate) -> tuple[Predicate, ...]:
    """Conditions that all must hold for the predicate to hold."""
    root = predicate.root
    if isinstance(root, Call) and root.op == "and":
        return tuple(inner for arg in root.args for inner in conjuncts(Predicate(arg)))
    return (predicate,)


def is_plain(predicate: Predicate) -> bool:
    """Whether it is made of comparisons of fields with constants alone: by those, DuckDB 1.5 leaves rows unread too."""
    return _is_plain(predicate.root)


def _is_plain(node: Node) -> bool:
    if not isinstance(node, Call):
        return False
    if node.op in ("and", "or", "not"):
        return all(map(_is_plain, node.args))
    return node.op in {*_FLIPPED, "in", "between", "is null"} - {"is not distinct from"}


def must_hold(predicate: Predicate, spans: Mapping[str, Span]) -> bool:
    """Whether the predicate is true of every row."""
    known = [spans.get(name) for name in predicate.fields()]
    has_nulls = any(span is None or span.num_nulls != 0 for span in known)
    return not _truths(predicate.root, spans)[1] and (not has_nulls or _is_null_test(predicate.root))


def _is_null_test(node: Node) -> bool:
    return isinstance(node, Call) and (node.op == "is null" or (node.op == "not" and _is_null_test(node.args[0])))


def _truths(node: Node, spans: Mapping[str, Span]) -> tuple[bool, bool]:
    """Whether a condition can be true, and whether it can be false."""
    match node:
        case Call("and", args):
            both = [_truths(arg, spans) for arg in args]
            return all(true for true, _ in both), any(false for _, false in both)
        case Call("or", args):
            both = [_truths(arg, spans) for arg in args]
            return any(true for true, _ in both), all(false for _, false in both)
        case Call("not", (arg,)):
            true, false = _truths(arg, spans)
            return false, true
        case FieldRef(name):
            return _compared("=", spans.get(name), Constant("bool", "true"))
        case Call(op, args):
            return _test(op, args, spans)
        case _:
            return _MAYBE


def _test(op: str, args: tuple[Node, ...], spans: Mapping[str, Span]) -> tuple[bool, bool]:
    """The truths of one test of a field against constants."""
    if op in _FLIPPED and isinstance(args[0], Constant):
        op, args = _FLIPPED[op], args[::-1]
    span = spans.get(args[0].name) if isinstance(args[0], FieldRef) else None
    constants = [arg for arg in args[1:] if isinstance(arg, Constant)]
    if span is None or len(constants) != len(args) - 1:
        return _MAYBE
    if op == "is null":
        return _nulls(span)
    if op == "between":
        return _both(_compared(">=", span, constants[0]), _compared("<=", span, constants[1]))
    if op == "in":
        each = [_compared("=", span, item) for item in constants]
        return any(true for true, _ in each), all(false for _, false in each)
    if op in ("starts_with", "like") and constants[0].type == "text":
        return _prefixed(span, constants[0].text if op == "starts_with" else _literal_prefix(constants[0].text))
    return _compared(op, span, constants[0]) if op in _FLIPPED else _MAYBE


def _both(one: tuple[bool, bool], other: tuple[bool, bool]) -> tuple[bool, bool]:
    return one[0] and other[0], one[1] or other[1]


def _nulls(span: Span) -> tuple[bool, bool]:
    if span.num_nulls is None:
        return _MAYBE
    return span.num_nulls > 0, span.num_nulls < span.num_rows


def _compared(op: str, span: Span | None, constant: Constant) -> tuple[bool, bool]:
    if span is None:
        return _MAYBE
    if op == "is not distinct from":  # of a null it is false, where others are null
        true, false = _compared("=", span, constant)
        return true, false or span.num_nulls != 0
    if span.num_nulls is not None and span.num_nulls == span.num_rows:
        return False, False
    value = _value(constant, span.low)
    if value is None or span.low is None or span.high is None:
        return _MAYBE
    low, high = span.low, span.high
    only = low == high == value
    return {
        "=": (low <= value <= high, not only),
        "!=": (not only, low <= value <= high),
        "<": (low < value, high >= value),
        "<=": (low <= value, high > value),
        ">": (high > value, low <= value),
        ">=": (high >= value, low < value),
    }[op]


def _value(constant: Constant, like: Any) -> Any:
    """A constant as the values it is compared with; None where DuckDB would have to compute to compare them."""
    kinds, parse = _PARSERS.get(type(like), (frozenset(), str))
    if constant.type not in kinds:
        return None
    try:
        return parse(constant.text)
    except (ValueError, ArithmeticError):
        return None


def _moment(text: str) -> dt.datetime:
    moment = dt.datetime.fromisoformat(text)
    return moment if moment.tzinfo is None else moment.astimezone(dt.UTC).replace(tzinfo=None)


_WHOLE = frozenset({"int", "bigint", "integer", "smallint", "tinyint", "hugeint"})
_PARSERS: Mapping[type, tuple[frozenset[str], Callable[[str], Any]]] = {
    bool: (frozenset({"bool"}), "true".__eq__),
    int: (_WHOLE, int),
    float: (_WHOLE | {"decimal", "double", "float"}, float),
    decimal.Decimal: (_WHOLE | {"decimal"}, decimal.Decimal),
    str: (frozenset({"text"}), str),
    dt.datetime: (frozenset({"text", "date", "timestamp"}), _moment),
    dt.date: (frozenset({"text", "date"}), dt.date.fromisoformat),
}


def _prefixed(span: Span, prefix: str) -> tuple[bool, bool]:
    if not isinstance(span.low, str) or not isinstance(span.high, str) or not prefix:
        return _MAYBE
    return span.low[: len(prefix)] <= prefix <= span.high[: len(prefix)], True


def _literal_prefix(pattern: str) -> str:
    """What a LIKE pattern begins with before its first wildcard."""
    return pattern[: next((at for at, char in enumerate(pattern) if char in "%_\\"), len(pattern))]

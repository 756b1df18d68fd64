"""The predicate's own syntax tree and how it prints: as JSON, which is hashed, and as SQL. Parses and runs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "FUNCTIONS",
    "Call",
    "Constant",
    "FieldRef",
    "Function",
    "Node",
    "Predicate",
    "equals",
    "quote_identifier",
    "quote_literal",
]

Json = Any


def quote_identifier(name: str) -> str:
    """A name as an SQL identifier: `a"b` -> `"a""b"`.

    Raises:
        ValueError: the name has a NUL, which no SQL identifier can hold.
    """
    if "\0" in name:
        raise ValueError("a name cannot hold a NUL character")
    return '"' + name.replace('"', '""') + '"'


def quote_literal(value: str | int) -> str:
    """A value as an SQL literal: `it's` -> `'it''s'`, 3 -> `3`, True -> `TRUE`.

    Raises:
        ValueError: the text has a NUL, which no SQL literal can hold.
    """
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int):
        return str(value) if value >= 0 else f"({value})"
    if "\0" in value:
        raise ValueError("a text cannot hold a NUL character")
    return "'" + value.replace("'", "''") + "'"


@dataclass(frozen=True, slots=True)
class FieldRef:
    """A field, by its name in the record set."""

    name: str


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant.

    Args:
        type: "int", "decimal", "double", "text" or "bool" for a literal, else the SQL type of a cast text:
            "date", "timestamp", "time", "bigint", ….
        text: canonical: "12", "1.50", "1000.0", "true", or the text itself.
    """

    type: str
    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """An operator or function on its arguments; `op` is a key of `_OPERATORS` or of `FUNCTIONS`."""

    op: str
    args: tuple[Node, ...]


Node = FieldRef | Constant | Call


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A function that predicates may call, under its one canonical name.

    Args:
        takes: which kinds each argument may have.
        gives: the kind of the result; None: that of its arguments.
        optional: how many of the last arguments may be left out.
        variadic: the last argument may be repeated.
    """

    takes: tuple[frozenset[str], ...]
    gives: str | None
    optional: int = 0
    variadic: bool = False


_TEXT, _NUMBER = frozenset({"text"}), frozenset({"number"})
_DAY, _CLOCK = frozenset({"date", "timestamp"}), frozenset({"timestamp", "time"})
_SCALAR = frozenset({"text", "number", "bool", "date", "timestamp", "time"})

FUNCTIONS: Mapping[str, Function] = {
    **{name: Function(takes=(_TEXT,), gives="text") for name in ("lower", "upper", "trim")},
    **{name: Function(takes=(_TEXT, _TEXT), gives="bool") for name in ("contains", "starts_with", "ends_with")},
    **{name: Function(takes=(_NUMBER,), gives="number") for name in ("abs", "floor", "ceil")},
    **{name: Function(takes=(_DAY,), gives="number") for name in ("year", "month", "day")},
    **{name: Function(takes=(_CLOCK,), gives="number") for name in ("hour", "minute", "second")},
    "length": Function(takes=(_TEXT,), gives="number"),
    "regexp_matches": Function(takes=(_TEXT, _TEXT), gives="bool"),
    "round": Function(takes=(_NUMBER, _NUMBER), gives="number", optional=1),
    "coalesce": Function(takes=(_SCALAR, _SCALAR), gives=None, optional=1, variadic=True),
}

_OPERATORS: Mapping[str, str] = {
    "=": "=", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">=",
    "is distinct from": "IS DISTINCT FROM", "is not distinct from": "IS NOT DISTINCT FROM",
    "like": "LIKE", "ilike": "ILIKE", "+": "+", "-": "-", "*": "*", "/": "/", "%": "%", "||": "||",
    "and": "AND", "or": "OR",
}  # fmt: skip
_SHAPES: Mapping[str, str] = {
    "not": "(NOT {})",
    "neg": "(- {})",
    "is null": "({} IS NULL)",
    "between": "({} BETWEEN {} AND {})",
}


@dataclass(frozen=True, slots=True)
class Predicate:
    """A parsed predicate: true, false or null for each row.

    Two texts that differ in blanks, redundant parentheses, the case of keywords or `!=` for `<>` give equal predicates.
    """

    root: Node

    def to_json(self) -> Json:
        """The canonical form that is hashed: nested lists `[op, arg, …]`, `{"field": name}`, `{type: text}`."""
        return _json(self.root)

    def to_sql(self, column: Callable[[str], str]) -> str:
        """The predicate as SQL, fully parenthesised.

        Args:
            column: field name -> SQL of that field, already quoted.
        """
        return _sql(self.root, column)

    def depth(self) -> int:
        """How deep it nests; a lone field is 1."""
        return _depth(self.root)

    def fields(self) -> frozenset[str]:
        """The names of all fields it reads."""
        return frozenset(_fields(self.root))


def equals(field: str, value: str | int) -> Predicate:
    """The predicate `field = value`."""
    if isinstance(value, bool):
        constant = Constant("bool", str(value).lower())
    elif isinstance(value, int):
        constant = Constant("int", str(value))
    else:
        constant = Constant("text", value)
    return Predicate(Call("=", (FieldRef(field), constant)))


def _json(node: Node) -> Json:
    match node:
        case FieldRef(name):
            return {"field": name}
        case Constant(kind, text):
            return {kind: text}
        case Call(op, args):
            return [op, *map(_json, args)]


def _depth(node: Node) -> int:
    return 1 + max(map(_depth, node.args), default=0) if isinstance(node, Call) else 1


def _fields(node: Node) -> Iterator[str]:
    match node:
        case FieldRef(name):
            yield name
        case Call(_, args):
            for arg in args:
                yield from _fields(arg)
        case Constant():
            pass


def _sql(node: Node, column: Callable[[str], str]) -> str:
    match node:
        case FieldRef(name):
            return column(name)
        case Constant():
            return _constant_sql(node)
        case Call(op, args):
            return _call_sql(op, [_sql(arg, column) for arg in args])


def _call_sql(op: str, args: list[str]) -> str:
    if op in _SHAPES:
        return _SHAPES[op].format(*args)
    if op == "in":
        return f"({args[0]} IN ({', '.join(args[1:])}))"
    if op in FUNCTIONS:
        return f"{op}({', '.join(args)})"
    return "(" + f" {_OPERATORS[op]} ".join(args) + ")"


def _constant_sql(constant: Constant) -> str:
    match constant.type:
        case "text":
            return quote_literal(constant.text)
        case "bool":
            return constant.text.upper()
        case "int" | "decimal":
            return f"({constant.text})" if constant.text.startswith("-") else constant.text
        case "double":
            # the exponent is what makes the literal a DOUBLE and not a DECIMAL
            text = constant.text if "e" in constant.text else constant.text + "e0"
            return f"({text})" if text.startswith("-") else text
        case _:
            return f"CAST({quote_literal(constant.text)} AS {constant.type.upper()})"

"""DuckDB's parse tree, of version 1.5 or 2, to our own syntax tree; whatever is not on the list is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from difflib import SequenceMatcher
from math import isinf
from typing import Any

from coralord_lightning.errors import CoralError, UnknownFieldError, nearest
from coralord_lightning.spec.predicate.scan import PredicateText
from coralord_lightning.spec.predicate.syntax import FUNCTIONS, Call, Constant, FieldRef, Node, quote_identifier

__all__ = ["translate"]

Tree = Mapping[str, Any]

_COMPARISONS = {
    "COMPARE_EQUAL": "=",
    "COMPARE_NOTEQUAL": "!=",
    "COMPARE_LESSTHAN": "<",
    "COMPARE_LESSTHANOREQUALTO": "<=",
    "COMPARE_GREATERTHAN": ">",
    "COMPARE_GREATERTHANOREQUALTO": ">=",
    "COMPARE_DISTINCT_FROM": "is distinct from",
    "COMPARE_NOT_DISTINCT_FROM": "is not distinct from",
}
_OPPOSITE = {"=": "!=", "<": ">=", ">": "<=", "is distinct from": "is not distinct from"}
_OPPOSITE |= {there: here for here, there in _OPPOSITE.items()}
_ALIASES = {"ceiling": "ceil", "len": "length", "prefix": "starts_with", "suffix": "ends_with"}
_LIKES = {"~~": ("like", False), "!~~": ("like", True), "~~*": ("ilike", False), "!~~*": ("ilike", True)}
_TYPES = {
    "boolean": "bool", "bool": "bool", "logical": "bool",
    "date": "date", "time": "time", "timestamp": "timestamp", "datetime": "timestamp",
    "tinyint": "tinyint", "int1": "tinyint", "smallint": "smallint", "int2": "smallint", "short": "smallint",
    "integer": "integer", "int": "integer", "int4": "integer", "signed": "integer",
    "bigint": "bigint", "int8": "bigint", "long": "bigint",
    "utinyint": "utinyint", "usmallint": "usmallint", "uinteger": "uinteger", "ubigint": "ubigint",
    "float": "float", "float4": "float", "real": "float", "double": "double precision", "float8": "double precision",
}  # fmt: skip
_TRUTH = {"t": "true", "true": "true", "f": "false", "false": "false"}
_NAMED = {
    "SUBQUERY": "a subquery",
    "PARAMETER": "a parameter",
    "WINDOW": "a window function",
    "STAR": "a *",
    "LAMBDA": "a lambda",
    "CASE": "CASE",
    "COLLATE": "COLLATE",
    "POSITIONAL_REFERENCE": "a position",
}
_LARGEST, _SMALLEST = 2**64 - 1, -(2**63)


def translate(tree: Tree, *, source: PredicateText, fields: Mapping[str, str]) -> Node:
    """Our tree of one expression.

    Args:
        tree: the select item of `parse_tree`.
        fields: the names that may be used.
    Raises:
        UnknownFieldError: a name is no field.
        PredicateError: it uses something that predicates do not take.
    """
    return _Translator(source=source, fields=fields).node(tree)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Translator:
    source: PredicateText
    fields: Mapping[str, str]

    def node(self, tree: Tree) -> Node:
        readers: dict[str, Callable[[Tree], Node]] = {
            "COLUMN_REF": self._field,
            "CONSTANT": self._constant,
            "COMPARISON": self._comparison,
            "CONJUNCTION": self._conjunction,
            "OPERATOR": self._operator,
            "BETWEEN": self._between,
            "FUNCTION": self._function,
            "CAST": self._cast,
        }
        read = readers.get(tree["class"])
        if read is None:
            raise self._refuse(f"has {_NAMED.get(tree['class'], tree['class'].lower())}, which predicates do not take")
        return read(tree)

    def _refuse(self, message: str, remedy: str = "") -> CoralError:
        return self.source.refusal(
            message, remedy=remedy or "compare fields with values: label % 2 = 0 AND part = 'test'"
        )

    def _field(self, tree: Tree) -> Node:
        names = tree["column_names"]
        if len(names) != 1:
            raise self._refuse(
                f"reads {'.'.join(names)!r}; fields are named without a dot",
                f"write {names[-1]!r} alone, or in double quotes where the dot is part of the name",
            )
        if names[0] not in self.fields:
            raise self._unknown_field(names[0], tree.get("query_location", -1))
        return FieldRef(names[0])

    def _unknown_field(self, name: str, location: int) -> CoralError:
        guess = nearest(name, self.fields)
        quoted = f'"{name}"' in self.source.text
        if quoted and guess is not None and SequenceMatcher(None, name, guess).ratio() < 0.75:
            guess = None  # rather a text in the wrong quotes than a field in bad spelling
        if guess is not None:
            remedy = self.source.paste(_replace_name(self.source.text, name, guess, location - len("SELECT (\n")))
        elif quoted:
            remedy = self.source.paste(self.source.text.replace(f'"{name}"', f"'{name}'"))
        else:
            remedy = f"use one of the fields: {', '.join(self.fields)}"
        return UnknownFieldError(
            self.source.subject,
            f"unknown field {name!r}",
            facts={"got": self.source.text, "fields": ", ".join(self.fields)},
            remedy=remedy,
        )

    def _constant(self, tree: Tree) -> Node:
        # DuckDB 2 keeps the literal's text, DuckDB 1.5 a typed value
        if "literal" in tree:
            return self._literal(tree["literal"]["kind"], tree["literal"]["text"])
        return self._typed(tree["value"])

    def _typed(self, value: Mapping[str, Any]) -> Node:
        kind = value["type"]["id"]
        match kind:
            case _ if value["is_null"]:
                return self._literal("NULL_LITERAL", "")
            case "VARCHAR":
                return self._literal("STRING", value["value"])
            case "BOOLEAN":
                return self._literal("BOOLEAN", str(value["value"]).lower())
            case "DOUBLE":
                return self._double(float(value["value"]))
            case "DECIMAL":
                number = _wide(value["value"])
                # not scaleb(): that rounds to the context's 28 digits
                digits = tuple(map(int, str(abs(number))))
                return self._decimal(Decimal((int(number < 0), digits, -value["type"]["type_info"]["scale"])))
            case _:
                return self._literal(
                    "INTEGER" if kind.endswith(("INT", "INTEGER")) else kind, str(_wide(value["value"]))
                )

    def _literal(self, kind: str, text: str) -> Node:
        match kind:
            case "STRING":
                return Constant("text", text)
            case "BOOLEAN":
                return Constant("bool", text)
            case "INTEGER" | "NUMERIC":
                return self._number(text)
            case "NULL_LITERAL":
                raise self._refuse("compares with NULL, which is never true", "write IS NULL or IS NOT NULL")
            case _:
                raise self._refuse(f"has a constant of kind {kind}")

    def _number(self, text: str) -> Node:
        if "e" in text.lower():
            return self._double(float(text))
        return self._decimal(Decimal(text.replace("_", "").removesuffix(".")))

    def _decimal(self, value: Decimal) -> Node:
        if value.as_tuple().exponent != 0:
            return Constant("decimal", format(value, "f"))
        if not _SMALLEST <= int(value) <= _LARGEST:
            raise self._refuse(f"has a number no integer field can hold: {value}", "use a number below 2**64")
        return Constant("int", str(int(value)))

    def _double(self, value: float) -> Node:
        if isinf(value):
            raise self._refuse("has a number too large for a float", "use a number below 1e308")
        return Constant("double", repr(value))

    def _comparison(self, tree: Tree) -> Node:
        op, left, right = _COMPARISONS.get(tree["type"]), tree["left"], tree["right"]
        if op is None:
            raise self._refuse(f"has the comparison {tree['type']}")
        if op.endswith("distinct from") and _is_cast_to_bool(left):
            left = left["child"]  # DuckDB reads `a IS TRUE` as `a::BOOLEAN IS NOT DISTINCT FROM true`
        return Call(op, (self.node(left), self.node(right)))

    def _conjunction(self, tree: Tree) -> Node:
        op = "and" if tree["type"] == "CONJUNCTION_AND" else "or"
        parts: list[Node] = []
        for child in map(self.node, tree["children"]):
            parts.extend(child.args if isinstance(child, Call) and child.op == op else (child,))
        return Call(op, tuple(parts))

    def _operator(self, tree: Tree) -> Node:
        match tree["type"], list(tree["children"]):
            case "OPERATOR_NOT", [child]:
                return _negate(self.node(child))
            case "OPERATOR_IS_NULL", [child]:
                return Call("is null", (self.node(child),))
            case "OPERATOR_IS_NOT_NULL", [child]:
                return _negate(Call("is null", (self.node(child),)))
            case "COMPARE_IN", children:
                return self._in(children)
            case "COMPARE_NOT_IN", children:
                return _negate(self._in(children))
            case "OPERATOR_COALESCE", children:
                return Call("coalesce", tuple(map(self.node, children)))
            case kind, _:
                raise self._refuse(f"has {kind.lower().replace('_', ' ')}, which predicates do not take")

    def _in(self, children: list[Tree]) -> Node:
        nodes = tuple(map(self.node, children))
        if not all(isinstance(node, Constant) for node in nodes[1:]):
            raise self._refuse(
                "has an IN list with more than constants", "write IN (1, 2, 3), or OR between conditions"
            )
        return Call("in", nodes)

    def _between(self, tree: Tree) -> Node:
        return Call("between", tuple(self.node(tree[part]) for part in ("input", "lower", "upper")))

    def _function(self, tree: Tree) -> Node:
        name = tree["function_name"].lower()
        trees = _arguments(tree)
        plain = not (
            tree.get("filter") or tree.get("distinct") or tree["order_bys"]["orders"] or tree.get("export_state")
        )
        if trees is None or not plain or tree.get("schema") not in ("", "main", None) or tree.get("catalog"):
            raise self._refuse(f"calls {name} in a way that predicates do not take", f"call it plainly: {name}(field)")
        if not name.isidentifier():
            return self._symbol(name, trees)
        if name == "row":
            raise self._refuse("is a list of values, not one condition", "join conditions with AND or OR")
        if name == "date_part" and len(trees) == 2:
            part = self.node(trees[0])
            name, trees = (part.text.lower() if isinstance(part, Constant) else name), trees[1:]
        name = _ALIASES.get(name, name)
        if name not in FUNCTIONS:
            raise self._unknown_function(name)
        return Call(name, tuple(map(self.node, trees)))

    def _symbol(self, name: str, trees: list[Tree]) -> Node:
        args = tuple(map(self.node, trees))
        if name in _LIKES and len(args) == 2:
            op, negated = _LIKES[name]
            return _negate(Call(op, args)) if negated else Call(op, args)
        if name == "-" and len(args) == 1:
            return Call("neg", args)
        if name == "+" and len(args) == 1:
            return args[0]
        if name in {"+", "-", "*", "/", "%", "||"} and len(args) == 2:
            return Call(name, args)
        raise self._refuse(f"has the operator {name}, which predicates do not take")

    def _unknown_function(self, name: str) -> CoralError:
        guess = nearest(name, [*FUNCTIONS, *_ALIASES])
        pattern = re.compile(rf"\b{re.escape(name)}(?=\s*\()", re.IGNORECASE)
        if guess is not None and pattern.search(self.source.text):
            remedy = self.source.paste(pattern.sub(guess, self.source.text))
        else:
            remedy = f"use one of: {', '.join(sorted(FUNCTIONS))}"
        return self.source.refusal(f"calls {name!r}, which is no function of predicates", remedy=remedy)

    def _cast(self, tree: Tree) -> Node:
        target = _TYPES.get(_cast_type(tree).lower())
        child = self.node(tree["child"])
        if target is None or tree["try_cast"] or not isinstance(child, Constant) or child.type != "text":
            raise self._refuse(
                "has a cast; only a text constant can be cast, to a date, time, number or boolean",
                "write the value as it is, or: day >= DATE '2026-01-31'",
            )
        if target == "bool":
            truth = _TRUTH.get(child.text.lower())
            if truth is None:
                raise self._refuse(f"reads {child.text!r} as true or false", "write TRUE or FALSE")
            return Constant("bool", truth)
        return Constant(target, child.text)


def _negate(node: Node) -> Node:
    # DuckDB 1.5 folds NOT into comparisons and IN while parsing, DuckDB 2 does not: we always do
    if isinstance(node, Call) and node.op == "not":
        return node.args[0]
    if isinstance(node, Call) and node.op in _OPPOSITE:
        return Call(_OPPOSITE[node.op], node.args)
    return Call("not", (node,))


def _arguments(tree: Tree) -> list[Tree] | None:
    """A function's arguments; None where one of them is named."""
    if "arguments" not in tree:
        return None if any(child.get("alias") for child in tree["children"]) else list(tree["children"])
    if any(item["name"] for item in tree["arguments"]):
        return None
    return [item["expression"] for item in tree["arguments"]]


def _cast_type(tree: Tree) -> str:
    if "cast_type" in tree:
        return str(tree["cast_type"]["id"])
    expression = tree["type_expr"]
    return str(expression["type_name"]) if not expression["children"] else "with parameters"


def _is_cast_to_bool(tree: Tree) -> bool:
    return tree["class"] == "CAST" and not tree["try_cast"] and _TYPES.get(_cast_type(tree).lower()) == "bool"


def _wide(value: int | Mapping[str, int]) -> int:
    return value if isinstance(value, int) else (value["upper"] << 64) + value["lower"]


def _replace_name(text: str, name: str, by: str, offset: int) -> str:
    """The text with the name at that byte offset replaced, or everywhere where the offset does not fit."""
    written = by if re.fullmatch(r"[A-Za-z_]\w*", by) else quote_identifier(by)
    raw = text.encode()
    for spelling in (name.encode(), quote_identifier(name).encode()):
        if offset >= 0 and raw[offset : offset + len(spelling)] == spelling:
            return (raw[:offset] + written.encode() + raw[offset + len(spelling) :]).decode()
    return re.sub(rf'"{re.escape(name)}"|\b{re.escape(name)}\b', lambda _: written, text)

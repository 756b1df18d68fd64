"""Which kinds of values a predicate compares: doubtful mixtures are refused here, before any row is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from coralord_lightning.errors import CoralError
from coralord_lightning.spec.predicate.duck import is_castable, is_regex
from coralord_lightning.spec.predicate.scan import PredicateText
from coralord_lightning.spec.predicate.syntax import FUNCTIONS, Call, Constant, FieldRef, Node

__all__ = ["check_kinds"]

_PLURAL = {
    "number": "a number", "text": "a text", "bool": "true or false", "date": "a date", "timestamp": "a timestamp",
    "time": "a time", "bytes": "bytes", "array": "an array", "any": "anything",
}  # fmt: skip
_DTYPES = {
    "text": "text", "bytes": "bytes", "date": "date", "timestamp": "timestamp", "time": "time", "bool": "bool",
    "integer": "number", "float": "number",
    **{f"{sign}int{bits}": "number" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": "number" for bits in (16, 32, 64)},
}  # fmt: skip
_MAX_ROUND = 30
_READABLE = {"date": "2026-01-31", "timestamp": "2026-01-31 12:00:00", "time": "12:00:00"}


def check_kinds(root: Node, *, source: PredicateText, fields: Mapping[str, str]) -> None:
    """Refuse a predicate that is not true or false, or that mixes kinds.

    Args:
        fields: name -> dtype; `dtype[]` for an array; any other word is not checked.
    Raises:
        PredicateError: naming both kinds.
    """
    checker = _Checker(source=source, fields=fields)
    checker.want(root, "bool", "a predicate")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checker:
    source: PredicateText
    fields: Mapping[str, str]
    seen: dict[int, str] = field(default_factory=dict)
    """Kinds by node id: without it, nested calls would be checked exponentially often."""

    def want(self, node: Node, kind: str, what: str) -> None:
        found = self.kind(node)
        if found not in (kind, "any"):
            remedy = "compare it with a value: label = 3" if kind == "bool" else "convert the column in the data"
            raise self._refuse(f"{what} must be {_PLURAL[kind]}, {_show(node)} is {_PLURAL[found]}", remedy)

    def kind(self, node: Node) -> str:
        if id(node) not in self.seen:
            self.seen[id(node)] = self._kind(node)
        return self.seen[id(node)]

    def _kind(self, node: Node) -> str:
        match node:
            case FieldRef(name):
                dtype = self.fields[name]
                return "array" if dtype.endswith("]") else _DTYPES.get(dtype, "any")
            case Constant():
                return self._constant(node)
            case Call(op, args):
                return self._call(op, args)

    def _refuse(self, message: str, remedy: str) -> CoralError:
        return self.source.refusal(message, remedy=remedy)

    def _constant(self, node: Constant) -> str:
        if node.type in ("text", "bool"):
            return node.type
        if node.type in ("int", "decimal", "double"):
            return "number"
        if not is_castable(node.text, node.type):
            raise self._refuse(f"{node.text!r} is no {node.type}", f"write it like {_READABLE.get(node.type, '12')!r}")
        return node.type if node.type in _READABLE else "number"

    def _call(self, op: str, args: tuple[Node, ...]) -> str:
        if op in ("and", "or", "not"):
            for arg in args:
                self.want(arg, "bool", f"what {op.upper()} joins" if op != "not" else "what NOT turns round")
            return "bool"
        if op == "is null":
            self.kind(args[0])
            return "bool"
        if op in ("like", "ilike", "||"):
            for arg in args:
                self.want(arg, "text", f"what {op.upper()} takes")
            return "text" if op == "||" else "bool"
        if op in ("+", "-", "*", "/", "%", "neg"):
            for arg in args:
                self.want(arg, "number", f"what {op.replace('neg', '-')} takes")
            return "number"
        return self._function(op, args) if op in FUNCTIONS else self._compare(args)

    def _compare(self, args: tuple[Node, ...]) -> str:
        first, *rest = args
        for other in rest:
            self._compatible(first, other)
        return "bool"

    def _compatible(self, left: Node, right: Node) -> None:
        kinds = {self.kind(left), self.kind(right)}
        for kind in kinds & {"array", "bytes"}:
            raise self._refuse(
                f"compares {_PLURAL[kind]}", "compare arrays and bytes in the pipeline; IS NULL works here"
            )
        if "any" in kinds or len(kinds) == 1 or kinds == {"date", "timestamp"}:
            return
        for text, kind in ((left, self.kind(right)), (right, self.kind(left))):
            if isinstance(text, Constant) and text.type == "text" and kind in _READABLE:
                self._constant(Constant(kind, text.text))
                return
        raise self._mixture(left, right)

    def _mixture(self, left: Node, right: Node) -> CoralError:
        for value, other in ((right, left), (left, right)):
            if isinstance(value, Constant) and isinstance(other, FieldRef):
                kind = self.kind(other)
                plain = value.text if kind == "number" else f"'{value.text}'"
                hints = {"bool": f"{other.name}, or NOT {other.name}", "text": f"{other.name} = {plain}"}
                if kind in ("bool", "text") or (kind == "number" and is_castable(value.text, "double")):
                    hint = hints.get(kind, f"{other.name} = {plain}")
                    return self._refuse(_against(self, left, right), f"write {hint}")
        return self._refuse(_against(self, left, right), "compare like with like")

    def _function(self, name: str, args: tuple[Node, ...]) -> str:
        function = FUNCTIONS[name]
        least = len(function.takes) - function.optional
        if len(args) < least or (len(args) > len(function.takes) and not function.variadic):
            raise self._refuse(f"calls {name} with {len(args)} arguments", f"give it {least}")
        for index, arg in enumerate(args):
            kind = self.kind(arg)
            wanted = function.takes[min(index, len(function.takes) - 1)]
            if kind != "any" and kind not in wanted:
                names = " or ".join(sorted(_PLURAL[item] for item in wanted))
                raise self._refuse(f"{name} takes {names}, {_show(arg)} is {_PLURAL[kind]}", "use another function")
        if name == "round" and len(args) > 1:
            self._check_digits(args[1])
        if name == "regexp_matches":
            self._check_pattern(args[1])
        if function.gives is not None:
            return function.gives
        self._compare(args)
        return self.kind(args[0])

    def _check_digits(self, digits: Node) -> None:
        if isinstance(digits, Call) and digits.op == "neg":
            digits = digits.args[0]
        if not (isinstance(digits, Constant) and digits.type == "int" and abs(int(digits.text)) <= _MAX_ROUND):
            raise self._refuse(
                f"rounds to a number of digits that is no whole number from -{_MAX_ROUND} to {_MAX_ROUND}",
                "write it like: round(price, 2) > 9.99",
            )

    def _check_pattern(self, pattern: Node) -> None:
        if not isinstance(pattern, Constant) or not is_regex(pattern.text):
            raise self._refuse(
                "the pattern of regexp_matches is no constant regular expression (RE2 syntax)",
                "write it like: regexp_matches(name, '^[a-z]+$')",
            )


def _against(checker: _Checker, left: Node, right: Node) -> str:
    kinds = [_PLURAL[checker.kind(node)] for node in (left, right)]
    return f"compares {_show(left)}, {kinds[0]}, with {_show(right)}, {kinds[1]}"


def _show(node: Node) -> str:
    match node:
        case FieldRef(name):
            return f"field {name!r}"
        case Constant(_, text):
            return repr(text)
        case Call(op, _):
            return f"the result of {op}"

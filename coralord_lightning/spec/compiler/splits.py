"""The splits of a descriptor to rules: who claims rows, who takes which part of the rest. Pure; sees no rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from coralord_lightning.errors import CoralError, SplitError, nearest
from coralord_lightning.spec.predicate import Predicate, equals
from coralord_lightning.spec.selection import SplitRule

if TYPE_CHECKING:
    from coralord_lightning.spec.compiler.scope import Scope
    from coralord_lightning.spec.croissant import Field
    from coralord_lightning.spec.descriptor import SplitOptions

__all__ = ["compile_splits"]

REST = "rest"
_SPACE = 2**64
_DIVISIONS = ("group_by", "stratify_by")
_KEY_DTYPES = frozenset(
    {"text", "integer", "bool", "date"} | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)


def compile_splits(scope: Scope) -> tuple[tuple[SplitRule, ...], tuple[str, ...]]:
    """The rules, sorted by name, and the fields that key the fractions (none where no rule has a fraction).

    Raises:
        SplitError: two splits are bound to overlap, or add up to more than everything, or name what is not there.
    """
    asked = scope.descriptor.splits
    if asked is None:
        return (SplitRule(name="train"),), _split_key(scope, needed=False)
    bounds = _all_bounds(scope, asked)
    _check_agreement(scope, asked)
    rules = tuple(_grouped(scope, _rule(scope, name, asked[name], bounds.get(name))) for name in sorted(asked))
    _check_overlaps(scope, rules)
    by_key = any(rule.bounds not in (None, (0, _SPACE)) and not rule.group_by for rule in rules)
    return rules, _split_key(scope, needed=by_key)


def _grouped(scope: Scope, rule: SplitRule) -> SplitRule:
    """A rule with the fields that keep rows together and those within whose values its fraction is taken."""
    asked = (scope.descriptor.splits or {})[rule.name]
    found = {
        option: tuple(
            _key_field(scope, name, f"splits.{rule.name}.{option}", option) for name in getattr(asked, option)
        )
        for option in _DIVISIONS
    }
    if rule.bounds in (None, (0, _SPACE)):
        return rule  # all of it, however it would be divided
    return replace(rule, group_by=found["group_by"], stratify_by=found["stratify_by"])


def _check_agreement(scope: Scope, asked: Mapping[str, SplitOptions]) -> None:
    """Refuse splits of one group that divide it in different ways: rows could be in two of them, or in none."""
    first: dict[str, str] = {}
    for name in sorted(asked):
        group = asked[name].group
        other = first.setdefault(group or "", name)
        for option in _DIVISIONS:
            mine, theirs = (getattr(asked[each], option) for each in (name, other))
            if group is not None and mine != theirs:
                raise _disagreement(scope, (name, mine), (other, theirs), option)


def _disagreement(
    scope: Scope, mine: tuple[str, tuple[str, ...]], theirs: tuple[str, tuple[str, ...]], option: str
) -> CoralError:
    (name, fields), (other, others) = mine, theirs
    key = f"splits.{name}.{option}" if fields else f"splits.{name}"
    return SplitError(
        key,
        f"divides the same rows as split {other!r} in another way",
        facts={
            "at": scope.descriptor.key_line(key),
            "got": f"[{', '.join(fields)}]",
            "expected": f"the {option} of {other!r}: [{', '.join(others)}]",
        },
        remedy=f"{option}: [{', '.join(fields or others)}]     # in {other!r} and in {name!r}",
    )


def _rule(scope: Scope, name: str, asked: SplitOptions, bounds: tuple[int, int] | None) -> SplitRule:
    key = f"splits.{name}"
    if asked.where is not None:
        return SplitRule(name=name, claims=scope.predicate(asked.where, f"{key}.where"))
    if asked.source is not None:
        return SplitRule(name=name, claims=_of_split(scope, asked.source, f"{key}.source"))
    if asked.group is None or asked.group == REST:
        return SplitRule(name=name, bounds=bounds)
    return SplitRule(name=name, of=_of_split(scope, asked.group, f"{key}.from"), bounds=bounds)


def _all_bounds(scope: Scope, asked: Mapping[str, SplitOptions]) -> dict[str, tuple[int, int]]:
    """By split name, the part of the hash's range it takes: fractions of one group laid end to end, sorted by name."""
    ends: dict[str, Fraction] = {}
    bounds: dict[str, tuple[int, int]] = {}
    for name in sorted(asked):
        group = asked[name].group
        if group is None:
            continue
        # str() gives back what the user wrote: 0.1 is a tenth, not the nearest double
        share = Fraction(str(asked[name].fraction)) if asked[name].fraction is not None else Fraction(1)
        start = ends.get(group, Fraction(0))
        ends[group] = start + share
        bounds[name] = (int(start * _SPACE), int(ends[group] * _SPACE))
    for group, end in ends.items():
        if end > 1:
            raise _too_much(scope, asked, group, end)
    return bounds


def _too_much(scope: Scope, asked: Mapping[str, SplitOptions], group: str, end: Fraction) -> CoralError:
    members = {name: options.fraction or 1.0 for name, options in sorted(asked.items()) if options.group == group}
    fitting = {name: round(value / float(end) - 0.0005, 3) for name, value in members.items()}
    lines = [f"{name}: {{from: {group}, fraction: {value}}}" for name, value in fitting.items()]
    return SplitError(
        "splits",
        f"the fractions of {group!r} add up to {float(end):g}, more than everything",
        facts={
            "at": scope.descriptor.key_line(f"splits.{next(iter(members))}"),
            "got": ", ".join(f"{name} {value:g}" for name, value in members.items()),
            "expected": "a sum of at most 1",
        },
        remedy="\n".join(lines),
    )


def _of_split(scope: Scope, value: str, key: str) -> Predicate:
    """Rows of one split of the Croissant file: `<split field> = value`."""
    found = [item for item in scope.fields if item.is_split]
    if len(found) != 1:
        texts = [item for item in scope.fields if item.dtype == "text"]
        column = (found or texts or scope.fields)[0].name
        raise SplitError(
            key,
            f"record set {scope.record_set.id!r} has {'no cr:Split field' if not found else 'several cr:Split fields'}",
            facts={
                "at": scope.descriptor.key_line(key),
                "got": value,
                "fields": ", ".join(item.name for item in found) or ", ".join(scope.names),
            },
            remedy=f"{key.split('.')[1]}: {{where: \"{column} = '{value}'\"}}",
        )
    known = _known_splits(scope, found[0])
    if known and value not in known:
        raise SplitError(
            key,
            f"unknown split {value!r} of the Croissant file",
            facts={"at": scope.descriptor.key_line(key), "splits": ", ".join(known)},
            remedy=f"{key.rpartition('.')[2]}: {nearest(value, known) or known[0]}",
        )
    return equals(scope.select(found[0].name, key).name, value)


def _known_splits(scope: Scope, item: Field) -> list[str]:
    """The split names that the Croissant file itself lists; none where it lists none."""
    for record_set in scope.dataset.record_sets:
        for other in record_set.fields:
            if record_set.data is not None and any(said.field == other.id for said in item.references):
                return sorted({str(row[other.name]) for row in record_set.data.rows if other.name in row})
    return []


def _check_overlaps(scope: Scope, rules: tuple[SplitRule, ...]) -> None:
    """Refuse what can be seen to overlap without a look at the rows."""
    groups: dict[str, SplitRule] = {}
    everything = next((rule for rule in rules if rule.claims is None and rule.bounds is None), None)
    if everything is not None and len(rules) > 1:
        other = next(rule for rule in rules if rule is not everything)
        raise _overlap(scope, everything, other, "takes every row", f"{everything.name}: {{from: rest, fraction: 1}}")
    for rule in sorted(rules, key=lambda item: item.claims is None):
        predicate = rule.claims or rule.of
        if predicate is None:
            continue
        text = json.dumps(predicate.to_json())
        before = groups.setdefault(text, rule)
        if before is not rule and before.claims is not None:
            raise _overlap(scope, rule, before, "takes the same rows", f"take {rule.name!r} or {before.name!r} out")


def _overlap(scope: Scope, rule: SplitRule, other: SplitRule, what: str, remedy: str) -> CoralError:
    key = f"splits.{rule.name}"
    return SplitError(
        key,
        f"{what}, so it overlaps with split {other.name!r}",
        facts={
            "at": scope.descriptor.key_line(key),
            "expected": "no row in two splits",
            "other at": scope.descriptor.key_line(f"splits.{other.name}"),
        },
        remedy=remedy,
    )


def _split_key(scope: Scope, *, needed: bool) -> tuple[str, ...]:
    asked = scope.descriptor.split_key
    keys = [(name, f"split_key.{index}") for index, name in enumerate(asked)]
    for name, key in keys:
        scope.find(name, key)
    if not needed:
        return ()
    if not asked:
        if scope.record_set.key is None:
            raise SplitError(
                f"record set {scope.record_set.id}",
                "has a key that names none of its fields, and splits by fraction are keyed by it",
                facts={"at": scope.dataset.origin, "fields": ", ".join(scope.names)},
                remedy=f"split_key: [{scope.names[0]}]",
            )
        keys = [(name, "splits") for name in scope.record_set.key]
    return tuple(_key_field(scope, name, key) for name, key in keys)


def _key_field(scope: Scope, name: str, key: str, option: str = "split_key") -> str:
    item = scope.select(name, key)
    if item.shape or item.dtype not in _KEY_DTYPES:
        fitting = [
            other.name
            for other in scope.fields
            if other.dtype in _KEY_DTYPES and not other.shape and not other.unsupported
        ]
        raise SplitError(
            key,
            f"field {item.name!r} cannot key splits: it is {item.dtype}{list(item.shape) if item.shape else ''}",
            facts={"at": scope.descriptor.key_line(key), "expected": "a text, whole number, boolean or date"},
            remedy=f"{option}: [{fitting[0] if fitting else 'id'}]",
        )
    return item.name

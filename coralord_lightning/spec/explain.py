"""What changed between two plans, in words a user knows from the descriptor. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from coralord_lightning.spec.fingerprint import plain

__all__ = ["Change", "explain"]

Json = Any
_ORDER = "(order)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference.

    Args:
        what: dotted path in the plan: `pipeline.params.max`, `sources.digits.parquet.sha256`.
        was, now: the values as text; None where there is none.
    """

    what: str
    was: str | None
    now: str | None

    def to_json(self) -> dict[str, str | None]:
        return {"what": self.what, "was": self.was, "now": self.now}


def explain(old: Mapping[str, Json], new: Mapping[str, Json]) -> tuple[Change, ...]:
    """Name every difference between two canonical plans.

    Partitions are left out where sources differ: they follow from them.
    """
    changes = tuple(_differences("", _by_name(plain(old)), _by_name(plain(new))))
    told = tuple(change for change in changes if not change.what.startswith("partitions"))
    return told or changes


def _by_name(value: Json) -> Json:
    """Lists of named things as mappings, so that a path says the name and not a number."""
    if isinstance(value, Mapping):
        return {key: _by_name(item) for key, item in value.items()}
    if isinstance(value, list):
        named = [item["name"] for item in value if isinstance(item, Mapping) and "name" in item]
        if value and len(set(named)) == len(value):
            rest = [{key: item[key] for key in item if key != "name"} for item in value]
            return {_ORDER: named} | dict(zip(named, map(_by_name, rest), strict=True))
    return value


def _differences(path: str, old: Json, new: Json) -> Iterator[Change]:
    if _json(old) == _json(new):  # not ==: 16 and 16.0 are different inputs
        return
    if _is_open(old) and _is_open(new):
        for key in dict.fromkeys([*old, *new]):
            inner = f"{path}.{key}" if path else str(key)
            if key == _ORDER:
                if sorted(old.get(key, [])) == sorted(new.get(key, [])) and old[key] != new[key]:
                    yield Change(what=inner, was=_text(old[key]), now=_text(new[key]))
            else:
                yield from _differences(inner, old.get(key), new.get(key))
        return
    yield Change(what=path, was=_text(old), now=_text(new))


def _is_open(value: Json) -> bool:
    """Whether to look inside: a mapping that is no predicate (those are told whole)."""
    return isinstance(value, Mapping) and "op" not in value


def _text(value: Json) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return _json(value)


def _json(value: Json) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)

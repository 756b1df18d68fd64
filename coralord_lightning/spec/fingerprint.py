"""The identity of a plan: RFC 8785 canonical JSON, SHA-256. Pure.

JSON knows one kind of number where Python knows two: a float is tagged, as is an integer that a double cannot hold,
so that `1` and `1.0`, which may give other data, give other fingerprints.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import rfc8785

__all__ = ["canonical", "canonical_bytes", "fingerprint", "partition_key", "partition_keys", "plain"]

Json = Any
_MAX_EXACT = 2**53 - 1
_NAMING = frozenset({"name", "format", "table", "path"})
"""What a plan says of a source beside its identity."""


def canonical(value: Json) -> Json:
    """JSON values with every number exact under RFC 8785; `plain` undoes it."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return value if -_MAX_EXACT <= value <= _MAX_EXACT else {"$int": str(value)}
    if isinstance(value, float):
        return {"$float": repr(value)}
    if isinstance(value, Mapping):
        folded = {key: canonical(item) for key, item in value.items()}
        tagged = any(key.startswith("$") for key in folded)
        return {"$dict": [[key, folded[key]] for key in sorted(folded)]} if tagged else folded
    return [canonical(item) for item in value]


def plain(value: Json) -> Json:
    """Undo `canonical`, for showing."""
    if isinstance(value, Mapping):
        if value.keys() == {"$int"}:
            return int(value["$int"])
        if value.keys() == {"$float"}:
            return float(value["$float"])
        if value.keys() == {"$dict"}:
            return {key: plain(item) for key, item in value["$dict"]}
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def canonical_bytes(value: Json) -> bytes:
    """RFC 8785 text of JSON values that `canonical` has made exact."""
    return rfc8785.dumps(value)


def fingerprint(plan: Json) -> str:
    """Fingerprint of a canonical plan: 64 lowercase hex digits."""
    return hashlib.sha256(canonical_bytes(plan)).hexdigest()


def partition_key(plan: Mapping[str, Json], index: int, classes: Mapping[str, Sequence[str]] | None = None) -> str:
    """Key of one partition of a canonical plan; see `partition_keys`."""
    return next(partition_keys(plan, classes, only=[index]))


def partition_keys(
    plan: Mapping[str, Json],
    classes: Mapping[str, Sequence[str]] | None = None,
    *,
    only: Iterable[int] | None = None,
) -> Iterator[str]:
    """Keys of a canonical plan's partitions: everything that decides their rows, and no other partition's inputs.

    Args:
        classes: field -> its classes, where the rows of all partitions decide them.
        only: which partitions; None: all of them.
    """
    shared: dict[str, Json] = {key: value for key, value in plan.items() if key not in ("partitions", "sources")}
    if classes:
        shared["classes"] = {name: list(known) for name, known in classes.items()}
    texts = {key: canonical_bytes(value) for key, value in shared.items()}  # once, not once a partition
    names = sorted([*texts, "partition", "sources"])
    numbered = _numbers_rows(plan)
    for index in range(len(plan["partitions"])) if only is None else only:
        for key, value in _own_inputs(plan, plan["partitions"][index], numbered=numbered).items():
            texts[key] = canonical_bytes(value)
        members = (b'"%s":%s' % (name.encode(), texts[name]) for name in names)
        yield hashlib.sha256(b"{" + b",".join(members) + b"}").hexdigest()


def _own_inputs(plan: Mapping[str, Json], part: Mapping[str, Json], *, numbered: bool) -> dict[str, Json]:
    """What a partition reads. Of a slice its own bytes count, and nothing else of their file."""
    sources = [plan["sources"][source] for source in part["sources"]]
    own = {key: value for key, value in part.items() if key != "sources"}
    if "slice" in own:
        sources[0] = {key: value for key, value in sources[0].items() if key in _NAMING}
        kept = ("sha256", "first_row") if numbered else ("sha256",)
        own["slice"] = {key: own["slice"][key] for key in kept}
    return {"sources": sources, "partition": own}


def _numbers_rows(plan: Mapping[str, Json]) -> bool:
    """Whether rows have the numbers that they have in their file as keys: some split is a fraction of just rows."""
    selection = plan["selection"]
    fractions = [rule for rule in selection["splits"].values() if "bounds" in rule and "group_by" not in rule]
    return bool(fractions) and "split_key" not in selection

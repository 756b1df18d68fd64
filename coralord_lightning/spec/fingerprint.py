"""The identity of a plan: RFC 8785 canonical JSON, SHA-256. Pure.

JSON knows one kind of number where Python knows two: a float is tagged, as is an integer that a double cannot hold,
so that `1` and `1.0`, which may give other data, give other fingerprints.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import rfc8785

__all__ = ["canonical", "canonical_bytes", "fingerprint", "partition_key", "plain"]

Json = Any
_MAX_EXACT = 2**53 - 1


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
    """Key of one partition of a canonical plan: everything that decides its rows, and no other partition's inputs.

    Args:
        classes: field -> its classes, where the rows of all partitions decide them.
    """
    part = plan["partitions"][index]
    own = {key: value for key, value in plan.items() if key != "partitions"}
    own["sources"] = [plan["sources"][source] for source in part["sources"]]
    own["partition"] = {key: value for key, value in part.items() if key != "sources"}
    if classes:
        own["classes"] = {name: list(known) for name, known in classes.items()}
    return hashlib.sha256(canonical_bytes(own)).hexdigest()

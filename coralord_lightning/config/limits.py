"""What a machine's administrator allows at most: `[limits]` of the system file. Never lifted by a later layer."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from pathlib import Path
from typing import Any

from coralord_lightning.errors import ConfigError, nearest

__all__ = ["SiteLimits", "num_cores", "parse_bytes", "parse_count", "parse_limits"]

_MOST = 1024

_UNITS = {"": 1, "b": 1} | {
    name + ending: base**power
    for power, name in enumerate("kmgtp", start=1)
    for ending, base in (("", 1024), ("b", 1000), ("ib", 1024))
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteLimits:
    """Limits of this machine.

    Args:
        max_fetch: bytes that one command may fetch.
        lock_private_hosts: only `allow_private_hosts` of these limits counts, and `allow_private` is ruled out.
        allow_private_hosts: see there.
        file: where they are set.
    """

    max_fetch: int | None = None
    lock_private_hosts: bool = False
    allow_private_hosts: frozenset[str] = frozenset()
    file: Path | None = None


def parse_limits(value: Any, *, file: Path) -> SiteLimits:
    """The table `[limits]` of the system file.

    Raises:
        ConfigError: a limit is unknown or has a value of the wrong kind.
    """
    known = [item.name for item in fields(SiteLimits) if item.name != "file"]
    if not isinstance(value, Mapping):
        raise _bad(file, "limits", "a table", "write [limits]")
    for key in value:
        if key not in known:
            raise _bad(file, f"limits.{key}", ", ".join(known), f"rename it to '{nearest(key, known) or known[0]}'")
    hosts = value.get("allow_private_hosts", [])
    if not isinstance(hosts, list) or not all(isinstance(host, str) for host in hosts):
        raise _bad(file, "limits.allow_private_hosts", "a list of texts", 'allow_private_hosts = ["host"]')
    locked = value.get("lock_private_hosts", False)
    if not isinstance(locked, bool):
        raise _bad(file, "limits.lock_private_hosts", "true or false", "lock_private_hosts = true")
    most = value.get("max_fetch")
    return SiteLimits(
        max_fetch=None if most is None else parse_bytes(most, subject="limits.max_fetch"),
        lock_private_hosts=locked,
        allow_private_hosts=frozenset(hosts),
        file=file,
    )


def parse_bytes(value: Any, *, subject: str) -> int:
    """A number of bytes, or a text like `50GB` (powers of 1000) or `1GiB`, `4g` (powers of 1024).

    Raises:
        ConfigError: it is neither.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    text = value.strip().lower() if isinstance(value, str) else ""
    found = re.fullmatch(r"(\d{1,18}(?:\.\d{1,9})?)\s*([a-z]*)", text)
    if found is None or found[2] not in _UNITS:
        example = f'{subject.rpartition(".")[2]} = "50GB"'
        raise ConfigError(subject, "is no number of bytes", facts={"got": repr(value)}, remedy=example)
    return int(Decimal(found[1]) * _UNITS[found[2]])


def parse_count(value: Any, *, subject: str) -> int:
    """A number from 1 to 1024, as such or as text.

    Raises:
        ConfigError: it is none.
    """
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= _MOST:
        expected = f"a whole number from 1 to {_MOST}"
        remedy = f"export {subject}=2" if subject.isupper() else f"{subject} = 2"
        raise ConfigError(subject, f"must be {expected}", facts={"got": repr(value)}, remedy=remedy)
    return int(text)


def _bad(file: Path, subject: str, expected: str, remedy: str) -> ConfigError:
    return ConfigError(subject, "cannot be used", facts={"file": file, "expected": expected}, remedy=remedy)


def num_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

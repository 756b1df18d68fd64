"""Sizes, durations and relative paths as users write them. Pure."""

from __future__ import annotations

import math
import re
from pathlib import PurePosixPath
from typing import Any

__all__ = ["parse_duration", "parse_size", "relative_path", "shown_bytes"]

_AMOUNT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")
_BYTES = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", start=1):
    _BYTES |= {_letter: 1024**_power, f"{_letter}ib": 1024**_power, f"{_letter}b": 1000**_power}
_SECONDS = {"": 1.0, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def parse_size(value: Any) -> Any:
    """Bytes: 512, "512m", "4g" and "4GiB" (powers of 1024), "50GB" (powers of 1000); what is no size comes back as is.

    Raises:
        ValueError: the text is no size, or not above zero.
    """
    if not isinstance(value, str):
        return value
    return round(_amount(value, _BYTES))


def parse_duration(value: Any) -> Any:
    """Seconds: 90, "90s", "10m", "1.5h"; what is no duration comes back as is.

    Raises:
        ValueError: the text is no duration.
    """
    if not isinstance(value, str):
        return value
    return _amount(value, _SECONDS)


def _amount(text: str, units: dict[str, int] | dict[str, float]) -> float:
    found = _AMOUNT.fullmatch(text)
    if found is None or found[2].lower() not in units:
        message = f"{text!r} is no number with one of the units {', '.join(unit for unit in units if unit)}"
        raise ValueError(message)
    amount = float(found[1]) * units[found[2].lower()]
    if not math.isfinite(amount):
        message = f"{text!r} is too large"
        raise ValueError(message)
    return amount


def relative_path(text: str) -> str:
    """The path in its plain form, with `/`.

    Raises:
        ValueError: it is absolute, or leads out of the folder.
    """
    path = PurePosixPath(text)
    if not text or "\0" in text or "\\" in text or path.is_absolute() or ".." in path.parts or path == PurePosixPath():
        message = f"{text!r} is no path inside the descriptor's folder"
        raise ValueError(message)
    return str(path)


def shown_bytes(size_bytes: int) -> str:
    """Bytes as messages say them: `1.5 GB (1500000000 bytes)`."""
    value, unit = float(size_bytes), "bytes"
    for larger in ("KB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{size_bytes} bytes" if unit == "bytes" else f"{value:.3g} {unit} ({size_bytes} bytes)"

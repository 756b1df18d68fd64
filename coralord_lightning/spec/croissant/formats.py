"""Date and time formats of Croissant, strftime or Unicode CLDR patterns, to the one that DuckDB parses. Pure."""

from __future__ import annotations

import re

__all__ = ["BOX_FORMATS", "DateFormatError", "strptime_format"]

BOX_FORMATS = frozenset({"CENTER_XYWH", "XYWH", "XYXY", "REL_XYXY", "YXYX", "REL_YXYX", "REL_XYWH"})
"""Keras' names of bounding box formats: said of a field, and nothing that is parsed."""

_CLDR = {
    "yyyy": "%Y", "y": "%Y", "uuuu": "%Y", "yy": "%y", "MMMM": "%B", "LLLL": "%B", "MMM": "%b", "LLL": "%b", "MM": "%m",
    "M": "%-m", "dd": "%d", "d": "%-d", "DDD": "%j", "HH": "%H", "H": "%-H", "hh": "%I", "h": "%-I", "mm": "%M",
    "m": "%-M", "ss": "%S", "s": "%-S", "SSS": "%g", "SSSSSS": "%f", "a": "%p", "EEEE": "%A", "EEE": "%a", "E": "%a",
    "Z": "%z", "ZZZZZ": "%z", "XXX": "%z", "XX": "%z", "X": "%z", "xxx": "%z", "xx": "%z",
}  # fmt: skip
_TOKEN = re.compile(r"'(?:[^']|'')*'|([A-Za-z])\1*|[^A-Za-z']")
_NUMBER = re.compile(r"[#0,.E+%\u00a4 -]+")


class DateFormatError(ValueError):
    """A pattern has a letter that means nothing we parse; its text says which."""


def strptime_format(pattern: str) -> str:
    """A pattern as DuckDB's strptime takes it; number patterns and bounding box formats as they are.

    Source: Croissant 1.1, Format: "CLDR Date/Time Patterns"; its examples use strftime.

    Raises:
        DateFormatError: a letter is no part of a date or time.
    """
    if "%" in pattern or pattern in BOX_FORMATS or _NUMBER.fullmatch(pattern):
        return pattern
    out = []
    for found in _TOKEN.finditer(pattern):
        token = found[0]
        if token.startswith("'"):
            out.append(token[1:-1].replace("''", "'") or "'")
        elif not token[0].isalpha():
            out.append(token)
        elif token in _CLDR:
            out.append(_CLDR[token])
        else:
            raise DateFormatError(f"'{token}' is no CLDR date or time field that is read; e.g. yyyy-MM-dd HH:mm:ss")
    return "".join(out)

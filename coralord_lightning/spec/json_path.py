"""JSON paths cut into segments, and what the rows are that several of them share. Pure.

`$.annotations[*].id` and `$.annotations[*].box.x` share the rows `$.annotations[*]`; what is left of each path is
looked up in one row, so that a key that a row does not have is null there and the others stay in their rows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["DESCENDANTS", "JsonPathError", "common_row_path", "is_plain", "name_of", "path_segments", "relative_path"]

DESCENDANTS = "..*"
"""The end of a row path whose rows are objects anywhere below that have one of the wanted keys."""

_SEGMENT = re.compile(
    r"""\.\.(?:\*|\['(?:[^'\\]|\\.)*'\]|\["(?:[^"\\]|\\.)*"\]|\[[^\]'"]*\]|[^.\[\]'"*?\s]+)"""
    r"""|\.(?:\*|[^.\[\]'"*?\s]+)|\['(?:[^'\\]|\\.)*'\]|\["(?:[^"\\]|\\.)*"\]|\[[^\[\]'"]*\]|\[\?.*?\]"""
)
_NAME = re.compile(r"""\.([^.\[\]'"*?\s]+)|\[(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")\]""")
_INDEX = re.compile(r"\[(-?\d+)\]")


class JsonPathError(ValueError):
    """A text is no JSON path; the message says why."""


def path_segments(path: str) -> tuple[str, ...]:
    """The segments after `$`; names in one spelling, `['x']`.

    Raises:
        JsonPathError: it is no path.
    """
    text = path.strip()
    rest = text.removeprefix("$")
    if rest and not text.startswith("$") and rest[0] not in ".[":
        rest = "." + rest  # Hugging Face writes `bytes` for `$.bytes`
    segments = []
    at = 0
    while at < len(rest):
        found = _SEGMENT.match(rest, at)
        if found is None:
            raise JsonPathError(f"{path!r} is no JSON path: cannot read {rest[at:][:40]!r}")
        segments.append(_folded(found[0]))
        at = found.end()
    return tuple(segments)


def name_of(segment: str) -> str | None:
    """The key in a segment `['x']` or `..['x']`; None for another kind."""
    found = _NAME.fullmatch(segment.removeprefix("..") if segment.startswith("..[") else segment)
    if found is None:
        return None
    return re.sub(r"\\(.)", r"\1", next(group for group in found.groups() if group is not None))


def is_plain(path: str) -> bool:
    """Whether a path has names and indexes only, so that it gives one value at most."""
    return all(map(_is_single, path_segments(path)))


def common_row_path(paths: Sequence[str]) -> str:
    """The path of the rows that all of these paths look into.

    Raises:
        JsonPathError: one of them is no path.
    """
    every = [path_segments(path) for path in paths]
    prefix: list[str] = []
    for parts in zip(*every, strict=False):
        if len(set(parts)) > 1:
            break
        prefix.append(parts[0])
    last = max((at for at, part in enumerate(prefix) if not _is_single(part) and part[:2] != ".."), default=-1)
    rows = prefix[: last + 1]
    if any(part.startswith("..") for parts in every for part in parts[len(rows) : len(rows) + 1]):
        return "$" + "".join(rows) + DESCENDANTS
    return "$" + "".join(rows)


def relative_path(path: str, row_path: str) -> tuple[str, ...]:
    """The segments of a path within one row."""
    segments = path_segments(path)
    if row_path.endswith(DESCENDANTS):
        depth = len(path_segments(row_path.removesuffix(DESCENDANTS)))
        first, *rest = segments[depth:]
        return (first.removeprefix(".."), *rest)
    return segments[len(path_segments(row_path)) :]


def _is_single(segment: str) -> bool:
    if segment.startswith(".."):
        return False
    return name_of(segment) is not None or _INDEX.fullmatch(segment) is not None


def _folded(segment: str) -> str:
    descends = ".." if segment.startswith("..") else ""
    plain = segment.removeprefix("..")
    if descends and not plain.startswith("["):
        plain = "." + plain
    found = _NAME.fullmatch(plain)
    if found is None:
        return segment if plain not in (".*", "[*]") else descends + "[*]"
    name = re.sub(r"\\(.)", r"\1", next(group for group in found.groups() if group is not None))
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"{descends}['{escaped}']"

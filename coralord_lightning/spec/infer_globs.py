"""Globs that match exactly the files they are made for, `*` within a folder. Pure text."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

__all__ = ["includes_for"]

_MAX_FOLDERS = 2
"""Of more folders than these, one glob says them all, where it can."""


def includes_for(names: Sequence[str], universe: Sequence[str] | None) -> tuple[str, ...]:
    """Globs for files, sorted by name.

    Args:
        names: relative paths with `/`.
        universe: every path that a glob could match; None: they are named one by one.
    """
    if universe is None or len(names) == 1:
        return tuple(map(_literal, names))
    by_kind: dict[tuple[int, str], list[str]] = defaultdict(list)
    for name in names:
        by_kind[name.count("/"), _suffix(name)].append(name)
    out: list[str] = []
    for (depth, suffix), group in sorted(by_kind.items()):
        others = [name for name in universe if (name.count("/"), _suffix(name)) == (depth, suffix)]
        out += _patterns(group, others, suffix) if suffix else map(_literal, group)
    return tuple(out)


def _patterns(names: Sequence[str], universe: Sequence[str], suffix: str) -> list[str]:
    """Globs for files of one depth and ending: a folder at a time, or one over folders where those are many."""
    folders = sorted({_folder(name) for name in names})
    if len(folders) > _MAX_FOLDERS:
        one = _over_folders(folders, suffix)
        matched = {name for name in universe if re.fullmatch(_regex(one), name)}
        if matched == set(names):
            return [one]
    out = []
    for folder in folders:
        inside = [name for name in names if _folder(name) == folder]
        everything = [name for name in universe if _folder(name) == folder]
        whole = set(inside) == set(everything)
        out += [f"{_literal(folder)}*{_literal(suffix)}"] if whole else [_literal(name) for name in inside]
    return out


def _over_folders(folders: Sequence[str], suffix: str) -> str:
    """`data/*/*.png` for `data/cats/` and `data/dogs/`."""
    parts = [folder.split("/")[:-1] for folder in folders]
    levels = [level[0] if len(set(level)) == 1 else None for level in zip(*parts, strict=True)]
    return "/".join([*("*" if level is None else _literal(level) for level in levels), f"*{_literal(suffix)}"])


def _regex(pattern: str) -> str:
    """A glob of ours, of literal text and `*`, as a regular expression; a star matches no leading dot."""
    pieces = re.split(r"(\[[*?\[]\]|\*)", pattern)
    return "".join(r"[^/]*" if piece == "*" else re.escape(piece[1] if _is_class(piece) else piece) for piece in pieces)


def _is_class(piece: str) -> bool:
    return len(piece) == 3 and piece[0] == "["


def _literal(text: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", text)


def _folder(name: str) -> str:
    return name[: name.rfind("/") + 1]


def _suffix(name: str) -> str:
    last = name.rpartition("/")[2]
    return last[last.rindex(".") :] if "." in last else ""

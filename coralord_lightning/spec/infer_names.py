"""Names in an inferred Croissant file: ids that are unique, and splits that file names speak of. Pure text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Names", "SplitRule", "image_split", "slug", "table_split"]

_SPLITS = ("train", "training", "val", "valid", "validation", "dev", "eval", "test", "testing")
_TOKEN = re.compile(rf"(?:^|[/._-])({'|'.join(_SPLITS)})[/._-]", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRule:
    """How a file's path says its split.

    Args:
        regex: RE2, of one group.
        values: what the group takes, in the order of their use in training.
        is_parent: whether it is the folder that a file lies in.
    """

    regex: str
    values: tuple[str, ...]
    is_parent: bool = False


@dataclass(slots=True)
class Names:
    """Ids given so far."""

    taken: set[str] = field(default_factory=set)

    def unique(self, wanted: str) -> str:
        """The name, or the first of it with a number that nobody has."""
        name, number = wanted, 2
        while name in self.taken:
            name, number = f"{wanted}_{number}", number + 1
        self.taken.add(name)
        return name


def slug(text: str, *, spaces: bool = False) -> str:
    """A text as (part of) an id: letters, digits, `_`, `.` and `-` of any script, anything else as `_`."""
    found = re.sub(r"[^\w. -]+" if spaces else r"[^\w.-]+", "_", text)
    return found or "_"


def table_split(paths: Sequence[str]) -> SplitRule | None:
    """Splits of several tables, where folder or file of each of them names one."""
    found = [_TOKEN.search(path) for path in paths]
    if len(paths) < 2 or not all(found):
        return None
    values = _ordered(match[1] for match in found if match is not None)
    # readers of Croissant match at the start; the end is for mlcroissant, which applies it to what it found once more
    return SplitRule(regex=f"(?:.*?[/._-])?({'|'.join(values)})(?:[/._-]|$)", values=values)


def image_split(paths: Sequence[str]) -> SplitRule | None:
    """Splits of files one value each, all of one depth, where one level of their folders names them."""
    folders = [path.split("/")[:-1] for path in paths]
    for level in range(len(folders[0])):
        values = _ordered(parts[level] for parts in folders)
        if all(value.lower() in _SPLITS for value in values):
            below = len(folders[0]) - level
            regex = f"(?:.*/)?({'|'.join(values)})(?:{'/[^/]+' * below})?$"
            return SplitRule(regex=regex, values=values, is_parent=below == 1)
    return None


def _ordered(values: object) -> tuple[str, ...]:
    distinct = {str(value) for value in values}  # type: ignore[attr-defined]
    return tuple(sorted(distinct, key=lambda value: (_rank(value), value)))


def _rank(value: str) -> int:
    return _SPLITS.index(value.lower()) if value.lower() in _SPLITS else len(_SPLITS)

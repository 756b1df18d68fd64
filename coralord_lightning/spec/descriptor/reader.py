"""Descriptor text to plain values: YAML 1.2 without tags or Python objects, and on which line each key stands."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from coralord_lightning.errors import DescriptorSyntaxError

__all__ = ["MAX_CHARS", "MAX_DEPTH", "MAX_NODES", "YamlText", "is_storable", "read_yaml"]

MAX_CHARS = 1 << 20
MAX_DEPTH = 32
MAX_NODES = 50_000
"""Nodes after every alias is written out: a file of nested aliases must not become a terabyte."""

_CORE_SCHEMA: tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...] = (
    (re.compile(r"~|null|Null|NULL|"), lambda _: None),
    (re.compile(r"true|True|TRUE"), lambda _: True),
    (re.compile(r"false|False|FALSE"), lambda _: False),
    (re.compile(r"[-+]?[0-9]{1,300}"), int),
    (re.compile(r"0o[0-7]{1,300}|0x[0-9a-fA-F]{1,300}"), lambda text: int(text, 0)),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
    (re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"), lambda text: float(text.replace(".", ""))),
)
"""Unquoted scalars of YAML 1.2: `no` and `on` stay text."""
_DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class YamlText:
    """A read descriptor.

    Args:
        values: plain values: dict, list, str, int, float, bool, None.
        lines: dotted key -> its line, from 1.
    """

    values: Any
    lines: Mapping[str, int]


def read_yaml(text: str, *, origin: str) -> YamlText:
    """Read YAML 1.2.

    Args:
        origin: the file's name, for messages.
    Raises:
        DescriptorSyntaxError: not YAML, a key said twice, a tag, an unquoted date, or absurd size.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    if len(text) > MAX_CHARS:
        raise DescriptorSyntaxError(
            origin,
            "is too large for a descriptor",
            facts={"got": f"{len(text):,} characters", "expected": f"at most {MAX_CHARS:,}"},
            remedy="keep data in files and name them in a Croissant file",
        )
    builder = _Builder(origin=origin)
    try:
        return builder.read(iter(YAML(typ="safe", pure=True).parse(text)))
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
        raise builder.error(line, "is not YAML", got=error.problem, remedy=_remedy(text, line)) from None
    except (YAMLError, UnicodeError, ValueError) as error:
        raise builder.error(1, "is not YAML", got=str(error).splitlines()[0], remedy=_remedy(text, 1)) from None


def _remedy(text: str, line: int) -> str:
    shown = (text.splitlines() or [""])[min(line, len(text.splitlines()) or 1) - 1].strip()
    return f"mend line {line} ({shown[:60]!r}); a line reads `key: value`, texts with : or # stand in quotes"


@dataclass(slots=True)
class _Builder:
    """Builds values from the parser's events: nothing is ever constructed that YAML's author names."""

    origin: str
    lines: dict[str, int] = field(default_factory=dict)
    anchors: dict[str, tuple[Any, int]] = field(default_factory=dict)
    num_nodes: int = 0

    def error(self, line: int, message: str, *, remedy: str, **facts: object) -> DescriptorSyntaxError:
        return DescriptorSyntaxError(
            self.origin, message, facts={"at": f"{self.origin}:{line}", **facts}, remedy=remedy
        )

    def read(self, events: Iterator[Any]) -> YamlText:
        values: Any = None
        seen = 0
        for event in events:
            kind = type(event).__name__
            if kind == "DocumentStartEvent":
                seen += 1
                self._check_document(event, seen)
            elif kind not in ("StreamStartEvent", "StreamEndEvent", "DocumentEndEvent"):
                values = self._node(event, events, (), 1)
        if not isinstance(values, dict):
            raise self.error(
                1,
                "holds no descriptor: its top level must be `key: value` lines",
                got=type(values).__name__ if values is not None else "nothing",
                remedy="name: digits\ncroissant: croissant.json",
            )
        return YamlText(values=values, lines=self.lines)

    def _check_document(self, event: Any, seen: int) -> None:
        line = event.start_mark.line + 1
        if seen > 1:
            raise self.error(line, "holds two documents", remedy="take the second `---` and what follows out")
        version = getattr(event, "version", None)
        if version is not None and tuple(_version(version)) != (1, 2):
            raise self.error(line, "asks for another YAML than 1.2", remedy="take the %YAML line out")

    def _node(self, event: Any, events: Iterator[Any], path: tuple[str, ...], depth: int) -> Any:
        line = event.start_mark.line + 1
        before = self.num_nodes
        self._count(1, line)
        if depth > MAX_DEPTH:
            raise self.error(line, f"nests deeper than {MAX_DEPTH}", remedy="write it flatter")
        kind = type(event).__name__
        if kind == "AliasEvent":
            return self._alias(event, line)
        if event.tag is not None and not _is_implied(event):
            raise self.error(line, f"has a tag, {event.tag}", remedy="take the tag out; plain values need none")
        if kind == "ScalarEvent":
            value = self._scalar(event, line)
        elif kind == "SequenceStartEvent":
            value = self._sequence(events, path, depth)
        else:
            value = self._mapping(events, path, depth)
        if event.anchor is not None:
            self.anchors[event.anchor] = (value, self.num_nodes - before)
        return value

    def _count(self, nodes: int, line: int) -> None:
        self.num_nodes += nodes
        if self.num_nodes > MAX_NODES:
            raise self.error(line, f"has more than {MAX_NODES:,} values", remedy="write fewer aliases (*name)")

    def _alias(self, event: Any, line: int) -> Any:
        if event.anchor not in self.anchors:
            raise self.error(line, f"has an alias without anchor: *{event.anchor}", remedy="write the value out")
        value, size = self.anchors[event.anchor]
        self._count(size, line)
        return value

    def _sequence(self, events: Iterator[Any], path: tuple[str, ...], depth: int) -> list[Any]:
        items: list[Any] = []
        for event in events:
            if type(event).__name__ == "SequenceEndEvent":
                break
            here = (*path, str(len(items)))
            self.lines[".".join(here)] = event.start_mark.line + 1
            items.append(self._node(event, events, here, depth + 1))
        return items

    def _mapping(self, events: Iterator[Any], path: tuple[str, ...], depth: int) -> dict[str, Any]:
        items: dict[str, Any] = {}
        for event in events:
            if type(event).__name__ == "MappingEndEvent":
                break
            line = event.start_mark.line + 1
            key = self._key(event, events, line, depth)
            here = (*path, key)
            if key in items:
                first = self.lines[".".join(here)]
                raise self.error(
                    line,
                    f"says the key {key!r} twice, in lines {first} and {line}",
                    remedy=f"take one of the two `{key}:` out",
                )
            self.lines[".".join(here)] = line
            items[key] = self._node(next(events), events, here, depth + 1)
        return items

    def _key(self, event: Any, events: Iterator[Any], line: int, depth: int) -> str:
        key = self._node(event, events, (), depth + 1)
        if not isinstance(key, str):
            shown = getattr(event, "value", type(key).__name__)
            raise self.error(line, "has a key that is no text", got=shown, remedy=f'"{shown}": …')
        return key

    def _scalar(self, event: Any, line: int) -> Any:
        text: str = event.value
        if not is_storable(text):
            raise self.error(line, "has a character that no file name or hash can hold", remedy="take \\0 or \\ud… out")
        if event.style is not None and event.style != "":
            return text
        if _DATE.fullmatch(text):
            raise self.error(
                line,
                "has a date without quotes, which is a text to some YAML readers and not to others",
                got=text,
                remedy=f'"{text}"',
            )
        return _plain_scalar(text)


def is_storable(text: str) -> bool:
    """Whether the text has no NUL and no lone surrogate: neither paths nor canonical JSON can hold those."""
    return not any(char == "\0" or "\ud800" <= char <= "\udfff" for char in text)


def _plain_scalar(text: str) -> Any:
    for pattern, convert in _CORE_SCHEMA:
        if pattern.fullmatch(text):
            return convert(text)
    return text


def _version(version: Any) -> tuple[int, int]:
    return (version.major, version.minor) if hasattr(version, "major") else tuple(version)


def _is_implied(event: Any) -> bool:
    """Whether the parser made the tag up itself."""
    return bool(event.implicit is True or (isinstance(event.implicit, tuple) and event.implicit[0]))

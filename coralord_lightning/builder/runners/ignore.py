"""Which paths a `.dockerignore` leaves out, by Docker's own rules. Pure; reads no disk."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Ignore", "parse_ignore"]

_WILD = re.compile(r"[*?\[\\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pattern:
    """One line; `literal` is what its matches start with, up to the first wild character."""

    matches: re.Pattern[str]
    keeps: bool
    literal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignore:
    """The lines of a `.dockerignore`: the last that matches a path, or a folder above it, decides."""

    patterns: Sequence[_Pattern] = ()

    def leaves_out(self, path: str) -> bool:
        """Whether a path beneath the context, with `/`, is not sent."""
        parts = path.split("/")
        above = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
        for pattern in reversed(self.patterns):
            if any(pattern.matches.fullmatch(name) for name in above):
                return not pattern.keeps
        return False

    def may_keep_beneath(self, folder: str) -> bool:
        """Whether an exception can reach into a folder that is left out."""
        for pattern in self.patterns:
            if not pattern.keeps:
                continue
            shorter = min(len(pattern.literal), len(folder) + 1)
            if pattern.literal[:shorter] == f"{folder}/"[:shorter]:
                return True
        return False


def parse_ignore(text: str) -> Ignore:
    """Read the text of a `.dockerignore`.

    Raises:
        ValueError: a line cannot be read; says which.
    """
    patterns = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        rule = line.strip()
        if line.startswith("#") or not rule:
            continue
        keeps = rule.startswith("!")
        rule = posixpath.normpath(rule.removeprefix("!").strip() or "!").lstrip("/") or "/"
        if keeps and rule == "!":
            raise ValueError(f"line {number}: an exception without a pattern")
        try:
            matches = re.compile(_expression(rule), re.DOTALL)
        except re.error as error:
            raise ValueError(f"line {number}: {line.strip()!r} is no pattern: {error}") from error
        wild = _WILD.search(rule)
        patterns.append(_Pattern(matches=matches, keeps=keeps, literal=rule[: wild.start()] if wild else f"{rule}/"))
    return Ignore(patterns=tuple(patterns))


def _expression(rule: str) -> str:
    """The pattern as a regular expression; `moby/patternmatcher`, Pattern.compile."""
    out, at = "", 0
    while at < len(rule):
        char = rule[at]
        at += 1
        if rule.startswith("**", at - 1):
            at += 1
            folders = rule.startswith("/", at)
            at += folders
            plain = at == 2 and not _WILD.search(rule[at:])  # "**name" ends with the name, whatever stands before it
            out += ".*" if at == len(rule) or (plain and not folders) else "(?:.*/)?"
        elif char == "*":
            out += "[^/]*"
        elif char == "?":
            out += "[^/]"
        elif char == "\\" and at < len(rule):
            out += re.escape(rule[at])
            at += 1
        elif char in "[]":
            out += char
        elif char in "^-":
            out += char  # within brackets; elsewhere "^" never matches a path, as there
        else:
            out += re.escape(char)
    return _without_nested_sets(out)


def _without_nested_sets(expression: str) -> str:
    """Say `[` and `-` in brackets so that Python sees no set operation in them, which Go's expressions do not know."""
    out, inside, at = "", False, 0
    while at < len(expression):
        char = expression[at]
        if char == "\\":
            out, at = out + expression[at : at + 2], at + 2
            continue
        if inside and (char == "[" or (char == "-" and out.endswith("-"))):
            char = f"\\{char}"
        elif char in "[]":
            inside = char == "["
        out, at = out + char, at + 1
    return out

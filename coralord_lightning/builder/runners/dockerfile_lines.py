"""The lines of a Dockerfile: continuations, comments, heredocs, words and variables. Knows no instruction's meaning."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from coralord_lightning.errors import DescriptorValueError

__all__ = ["Instruction", "Word", "expand", "instructions", "problem"]

_DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*")
_HEREDOC = re.compile(r"\d*<<(-?)([^<]+)")
_WITH_HEREDOCS = frozenset({"RUN", "COPY", "ADD"})
_VARIABLE = re.compile(r"\$(?:(?P<plain>\w+)|\{(?P<name>\w+)(?P<rest>[^}]*)\})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """A word and where each of its characters, and the one behind it, stands in the file."""

    text: str
    places: tuple[int, ...]

    @property
    def start(self) -> int:
        return self.places[0]

    @property
    def end(self) -> int:
        return self.places[-1] + 1

    def part(self, start: int, end: int) -> Word:
        """A part of it, not in quotes."""
        return Word(text=self.text[start:end], places=self.places[start:end])


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One instruction; what stands behind ONBUILD is that of another build.

    Args:
        flags: the leading words that start with `--`.
        words: the others, quotes kept.
        line: where it starts, from 1.
        escape: the character that escapes in this file.
    """

    keyword: str
    flags: tuple[Word, ...]
    words: tuple[Word, ...]
    line: int
    escape: str


def problem(
    subject: str,
    line: int | None,
    message: str,
    *,
    facts: Mapping[str, object] | None = None,
    remedy: str = "mend that line",
) -> DescriptorValueError:
    """An error in a Dockerfile, with its line where it has one."""
    return DescriptorValueError(subject if line is None else f"{subject}:{line}", message, facts=facts, remedy=remedy)


def instructions(text: str, *, origin: str) -> Iterator[Instruction]:
    """Read a Dockerfile's instructions, in order.

    Args:
        origin: its path, for messages.
    Raises:
        DescriptorValueError: a heredoc has no end.
    """
    lines = list(_lines(text))
    escape = _escape(lines)
    while lines:
        logical, number = _logical(lines, escape)
        if logical is None:
            return
        words = _words(logical, escape)
        keyword = words.pop(0).text.upper()
        inner = words[0].text.upper() if keyword == "ONBUILD" and words else keyword
        if inner in _WITH_HEREDOCS:
            _skip_heredocs(words, lines, origin=origin, line=number)
        flags: list[Word] = []
        while words and words[0].text.startswith("--"):
            flags.append(words.pop(0))
        yield Instruction(keyword=keyword, flags=tuple(flags), words=tuple(words), line=number, escape=escape)


def expand(text: str, values: Mapping[str, str], *, escape: str = "\\") -> str:
    """Fill variables in and take quotes off, as FROM and ARG do.

    Raises:
        ValueError: a variable is written in a way that is not read here.
    """
    out: list[str] = []
    quote, at = "", 0
    while at < len(text):
        char = text[at]
        if char == quote:
            quote = ""
        elif not quote and char in "\"'":
            quote = char
        elif char == escape and quote != "'" and at + 1 < len(text):
            at += 1
            out.append(text[at])
        elif char == "$" and quote != "'":
            found = _VARIABLE.match(text, at)
            if found is None:
                raise ValueError(f"{text} is no text with variables that can be read")
            out.append(_value(found, values, escape))
            at = found.end() - 1
        else:
            out.append(char)
        at += 1
    if quote:
        raise ValueError(f"{text} has a quote without end")
    return "".join(out)


def _value(found: re.Match[str], values: Mapping[str, str], escape: str) -> str:
    name, rest = found["plain"] or found["name"], found["rest"] or ""
    value = values.get(name)
    if not rest:
        return value or ""
    colon, rest = (True, rest[1:]) if rest.startswith(":") else (False, rest)
    there = bool(value) if colon else value is not None
    how, word = rest[:1], rest[1:]
    if how == "-":
        return value or "" if there else expand(word, values, escape=escape)
    if how == "+":
        return expand(word, values, escape=escape) if there else ""
    if how == "?":
        if not there:
            raise ValueError(f"{name} must be given: {word or 'it has no value'}")
        return value or ""
    raise ValueError(f"{found[0]} is not read here; ${{NAME}}, ${{NAME:-word}} and ${{NAME:+word}} are")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    text: str
    start: int
    number: int


def _lines(text: str) -> Iterator[_Line]:
    start = 0
    for number, line in enumerate(text.split("\n"), 1):
        skipped = 1 if number == 1 and line.startswith("\ufeff") else 0
        yield _Line(text=line[skipped:].removesuffix("\r"), start=start + skipped, number=number)
        start += len(line) + 1


def _escape(lines: list[_Line]) -> str:
    """The escape character: parser directives stand above everything else."""
    for line in lines:
        found = _DIRECTIVE.fullmatch(line.text.strip())
        if found is None:
            return "\\"
        if found[1].lower() == "escape":
            return found[2]
    return "\\"


def _logical(lines: list[_Line], escape: str) -> tuple[Word | None, int]:
    """The next instruction as one line, its continuations joined, and where it starts; None at the end."""
    ends = re.compile(rf"(?:^|[^{re.escape(escape)}])({re.escape(escape)}[ \t]*)$")
    text, number = "", 0
    places: list[int] = []
    while lines:
        line = lines.pop(0)
        blank = not line.text.strip() or line.text.lstrip().startswith("#")
        if blank:
            continue
        number = number or line.number
        found = ends.search(line.text)
        kept = line.text[: found.start(1)] if found else line.text
        text += kept
        places += range(line.start, line.start + len(kept))
        if found is None and text.strip():
            break
    return (Word(text=text, places=tuple(places)) if text.strip() else None), number


def _words(logical: Word, escape: str) -> list[Word]:
    """Split at blanks that are not in quotes; quotes stay."""
    words: list[Word] = []
    start: int | None = None
    quote, at = "", 0
    while at <= len(logical.text):
        char = logical.text[at] if at < len(logical.text) else ""
        if char == "" or (char.isspace() and not quote):
            if start is not None:
                words.append(logical.part(start, at))
            start = None
        else:
            start = at if start is None else start
            if char == quote:
                quote = ""
            elif not quote and char in "\"'":
                quote = char
            elif char == escape and quote != "'":
                at += 1
        at += 1
    return words


def _skip_heredocs(words: list[Word], lines: list[_Line], *, origin: str, line: int) -> None:
    """Take the lines of heredocs away: they are no instructions."""
    for word in words:
        found = _HEREDOC.fullmatch(word.text)
        if found is None:
            continue
        name = found[2].strip("\"'")
        while lines:
            body = lines.pop(0).text
            if (body.lstrip("\t") if found[1] else body) == name:
                break
        else:
            raise problem(origin, line, f"the text after <<{name} has no end", remedy=f"write a line {name} below it")

"""What a predicate's text may look like at all: checked character by character, before any parser sees it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from coralord_lightning.errors import PredicateError

__all__ = ["MAX_CHARS", "MAX_NESTING", "MAX_PARENTHESES", "PredicateText", "check_text"]

MAX_CHARS = 16_384
MAX_PARENTHESES = 64
MAX_NESTING = 60
"""Of our own tree: what we print, with a pair of parentheses each, must stay readable to us."""
MAX_DIGITS = 38

_TOKEN = re.compile(
    r"""
    (?P<blank>[ \t\r\n]+)
  | (?P<prefixed>\b(?:[eExXbBnN]|[uU]&)')
  | (?P<text>'(?:[^']|'')*')
  | (?P<name>"(?:[^"]|"")+")
  | (?P<open>\() | (?P<close>\))
  | (?P<comment>--|/\*|\*/)
  | (?P<number>(?:\d|\.\d)[\w.]*)
  | (?P<word>\w+)
  | (?P<plain>::|[<>=!+\-*/%|,.]+?)
  | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)

_HINTS = {
    "'": "a text that starts with ' never ends: close it with '",
    '"': 'a name that starts with " never ends: close it with "',
    ";": "one predicate is all that can stand here: leave the ; out",
    "?": "values are written out: parameters are not taken",
    "$": "values are written out: parameters are not taken",
    "[": "list and struct access is not taken",
    "{": "list and struct access is not taken",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PredicateText:
    """A predicate as the user wrote it, and which key it stands in, for messages."""

    subject: str
    text: str

    @property
    def key(self) -> str:
        """The last part of the subject: the YAML key the text stands under."""
        return self.subject.rpartition(".")[2]

    def paste(self, text: str) -> str:
        """A line of YAML with another text."""
        return f"{self.key}: {json.dumps(text, ensure_ascii=False)}"

    def refusal(self, message: str, *, remedy: str, **facts: object) -> PredicateError:
        """The error for this text."""
        shown = self.text if len(self.text) <= 200 else self.text[:200] + " …"
        return PredicateError(self.subject, message, facts={"got": shown, **facts}, remedy=remedy)


def check_text(source: PredicateText) -> None:
    """Refuse what no predicate needs: comments, parameters, statements, brackets, absurd size or nesting.

    Raises:
        PredicateError: it has any of these.
    """
    text = source.text
    if not text.strip():
        raise source.refusal("is empty", remedy=f"leave `{source.key}` out to take every row, or write a condition")
    if len(text) > MAX_CHARS:
        raise source.refusal(
            f"is {len(text):,} characters long; {MAX_CHARS:,} are taken",
            remedy="put the values into a column of the data and compare with that",
        )
    if any((char < " " and char not in "\t\r\n") or "\ud800" <= char <= "\udfff" for char in text):
        raise source.refusal("has a control character", remedy="type the predicate anew, without pasted characters")
    depth = 0
    for token in _TOKEN.finditer(text):
        depth += _check_token(source, token)
        if depth < 0:
            raise source.refusal("has a ')' that closes nothing", remedy="take the ')' out, or add its '('")
        if depth > MAX_PARENTHESES:
            raise source.refusal(
                f"nests parentheses deeper than {MAX_PARENTHESES}", remedy="take redundant parentheses out"
            )
    if depth:
        raise source.refusal("has a '(' that is never closed", remedy=source.paste(text + ")" * depth))


def _check_token(source: PredicateText, token: re.Match[str]) -> int:
    """How one token changes the depth of parentheses."""
    match token.lastgroup:
        case "open":
            return 1
        case "close":
            return -1
        case "comment":
            raise source.refusal("has a comment", remedy="put comments into YAML, after a #")
        case "prefixed":
            raise source.refusal(
                f"has a text with a prefix: {token[0]}", remedy="write texts as 'plain text', a quote in it as ''"
            )
        case "number" if len(token[0]) > MAX_DIGITS:
            raise source.refusal("has a number with too many digits", remedy=f"use at most {MAX_DIGITS} digits")
        case "other":
            raise source.refusal(
                f"has a {token[0]!r}, which predicates do not use",
                remedy=_HINTS.get(token[0], "compare fields with values: label % 2 = 0 AND part = 'test'"),
            )
        case _:
            return 0

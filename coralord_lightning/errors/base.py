"""The root of the error tree, and the nearest choice for a did-you-mean. Knows no single failure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

__all__ = ["CoralError", "CoralWarning", "nearest"]

_KEPT = {9: "\t", 10: "\n"}
_TURNING = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
_HARMLESS = {
    code: _KEPT.get(code, f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")
    for code in (*range(32), *range(127, 160), *_TURNING, *range(0xD800, 0xE000))
}
"""What would steer a terminal, turn its line around, or cannot be printed: much in a message was written by others."""


class CoralError(Exception):
    """A failure that its reader can act on.

    Args:
        subject: what it is about: a descriptor key, a file, a Croissant node.
        message: what is wrong, in one sentence.
        remedy: what to type or change; it works when pasted.
        facts: label -> value lines shown between message and remedy (got, expected, line, …).
    """

    code: ClassVar[str] = "CORAL-E0001"
    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        subject: str,
        message: str,
        *,
        remedy: str,
        facts: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(subject, message)
        self.subject = subject
        self.message = message
        self.remedy = remedy
        self.facts: dict[str, str] = {key: str(value) for key, value in (facts or {}).items()}

    def __str__(self) -> str:
        first, *rest = f"{self.code} {self.subject}: {self.message}".splitlines()
        lines = [first, *(" " * 12 + line for line in rest)]  # no subject may look like a remedy
        for label, value in [*self.facts.items(), ("try", self.remedy)]:
            first, *rest = value.splitlines() or [""]
            lines.append(f"  {label + ':':<9} {first}")
            lines.extend(" " * 12 + line for line in rest)
        return "\n".join(lines).translate(_HARMLESS)

    def __repr__(self) -> str:
        """The whole text, remedy included: Hydra, for one, prints the repr of what failed while it instantiates."""
        return f"{type(self).__name__}: {self}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.subject, self.message, self.remedy, self.facts)

    def to_json(self) -> dict[str, object]:
        """The error as plain values, for `--json` and for other ranks."""
        return {
            "code": self.code,
            "subject": self.subject,
            "message": self.message,
            "remedy": self.remedy,
            "facts": dict(self.facts),
        }


def _rebuild(cls: type[CoralError], subject: str, message: str, remedy: str, facts: dict[str, str]) -> CoralError:
    return cls(subject, message, remedy=remedy, facts=facts)


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that a typist most likely meant, or None where nothing is near."""
    pool = list(choices)
    folded = {choice.lower(): choice for choice in pool}
    if word.lower() in folded:
        return folded[word.lower()]
    found = difflib.get_close_matches(word, pool, n=1, cutoff=0.6)
    return found[0] if found else None


class CoralWarning(UserWarning):
    """Something beside the way went wrong, and going on is right: a logger that fails, say."""

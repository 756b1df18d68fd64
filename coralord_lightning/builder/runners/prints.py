"""What the pipeline prints: cut into lines, made harmless, bounded, and shown to the user. Reads no stream itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

__all__ = ["MAX_LINES", "Prints", "harmless"]

MAX_LINES = 1000
"""Lines shown of one task; what comes after is counted."""

_LINE_BYTES = 65_536
_LINE_CHARACTERS = 4_000
_LAST_LINES = 20
_KEPT = {9: "\t"}
_HARMLESS = {code: _KEPT.get(code, f"\\x{code:02x}") for code in (*range(32), *range(127, 160))}
"""Control characters: a terminal obeys some of them, and the code that prints is not trusted."""


class Prints:
    """The lines of one sandbox, in the order in which they came.

    Args:
        echo: takes every line that is shown.
        mark: what ends a line that says that nothing more of a task will come; "" for none.
    """

    def __init__(self, echo: Callable[[str], None], *, mark: str = "") -> None:
        self._echo = echo
        self._mark = mark.encode()
        self._marks = 0
        self._prefix = "[pipeline]"
        self._waiting = b""
        self._shown = 0
        self._left_out = 0
        self._last: deque[str] = deque(maxlen=_LAST_LINES)

    @property
    def last(self) -> tuple[str, ...]:
        """The last lines, shown or not."""
        return tuple(self._last)

    @property
    def all_there(self) -> bool:
        """Whether the mark has come since the task began."""
        return self._marks > 0

    def begin(self, tag: str = "") -> None:
        """A task begins: it has its own prefix, and as many lines as the one before."""
        self.end()
        self._marks = 0
        self._prefix = f"[pipeline {tag}]" if tag else "[pipeline]"

    def feed(self, data: bytes) -> None:
        """Take what was printed."""
        *lines, self._waiting = (self._waiting + data).split(b"\n")
        if self._mark:
            lines = [line for raw in lines for line in self._unmarked(raw)]
        if len(self._waiting) > _LINE_BYTES:
            lines, self._waiting = [*lines, self._waiting], b""
        room = max(0, MAX_LINES - self._shown)
        for raw in lines[:room]:
            self._show(_readable(raw))
        beyond = lines[room:]
        self._left_out += len(beyond)
        self._last.extend(_readable(raw) for raw in beyond[-_LAST_LINES:])

    def end(self) -> None:
        """A task is over: show a line without end, and how many were left out."""
        if self._waiting:
            self.feed(b"\n")
        if self._left_out:
            self._echo(f"{self._prefix} … {self._left_out:,} lines left out")
        self._shown = self._left_out = 0

    def _unmarked(self, raw: bytes) -> list[bytes]:
        """The line without a mark; nothing where it was only that."""
        if not raw.endswith(self._mark):
            return [raw]
        self._marks += 1
        rest = raw[: -len(self._mark)]
        return [rest] if rest else []

    def _show(self, text: str) -> None:
        self._shown += 1
        self._last.append(text)
        self._echo(f"{self._prefix} {text}")


def harmless(text: str) -> str:
    """One line of text that nobody has checked, without what would steer a terminal."""
    return text.translate(_HARMLESS)


def _readable(raw: bytes) -> str:
    """One line as text; of a progress bar, which returns to the line's start, what stood there last."""
    text = raw[:_LINE_BYTES].decode(errors="replace").rstrip("\r").rpartition("\r")[2].translate(_HARMLESS)
    return text if len(text) <= _LINE_CHARACTERS else text[:_LINE_CHARACTERS] + " …"

"""Few colours, where a terminal wants them: labels of errors, and states. It knows words, and nothing of data."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TextIO

from coralord_lightning.config.terminal import wants_color

__all__ = ["Paint", "color_error", "paint_for", "plain_paint"]

Paint = Callable[[str, str], str]
"""(text, the state that it stands for) -> text."""

_CODES = {
    "fresh": "32", "ok": "32", "stale": "33", "warn": "33", "missing": "31", "fail": "31", "FAIL": "31",
    "error": "1;31", "try": "36",
}  # fmt: skip


def paint_for(stream: TextIO) -> Paint:
    """What colours text on its way to `stream`: nothing, unless it is a terminal that wants colours."""
    return _painted if wants_color(is_terminal=stream.isatty()) else plain_paint


def plain_paint(text: str, _: str) -> str:
    """The text as it is."""
    return text


def color_error(text: str, paint: Paint) -> str:
    """An error as it is printed, with its code and its remedy's label coloured."""
    coded = re.sub(r"\ACORAL-E[0-9]{4}", lambda found: paint(found[0], "error"), text)
    return re.sub(r"^  (try:)", lambda found: f"  {paint(found[1], 'try')}", coded, flags=re.MULTILINE)


def _painted(text: str, state: str) -> str:
    code = _CODES.get(state.strip())
    return f"\x1b[{code}m{text}\x1b[0m" if code else text

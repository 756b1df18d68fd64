"""What the environment says of the terminal: colours, a dumb one, a shell that wants completions. It prints nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping

__all__ = ["is_completing", "is_dumb", "wants_color"]


def wants_color(*, is_terminal: bool, environ: Mapping[str, str] | None = None) -> bool:
    """Whether to colour: NO_COLOR forbids it, FORCE_COLOR asks for it, else a terminal that is not `TERM=dumb`."""
    env = os.environ if environ is None else environ
    if env.get("NO_COLOR"):
        return False
    if env.get("FORCE_COLOR") not in (None, "", "0"):
        return True
    return is_terminal and not is_dumb(env)


def is_dumb(environ: Mapping[str, str] | None = None) -> bool:
    """Whether the terminal can do no more than print one line after another."""
    return (os.environ if environ is None else environ).get("TERM") in ("dumb", "unknown")


def is_completing(environ: Mapping[str, str] | None = None) -> bool:
    """Whether a shell runs this process to complete a line, by argcomplete's protocol."""
    return "_ARGCOMPLETE" in (os.environ if environ is None else environ)

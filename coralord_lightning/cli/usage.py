"""How help reads: groups of commands and aligned examples, wrapped to the terminal. It parses nothing."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Mapping, Sequence

from coralord_lightning.cli.examples import EXAMPLES, FIRST, GROUPS

__all__ = ["HelpFormatter", "examples_text", "overview_text", "sentence"]

_NARROWEST = 24


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """argparse's, which leaves the lines of ours as they are, and gives help texts room on narrow terminals."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=min(24, max(8, _width() // 3)), width=_width())


def overview_text(summaries: Mapping[str, str]) -> str:
    """What `coral --help` says between usage and options."""
    lines = [*_wrapped("Software-defined datasets for PyTorch Lightning.", "")]
    column = max(map(len, summaries))
    for group, names in GROUPS.items():
        lines += ["", f"{group}:"]
        for name in names:
            lines += _wrapped(summaries[name], f"  {name:<{column}}  ")
    return "\n".join(lines)


def examples_text(command: str | None) -> str:
    """The examples of a command, or the first steps: meanings beside the lines, or beneath where that is too wide."""
    examples = FIRST if command is None else EXAMPLES[command]
    column = max(len(line) for line, _ in examples)
    beside = 2 + column + 2 + max(len(meaning) for _, meaning in examples) <= _width()
    lines = ["examples:"]
    for line, meaning in examples:
        lines += [f"  {line:<{column}}  {meaning}"] if beside else [f"  {line}", *_wrapped(meaning, "      ")]
    if command is None:
        lines += ["", *_wrapped("coral COMMAND --help says more of each command.", "")]
    return "\n".join(lines)


def sentence(text: str) -> str:
    """A summary as a paragraph."""
    return "\n".join(_wrapped(f"{text[0].upper()}{text[1:]}.", ""))


def _wrapped(text: str, first: str) -> Sequence[str]:
    rest = " " * len(first)
    return textwrap.wrap(text, max(_width(), len(first) + 12), initial_indent=first, subsequent_indent=rest)


def _width() -> int:
    return max(shutil.get_terminal_size().columns - 2, _NARROWEST)

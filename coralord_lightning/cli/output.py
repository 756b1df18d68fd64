"""How things look: tables, sizes, JSON. It knows streams, and nothing of data sets."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

__all__ = ["Output", "count", "duration", "pairs", "size", "table"]

_NARROW = 64
"""Columns of a terminal below which cells folded to fit could not be read or copied."""
_UNITS = ("B", "KB", "MB", "GB", "TB")


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where one command prints.

    Args:
        out: for data.
        err: for messages, progress and errors.
    """

    out: TextIO
    err: TextIO
    json: bool = False
    quiet: bool = False

    def text(self, *lines: str) -> None:
        """Data for people."""
        for line in lines:
            print(line, file=self.out)

    def value(self, value: object) -> None:
        """Data for programs: one JSON value."""
        print(json.dumps(value, indent=2, default=_plain), file=self.out)

    def records(self, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Rows as a table, or as a JSON list of objects."""
        if self.json:
            self.value([dict(zip(names, row, strict=True)) for row in rows])
        elif self.out.isatty() and shutil.get_terminal_size().columns >= _NARROW:
            self._rich_table(names, list(rows))
        else:
            self.text(*table(names, list(rows)))

    def note(self, text: str) -> None:
        """A message for people; `--quiet` silences it."""
        if not self.quiet:
            print(text, file=self.err)

    def error(self, text: str) -> None:
        """What went wrong; nothing silences it."""
        print(text, file=self.err)

    def _rich_table(self, names: Sequence[str], rows: list[Sequence[Any]]) -> None:
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for index, name in enumerate(names):
            drawn.add_column(Text(name), justify="right" if _is_numeric(rows, index) else "left", overflow="fold")
        for row in rows:
            drawn.add_row(*(Text(cell(item)) for item in row))
        Console(file=self.out).print(drawn)


def table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Aligned lines of text, numbers to the right."""
    cells = [[cell(item) for item in row] for row in rows]
    widths = [max(len(name), *(len(row[index]) for row in cells), 0) for index, name in enumerate(names)]
    right = [_is_numeric(rows, index) for index in range(len(names))]

    def line(items: Sequence[str]) -> str:
        fitted = zip(items, widths, right, strict=True)
        return "  ".join(item.rjust(width) if is_right else item.ljust(width) for item, width, is_right in fitted)

    return [line(row).rstrip() for row in [list(names), *cells]]


def pairs(values: Mapping[str, str]) -> list[str]:
    """Indented `label  value` lines; a value of several lines stays in its column."""
    width = max((len(label) for label in values), default=0)
    lines = []
    for label, value in values.items():
        first, *rest = value.splitlines() or [""]
        lines.append(f"  {label.ljust(width)}  {first}")
        lines.extend(f"  {' ' * width}  {line}" for line in rest)
    return lines


def cell(value: Any) -> str:
    """One value on one line, without characters that would steer a terminal."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = json.dumps(value, default=_plain) if isinstance(value, list | dict) else _plain(value)
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in str(text))


def count(number: int) -> str:
    """1797 -> 1,797."""
    return f"{number:,}"


def size(size_bytes: int) -> str:
    """Bytes as people say them: 48.4 KB, in steps of 1,000."""
    value, unit = float(size_bytes), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{size_bytes} B" if unit == 0 else f"{value:.3g} {_UNITS[unit]}"


def duration(seconds: float) -> str:
    """12 ms, 3.4 s, 2 min 5 s, 1 h 12 min."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _is_numeric(rows: Sequence[Sequence[Any]], index: int) -> bool:
    present = [row[index] for row in rows if row[index] is not None]
    return bool(present) and all(isinstance(item, int | float) and not isinstance(item, bool) for item in present)


def _plain(value: Any) -> Any:
    """What JSON has no word for, as text."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, str | int | float):
        return value
    iso = getattr(value, "isoformat", None)
    return str(iso()) if callable(iso) else str(value)

"""Shows how far work is, on standard error: a bar on a terminal; of a build, a plain line now and then elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from coralord_lightning.cli.output import Output, count, size
from coralord_lightning.config.terminal import is_dumb
from coralord_lightning.workspace.progress import PlainProgress, Silence

if TYPE_CHECKING:
    from coralord_lightning.builder.build import Progress
    from coralord_lightning.versions.verify import Watch

__all__ = ["RichProgress", "progress_for", "watch_for"]

_NARROW = 64
"""Columns of a terminal below which a bar has no room beside its words."""


def progress_for(output: Output) -> Progress:
    """The progress that suits where messages go."""
    if output.quiet:
        return Silence()
    if output.err.isatty() and not is_dumb():
        return RichProgress(output.err)
    return PlainProgress(output.err)


class RichProgress:
    """A bar over partitions with rows and bytes; it appears with the first phase and goes when it is finished."""

    def __init__(self, err: TextIO) -> None:
        self._err = err
        self._bar: Any = None
        self._task: Any = None
        self._rows = self._bytes = 0
        self._fetched: Any = None

    def phase(self, text: str) -> None:
        """Say what happens now."""
        self._begin()
        self._bar.update(self._task, description=text)

    def start(self, partitions_total: int) -> None:
        """Know how many partitions there are."""
        self._begin()
        self._bar.update(self._task, total=partitions_total, completed=0)

    def advance(self, partitions: int = 1, rows: int = 0, bytes: int = 0) -> None:  # noqa: A002 - Progress names it so
        """Count what is finished."""
        self._begin()
        self._rows, self._bytes = self._rows + rows, self._bytes + bytes
        amount = f"{count(self._rows)} rows, {size(self._bytes)}"
        self._bar.update(self._task, advance=partitions, amount=amount)

    def fetching(self, done_bytes: int, total_bytes: int | None = None) -> None:
        """Show a second bar, of bytes that crossed the wire."""
        self._begin()
        if self._fetched is None:
            self._fetched = self._bar.add_task("fetching", total=None, amount="")
        known = total_bytes or self._bar.tasks[self._fetched].total
        amount = size(done_bytes) if known is None else f"{size(done_bytes)} of about {size(int(known))}"
        self._bar.update(self._fetched, total=known, completed=done_bytes, amount=amount)

    def finish(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._fetched = None

    def _begin(self) -> None:
        if self._bar is not None:
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            ProgressColumn,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.table import Column

        console = Console(file=self._err)
        spinner = SpinnerColumn("dots" if console.encoding.startswith("utf") else "line")
        said = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
        amount, left = TextColumn("{task.fields[amount]}"), (TextColumn("left"), TimeRemainingColumn())
        columns: tuple[ProgressColumn, ...] = (spinner, said, BarColumn(), amount, TimeElapsedColumn(), *left)
        if console.width < _NARROW:
            columns = (spinner, said, TimeElapsedColumn())
        self._bar = Progress(*columns, console=console, transient=True)
        self._task = self._bar.add_task("", total=None, amount="")
        self._bar.start()


@contextlib.contextmanager
def watch_for(output: Output) -> Iterator[Watch | None]:
    """A bar over bytes while something is read, on a terminal; nothing elsewhere."""
    if output.quiet or not output.err.isatty() or is_dumb():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("reading"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=output.err), transient=True) as bar:
        yield _Bytes(bar)


class _Bytes:
    """A bar over bytes; `rich` locks it, so that threads may call it."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=None)

    def start(self, total_bytes: int) -> None:
        """Know how much there is."""
        self._bar.update(self._task, total=total_bytes)

    def advance(self, count: int) -> None:
        """Count what was read."""
        self._bar.advance(self._task, count)

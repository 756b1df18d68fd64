"""What a build reports to where there is no terminal to draw on: plain lines, or nothing."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TextIO

from coralord_lightning.spec.descriptor.units import shown_bytes

__all__ = ["PlainProgress", "Silence"]

QUIET_S = 10.0


class PlainProgress:
    """A line for every new kind of phase; one that differs in numbers only is said every ten seconds at most."""

    def __init__(self, err: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._err = err
        self._clock = clock
        self._said: dict[str, float] = {}

    def phase(self, text: str) -> None:
        """Say it, if it is news."""
        kind, now = re.sub(r"\d+", "#", text), self._clock()
        if kind not in self._said or now - self._said[kind] >= QUIET_S:
            self._said[kind] = now
            print(f"coral: {text}", file=self._err, flush=True)

    def start(self, partitions_total: int) -> None:
        """Say nothing: phases name the partition."""

    def advance(self, partitions: int = 1, rows: int = 0, bytes: int = 0) -> None:  # noqa: A002 - Progress names it so
        """Say nothing: phases name the partition."""

    def fetching(self, done_bytes: int, total_bytes: int | None = None) -> None:
        """Say how much will be fetched, once that is known."""
        if total_bytes is not None and total_bytes > done_bytes:
            self.phase(f"fetching {shown_bytes(total_bytes)}")

    def finish(self) -> None:
        """Say nothing: the result follows."""


class Silence:
    """A `builder.build.Progress` that says nothing."""

    def phase(self, text: str) -> None:
        """Say nothing."""

    def start(self, partitions_total: int) -> None:
        """Say nothing."""

    def advance(self, partitions: int = 1, rows: int = 0, bytes: int = 0) -> None:  # noqa: A002 - as in Progress
        """Say nothing."""

    def fetching(self, done_bytes: int, total_bytes: int | None = None) -> None:
        """Say nothing."""

    def finish(self) -> None:
        """Say nothing."""

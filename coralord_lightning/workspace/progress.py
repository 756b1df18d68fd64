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
    """A line for every new kind of phase; how far a build is, every ten seconds at most."""

    def __init__(self, err: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._err = err
        self._clock = clock
        self._said: dict[str, float] = {}
        self._begun = self._told = clock()
        self._total = self._partitions = self._rows = self._bytes = 0

    def phase(self, text: str) -> None:
        """Say it, if it is news."""
        kind, now = re.sub(r"\d+", "#", text), self._clock()
        if kind not in self._said or now - self._said[kind] >= QUIET_S:
            if self._partitions == 0 and kind not in self._said:
                self._begun = now  # what came before, an image's build, says nothing of how long partitions take
            self._said[kind] = now
            print(f"coral: {text}", file=self._err, flush=True)

    def start(self, partitions_total: int) -> None:
        """Know how many partitions there are."""
        self._begun = self._told = self._clock()
        self._total, self._partitions, self._rows, self._bytes = partitions_total, 0, 0, 0

    def advance(self, partitions: int = 1, rows: int = 0, bytes: int = 0) -> None:  # noqa: A002 - Progress names it so
        """Say how much is finished and how long the rest may take, now and then."""
        self._partitions += partitions
        self._rows += rows
        self._bytes += bytes
        now = self._clock()
        if now - self._told < QUIET_S or self._partitions >= self._total:
            return
        self._told = now
        left = (now - self._begun) / self._partitions * (self._total - self._partitions)
        amount = f"{self._rows:,} rows, {shown_bytes(self._bytes).partition(' (')[0]}"
        text = f"{self._partitions} of {self._total} partitions, {amount}, about {left:.0f} s left"
        print(f"coral: {text}", file=self._err, flush=True)

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

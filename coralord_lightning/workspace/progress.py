"""Progress that nobody watches: what a build reports to where no one is told."""

from __future__ import annotations

__all__ = ["Silence"]


class Silence:
    """A `builder.build.Progress` that says nothing."""

    def phase(self, text: str) -> None:
        """Say nothing."""

    def start(self, partitions_total: int) -> None:
        """Say nothing."""

    def advance(self, partitions: int = 1, rows: int = 0, bytes: int = 0) -> None:  # noqa: A002 - as in Progress
        """Say nothing."""

    def finish(self) -> None:
        """Say nothing."""

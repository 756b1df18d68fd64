"""Slices of large sources, laid out as files of their own for as long as they are read. Reads no other byte of them."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from coralord_lightning.builder.scans import write_rows
from coralord_lightning.errors import SourceIntegrityError, SourceMissingError
from coralord_lightning.spec.cuts import Slice
from coralord_lightning.spec.plan import SourceFile
from coralord_lightning.spec.selection import InlineData

__all__ = ["Slices"]

_KEPT = 4
"""The one being read, and some that messages ask for."""
_PIECE_BYTES = 1024 * 1024


@dataclass(slots=True, kw_only=True)
class Slices:
    """The slices of one extractor that lie in files, the latest few.

    Args:
        folder: where DuckDB may read.
        starts: path of a slice -> (its source's name, number of its first row there); for messages.
    """

    folder: Path
    starts: dict[str, tuple[str, int]] = field(default_factory=dict)
    _laid: dict[tuple[int, int], Path] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def of_lines(self, index: int, source: SourceFile, cut: Slice, path: Path) -> Path:
        """A slice of JSON lines.

        Raises:
            SourceIntegrityError: it is not what the plan pinned.
            SourceMissingError: the file cannot be opened.
        """
        return self._laid_out(index, source, cut, lambda file: _copy(source, cut, path, file))

    def of_rows(self, index: int, source: SourceFile, cut: Slice, data: InlineData) -> Path:
        """A slice of rows that stand in the Croissant file."""

        def write(file: IO[bytes]) -> None:
            write_rows(data, file, start=cut.start, stop=cut.stop)

        return self._laid_out(index, source, cut, write)

    def _laid_out(self, index: int, source: SourceFile, cut: Slice, write: Callable[[IO[bytes]], None]) -> Path:
        with self._lock:
            key = (index, cut.start)
            known = self._laid.pop(key, None)
            if known is None:
                known = self.folder / f"{index}-{cut.start}.jsonl"
                self.starts[str(known)] = (source.name, cut.first_row)
                try:
                    with known.open("xb") as file:
                        write(file)
                except BaseException:
                    known.unlink(missing_ok=True)
                    raise
            self._laid[key] = known  # the latest stands last
            for old in list(self._laid)[:-_KEPT]:
                self._laid.pop(old).unlink()
            return known


def _copy(source: SourceFile, cut: Slice, path: Path, file: IO[bytes]) -> None:
    digest, left = hashlib.sha256(), cut.stop - cut.start
    try:
        whole = path.open("rb")
    except OSError as error:
        raise SourceMissingError(
            source.name,
            "cannot be opened any more",
            facts={"file": path, "got": error.strerror},
            remedy="put the file back, then run the same command again",
        ) from error
    with whole:
        whole.seek(cut.start)
        while left and (piece := whole.read(min(left, _PIECE_BYTES))):
            digest.update(piece)
            file.write(piece)
            left -= len(piece)
    if digest.hexdigest() != cut.sha256:
        raise SourceIntegrityError(
            source.name,
            "changed while it was in use",
            facts={"expected": f"sha256 {cut.sha256} of bytes {cut.start} to {cut.stop}", "got": digest.hexdigest()},
            remedy="run the same command again; it plans with the file as it is now",
        )

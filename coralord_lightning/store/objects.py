"""Shards: immutable files named by the SHA-256 of their bytes. Never looks inside one."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from coralord_lightning.errors import ShardMissingError, StoreError
from coralord_lightning.spec.manifest import Shard
from coralord_lightning.store.disk import Disk

__all__ = ["Objects"]

_CHUNK_BYTES = 1 << 22


class Objects:
    """`objects/ab/<sha256>.arrow`."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def admit(self, temp: Path, sha256: str, size_bytes: int) -> str:
        """Take a finished file over; gone from `temp` afterwards.

        Args:
            temp: a file under the home's `tmp/`.
            sha256, size_bytes: as counted while it was written.

        Returns:
            its path relative to the home.

        Raises:
            StoreError: the file has another size than was counted.
        """
        with self._disk.explained(temp):
            found = temp.stat().st_size
        if found != size_bytes:
            raise StoreError(
                str(temp),
                "a shard changed between being written and being kept",
                facts={"got": f"{found} bytes", "expected": f"{size_bytes} bytes"},
                remedy="run the same `coral build` again; if it stays, check the disk",
            )
        path = f"objects/{sha256[:2]}/{sha256}.arrow"
        final = self._disk.root / path
        if final.exists() and not (final.is_file() and final.stat().st_size == size_bytes):
            self._disk.quarantine(final)
        self._disk.publish_file("objects", temp, final)
        return path

    def has(self, shards: Iterable[Shard]) -> bool:
        """Whether all of them are there with their size."""
        return all(self._size(shard) == shard.size_bytes for shard in shards)

    def check(self, shards: Iterable[Shard], mode: Literal["stat", "read"], remedy: Callable[[], str]) -> None:
        """Require shards to be there: with their size, or with every byte.

        Args:
            remedy: called where one is not.

        Raises:
            ShardMissingError: one is gone or differs. One with wrong bytes is put aside, so that a build makes it anew.
        """
        unique = {shard.path: shard for shard in shards}.values()
        failures = [failure for shard in unique if (failure := self._examine(shard, mode, remedy)) is not None]
        if failures:  # only now: the damaged ones are all put aside
            raise failures[0]

    def set_damaged_aside(self, shards: Iterable[Shard]) -> None:
        """Put what has another size than was written into quarantine."""
        for shard in {shard.path: shard for shard in shards}.values():
            if self._size(shard) not in (None, shard.size_bytes):
                self._disk.quarantine(self._disk.root / shard.path)

    def _examine(
        self, shard: Shard, mode: Literal["stat", "read"], remedy: Callable[[], str]
    ) -> ShardMissingError | None:
        size = self._size(shard)
        if size is None:
            return ShardMissingError(shard.path, "is gone from the store", remedy=remedy())
        if size != shard.size_bytes:
            facts = {"got": "no file" if size < 0 else f"{size} bytes", "expected": f"{shard.size_bytes} bytes"}
            return ShardMissingError(shard.path, "has another size than was written", facts=facts, remedy=remedy())
        return self._examine_bytes(shard, remedy) if mode == "read" else None

    def _examine_bytes(self, shard: Shard, remedy: Callable[[], str]) -> ShardMissingError | None:
        path = self._disk.root / shard.path
        digest = hashlib.sha256()
        with self._disk.explained(path), path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
        if digest.hexdigest() == shard.sha256:
            return None
        facts = {"got": f"sha256 {digest.hexdigest()}", "expected": f"sha256 {shard.sha256}"}
        try:
            facts["kept"] = str(self._disk.quarantine(path))
        except StoreError as error:  # a home we may not write: the reader is told all the same
            facts["kept"] = f"in place: {error.facts.get('got', error.message)}"
        return ShardMissingError(shard.path, "has other bytes than were written", facts=facts, remedy=remedy())

    def _size(self, shard: Shard) -> int | None:
        """Bytes of the file; -1 where something else lies there, None where nothing does."""
        try:
            state = (self._disk.root / shard.path).stat()
        except OSError:
            return None
        return state.st_size if stat.S_ISREG(state.st_mode) else -1

"""Files under their SHA-256: what was unpacked or cut out of something. Never gives one whose bytes are others."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from coralord_lightning.errors import StoreFullError
from coralord_lightning.sources.hashes import HashCache

__all__ = ["Kept", "KeptFiles", "no_room"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A file under its hash."""

    path: Path
    sha256: str
    size_bytes: int


class KeptFiles:
    """The files in a folder, each named by its hash.

    Args:
        folder: made when first needed; downloads use it too.
        hashes: remembers hashes, so that using a file again costs a `stat`.
    """

    def __init__(self, folder: Path, hashes: HashCache) -> None:
        self._folder = folder
        self._hashes = hashes

    def named(self, sha256: str, size_bytes: int) -> Kept:
        """Where a file of that hash would be."""
        return Kept(path=self._folder / sha256.lower(), sha256=sha256.lower(), size_bytes=size_bytes)

    def lookup(self, sha256: str) -> Kept | None:
        """The file of that hash, if it is here and whole."""
        place = self.named(sha256, 0)
        try:
            found = self._hashes.hash_file(place.path)
        except OSError:
            return None
        return self.named(found.sha256, found.size_bytes) if found.sha256 == place.sha256 else None

    def keep(self, chunks: Iterable[bytes]) -> Kept:
        """Keep some bytes; nothing is left of them if `chunks` raises.

        Raises:
            StoreFullError: there is no room.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._folder, prefix=".tmp-")
        except OSError as error:
            raise no_room(self._folder, error) from error
        temporary, digest, count = Path(name), hashlib.sha256(), 0
        try:
            with os.fdopen(descriptor, "wb") as file:
                for chunk in chunks:
                    digest.update(chunk)
                    count += len(chunk)
                    file.write(chunk)
            kept = self.named(digest.hexdigest(), count)
            temporary.replace(kept.path)
        except OSError as error:
            raise no_room(self._folder, error) from error
        finally:
            temporary.unlink(missing_ok=True)
        return kept


def no_room(folder: Path, error: OSError) -> StoreFullError:
    """The error for a cache folder that takes no more bytes."""
    return StoreFullError(
        str(folder),
        "cannot keep what is unpacked",
        facts={"got": error.strerror or error},
        remedy=f"df -h {str(folder)!r}; make room there, or set another home",
    )

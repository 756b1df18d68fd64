"""Remote files that are read whole: fetched once, verified, kept under their SHA-256. Never serves unverified bytes."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from coralord_lightning.errors import OfflineError
from coralord_lightning.sources.address import public_url, redact
from coralord_lightning.sources.fetch import RemoteState, read_state, stream_all
from coralord_lightning.sources.hashes import HashCache, HashedFile, replace_file
from coralord_lightning.sources.http import HttpClient
from coralord_lightning.sources.local import wrong_hash
from coralord_lightning.sources.remote import disk_error

__all__ = ["Downloads", "KeptFile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFile:
    """A verified copy of a remote file."""

    path: Path
    sha256: str
    size_bytes: int


class Downloads:
    """Whole remote files, in `directory`: `files/<sha256>`, and notes of which address gave which.

    Args:
        hashes: remembers hashes of kept files, so that using one again costs a `stat`.
    """

    def __init__(self, directory: Path, client: HttpClient, hashes: HashCache) -> None:
        self._directory = directory
        self._client = client
        self._hashes = hashes

    def fetch(self, url: str, *, subject: str, sha256: str | None, state: RemoteState | None = None) -> KeptFile:
        """The file at an address: from here where it is certain that it is the same, else from there.

        Args:
            sha256: what the file is declared to be.
            state: what the server says of it, where that was asked already.
        Raises:
            OfflineError: it is not here and requests are ruled out.
            SourceIntegrityError: it is not what it is declared to be.
            StoreFullError: there is no room for it.
        """
        kept = self._lookup(sha256)
        if kept is not None:
            return kept
        try:
            state = state or read_state(self._client, url, subject=subject)
        except OfflineError:
            kept = self._lookup(self._noted(url, None))
            if kept is not None and sha256 in (None, kept.sha256):
                return kept
            raise
        kept = self._lookup(self._noted(url, state)) if sha256 is None else None
        return kept or self._download(url, subject=subject, sha256=sha256)

    def _download(self, url: str, *, subject: str, sha256: str | None) -> KeptFile:
        folder = self._directory / "files"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=folder, prefix=".tmp-")
        except OSError as error:
            raise disk_error(folder, error) from error
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "w+b") as file:
                state, found = self._write(url, subject, file)
            if sha256 is not None and found.sha256 != sha256.lower():
                raise wrong_hash(subject, expected=sha256.lower(), got=found.sha256, place=redact(url))
            temporary.replace(folder / found.sha256)
        except OSError as error:
            raise disk_error(folder, error) from error
        finally:
            temporary.unlink(missing_ok=True)
        self._note(url, state, found.sha256)
        return KeptFile(path=folder / found.sha256, sha256=found.sha256, size_bytes=found.size_bytes)

    def _write(self, url: str, subject: str, file: IO[bytes]) -> tuple[RemoteState, HashedFile]:
        digest = hashlib.sha256()

        def restart() -> None:
            nonlocal digest
            file.seek(0)
            file.truncate()
            digest = hashlib.sha256()

        def write(chunk: bytes) -> None:
            digest.update(chunk)
            file.write(chunk)

        state = stream_all(self._client, url, subject=subject, restart=restart, write=write)
        file.flush()
        os.fsync(file.fileno())
        return state, HashedFile(sha256=digest.hexdigest(), size_bytes=file.tell())

    def _lookup(self, sha256: str | None) -> KeptFile | None:
        """A kept file, its bytes checked by hash (or by a remembered hash that `stat` says still holds)."""
        if sha256 is None:
            return None
        path = self._directory / "files" / sha256.lower()
        try:
            found = self._hashes.hash_file(path)
        except OSError:
            return None
        if found.sha256 != sha256.lower():
            return None
        return KeptFile(path=path, sha256=found.sha256, size_bytes=found.size_bytes)

    def _noted(self, url: str, state: RemoteState | None) -> str | None:
        """What the address gave last time; with `state`, only if the file is certainly still the same."""
        try:
            note: Any = json.loads(self._note_path(url).read_bytes())
            same = state is None or (state.etag is not None and note["etag"] == state.etag)
            size_fits = state is None or state.size_bytes in (None, note["size"])
            sha256 = note["sha256"]
            return sha256 if same and size_fits and isinstance(sha256, str) and sha256.isalnum() else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _note(self, url: str, state: RemoteState, sha256: str) -> None:
        note = {"url": public_url(url), "etag": state.etag, "size": state.size_bytes, "sha256": sha256}
        try:
            replace_file(self._note_path(url), json.dumps(note).encode())
        except OSError as error:
            raise disk_error(self._directory, error) from error

    def _note_path(self, url: str) -> Path:
        return self._directory / "notes" / f"{hashlib.sha256(url.encode()).hexdigest()}.json"

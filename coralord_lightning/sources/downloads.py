"""Remote files that are read whole: fetched once, verified, kept under their SHA-256. Never serves unverified bytes."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from coralord_lightning.errors import OfflineError, SourceIntegrityError
from coralord_lightning.sources.address import public_url, redact
from coralord_lightning.sources.fetch import RemoteState, read_state, stream_all
from coralord_lightning.sources.hashes import HashCache, replace_file
from coralord_lightning.sources.http import LOG, HttpClient
from coralord_lightning.sources.local import wrong_hash
from coralord_lightning.sources.partial import Partial
from coralord_lightning.sources.remote import disk_error

__all__ = ["Declared", "Downloads", "KeptFile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What a file is declared to be, in hex; md5 and git (SHA-1 of its blob) count where there is no sha256."""

    sha256: str | None = None
    md5: str | None = None
    git: str | None = None

    @property
    def strong(self) -> str | None:
        """The sha256 in lower case."""
        return self.sha256.lower() if self.sha256 is not None else None

    @property
    def weak(self) -> tuple[str, str] | None:
        """("md5" or "git", the hash in lower case), where there is no sha256."""
        if self.sha256 is not None:
            return None
        if self.git is not None:
            return "git", self.git.lower()
        return ("md5", self.md5.lower()) if self.md5 is not None else None


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
        checkpoint_bytes: after so many bytes it is recorded how far a download has come.
    """

    def __init__(
        self, directory: Path, client: HttpClient, hashes: HashCache, *, checkpoint_bytes: int = 32 * 1024 * 1024
    ) -> None:
        self._directory = directory
        self._client = client
        self._hashes = hashes
        self._checkpoint_bytes = checkpoint_bytes
        self._turns: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def fetch(self, url: str, *, subject: str, declared: Declared, state: RemoteState | None = None) -> KeptFile:
        """The file at an address: from here where it is certain that it is the same, else from there.

        Args:
            state: what the server says of it, where that was asked already.
        Raises:
            OfflineError: it is not here and requests are ruled out.
            SourceIntegrityError: it is not what it is declared to be.
            StoreFullError: there is no room for it.
        """
        with self._turn(declared.strong or public_url(url)):
            kept = self._lookup(declared.strong)
            if kept is not None:
                return kept
            try:
                state = state or read_state(self._client, url, subject=subject, whole=True)
            except OfflineError:
                kept = self._lookup(self._noted(url, None))
                if kept is not None and declared.strong in (None, kept.sha256) and not _weakly_wrong(kept, declared):
                    return kept
                raise
            kept = self._lookup(self._noted(url, state)) if declared.strong is None else None
            if kept is not None and not _weakly_wrong(kept, declared):
                return kept
            return self._download(url, subject=subject, declared=declared, state=state)

    def _turn(self, key: str) -> threading.Lock:
        """One at a time may fetch the same; whoever comes second finds it here."""
        with self._lock:
            return self._turns.setdefault(key, threading.Lock())

    def _download(self, url: str, *, subject: str, declared: Declared, state: RemoteState | None) -> KeptFile:
        key = hashlib.sha256(public_url(url).encode()).hexdigest()
        folder = self._directory / "partial"
        try:
            with Partial(folder, key, checkpoint_bytes=self._checkpoint_bytes) as partial:
                try:
                    state = stream_all(self._client, url, subject=subject, sink=partial, state=state)
                    found = partial.finish()
                    kept = KeptFile(path=partial.path, sha256=found.sha256, size_bytes=found.size_bytes)
                    _require_declared(kept, declared, subject=subject, place=redact(url))
                except (OSError, SourceIntegrityError) as error:
                    LOG.info("%s: what was fetched from %s is dropped: %s", subject, redact(url), error.args[-1])
                    partial.discard()
                    raise
                partial.publish(self._directory / "files" / found.sha256)
        except OSError as error:
            raise disk_error(folder, error) from error
        self._note(url, state, found.sha256)
        return replace(kept, path=self._directory / "files" / found.sha256)

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


def _require_declared(kept: KeptFile, declared: Declared, *, subject: str, place: str) -> None:
    """Check a fetched file against what was declared.

    Raises:
        SourceIntegrityError: it is another file.
    """
    if declared.strong is not None and kept.sha256 != declared.strong:
        raise wrong_hash(subject, expected=declared.strong, got=kept.sha256, place=place)
    wrong = _weakly_wrong(kept, declared)
    if wrong is not None:
        kind, expected, got = wrong
        raise wrong_hash(subject, expected=expected, got=got, place=place, kind=kind)


def _weakly_wrong(kept: KeptFile, declared: Declared) -> tuple[str, str, str] | None:
    """(kind, expected, got) where a file has not the md5 or blob hash that was declared."""
    if declared.weak is None:
        return None
    kind, expected = declared.weak
    digest = hashlib.new("md5" if kind == "md5" else "sha1", usedforsecurity=False)
    if kind == "git":
        digest.update(b"blob %d\0" % kept.size_bytes)
    with kept.path.open("rb") as file:
        while chunk := file.read(1024 * 1024):
            digest.update(chunk)
    got = digest.hexdigest()
    return (kind, expected, got) if got != expected else None

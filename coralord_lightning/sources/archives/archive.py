"""One archive on this machine: what is in it, and its members as files under their hashes.

Its index and the hashes of its members are remembered by the archive's hash, so that asking again unpacks nothing.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Literal

from coralord_lightning.errors import SourceIntegrityError
from coralord_lightning.sources.archives.entries import Bytes, Entry, settled
from coralord_lightning.sources.archives.limits import ArchiveLimits, Meter, forbidden
from coralord_lightning.sources.archives.streams import compression_of, decompressed
from coralord_lightning.sources.archives.tars import list_tar
from coralord_lightning.sources.archives.zips import list_zip, read_zip
from coralord_lightning.sources.hashes import HashCache, replace_file
from coralord_lightning.sources.kept import Kept, KeptFiles, no_room

__all__ = ["Archive", "ArchiveKind"]

ArchiveKind = Literal["zip", "tar", "gzip"]
_INDEX_VERSION = 1
_Stamp = tuple[int, ...]


class Archive:
    """An archive, read-only.

    Args:
        name: what messages call it, and what its members' names begin with.
        path: where it lies; opened when needed, and only while it is the file of that hash.
        inner: the name of the one file in a gzip file.
        kept: where members go.
        cache_dir: where the index and what is unpacked for a while go.
    """

    def __init__(
        self,
        *,
        name: str,
        kind: ArchiveKind,
        path: Path,
        sha256: str,
        inner: str,
        kept: KeptFiles,
        hashes: HashCache,
        cache_dir: Path,
        clock: Callable[[], float],
        limits: ArchiveLimits,
    ) -> None:
        self.name = name
        self.kind = kind
        self._path = path
        self._sha256 = sha256
        self._inner = inner
        self._kept = kept
        self._hashes = hashes
        self._cache_dir = cache_dir
        self._clock = clock
        self._limits = limits
        self._total = 0
        self._closing = ExitStack()
        self._plain: IO[bytes] | None = None
        self._verified: _Stamp | None = None  # what `stat` said when its hash was checked
        self._alone = threading.Lock()

    def close(self) -> None:
        """Drop what was unpacked for a while."""
        self._closing.close()
        self._plain = None

    @functools.cached_property
    def entries(self) -> tuple[Entry, ...]:
        """What is in it, sorted by path; folders are left out.

        Raises:
            SourceError: it is damaged, or holds what no archive may.
        """
        if self.kind == "gzip":
            known = self._journal.get(self._inner)
            return (Entry(path=self._inner, size_bytes=known.size_bytes if known else None),)
        known_entries = self._recall_index()
        if known_entries is not None:
            return known_entries
        with self._opened() as file:
            meter = self._meter(self.name, file.size)
            lister = list_zip if self.kind == "zip" else list_tar
            found = settled(lister(self._tar_of(file), limits=self._limits, meter=meter))
        self._note_index(found)
        return found

    @functools.cached_property
    def by_path(self) -> dict[str, Entry]:
        """The same, by path."""
        return {entry.path: entry for entry in self.entries}

    def keep(self, entry: Entry) -> Kept:
        """A member as a file under its hash, unpacked unless it is there already.

        Raises:
            SourceError: it is no regular file, damaged, or larger than a member may be.
            StoreFullError: there is no room for it.
        """
        require_plain(self.name, entry)
        with self._alone:
            return self._keep(entry)

    def _keep(self, entry: Entry) -> Kept:
        known = self._journal.get(entry.path)
        found = self._kept.lookup(known.sha256) if known is not None else None
        if found is None:
            with self._opened() as file:
                self._require_modest(entry, file.size)
                found = self._kept.keep(self._content(file, entry))
            self._remember(entry.path, found)
        return found

    def _content(self, file: Bytes, entry: Entry) -> Iterator[bytes]:
        subject = f"{self.name}!{entry.path}"
        if self.kind == "zip":
            packed = min(entry.packed_bytes, file.size)
            return read_zip(file, entry, meter=self._meter(subject, packed, declared_bytes=entry.size_bytes))
        if self.kind == "gzip":
            return decompressed("gzip", file.chunks(), subject=subject, meter=self._meter(subject, file.size))
        return self._tar_of(file).chunks(entry.at, entry.packed_bytes)

    def _require_modest(self, entry: Entry, archive_bytes: int) -> None:
        """Refuse before unpacking what is declared to be too much, alone or with what was unpacked before."""
        limits, size = self._limits, entry.size_bytes or 0
        packed = entry.packed_bytes if self.kind == "zip" else archive_bytes
        self._total += size
        if self._total > limits.size_bytes or size > max(limits.ratio_floor_bytes, limits.ratio * packed):
            if self.kind == "tar" and self._total <= limits.size_bytes:
                return  # its ratio was looked at when all of it was unpacked
            got = f"{size} bytes out of {packed}, {self._total} in all"
            raise forbidden(f"{self.name}!{entry.path}", "unpacks to more than an archive may", got)

    def _meter(self, subject: str, packed_bytes: int, *, declared_bytes: int | None = None) -> Meter:
        return Meter(self._limits, subject, packed_bytes=packed_bytes, clock=self._clock, declared_bytes=declared_bytes)

    @contextmanager
    def _opened(self) -> Iterator[Bytes]:
        """The archive's file, open; an error afterwards if it is not the pinned one, or changed meanwhile."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise self._changed(error.strerror or error) from error
        try:
            before = _stamp(descriptor)
            if before != self._verified:
                same = self._hashes.hash_open(descriptor, self._path).sha256 == self._sha256
                self._verified = before if same else None
            if self._verified is not None:
                yield Bytes(descriptor=descriptor, subject=self.name)
            after = _stamp(descriptor)
        finally:
            os.close(descriptor)
        if after != self._verified:
            raise self._changed("another file")

    def _changed(self, got: object) -> SourceIntegrityError:
        return SourceIntegrityError(
            self.name,
            "changed while it was in use",
            facts={"file": self._path, "expected": f"sha256 {self._sha256}", "got": got},
            remedy="run the same command again; it plans with the file as it is now",
        )

    def _tar_of(self, file: Bytes) -> Bytes:
        """The file itself; for a compressed tar, its plain bytes in a nameless file, until this archive is closed."""
        kind = compression_of(file.read(0, min(6, file.size))) if self.kind == "tar" else None
        if kind is None:
            return file
        if self._plain is None:
            try:
                self._cache_dir.mkdir(parents=True, exist_ok=True)
                plain = tempfile.TemporaryFile(dir=self._cache_dir)  # noqa: SIM115 - until `close`
                self._closing.callback(plain.close)
                meter = self._meter(self.name, file.size)
                for piece in decompressed(kind, file.chunks(), subject=self.name, meter=meter):
                    plain.write(piece)
                plain.flush()
            except OSError as error:
                raise no_room(self._cache_dir, error) from error
            self._plain = plain
        return Bytes(descriptor=self._plain.fileno(), subject=self.name)

    def _recall_index(self) -> tuple[Entry, ...] | None:
        try:
            head, _, body = self._index_path.read_bytes().partition(b"\n")
            if head.decode() != _seal(body):
                return None
            return tuple(Entry(**fields) for fields in json.loads(body))
        except (OSError, ValueError, TypeError):
            return None

    def _note_index(self, entries: tuple[Entry, ...]) -> None:
        body = json.dumps([asdict(entry) for entry in entries]).encode()
        with contextlib.suppress(OSError):  # keeping it only saves reading
            replace_file(self._index_path, f"{_seal(body)}\n".encode() + body)

    @functools.cached_property
    def _journal(self) -> dict[str, Kept]:
        """The hashes of members that were unpacked before, by path."""
        out: dict[str, Kept] = {}
        try:
            lines = self._journal_path.read_bytes().splitlines()
        except OSError:
            return out
        for line in lines:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                note = json.loads(line)
                if len(bytes.fromhex(note["sha256"])) == hashlib.sha256().digest_size:
                    out[note["path"]] = self._kept.named(note["sha256"], int(note["size"]))
        return out

    def _remember(self, path: str, kept: Kept) -> None:
        self._journal[path] = kept
        line = json.dumps({"path": path, "sha256": kept.sha256, "size": kept.size_bytes}) + "\n"
        with contextlib.suppress(OSError):
            self._journal_path.parent.mkdir(parents=True, exist_ok=True)
            with self._journal_path.open("ab", buffering=0) as file:
                file.write(b"\n" + line.encode())  # a line that was cut off by a crash ends here

    @property
    def _index_path(self) -> Path:
        return self._cache_dir / "indexes" / f"{self._sha256}.{self.kind}.json"

    @property
    def _journal_path(self) -> Path:
        return self._cache_dir / "indexes" / f"{self._sha256}.{self.kind}.members"


def require_plain(archive: str, entry: Entry) -> None:
    """Refuse a member that is no plain file.

    Raises:
        ForbiddenSourceError: it is a link, a device, encrypted, or stands there twice.
    """
    if entry.problem:
        raise forbidden(
            archive, f"has a member that {entry.problem}", entry.path, remedy=f"leave it out: excludes: {entry.path!r}"
        )


def _stamp(descriptor: int) -> _Stamp:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _seal(body: bytes) -> str:
    return f"{_INDEX_VERSION} {hashlib.sha256(body).hexdigest()}"

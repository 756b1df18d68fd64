"""The file system `coral://` that DuckDB reads remote files through: read-only, by ranges, exactly the pinned bytes.

It knows the files it was made for and no others. Each byte is fetched at most once while it is open: ranges are kept
in a nameless temporary file.
"""

from __future__ import annotations

import datetime as dt
import io
import os
import re
import tempfile
import threading
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from fsspec.spec import AbstractFileSystem

from coralord_lightning.errors import CoralError, StoreFullError
from coralord_lightning.spec.plan import Location, RemoteFile

__all__ = ["CoralFileSystem", "FetchRange", "RangeFile"]

FetchRange = Callable[[str, RemoteFile, int, int], bytes]
"""(name, file, start, stop) -> the pinned bytes [start, stop), or a CoralError."""

_FOOTER = 64 * 1024
"""Read in one go from the end. DuckDB 1.5 asks for a Parquet file's length field first and for its footer then; DuckDB
2 asks for a guess that grows with the file, so that what lies before the footer is left out (`RangeFile.read_end`)."""
_MAGIC = b"PAR1"
_READ_AHEAD = 8 * 1024
"""No request is for less, so much is fetched beyond what was asked at most. Column chunks that lie within 16 KiB of
each other are asked for in one piece by DuckDB itself; CSV and JSON lines it reads buffer by buffer, in order."""
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class CoralFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Remote files at `coral://<index>/<base name>`.

    Args:
        locations: by name; local files among them are left out.
        fetch: gets one range.
        cache_dir: where ranges are kept while this file system is open.
        parquet: names of those that are Parquet.
    """

    protocol = "coral"
    cachable = False

    def __init__(
        self, locations: Mapping[str, Location], fetch: FetchRange, cache_dir: Path, *, parquet: Container[str] = ()
    ) -> None:
        super().__init__(skip_instance_cache=True)
        self._parquet: set[str] = set()
        self._looking = False
        self._paths: dict[str, str] = {}
        self._files: dict[str, RangeFile] = {}
        self._failure: CoralError | None = None
        for index, (name, location) in enumerate(sorted(locations.items())):
            if isinstance(location, RemoteFile):
                path = f"coral://{index}/{_base_name(location.url)}"
                self._paths[name] = path
                if name in parquet:
                    self._parquet.add(path)
                self._files[path] = RangeFile(name, location, fetch, cache_dir)

    def path_of(self, name: str) -> str:
        """The `coral://` path of a remote location."""
        return self._paths[name]

    def take_failure(self) -> CoralError | None:
        """The first error since the last call: DuckDB passes on no more than the text of a Python exception."""
        failure, self._failure = self._failure, None
        return failure

    def close(self) -> None:
        """Drop the ranges that were kept."""
        for file in self._files.values():
            file.close()

    def read_at(self, path: str, start: int, stop: int) -> bytes:
        """Bytes [start, stop) of a file, cut at its end."""
        return self._read(path, lambda file: file.read(start, stop))

    @contextmanager
    def looking_at_footers(self) -> Iterator[None]:
        """While DuckDB is asked for the columns of a Parquet file, and takes no row of it.

        It reads the end of the file by a guess that may be larger than all that is needed of it. Rows are never read
        in here, and out of here every byte is the file's own.
        """
        self._looking = True
        try:
            yield
        finally:
            self._looking = False

    def read_for_duckdb(self, path: str, start: int, stop: int) -> bytes:
        """The same; while `looking_at_footers`, what is asked for along with one is zeros and not fetched."""
        if self._looking and path in self._parquet and start > 0 and stop == self._file(path).size_bytes:
            return self._read(path, lambda file: file.read_end(start))
        return self.read_at(path, start, stop)

    def _read(self, path: str, read: Callable[[RangeFile], bytes]) -> bytes:
        try:
            return read(self._file(path))
        except CoralError as error:
            self._failure = self._failure or error
            raise

    def open(self, path: str, mode: str = "rb", **_: Any) -> _Handle:
        if mode != "rb":
            raise PermissionError(f"{path} is read-only")
        return _Handle(self, path, self._file(path).size_bytes)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        return {"name": path, "size": self._file(path).size_bytes, "type": "file"}

    def exists(self, path: str, **_: Any) -> bool:
        return path in self._files

    def glob(self, path: str, **_: Any) -> list[str]:
        return [path] if path in self._files else []

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:  # noqa: FBT001, FBT002 - fsspec's signature
        found = [name for name in self._files if name.startswith(path)]
        return [self.info(name) for name in found] if detail else found

    def modified(self, path: str) -> dt.datetime:
        """Always the same moment: what is served is pinned."""
        self._file(path)
        return _EPOCH

    def unstrip_protocol(self, name: str) -> str:
        return name

    def _file(self, path: str) -> RangeFile:
        if path not in self._files:
            raise FileNotFoundError(path)
        return self._files[path]


class _Handle(io.RawIOBase):
    """Readers' positions in a file, one a thread; holds nothing that must be closed.

    DuckDB shares a handle among threads that read at once, each by a seek and a read: with one position for all, one
    would read where another sought.
    """

    def __init__(self, fs: CoralFileSystem, path: str, size_bytes: int) -> None:
        super().__init__()
        self._fs = fs
        self._path = path
        self._size_bytes = size_bytes
        self._own = threading.local()

    @property
    def _at(self) -> int:
        return getattr(self._own, "at", 0)

    @_at.setter
    def _at(self, at: int) -> None:
        self._own.at = at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size_bytes}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        stop = self._size_bytes if size is None or size < 0 else min(self._at + size, self._size_bytes)
        data = self._fs.read_for_duckdb(self._path, self._at, stop) if stop > self._at else b""
        self._at += len(data)
        return data


class RangeFile:
    """One pinned remote file, of which each byte is fetched at most once."""

    def __init__(self, name: str, location: RemoteFile, fetch: FetchRange, cache_dir: Path) -> None:
        self._name = name
        self._location = location
        self._fetch = fetch
        self._cache_dir = cache_dir
        self._kept: IO[bytes] | None = None
        self._spans: list[tuple[int, int]] = []
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        return self._location.size_bytes

    def close(self) -> None:
        with self._lock:
            if self._kept is not None:
                self._kept.close()
            self._kept, self._spans = None, []

    def read(self, start: int, stop: int) -> bytes:
        """Bytes [start, stop), fetched where they are not here yet.

        Raises:
            CoralError: they could not be had as pinned.
            StoreFullError: there is no room to keep them.
        """
        stop = min(stop, self.size_bytes)
        with self._lock:
            for low, high in missing(self._spans, *self._widened(start, stop)):
                data = self._fetch(self._name, self._location, low, high)
                self._keep(low, data)
                self._spans = joined([*self._spans, (low, high)])
            if self._kept is None:
                return b""
            return os.pread(self._kept.fileno(), stop - start, start)

    def read_end(self, start: int) -> bytes:
        """Bytes from `start` to the end of a Parquet file, for who wants its footer: before that, zeros may stand.

        Only a read for the footer may be answered so, and DuckDB's cache of files, which could hand it on, is off.
        """
        size = self.size_bytes
        end = self.read(max(start, size - 8), size)
        length = int.from_bytes(end[-8:-4], "little")
        if len(end) < 8 or end[-4:] != _MAGIC or length + 12 > size:
            return self.read(start, size)
        begin = max(start, size - 8 - length)
        return bytes(begin - start) + self.read(begin, size)

    def _widened(self, start: int, stop: int) -> tuple[int, int]:
        """The span to have at hand: all of the footer when its end is asked for, and never tiny pieces."""
        if stop == self.size_bytes:
            return max(0, min(start, stop - _FOOTER)), stop
        return start, min(max(stop, start + _READ_AHEAD), self.size_bytes)

    def _keep(self, start: int, data: bytes) -> None:
        try:
            if self._kept is None:
                self._cache_dir.mkdir(parents=True, exist_ok=True)
                self._kept = tempfile.TemporaryFile(dir=self._cache_dir)  # noqa: SIM115 - lives as long as this object
            os.pwrite(self._kept.fileno(), data, start)
        except OSError as error:
            raise disk_error(self._cache_dir, error) from error


def missing(spans: list[tuple[int, int]], start: int, stop: int) -> list[tuple[int, int]]:
    """The parts of [start, stop) that are in none of the sorted, disjoint spans."""
    out = []
    for low, high in spans:
        if low >= stop:
            break
        if high > start:
            if low > start:
                out.append((start, low))
            start = high
    return [*out, (start, stop)] if start < stop else out


def joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same spans, sorted, those that touch made one."""
    out: list[tuple[int, int]] = []
    for low, high in sorted(spans):
        if out and low <= out[-1][1]:
            out[-1] = (out[-1][0], max(high, out[-1][1]))
        else:
            out.append((low, high))
    return out


def disk_error(folder: Path, error: OSError) -> StoreFullError:
    """The error for a cache folder that takes no more bytes."""
    return StoreFullError(
        str(folder),
        "cannot keep what is fetched",
        facts={"got": error.strerror or error},
        remedy=f"df -h {str(folder)!r}; make room there, or set another home",
    )


def _base_name(url: str) -> str:
    """The last part of an address's path, of characters that mean nothing to DuckDB's globs."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", urlsplit(url).path.rsplit("/", 1)[-1]) or "file"

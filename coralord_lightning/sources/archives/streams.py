"""Compressed bytes to plain ones, a bounded piece at a time. Never holds more than a piece in memory."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from coralord_lightning.sources.archives.limits import Meter, damaged

__all__ = ["PIECE", "compression_of", "decompressed", "unpacked"]

PIECE = 1024 * 1024
_XZ_MEMORY = 512 * 1024 * 1024
_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_DAMAGE = (zlib.error, lzma.LZMAError, EOFError, OSError, ValueError)


class Decoder(Protocol):
    """What one compressed stream is fed to: as bz2 and lzma have it."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class Inflate:
    """zlib with the interface of bz2 and lzma."""

    def __init__(self, window_bits: int) -> None:
        self._inner = zlib.decompressobj(window_bits)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail and not self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


_DECODERS: dict[str, Callable[[], Decoder]] = {
    "gzip": lambda: Inflate(31),
    "bz2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY),
}


def compression_of(head: bytes) -> str | None:
    """How a stream that begins with `head` is compressed; None: not, as far as we know."""
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


def decompressed(kind: str, chunks: Iterable[bytes], *, subject: str, meter: Meter) -> Iterator[bytes]:
    """The plain bytes of a compressed file, which may be several streams one after the other.

    Raises:
        SourceFormatError: it is damaged or cut short.
        ForbiddenSourceError: too much comes out.
    """
    if kind == "zstd":
        yield from _zstd(chunks, subject=subject, meter=meter)
        return
    decoder, fresh = _DECODERS[kind](), True
    for chunk in chunks:
        rest = chunk
        while rest:
            if decoder.eof:
                rest = rest.lstrip(b"\0") if not fresh else rest
                if not rest:
                    break
                decoder = _DECODERS[kind]()
            fresh = False
            yield from unpacked(decoder, rest, subject=subject, meter=meter)
            rest = decoder.unused_data if decoder.eof else b""
    if not decoder.eof:
        raise damaged(subject, "is compressed, and ends early", f"{meter.count} bytes, then nothing")


def unpacked(decoder: Decoder, data: bytes, *, subject: str, meter: Meter) -> Iterator[bytes]:
    """What comes out of a decoder for some more input, in bounded pieces."""
    try:
        piece = decoder.decompress(data, PIECE)
        while True:
            if piece:
                meter.add(len(piece))
                yield piece
            if decoder.eof or (decoder.needs_input and len(piece) < PIECE):
                return
            piece = decoder.decompress(b"", PIECE)
            if not piece and not decoder.eof:
                return
    except _DAMAGE as error:
        raise damaged(subject, "is damaged: it cannot be decompressed", error) from error


def _zstd(chunks: Iterable[bytes], *, subject: str, meter: Meter) -> Iterator[bytes]:
    """Zstandard by Arrow's codec: Python has one of its own from 3.14 on only."""
    import pyarrow as pa

    try:
        with pa.CompressedInputStream(pa.PythonFile(_Feed(chunks), mode="r"), "zstd") as stream:
            while piece := stream.read(PIECE):
                meter.add(len(piece))
                yield piece
    except (*_DAMAGE, pa.ArrowException) as error:
        raise damaged(subject, "is damaged: it cannot be decompressed", error) from error


class _Feed:
    """Chunks as a file that is read in order."""

    closed = False

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        if not self._rest:
            self._rest = next(self._chunks, b"")
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def close(self) -> None:
        self._rest = b""

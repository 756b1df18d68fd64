"""Attacks by pictures and sound that are to be decoded."""

# ruff: noqa: E501  # attacks are long

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

from hostile.cases import Ask, Place, add, document, file_object, record_set

from coralord_lightning.errors import BuildError, SourceFormatError

REFUSED = (BuildError, SourceFormatError)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *, data: bytes | None = None, extra: bytes = b"") -> bytes:
    """A grey PNG; of the size that it says where `data` is left out."""
    raw = zlib.compress(b"\0" * ((width + 1) * height)) if data is None else data
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + _chunk(b"IDAT", raw) + _chunk(b"IEND", b"")


def pillow(format_: str, **options: Any) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, format=format_, **options)
    return out.getvalue()


def _media(content: bytes, kind: str = "image", **options: Any) -> Any:
    def lay(place: Place) -> Any:
        file = file_object(place.parquet(a=[content]))
        sets = record_set(("a", f"sc:{kind.capitalize()}Object"))
        return Ask(croissant=document(file, sets), keys={"fields": {"a": {"decode": kind, **options}}})

    return lay


ZERO = zlib.compress(b"\0" * 100)
IMAGES = {
    "bomb-of-pixels": png(100_000, 100_000, data=ZERO),
    "bomb-of-width": png(2**31 - 1, 1, data=ZERO),
    "size-zero": png(0, 0, data=ZERO),
    "truncated": png(64, 64)[:60],
    "no-data": png(64, 64, data=zlib.compress(b"")),
    "wrong-sum": png(64, 64)[:-20] + b"\0" * 8 + png(64, 64)[-12:],
    "text-bomb": png(4, 4, extra=_chunk(b"zTXt", b"x\0\0" + zlib.compress(b"x" * 200_000_000, 1))),
    "profile-bomb": png(4, 4, extra=_chunk(b"iCCP", b"x\0\0" + zlib.compress(b"x" * 200_000_000, 1))),
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(/etc/passwd) (r) file\nshowpage\n",
    "pdf": b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF",
    "html": b"<html></html>",
    "empty": b"",
    "gif-endless": b"GIF89a\x08\x00\x08\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff" + b"!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00" * 1000,
    "jpeg-truncated": pillow("JPEG")[:200],
    "jpeg-size": pillow("JPEG").replace(b"\xff\xc0\x00\x11\x08\x00\x08\x00\x08", b"\xff\xc0\x00\x11\x08\xff\xff\xff\xff"),
    "bmp-size": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 2**30, 2**30, 1, 24, 0, 0, 1, 1, 0, 0),
    "ico": b"\x00\x00\x01\x00\xff\xff" + b"\0" * 64,
    "tiff": b"II*\x00\xff\xff\xff\x7f",
    "webp": b"RIFF\xff\xff\xff\xffWEBPVP8L" + b"\xff" * 32,
    "psd": b"8BPS\x00\x01" + b"\xff" * 40,
    "parquet": b"PAR1" * 20,
}  # fmt: skip
for _name, _content in IMAGES.items():
    add(f"image-{_name}", f"a picture: {_name}", _media(_content), refused=REFUSED)

SOUNDS = {
    "empty": b"",
    "riff-lie": b"RIFF\xff\xff\xff\xffWAVEfmt \xff\xff\xff\xff" + b"\0" * 32,
    "frames-lie": b"RIFF" + struct.pack("<I", 36) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 65535, 2**31, 2**31, 65535, 8)
    + b"data" + struct.pack("<I", 2**32 - 1),
    "text": b"#!/bin/sh\ntrue\n",
    "ogg": b"OggS" + b"\xff" * 64,
    "flac": b"fLaC" + b"\xff" * 64,
}  # fmt: skip
for _name, _content in SOUNDS.items():
    add(f"sound-{_name}", f"a sound: {_name}", _media(_content, "audio"), refused=REFUSED)

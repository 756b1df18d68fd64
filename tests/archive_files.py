"""Archives built in code, honest and hostile, and sources that read them."""

from __future__ import annotations

import io
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from coralord_lightning.config import Config
from coralord_lightning.sources import Sources, open_sources
from coralord_lightning.sources.archives import ArchiveLimits
from coralord_lightning.spec.selection import FileObject, FileSet

__all__ = [
    "archive", "compressed_tar", "contents", "files_in", "link", "sources", "tar", "tar_member", "zip_file", "zip_raw",
]  # fmt: skip


def zip_file(members: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression=method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return out.getvalue()


def zip_raw(*members: dict[str, object], comment: bytes = b"", count: int | None = None) -> bytes:
    """A zip whose headers say whatever they are told: name, data, crc, size, packed, flags, method, mode, at, extra."""
    body, central = bytearray(), bytearray()
    for member in members:
        name = member["name"] if isinstance(member["name"], bytes) else str(member["name"]).encode()
        data = bytes(member.get("data", b""))
        packed = member.get("packed", len(data))
        said = (
            member.get("flags", 0x800), member.get("method", 0), 0, 0x21, member.get("crc", zlib.crc32(data)),
            packed, member.get("size", len(data)),
        )  # fmt: skip
        extra = bytes(member.get("extra", b""))
        at = member.get("at", len(body))
        local = bytes(member.get("local_extra", b""))
        if "at" not in member:
            body += struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, *said, len(name), len(local)) + name + local + data
        central += struct.pack(
            "<4s6H3L5H2L", b"PK\x01\x02", 3 << 8 | 20, 20, *said, len(name), len(extra), 0, member.get("disk", 0), 0,
            int(member.get("mode", stat.S_IFREG | 0o644)) << 16, at,
        ) + name + extra  # fmt: skip
    number = len(members) if count is None else count
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, number, number, len(central), len(body), len(comment))
    return bytes(body + central) + end + comment


def tar_member(name: str, content: bytes = b"", *, kind: bytes = tarfile.REGTYPE, **changes: object) -> bytes:
    """One member's header and data, as plain ustar; changes set fields of `TarInfo`."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = len(content)
    for key, value in changes.items():
        setattr(info, key, value)
    header = info.tobuf(format=tarfile.GNU_FORMAT)
    return header + content + b"\0" * (-len(content) % 512)


def tar(*members: bytes, end: bytes = b"\0" * 1024) -> bytes:
    return b"".join(members) + end


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> bytes:
    return tar_member(name, kind=kind, linkname=target)


def compressed_tar(members: dict[str, bytes], mode: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=f"w:{mode}") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return out.getvalue()


def sources(home: Path, **limits: object) -> Sources:
    config = Config(home=home, allow_private_hosts=frozenset({"127.0.0.1"}))
    return open_sources(
        config, cache_dir=home / "cache", sleep=lambda _: None, limits=ArchiveLimits(**limits) if limits else None
    )


def archive(url: str = "a.zip", kind: str | None = None, **changes: object) -> FileObject:
    guessed = "zip" if ".zip" in url else "tar" if ".t" in url else "gzip"
    return FileObject(**({"id": "archive", "content_url": url, "format": kind or guessed} | changes))


def files_in(*within: FileObject | FileSet, includes: Iterable[str] = ("**",), **changes: object) -> FileSet:
    made = {"id": "files", "format": "any", "includes": tuple(includes), "within": within}
    return FileSet(**(made | changes))


def contents(found: tuple) -> dict[str, bytes]:
    """Name -> bytes of what was resolved."""
    return {source.name: place.path.read_bytes() for source, place in found}

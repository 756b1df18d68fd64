"""Tar files: their headers, in order. Trusts no size or name in them, and reads no member.

Source: POSIX.1-2017 pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from coralord_lightning.sources.archives.entries import Bytes, Entry
from coralord_lightning.sources.archives.limits import ArchiveLimits, Meter, damaged, forbidden
from coralord_lightning.sources.archives.names import member_path

__all__ = ["list_tar"]

_BLOCK = 512
_LONGEST_HEADER = 1024 * 1024
_REGULAR = frozenset({b"0", b"\0", b"7"})
_WITHOUT_DATA = frozenset({b"1", b"2", b"3", b"4", b"5", b"6"})
_PROBLEMS = {
    b"1": "is a hard link",
    b"2": "is a symbolic link",
    b"3": "is a device",
    b"4": "is a device",
    b"6": "is a named pipe",
    b"S": "is a sparse file",
    b"M": "is continued from another archive",
}
_FOLDERS = frozenset({b"5", b"D"})
_PAX_RECORD = re.compile(rb"(\d{1,20}) ([^=]+)=", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    kind: bytes
    name: bytes
    size: int


def list_tar(file: Bytes, *, limits: ArchiveLimits, meter: Meter) -> Iterator[Entry]:
    """The members of a plain tar file that are no folders, in its order.

    Raises:
        SourceFormatError: it is no tar file, damaged or cut short.
        ForbiddenSourceError: a name or a size that no honest archive has.
    """
    at, count = 0, 0
    said: dict[str, bytes] = {}  # by the headers before a member, about it
    while (header := _header(file, at)) is not None:
        count += 1
        if count > limits.members:
            raise forbidden(file.subject, "has more members than an archive may", f"more than {limits.members}")
        meter.tick()
        data_at = at + _BLOCK
        if header.kind in b"xgLKX":
            body = _long(file, data_at, header)
            said |= _said(file, header.kind, body)
            at = data_at + _padded(header.size)
            continue
        size = _size(file, said, header)
        path = member_path(_decoded(said.get("path", header.name)), subject=file.subject, limits=limits)
        entry = _entry(header, said, path, size, data_at)
        at = data_at + (0 if header.kind in _WITHOUT_DATA else _padded(size))
        if header.kind not in _WITHOUT_DATA and data_at + size > file.size:
            raise damaged(file.subject, "ends early", f"{file.size} bytes, and a member of {size} bytes at {data_at}")
        said = {}
        if entry is not None:
            yield entry
    if said:
        raise damaged(file.subject, "is damaged", "a long name with no member after it")


def _header(file: Bytes, at: int) -> _Header | None:
    """The header at a place; None at the end of the archive."""
    block = file.read(at, _BLOCK)
    if not block.strip(b"\0"):
        return None
    total = sum(block) - sum(block[148:156]) + 8 * ord(" ")
    if _number(file, block[148:156]) not in (total, _signed(block)):
        raise damaged(file.subject, "is no tar file, or damaged", f"no header at {at}")
    name = _text(block[0:100])
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else b""
    return _Header(
        kind=block[156:157], name=prefix + b"/" + name if prefix else name, size=_number(file, block[124:136])
    )


def _signed(block: bytes) -> int:
    """The check sum as some old programs make it, of signed bytes."""
    return sum(byte - 256 if byte > 127 else byte for byte in block[:148] + b" " * 8 + block[156:])


def _entry(header: _Header, said: Mapping[str, bytes], path: str, size: int, at: int) -> Entry | None:
    raw = said.get("path", header.name)
    folder = header.kind in _FOLDERS or (header.kind in _REGULAR and raw.endswith(b"/"))
    if folder or header.kind in b"V":
        return None
    problem = "" if header.kind in _REGULAR else _PROBLEMS.get(header.kind, f"is of unknown type {header.kind!r}")
    if "sparse" in said:
        problem = _PROBLEMS[b"S"]
    return Entry(path=path, size_bytes=size, at=at, packed_bytes=size, problem=problem)


def _long(file: Bytes, at: int, header: _Header) -> bytes:
    """The body of a header that only says something about the next one."""
    if header.size > _LONGEST_HEADER:
        raise forbidden(file.subject, "has a header that is too long", f"{header.size} bytes at {at}")
    return file.read(at, header.size)


def _said(file: Bytes, kind: bytes, body: bytes) -> dict[str, bytes]:
    if kind == b"L":
        return {"path": _text(body)}
    if kind == b"K":
        return {}
    records = dict(_records(file, body))
    if kind == b"g" and {b"path", b"size"} & records.keys():
        raise forbidden(file.subject, "gives one path or size to all of its members", "a global pax header")
    if kind == b"g":
        return {}
    out = {key.decode(): records[key] for key in (b"path", b"size") if key in records}
    if any(key.startswith(b"GNU.sparse.") for key in records):
        out["sparse"] = b"yes"
    return out


def _records(file: Bytes, body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Pax records: length, blank, key, `=`, value, newline; the length is that of the whole record."""
    at, body = 0, body.rstrip(b"\0")
    while at < len(body):
        found = _PAX_RECORD.match(body, at)
        length = int(found[1]) if found is not None else 0
        if found is None or at + length > len(body) or length <= found.end() - at or body[at + length - 1] != 10:
            raise damaged(file.subject, "is damaged", f"a pax header with no record at {at}")
        yield found[2], body[found.end() : at + length - 1]
        at += length


def _size(file: Bytes, said: Mapping[str, bytes], header: _Header) -> int:
    text = said.get("size")
    if text is None:
        return header.size
    if not text.isdigit() or len(text) > 20:
        raise damaged(file.subject, "is damaged", f"a member of {text[:40]!r} bytes")
    return int(text)


def _number(file: Bytes, field: bytes) -> int:
    """A number in octal digits, or in base 256 where it would not fit."""
    if field[0] & 0x80:
        number = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        if field[0] == 0xFF or number > 2**63:
            raise damaged(file.subject, "is no tar file, or damaged", f"a size that makes no sense: {field.hex()}")
        return number
    text = field.replace(b"\0", b" ").strip()
    if text and not re.fullmatch(rb"[0-7]+", text):
        raise damaged(file.subject, "is no tar file, or damaged", f"a number that is none: {text!r}")
    return int(text or b"0", 8)


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _decoded(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK

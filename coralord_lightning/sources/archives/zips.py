"""Zip files: their central directory and their members. Trusts no size, offset or name in them.

Source: APPNOTE.TXT 6.3.10. Python's own reader differs between versions in what it accepts.
"""

from __future__ import annotations

import bz2
import lzma
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from coralord_lightning.sources.archives.entries import Bytes, Entry
from coralord_lightning.sources.archives.limits import ArchiveLimits, Meter, damaged, forbidden
from coralord_lightning.sources.archives.names import member_path
from coralord_lightning.sources.archives.streams import Decoder, Inflate, unpacked

__all__ = ["list_zip", "read_zip"]

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_UNIX_TYPES = {
    stat.S_IFLNK: "is a symbolic link",
    stat.S_IFIFO: "is a named pipe",
    stat.S_IFCHR: "is a device",
    stat.S_IFBLK: "is a device",
    stat.S_IFSOCK: "is a socket",
}
_LZMA_MEMORY = 256 * 1024 * 1024
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_UTF8 = 0x800


@dataclass(frozen=True, slots=True, kw_only=True)
class _Directory:
    count: int
    at: int
    size: int
    shift: int


def list_zip(file: Bytes, *, limits: ArchiveLimits, meter: Meter) -> Iterator[Entry]:
    """The members of a zip file that are no folders.

    Raises:
        SourceFormatError: it is no zip file, or damaged.
        ForbiddenSourceError: a name or a size that no honest archive has, or members that share bytes.
    """
    directory = _directory(file, limits)
    found = list(_central(file, directory, limits, meter))
    found.sort(key=lambda pair: pair[0].at)
    stops = [entry.at for entry, _ in found[1:]] + [directory.at]
    for (entry, shortest), stop in zip(found, stops, strict=True):
        if entry.at + shortest > stop:
            message = "has members that overlap" if stop != directory.at else "has a member beyond its end"
            raise forbidden(file.subject, message, f"{entry.path!r} at {entry.at}")
    for (entry, _), stop in zip(found, stops, strict=True):
        if entry.path and not entry.path.endswith("/"):
            yield replace(entry, room=stop - entry.at)


def read_zip(file: Bytes, entry: Entry, *, meter: Meter) -> Iterator[bytes]:
    """The bytes of a member; they end in an error if they are not what the archive declares.

    Raises:
        SourceFormatError: damaged, cut short, or of another size or check sum than declared.
        ForbiddenSourceError: packed in a way that takes too much.
    """
    begin = entry.at + _local_length(file, entry)
    crc = 0
    for piece in _decoded(file, entry, begin, meter):
        crc = zlib.crc32(piece, crc)
        yield piece
    if (meter.count, crc) != (entry.size_bytes, entry.crc):
        got = f"{meter.count} bytes, CRC {crc:08x}; declared {entry.size_bytes} bytes, CRC {entry.crc:08x}"
        raise damaged(meter_subject(file, entry), "is not what its archive declares", got)


def meter_subject(file: Bytes, entry: Entry) -> str:
    """What messages call a member."""
    return f"{file.subject}!{entry.path}"


def _directory(file: Bytes, limits: ArchiveLimits) -> _Directory:
    tail_at = max(0, file.size - _END.size - 0xFFFF)
    tail = file.read(tail_at, file.size - tail_at)
    at = tail.rfind(b"PK\x05\x06")
    while at >= 0 and (len(tail) < at + _END.size or at + _END.size + _END.unpack_from(tail, at)[7] != len(tail)):
        at = tail.rfind(b"PK\x05\x06", 0, at)
    if at < 0:
        raise damaged(file.subject, "is no whole zip file", "no end of its directory")
    _, disk, first_disk, _, count, size, offset, _ = _END.unpack_from(tail, at)
    stop = tail_at + at
    if 0xFFFF in (count, disk) or 0xFFFFFFFF in (size, offset):
        disk, first_disk, count, size, offset, stop = _end64(file, stop) or (
            disk, first_disk, count, size, offset, stop,
        )  # fmt: skip
    begin = stop - size
    if disk != 0 or first_disk != 0 or begin < 0 or begin < offset:
        raise damaged(file.subject, "is a part of a zip file, or damaged", f"a directory of {size} bytes at {offset}")
    if count > limits.members or size > limits.directory_bytes:
        raise forbidden(file.subject, "has more members than an archive may", f"{count} members, {size} bytes of names")
    return _Directory(count=count, at=begin, size=size, shift=begin - offset)


def _end64(file: Bytes, stop: int) -> tuple[int, int, int, int, int, int] | None:
    """Zip64's end of the directory, which stands just before the locator; None where there is no locator."""
    if stop < _LOCATOR.size + _END64.size:
        return None
    signature, _, at, disks = _LOCATOR.unpack(file.read(stop - _LOCATOR.size, _LOCATOR.size))
    if signature != b"PK\x06\x07":
        return None
    for place in (at, stop - _LOCATOR.size - _END64.size):
        if place + _END64.size <= stop - _LOCATOR.size:
            record = _END64.unpack(file.read(place, _END64.size))
            if record[0] == b"PK\x06\x06" and disks <= 1:
                return record[4], record[5], record[7], record[8], record[9], place
    raise damaged(file.subject, "is no whole zip file", "no zip64 end of its directory")


def _central(file: Bytes, directory: _Directory, limits: ArchiveLimits, meter: Meter) -> Iterator[tuple[Entry, int]]:
    """Every entry, folders too (their paths end with `/`), and the fewest bytes that it takes in the file."""
    data = file.read(directory.at, directory.size)
    at = 0
    for number in range(directory.count):
        if number % 1000 == 0:
            meter.tick()
        if at + _CENTRAL.size > len(data) or data[at : at + 4] != b"PK\x01\x02":
            raise damaged(file.subject, "has a damaged directory", f"entry {number} of {directory.count}")
        fields = _CENTRAL.unpack_from(data, at)
        name_length, extra_length, comment_length = fields[10:13]
        begin = at + _CENTRAL.size
        at = begin + name_length + extra_length + comment_length
        if at > len(data):
            raise damaged(file.subject, "has a damaged directory", f"entry {number} of {directory.count}")
        raw = data[begin : begin + name_length]
        extra = data[begin + name_length : begin + name_length + extra_length]
        name = _name(raw, fields[3], extra, file.subject)
        path = member_path(name, subject=file.subject, limits=limits, drop_leading_up=True)
        yield _entry(fields, name, path, extra, directory.shift), _LOCAL.size + name_length + _sizes(fields, extra)[1]
    if at != len(data):
        raise damaged(file.subject, "has a damaged directory", f"{len(data) - at} bytes after its last entry")


def _entry(fields: tuple[int, ...], name: str, path: str, extra: bytes, shift: int) -> Entry:
    made_by, flags, method, crc, disk, attributes = (
        fields[1], fields[3], fields[4], fields[7], fields[13], fields[15],
    )  # fmt: skip
    size, packed, offset = _sizes(fields, extra)
    kind = stat.S_IFMT(attributes >> 16)
    problem = _UNIX_TYPES.get(kind, "")
    if flags & _ENCRYPTED:
        problem = "is encrypted"
    if disk != 0:
        problem = "lies in another part of its archive"
    folder = name.endswith("/") or kind == stat.S_IFDIR or (made_by >> 8 == 0 and attributes & 0x10)
    return Entry(
        path=path + "/" if folder and not size else path,
        size_bytes=size,
        at=offset + shift,
        packed_bytes=packed,
        method=method,
        crc=crc,
        problem=problem,
    )


def _sizes(fields: tuple[int, ...], extra: bytes) -> tuple[int, int, int]:
    """Unpacked size, packed size and offset; each from the zip64 field where it does not fit."""
    found = [fields[9], fields[8], fields[16]]
    wide = next((body for tag, body in _extras(extra) if tag == 0x0001), b"")
    at = 0
    for index in range(3):
        if found[index] == 0xFFFFFFFF and at + 8 <= len(wide):
            found[index] = int.from_bytes(wide[at : at + 8], "little")
            at += 8
    return found[0], found[1], found[2]


def _extras(extra: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(extra):
        tag, size = struct.unpack_from("<HH", extra, at)
        yield tag, extra[at + 4 : at + 4 + size]
        at += 4 + size


def _name(raw: bytes, flags: int, extra: bytes, subject: str) -> str:
    """The name: UTF-8 if flagged, else Info-ZIP's Unicode path if it belongs to it, else code page 437."""
    for tag, body in _extras(extra):
        if tag == 0x7075 and body[:1] == b"\x01" and body[1:5] == zlib.crc32(raw).to_bytes(4, "little"):
            raw, flags = body[5:], _UTF8
            break
    try:
        return raw.decode("utf-8" if flags & _UTF8 else "cp437")
    except UnicodeDecodeError as error:
        raise forbidden(subject, "has a member whose path is not UTF-8", ascii(raw[:120])) from error


def _local_length(file: Bytes, entry: Entry) -> int:
    """Length of the header before a member's bytes, which must fit between it and what follows."""
    subject = meter_subject(file, entry)
    header = _LOCAL.unpack(file.read(entry.at, _LOCAL.size))
    if header[0] != b"PK\x03\x04":
        raise damaged(subject, "is not where its archive says", f"no header at {entry.at}")
    length = int(_LOCAL.size + header[9] + header[10])
    if length + entry.packed_bytes > entry.room:
        raise forbidden(subject, "overlaps what follows it in its archive", f"{length + entry.packed_bytes} bytes")
    if header[2] & _ENCRYPTED:
        raise forbidden(subject, "is encrypted", f"flags {header[2]:#x}")
    return length


def _decoded(file: Bytes, entry: Entry, begin: int, meter: Meter) -> Iterator[bytes]:
    subject, stop = meter_subject(file, entry), begin + entry.packed_bytes
    if entry.method == 0:
        for piece in file.chunks(begin, entry.packed_bytes):
            meter.add(len(piece))
            yield piece
        return
    decoder, begin = _decoder(file, entry, begin)
    for chunk in file.chunks(begin, max(0, stop - begin)):
        if decoder.eof:
            raise damaged(subject, "is shorter than its archive says", f"{meter.count} bytes")
        yield from unpacked(decoder, chunk, subject=subject, meter=meter)
    if decoder.unused_data or not (decoder.eof or entry.method == 14):  # LZMA may have no end mark
        raise damaged(subject, "does not end where its archive says", f"{meter.count} bytes")


def _decoder(file: Bytes, entry: Entry, begin: int) -> tuple[Decoder, int]:
    """What unpacks a member, and where its packed bytes begin."""
    if entry.method == 8:
        return Inflate(-zlib.MAX_WBITS), begin
    if entry.method == 12:
        return bz2.BZ2Decompressor(), begin
    subject = meter_subject(file, entry)
    if entry.method != 14:
        raise damaged(subject, "is packed in a way that we do not read", f"zip method {entry.method}")
    _, _, size, packing, memory = struct.unpack("<BBHBL", file.read(begin, 9))
    if size != 5 or packing >= 9 * 5 * 5:
        raise damaged(subject, "is damaged: its LZMA header makes no sense", f"{size} bytes, {packing}")
    if memory > _LZMA_MEMORY:
        raise forbidden(subject, "takes too much memory to unpack", f"{memory} bytes")
    filters = {
        "id": lzma.FILTER_LZMA1,
        "dict_size": max(memory, 4096),
        "lc": packing % 9,
        "lp": packing // 9 % 5,
        "pb": packing // 45,
    }
    try:
        return lzma.LZMADecompressor(format=lzma.FORMAT_RAW, filters=[filters]), begin + 9
    except (lzma.LZMAError, ValueError) as error:
        raise damaged(subject, "is damaged: its LZMA header makes no sense", error) from error

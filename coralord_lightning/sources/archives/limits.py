"""How much an archive may hold and how long it may take. Counts; never reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from coralord_lightning.errors import ForbiddenSourceError, SourceFormatError

__all__ = ["ArchiveLimits", "Meter", "damaged", "forbidden"]

_GIB = 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveLimits:
    """What one archive may be; far above any honest one.

    Args:
        members: files, folders and links in it.
        directory_bytes: size of a zip's central directory, which is read in one go.
        size_bytes: of one member, and of all that is unpacked from one archive.
        ratio: unpacked bytes to packed ones, above `ratio_floor_bytes` unpacked.
        path_bytes: length of a member's path.
        folders: depth of a member's path.
        depth: archives inside each other.
        seconds: for listing an archive, and for unpacking a member.
    """

    members: int = 5_000_000
    directory_bytes: int = _GIB // 2
    size_bytes: int = 4096 * _GIB
    ratio: int = 250
    ratio_floor_bytes: int = _GIB // 8
    path_bytes: int = 1024
    folders: int = 100
    depth: int = 8
    seconds: float = 3 * 3600.0


class Meter:
    """Counts what comes out of an archive, and stops it where no honest archive would still go on.

    Args:
        packed_bytes: what it comes out of.
        declared_bytes: what the archive says will come; None: it does not say.
    """

    def __init__(
        self,
        limits: ArchiveLimits,
        subject: str,
        *,
        packed_bytes: int,
        clock: Callable[[], float],
        declared_bytes: int | None = None,
    ) -> None:
        self._limits = limits
        self._subject = subject
        self._packed_bytes = packed_bytes
        self._declared_bytes = declared_bytes
        self._clock = clock
        self._until = clock() + limits.seconds
        self.count = 0

    def add(self, count: int) -> None:
        """Count bytes that came out.

        Raises:
            ForbiddenSourceError: more than an archive may hold, or it takes too long.
            SourceFormatError: more than the archive itself declared.
        """
        self.count += count
        limits = self._limits
        if self._declared_bytes is not None and self.count > self._declared_bytes:
            raise damaged(self._subject, "is longer than its archive says", f"more than {self._declared_bytes} bytes")
        if self.count > limits.size_bytes:
            raise self._bomb(f"more than {limits.size_bytes} bytes")
        if self.count > max(limits.ratio_floor_bytes, limits.ratio * self._packed_bytes):
            raise self._bomb(f"{self.count} bytes and more out of {self._packed_bytes}")
        self.tick()

    def tick(self) -> None:
        """See whether there is time left."""
        if self._clock() > self._until:
            raise self._bomb(f"more than {self._limits.seconds:g} s")

    def _bomb(self, got: str) -> ForbiddenSourceError:
        return forbidden(self._subject, "unpacks to more than an archive may", got)


def forbidden(subject: str, message: str, got: object, *, remedy: str | None = None) -> ForbiddenSourceError:
    """The error for what an archive must not hold."""
    return ForbiddenSourceError(
        subject,
        message,
        facts={"got": got},
        remedy=remedy
        or "unpack the archive yourself if you trust it, and name the folder: `mapping: {archive: folder}`",
    )


def damaged(subject: str, message: str, got: object) -> SourceFormatError:
    """The error for an archive that contradicts itself or ends early."""
    return SourceFormatError(
        subject,
        message,
        facts={"got": got},
        remedy="fetch the archive again; if it stays so, ask its publisher for a whole one",
    )

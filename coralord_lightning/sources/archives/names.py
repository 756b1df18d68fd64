"""Paths of archive members: which are plain, and what they are. Pure; never touches a disk."""

from __future__ import annotations

import re

from coralord_lightning.errors import ForbiddenSourceError
from coralord_lightning.sources.archives.limits import ArchiveLimits, forbidden

__all__ = ["member_path"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DRIVE = re.compile(r"[A-Za-z]:")


def member_path(raw: str, *, subject: str, limits: ArchiveLimits, drop_leading_up: bool = False) -> str:
    """A member's path with `/`, without empty parts and `.`; "" for the root itself.

    Args:
        drop_leading_up: take `../` at the beginning away, as unzip does. Nothing is ever written under that name.
    Raises:
        ForbiddenSourceError: it could mean a place outside, or different things to different readers.
    """
    problem = _problem(raw, limits)
    parts = [part for part in raw.split("/") if part not in ("", ".")]
    if drop_leading_up:
        first = next((at for at, part in enumerate(parts) if part != ".."), len(parts))
        parts = parts[first:]
    if problem is None and ".." in parts:
        problem = "leads upwards"
    if problem is None and len(parts) > limits.folders:
        problem = f"is more than {limits.folders} folders deep"
    if problem is not None:
        raise _doubtful(subject, raw, problem)
    return "/".join(parts)


def _problem(raw: str, limits: ArchiveLimits) -> str | None:
    try:
        length = len(raw.encode())
    except UnicodeEncodeError:
        return "is not UTF-8"
    if length > limits.path_bytes:
        return f"is longer than {limits.path_bytes} bytes"
    if _CONTROL.search(raw):
        return "has control characters"
    if "\\" in raw:
        return "has backslashes"
    if raw.startswith("/"):
        return "is absolute"
    return "has a drive letter" if _DRIVE.match(raw) else None


def _doubtful(subject: str, raw: str, problem: str) -> ForbiddenSourceError:
    shown = ascii(raw if len(raw) <= 120 else raw[:120] + "…")
    return forbidden(subject, f"has a member whose path {problem}", shown)

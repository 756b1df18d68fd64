"""What an image is built from on this machine: a Dockerfile and the files that are sent with it. Pure values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Recipe", "SentFile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SentFile:
    """One file of a build context.

    Args:
        path: where it lies in the context, with `/`.
        source: where it lies here.
        sha256: of its bytes; "" for a symbolic link.
        link: where a symbolic link points; None for a file.
    """

    path: str
    source: Path
    sha256: str = ""
    executable: bool = False
    link: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A Dockerfile and its context, as they were when they were hashed.

    Args:
        dockerfile: its path, as the user knows it.
        text: what it says.
        files: what is sent, sorted by path.
    """

    dockerfile: str
    text: str
    files: tuple[SentFile, ...]

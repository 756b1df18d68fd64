"""Croissant files as text: read from a path, fetched from an address, kept by hash. Never parses them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coralord_lightning.errors import CroissantNotFoundError, CroissantSyntaxError, SourceMissingError, nearest
from coralord_lightning.sources.hashes import replace_file

if TYPE_CHECKING:
    from coralord_lightning.sources.http import HttpClient

__all__ = ["FetchedText", "fetch_text", "is_address", "read_local_text", "recall_text"]

_MAX_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedText:
    """A Croissant file as read.

    Args:
        base: what its relative `contentUrl`s are relative to: a folder, or the address where it was found.
        url: the address it was asked for at; None for a local file.
    """

    text: str
    sha256: str
    base: str | Path
    url: str | None = None


def is_address(reference: str) -> bool:
    """Whether a reference is an address (http, https, s3, gs) rather than a path."""
    return re.match(r"(https?|s3|gs)://", reference, re.IGNORECASE) is not None


def read_local_text(reference: str, *, base_dir: Path) -> FetchedText:
    """The Croissant file at a path.

    Raises:
        CroissantNotFoundError: there is none.
        CroissantSyntaxError: it is too large or not UTF-8.
    """
    path = base_dir / reference
    try:
        path = base_dir / Path(reference).expanduser()
        with os.fdopen(_open_unwaiting(path), "rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: `~` of no such user
        names = [there.name for there in path.parent.iterdir()] if _is_dir(path.parent) else []
        near = nearest(path.name, names)
        raise CroissantNotFoundError(
            reference,
            "there is no Croissant file",
            facts={"expected": path, "got": getattr(error, "strerror", None) or error},
            remedy=f"croissant: {Path(reference).parent / near}" if near else "correct the path of `croissant:`",
        ) from error
    if len(content) > _MAX_BYTES:
        raise CroissantSyntaxError(
            reference,
            "is too large for a Croissant file",
            facts={"got": f"more than {_MAX_BYTES} bytes"},
            remedy="put its rows into a data file, and name that as a FileObject",
        )
    return _decoded(content, reference, base=path.parent.absolute(), url=None)


def fetch_text(url: str, client: HttpClient, cache_dir: Path) -> FetchedText:
    """The Croissant file at an address; kept for `recall_text`.

    Raises:
        CroissantNotFoundError: there is none.
        CroissantSyntaxError: it is not UTF-8.
        SourceError: the network failed, or is ruled out.
    """
    from coralord_lightning.sources.address import public_url, redact
    from coralord_lightning.sources.fetch import read_all

    try:
        content, found_at = read_all(client, url, subject=redact(url), limit=_MAX_BYTES)
    except SourceMissingError as error:
        raise CroissantNotFoundError(
            redact(url),
            "there is no Croissant file at that address",
            facts=error.facts,
            remedy="correct the address of `croissant:`",
        ) from error
    found = _decoded(content, redact(url), base=_base(url, found_at), url=url)
    note = {"found_at": public_url(found_at), "text": found.text, "sha256": found.sha256}
    with contextlib.suppress(OSError):  # keeping it only saves a request
        replace_file(_note_path(url, found.sha256, cache_dir), json.dumps(note).encode())
    return found


def recall_text(url: str, sha256: str, cache_dir: Path) -> FetchedText | None:
    """The very text that an address once gave, if it was kept and is whole."""
    try:
        note: Any = json.loads(_note_path(url, sha256, cache_dir).read_bytes())
        text, found_at = note["text"], note["found_at"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    contents = [text.encode(), b"\xef\xbb\xbf" + text.encode()]
    if sha256 not in [hashlib.sha256(content).hexdigest() for content in contents]:
        return None
    return FetchedText(text=text, sha256=sha256, base=_base(url, found_at), url=url)


def _open_unwaiting(path: Path) -> int:
    """Open what is no pipe: that would keep us waiting for whoever writes it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "It is a pipe, no file")
    return descriptor


def _note_path(url: str, sha256: str, cache_dir: Path) -> Path:
    return cache_dir / "texts" / f"{hashlib.sha256(url.encode()).hexdigest()}-{sha256}.json"


def _base(asked: str, found_at: str) -> str:
    """What relative addresses are relative to: where the file was found, signed in again on the same site."""
    from coralord_lightning.sources.address import origin, public_url, split_userinfo, with_userinfo

    if found_at in (split_userinfo(asked)[0], public_url(asked)):
        return asked
    return with_userinfo(found_at, split_userinfo(asked)[1]) if origin(asked) == origin(found_at) else found_at


def _decoded(content: bytes, shown: str, *, base: str | Path, url: str | None) -> FetchedText:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CroissantSyntaxError(
            shown,
            "is not UTF-8 text",
            facts={"got": f"byte {content[error.start]:#04x} at {error.start}"},
            remedy="save it as UTF-8",
        ) from error
    return FetchedText(text=text, sha256=hashlib.sha256(content).hexdigest(), base=base, url=url)


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False

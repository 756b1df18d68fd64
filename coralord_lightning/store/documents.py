"""JSON files of the store: printed the same for the same values, read defensively."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coralord_lightning.store.disk import Disk

__all__ = [
    "is_fingerprint",
    "print_document",
    "print_sealed",
    "read_bytes",
    "read_sealed",
    "read_tolerant",
    "require_seal",
    "warn_damaged",
]

_LOG = logging.getLogger("coralord")
_HEX = frozenset("0123456789abcdef")


def is_fingerprint(text: str) -> bool:
    """Whether it is 64 lowercase hexadecimal digits, and so safe as a file name."""
    return len(text) == 64 and set(text) <= _HEX


def print_document(value: Any) -> bytes:
    """JSON with sorted keys, one fact a line."""
    return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def print_sealed(value: Mapping[str, Any]) -> bytes:
    """JSON as `print_document` prints it, with the SHA-256 of the rest under `checksum`."""
    return print_document({**value, "checksum": hashlib.sha256(print_document(dict(value))).hexdigest()})


def require_seal(body: Mapping[str, Any]) -> None:
    """Refuse a sealed document that was changed; what an older release wrote has no seal.

    Raises:
        ValueError: its checksum is another.
    """
    if "checksum" not in body:
        return
    rest = {key: value for key, value in body.items() if key != "checksum"}
    if hashlib.sha256(print_document(rest)).hexdigest() != body["checksum"]:
        raise ValueError("its checksum does not fit its text")


def read_bytes(disk: Disk, path: Path) -> bytes | None:
    """A file's bytes; None where there is none.

    Raises:
        StoreError: it is there and cannot be read.
    """
    with disk.explained(path):
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None


def read_tolerant(path: Path) -> dict[str, Any] | None:
    """A JSON object; None, with a warning, where the file is damaged, and without one where there is none."""
    try:
        body = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        warn_damaged(path, error)
        return None
    if not isinstance(body, dict):
        warn_damaged(path, "it holds no JSON object")
        return None
    return body


def read_sealed(path: Path) -> dict[str, Any] | None:
    """As `read_tolerant`; a document whose checksum does not fit is damaged, too."""
    body = read_tolerant(path)
    if body is None:
        return None
    try:
        require_seal(body)
    except ValueError as error:
        warn_damaged(path, error)
        return None
    return body


def warn_damaged(path: Path, reason: object) -> None:
    """Say on the logger that a file is skipped."""
    _LOG.warning("skipping damaged %s: %s", path, reason)

"""JSON files of the store: printed the same for the same values, read defensively."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from coralord_lightning.store.disk import Disk

__all__ = ["is_fingerprint", "print_document", "read_bytes", "read_tolerant"]

_LOG = logging.getLogger("coralord")
_HEX = frozenset("0123456789abcdef")


def is_fingerprint(text: str) -> bool:
    """Whether it is 64 lowercase hexadecimal digits, and so safe as a file name."""
    return len(text) == 64 and set(text) <= _HEX


def print_document(value: Any) -> bytes:
    """JSON with sorted keys, one fact a line."""
    return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


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


def warn_damaged(path: Path, reason: object) -> None:
    """Say on the logger that a file is skipped."""
    _LOG.warning("skipping damaged %s: %s", path, reason)

"""Which files of a folder are opened while something runs, by whatever process: Linux tells by inotify."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["opened_files"]

_IN_OPEN = 0x20
_EVENT = struct.Struct("iIII")


@contextmanager
def opened_files(folder: Path) -> Iterator[set[str]]:
    """Names of the files in a folder that are opened inside the block; filled when it ends."""
    if sys.platform != "linux":
        pytest.skip("only Linux has inotify")
    library = ctypes.CDLL(None, use_errno=True)
    watch = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert watch >= 0
    try:
        assert library.inotify_add_watch(watch, os.fsencode(folder), _IN_OPEN) >= 0
        names: set[str] = set()
        yield names
        while data := _pending(watch):
            names |= set(_names(data))
    finally:
        os.close(watch)


def _names(data: bytes) -> Iterator[str]:
    at = 0
    while at < len(data):
        length = _EVENT.unpack_from(data, at)[3]
        at += _EVENT.size
        if length:  # else it is the folder itself
            yield data[at : at + length].rstrip(b"\0").decode()
        at += length


def _pending(watch: int) -> bytes:
    try:
        return os.read(watch, 1 << 20)
    except BlockingIOError:
        return b""

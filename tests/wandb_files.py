"""Reads what an offline run of W&B wrote: records in the log format of LevelDB, each a message of wandb's own schema.

Since 0.28 or so the client has no reader in Python; `wandb sync` is its compiled one, and wants a server.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MAGIC = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
_BLOCK = 32 * 1024
_HEADER = struct.Struct("<IHB")  # checksum, length, kind
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def records(path: Path) -> Iterator[Any]:
    """Every record of a `.wandb` file, parsed."""
    from wandb.proto import wandb_internal_pb2

    for data in _pieces(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        yield record


def _pieces(data: bytes) -> Iterator[bytes]:
    assert data.startswith(_MAGIC)
    at, parts = len(_MAGIC), bytearray()
    while at + _HEADER.size <= len(data):
        left = _BLOCK - at % _BLOCK
        if left < _HEADER.size:
            at += left
            continue
        _, length, kind = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        parts += data[at : at + length]
        at += length
        assert kind in (_WHOLE, _FIRST, _MIDDLE, _LAST)
        if kind in (_WHOLE, _LAST):
            yield bytes(parts)
            parts.clear()

"""Owns how values go through a pipe between our own processes; never decides what is sent.

Tensors and arrays go as they lie in memory, behind a small pickle, and are read into memory of their own. So nothing is
held in shared memory, which containers have little of, and no open file stands for a tensor that is kept. A process
that ends in the middle of a message is an end of file for the other, never a wait.
"""

from __future__ import annotations

import io
import os
import pickle  # noqa: TID251  # between a process and those that it started itself
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["Frames", "frames_of", "read_value", "widen", "write_frames"]

Frames = list[Any]
"""A value as pieces of memory: a pickle, and the buffers it speaks of."""

_MOST_PIECES = 512  # in one call to the system; IOV_MAX is 1024
_PIPE_BYTES = 1 << 20


def frames_of(value: Any) -> Frames:
    """Make a value ready to be written.

    Raises:
        Exception: what pickle raises on a value that it cannot take.
    """
    sink, buffers = io.BytesIO(), list[pickle.PickleBuffer]()
    _Pickler(sink, protocol=5, buffer_callback=buffers.append).dump(value)
    return [sink.getbuffer(), *(buffer.raw() for buffer in buffers)]


def write_frames(fd: int, frames: Frames) -> None:
    """Write a value.

    Raises:
        OSError: nobody reads it any more.
    """
    sizes = [len(frame) for frame in frames]
    _write(fd, [memoryview(struct.pack(f"<{len(sizes) + 1}Q", len(sizes), *sizes)), *frames])


def read_value(fd: int) -> Any:
    """Wait for a value, and read it.

    Raises:
        EOFError: the other process has ended.
    """
    (count,) = struct.unpack("<Q", _read(fd, 8))
    sizes = struct.unpack(f"<{count}Q", _read(fd, 8 * count))
    head, *buffers = (_read(fd, size) for size in sizes)
    return pickle.loads(head, buffers=buffers)  # noqa: S301  # written by our own process


def widen(fd: int) -> None:
    """Let a pipe hold more, where the system allows it: fewer turns between its two processes."""
    try:
        import fcntl

        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    except (ImportError, AttributeError, OSError):
        return  # another system, or its limit for all pipes is reached: slower, and right


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if type(value) is not torch.Tensor or not _is_plain(value):
            return NotImplemented  # torch's own way, which copies once more
        flat: Any = value.contiguous().reshape(-1).view(torch.uint8).numpy()
        return _tensor, (pickle.PickleBuffer(flat), value.dtype, tuple(value.shape))


def _is_plain(value: torch.Tensor) -> bool:
    if value.device.type != "cpu" or value.layout is not torch.strided or value.requires_grad or not value.numel():
        return False
    return not (value.is_quantized or value.is_conj() or value.is_neg())


def _tensor(buffer: npt.NDArray[np.uint8], dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.from_numpy(buffer).view(dtype).view(shape)


def _read(fd: int, size_bytes: int) -> Any:
    data: Any = np.empty(size_bytes, np.uint8)  # not zeroed first, as a bytearray is
    view, done = memoryview(data), 0
    while done < size_bytes:
        got = os.readv(fd, [view[done:]])
        if not got:
            raise EOFError
        done += got
    return data


def _write(fd: int, pieces: Sequence[Any]) -> None:
    left = [memoryview(piece) for piece in pieces if len(piece)]
    while left:
        sent = os.writev(fd, left[:_MOST_PIECES])
        while left and sent >= len(left[0]):
            sent -= len(left.pop(0))
        if sent:
            left[0] = left[0][sent:]

"""Owns one view over the whole address space, through which values of any number of maps are copied at once.

It never decides whether an address may be read. Whoever calls it reads memory that nothing guards: a wrong place ends
Python. The rule that keeps this safe: places are computed only from row numbers checked against the number of rows,
from offsets checked against the length of what they point into, and from buffers that were checked, when the shard was
mapped, to be long enough and to lie inside a map that is kept open.
"""

from __future__ import annotations

import ctypes
import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

__all__ = ["FIRST", "UNITS", "Places", "arrow_memory", "copy_bits", "copy_items", "copy_run", "dtype_of", "is_in_reach"]

Places = npt.NDArray[np.int64]
"""Where values lie: counted in their own size from `FIRST` on."""

FIRST = 4096
"""The address of place 0: a system maps nothing in the first page."""

_END = 1 << 48  # user addresses of 64-bit Linux and macOS end at 2**47 or 2**48, unless a program asks for more
_WIDEST = 1 << 14  # torch counts the items of a view in 63 bits; and so wide a row is worth a call of its own
_UNITS: dict[int, Any] = {1: np.uint8, 2: np.int16, 4: np.int32, 8: np.int64}

UNITS = tuple(_UNITS)
"""Sizes in bytes of what can be copied as one item."""


def is_in_reach(address: int, size_bytes: int) -> bool:
    """Whether memory lies within the view."""
    return address >= FIRST and address + size_bytes <= _END


@functools.cache
def _memory() -> Any:
    # No memory is taken or read: the array only says where it begins and ends.
    return (ctypes.c_char * (_END - FIRST)).from_address(FIRST)


@functools.cache
def arrow_memory() -> pa.Buffer:
    """All memory as Arrow's buffer of values; byte 0 is the one at `FIRST`."""
    import pyarrow as pa

    return pa.foreign_buffer(FIRST, _END - FIRST)


@functools.cache
def _flat(unit: int) -> npt.NDArray[Any]:
    return np.frombuffer(_memory(), dtype=_UNITS[unit])


@functools.lru_cache(maxsize=256)
def _rows(unit: int, width: int) -> torch.Tensor:
    """All memory as overlapping rows: row k has the `width` items from item k on."""
    import torch

    flat = torch.from_numpy(_flat(unit))
    if width == 1:
        return flat
    return torch.as_strided(flat, (flat.numel() - width, width), (1, 1))


def dtype_of(unit: int) -> npt.DTypeLike:
    """The integers that items of so many bytes are copied as."""
    dtype: npt.DTypeLike = _UNITS[unit]
    return dtype


def copy_items(places: Places, *, unit: int, width: int, out: torch.Tensor | None = None) -> npt.NDArray[Any]:
    """Copy rows of items into fresh memory, in the order of `places`.

    Args:
        places: int64[n], where each row's first item lies, in items of `unit` bytes.
        width: items in a row.
        out: integers of `unit` bytes, [n, width], to copy into.
    Returns:
        [n, width], integers of `unit` bytes.
    """
    import torch

    if out is None:
        out = torch.from_numpy(np.empty((len(places), width), dtype_of(unit)))
    if width > _WIDEST:
        for place, row in zip(places.tolist(), out.numpy(), strict=True):
            copy_run(place, width, unit=unit, out=row)
    elif width:
        torch.index_select(_rows(unit, width), 0, torch.from_numpy(places), out=out if width > 1 else out.view(-1))
    return out.numpy()


def copy_run(place: int, count: int, *, unit: int, out: npt.NDArray[Any]) -> None:
    """Copy `count` items that lie side by side into `out`, a flat array of integers of `unit` bytes."""
    np.copyto(out, _flat(unit)[place : place + count])


def copy_bits(places: Places) -> npt.NDArray[np.bool_]:
    """Copy bits, each into a byte of its own; places count bits, the least significant of a byte first."""
    found = copy_items(np.right_shift(places, 3).reshape(-1), unit=1, width=1).reshape(places.shape)
    found >>= (places & 7).astype(np.uint8)
    found &= 1
    return found.view(np.bool_)

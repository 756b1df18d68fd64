"""Arrow buffers as NumPy arrays and back. Copies no numbers; `pyarrow.array` and `to_numpy` would import pandas."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["bitmap", "numbers", "validity"]

_FLOATS = {"halffloat": "float16", "float": "float32", "double": "float64"}  # Arrow's names; integers have NumPy's


def numbers(array: Any) -> npt.NDArray[Any]:
    """The values of a numeric column, read-only; what stands at a null is any number."""
    kind = np.dtype(_FLOATS.get(str(array.type), str(array.type)))
    if len(array) == 0:
        return np.zeros(0, kind)
    found: npt.NDArray[Any] = np.frombuffer(array.buffers()[1], kind)[array.offset : array.offset + len(array)]
    return found


def validity(array: Any) -> npt.NDArray[np.bool_]:
    """Which rows of a column are not null: bool[len(array)]."""
    bits = array.buffers()[0] if array.null_count else None
    if bits is None:
        return np.full(len(array), array.type != pa.null(), np.bool_)
    return np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")[
        array.offset : array.offset + len(array)
    ].astype(np.bool_)


def bitmap(valid: npt.NDArray[np.bool_]) -> Any:
    """The buffer that says which rows are not null."""
    return pa.py_buffer(np.packbits(valid, bitorder="little"))

"""Nested Arrow lists to numpy arrays and back, with pyarrow and numpy alone: both are in every build image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def to_numpy(column: pa.Array, shape: tuple[int, ...]) -> npt.NDArray[np.generic]:
    """Take the values of nested lists of one fixed shape as array[rows, *shape]."""
    rows = len(column)
    while pa.types.is_nested(column.type):
        column = column.flatten()
    return column.to_numpy(zero_copy_only=False).reshape(rows, *shape)


def to_arrow(values: npt.NDArray[np.generic]) -> pa.Array:
    """Turn array[rows, *shape] into nested fixed-size lists, which become tensors of that shape."""
    column = pa.array(np.ascontiguousarray(values).ravel())
    for size in reversed(values.shape[1:]):
        column = pa.FixedSizeListArray.from_arrays(column, size)
    return column

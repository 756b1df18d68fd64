"""Owns the batch forms of lists of different lengths: padded tensors, or flat values with offsets; never opens files.

| `collate=` | field `x`, lists of numbers or of fixed shapes     | fields beside it                         |
|------------|----------------------------------------------------|------------------------------------------|
| "pad"      | tensor[batch, longest, *shape], zeros behind a row | `x_lengths`: int64[batch]                |
| "offsets"  | tensor[sum of lengths, *shape], row behind row     | `x_offsets`: int64[batch + 1]            |
| "rows"     | list of tensor[length, *shape], one a row          |                                          |

Row i of the flat form is `x[x_offsets[i]:x_offsets[i + 1]]`.
Lists of lists have one more dimension, or one more field of offsets, a level: `x_lengths_1`: int64[batch, longest];
`x_offsets_1`: int64[sum of lengths + 1]. "rows" has lists of lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from coralord_lightning.errors import BatchError
from coralord_lightning.stream.columns import Node
from coralord_lightning.stream.objects import spread
from coralord_lightning.stream.places import PlaceTable, Spot

__all__ = ["Collate", "extra_names", "gather_ragged", "require_choice"]

Collate = Literal["pad", "offsets", "rows"]
Values = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]


def extra_names(field: str, depth: int, collate: Collate) -> tuple[str, ...]:
    """The fields beside a ragged one, outermost level first."""
    if collate == "rows":
        return ()
    stem = f"{field}_{'lengths' if collate == 'pad' else 'offsets'}"
    return (stem, *(f"{stem}_{level}" for level in range(1, depth)))


def require_choice(field: str, node: Node, collate: str | None) -> None:
    """Refuse a ragged field without a word on its form.

    Raises:
        BatchError: with the choices as code.
    """
    if collate is not None or not node.depth:
        return
    raise BatchError(
        field,
        "has lists of different lengths, and a batch can hold them in more than one way",
        facts={
            "got": node.kind,
            "pad": f"{field}: tensor[batch, longest, …] filled with zeros, {field}_lengths",
            "offsets": f"{field}: the values of all rows, {field}_offsets",
            "rows": f"{field}: a list of tensors, one a row",
            "function": "what it returns; it gets the batch as a list of rows",
        },
        remedy='collate="pad"     # or collate="offsets", or collate=your_function, '
        f"or leave '{field}' out: batch_as=[…]",
    )


def gather_ragged(
    table: PlaceTable, node: Node, spot: Spot, *, field: str, bounds: Sequence[tuple[int, int]], collate: Collate
) -> list[dict[str, Any]]:
    """Copy lists of several batches at once.

    Args:
        bounds: where each batch's rows begin and end.
    Returns:
        for each batch the arrays (or lists of arrays) of the field and of those beside it, each in memory of its own.
    Raises:
        ShardMissingError: offsets are not what was written.
        BatchError: padded, a batch does not fit into memory.
    """
    counts, inner = list[Rows](), node
    while not inner.is_tensor:
        starts, ends = table.spans(inner, spot)
        counts.append(ends - starts)
        spot = spot.inside(spread(starts, counts[-1]), counts[-1])
        inner = inner.children[0]
    values = table.tensor(inner, spot)
    names = extra_names(field, len(counts), collate)
    offsets = [np.concatenate([[0], np.cumsum(level)]) for level in counts]
    batches = list[dict[str, Any]]()
    for bound in bounds:
        levels, part = _of_batch(counts, offsets, values, bound)
        if collate == "pad":
            batches.append(_padded(field, levels, part, names))
        elif collate == "offsets":
            flat = {name: np.concatenate([[0], np.cumsum(level)]) for name, level in zip(names, levels, strict=True)}
            batches.append({field: part, **flat})
        else:
            batches.append({field: _split(levels, part)})
    return batches


def _of_batch(
    counts: Sequence[Rows], offsets: Sequence[Rows], values: Values, bound: tuple[int, int]
) -> tuple[list[Rows], Values]:
    """One batch's part of each level's lengths, and of the values."""
    levels = list[Rows]()
    for level, ends in zip(counts, offsets, strict=True):
        levels.append(level[slice(*bound)])
        bound = int(ends[bound[0]]), int(ends[bound[1]])
    return levels, values[slice(*bound)]


def _padded(field: str, levels: Sequence[Rows], values: Values, names: Sequence[str]) -> dict[str, Values]:
    """Each level's lists in one more dimension, as long as the longest of them in this batch."""
    shape: tuple[int, ...] = (len(levels[0]),)
    places = np.arange(len(levels[0]), dtype=np.int64)
    out: dict[str, Values] = {}
    for name, lengths in zip(names, levels, strict=True):
        out[name] = _placed(field, lengths, places, shape)
        longest = int(lengths.max()) if len(lengths) else 0
        starts = np.zeros(len(lengths), dtype=np.int64)
        places = np.repeat(places * longest, lengths) + spread(starts, lengths)
        shape = (*shape, longest)
    return {field: _placed(field, values, places, shape), **out}


def _placed(field: str, values: Values, places: Rows, shape: tuple[int, ...]) -> Values:
    inner = values.shape[1:]
    try:
        out = np.zeros((int(np.prod(shape, dtype=np.int64)), *inner), values.dtype)
    except (MemoryError, ValueError) as error:
        raise BatchError(
            field,
            "is too long in one row to pad a whole batch to it",
            facts={"got": f"a tensor of shape {[*shape, *inner]}"},
            remedy='collate="offsets"     # or a smaller batch_size',
        ) from error
    out[places] = values
    return out.reshape(*shape, *inner)


def _split(levels: Sequence[Rows], values: Any) -> list[Any]:
    parts: Any = values
    for lengths in reversed(levels):
        bounds = np.cumsum([0, *lengths.tolist()]).tolist()
        parts = [parts[start:end] for start, end in pairwise(bounds)]
    return list(parts)

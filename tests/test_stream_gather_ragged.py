"""Lists of different lengths: padded or flat, as deep as they are, over any shards and several batches at once."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coralord_lightning.errors import BatchError, UsageError
from coralord_lightning.stream.gather import Gatherer, fields_of
from coralord_lightning.stream.shards import ShardMaps
from hand_built import write_shards

FLAT = [[1, 2, 3], [], [4], [5, 6]]
DEEP = [[[1, 2], []], [], [[3]], [[4], [5, 6, 7]]]


def gatherer(home: Path, table: pa.Table, sizes: list[int] | None = None, **options: Any) -> Gatherer:
    maps = ShardMaps(home, write_shards(home, table, sizes or [table.num_rows]), table.schema)
    return Gatherer(maps, fields=table.column_names, split="train", **options)


def column(values: Any, kind: pa.DataType) -> pa.Table:
    return pa.table({"x": pa.array(values, kind)})


def as_lists(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: value.tolist() for name, value in batch.items()}


@pytest.mark.parametrize("sizes", [[4], [2, 2], [1, 1, 1, 1]], ids=str)
def test_padded_lists_have_zeros_behind_them_and_their_lengths_beside_them(tmp_path: Path, sizes: list[int]) -> None:
    source = gatherer(tmp_path, column(FLAT, pa.list_(pa.int16())), sizes, collate="pad")

    batch = source.gather(np.array([3, 1, 0]))

    assert as_lists(batch) == {"x": [[5, 6, 0], [0, 0, 0], [1, 2, 3]], "x_lengths": [2, 0, 3]}
    assert (batch["x"].dtype, batch["x_lengths"].dtype) == (torch.int16, torch.int64)
    assert source.names == tuple(batch)


@pytest.mark.parametrize("sizes", [[4], [2, 2], [1, 1, 1, 1]], ids=str)
def test_flat_lists_lie_row_behind_row_with_offsets_beside_them(tmp_path: Path, sizes: list[int]) -> None:
    source = gatherer(tmp_path, column(FLAT, pa.list_(pa.float32())), sizes, collate="offsets")

    batch = source.gather(np.array([3, 1, 0]))

    assert as_lists(batch) == {"x": [5, 6, 1, 2, 3], "x_offsets": [0, 2, 2, 5]}
    assert (batch["x"].dtype, batch["x_offsets"].dtype) == (torch.float32, torch.int64)
    assert source.names == tuple(batch)


def test_each_level_of_lists_is_padded_to_its_longest(tmp_path: Path) -> None:
    source = gatherer(tmp_path, column(DEEP, pa.list_(pa.list_(pa.uint8()))), [2, 2], collate="pad")

    assert as_lists(source.gather(np.array([0, 1, 3]))) == {
        "x": [[[1, 2, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]], [[4, 0, 0], [5, 6, 7]]],
        "x_lengths": [2, 0, 2],
        "x_lengths_1": [[2, 0], [0, 0], [1, 3]],
    }
    assert source.names == ("x", "x_lengths", "x_lengths_1")


def test_each_level_of_lists_has_offsets(tmp_path: Path) -> None:
    source = gatherer(tmp_path, column(DEEP, pa.list_(pa.list_(pa.uint8()))), [2, 2], collate="offsets")

    assert as_lists(source.gather(np.array([3, 1, 0]))) == {
        "x": [4, 5, 6, 7, 1, 2],
        "x_offsets": [0, 2, 2, 4],
        "x_offsets_1": [0, 1, 4, 6, 6],
    }
    assert source.names == ("x", "x_offsets", "x_offsets_1")


def test_for_a_function_every_row_is_a_tensor(tmp_path: Path) -> None:
    source = gatherer(tmp_path, column(DEEP, pa.list_(pa.list_(pa.uint8()))), [2, 2], collate="rows")

    batch = source.gather(np.array([0, 1]))

    assert [[part.tolist() for part in row] for row in batch["x"]] == [[[1, 2], []], []]
    assert source.names == ("x",)


def test_lists_of_fixed_shapes_keep_their_shape(tmp_path: Path) -> None:
    boxes = column([[[1, 2], [3, 4]], [], [[5, 6]]], pa.list_(pa.list_(pa.int32(), 2)))
    padded, flat = (gatherer(tmp_path, boxes, [1, 2], collate=collate) for collate in ("pad", "offsets"))

    assert padded.gather(np.arange(3))["x"].tolist() == [[[1, 2], [3, 4]], [[0, 0], [0, 0]], [[5, 6], [0, 0]]]
    assert flat.gather(np.arange(3))["x"].tolist() == [[1, 2], [3, 4], [5, 6]]


def test_lists_of_booleans_and_lists_of_nothing(tmp_path: Path) -> None:
    flags, empty = column([[True], [False, True]], pa.list_(pa.bool_())), column([[], []], pa.list_(pa.int64()))

    assert gatherer(tmp_path, flags, collate="pad").gather(np.arange(2))["x"].tolist() == [[True, False], [False, True]]
    assert gatherer(tmp_path, empty, collate="pad").gather(np.arange(2))["x"].shape == (2, 0)


ITEMS = st.integers(-100, 100)


@given(
    values=st.lists(st.lists(st.lists(ITEMS, max_size=4), max_size=4), min_size=1, max_size=12),
    collate=st.sampled_from(["pad", "offsets"]),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_lists_are_whole_in_every_batch_of_many(
    tmp_path_factory: pytest.TempPathFactory, values: list[Any], collate: str, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(values) - 1))
    sizes = [size for size in (cut, len(values) - cut) if size]
    rows = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=20))
    first = data.draw(st.integers(0, len(rows)))
    table = column(values, pa.list_(pa.list_(pa.int32())))
    source = gatherer(tmp_path_factory.mktemp("lists"), table, sizes, collate=collate)

    batches = source.gather_many(np.array(rows, dtype=np.int64), [first, len(rows) - first])

    for batch, part in zip(batches, (rows[:first], rows[first:]), strict=True):
        assert (unpadded if collate == "pad" else unflattened)(batch) == [values[row] for row in part]


def unpadded(batch: dict[str, Any]) -> list[Any]:
    rows = zip(batch["x"], batch["x_lengths"], batch["x_lengths_1"], strict=True)
    return [[row[i, : inner[i]].tolist() for i in range(length)] for row, length, inner in rows]


def unflattened(batch: dict[str, Any]) -> list[Any]:
    outer, inner = batch["x_offsets"].tolist(), batch["x_offsets_1"].tolist()
    lists = [batch["x"][start:end].tolist() for start, end in pairwise(inner)]
    return [lists[start:end] for start, end in pairwise(outer)]


def test_without_a_word_on_their_form_the_error_names_the_choices(tmp_path: Path) -> None:
    with pytest.raises(BatchError) as caught:
        gatherer(tmp_path, column(FLAT, pa.list_(pa.int64())))

    assert str(caught.value) == (
        "CORAL-E0705 x: has lists of different lengths, and a batch can hold them in more than one way\n"
        "  got:      list<item: int64>\n"
        "  pad:      x: tensor[batch, longest, …] filled with zeros, x_lengths\n"
        "  offsets:  x: the values of all rows, x_offsets\n"
        "  rows:     x: a list of tensors, one a row\n"
        "  function: what it returns; it gets the batch as a list of rows\n"
        '  try:      collate="pad"     # or collate="offsets", or collate=your_function, '
        "or leave 'x' out: batch_as=[…]"
    )


@pytest.mark.parametrize(("collate", "name"), [("pad", "x_lengths"), ("offsets", "x_offsets")])
def test_a_field_with_the_name_of_one_beside_it_is_refused(tmp_path: Path, collate: str, name: str) -> None:
    table = column(FLAT, pa.list_(pa.int64())).append_column(name, pa.array(range(4)))

    with pytest.raises(BatchError, match="needs that name") as caught:
        gatherer(tmp_path, table, collate=collate)
    assert caught.value.subject == name
    assert gatherer(tmp_path, table.select(["x"]), collate=collate).names == ("x", name)


def test_what_is_none_of_the_choices_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none of its choices"):
        gatherer(tmp_path, column(FLAT, pa.list_(pa.int64())), collate="padded")


def test_a_batch_too_long_to_pad_says_so(tmp_path: Path) -> None:
    # Each level is long in one row only, and padding multiplies: more than any address space.
    long = 30_000
    starts = pa.array([*range(long + 1)], pa.int32())
    inner = pa.ListArray.from_arrays(pa.array([*[0] * long, long], pa.int32()), pa.array(np.arange(long)))
    middle = pa.ListArray.from_arrays(pa.array([*[0] * long, long], pa.int32()), inner)
    outer = pa.ListArray.from_arrays(starts, middle)
    source = gatherer(tmp_path, pa.table({"x": outer}), collate="pad")

    with pytest.raises(BatchError, match="too long in one row") as caught:
        source.gather(np.arange(long))
    assert caught.value.remedy.startswith('collate="offsets"')


def test_fields_of_a_batch_are_found_by_the_names_in_it() -> None:
    schema = pa.schema({"x": pa.list_(pa.list_(pa.int8())), "x_y": pa.list_(pa.int8()), "label": pa.int64()})

    assert fields_of(["label", "x_lengths_1", "x"], schema, "pad") == ["label", "x"]
    assert fields_of(["x_y_offsets", "x_offsets"], schema, "offsets") == ["x_y", "x"]
    assert fields_of(["x_lengths", "nothing", "label"], schema, "offsets") == ["label"]
    assert fields_of(["x_lengths"], schema) == []

"""Memory maps to tensors: true dtypes and shapes, any rows over any shards, never an alias, clear refusals."""

from __future__ import annotations

import copy
import datetime as dt
import io
import pickle  # noqa: TID251  # others pickle loaders: spawned processes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coralord_lightning.errors import BatchError, ShardMissingError
from coralord_lightning.spec.manifest import Shard
from coralord_lightning.stream.gather import Gatherer
from coralord_lightning.stream.shards import ShardMaps, open_shard
from hand_built import write_shard, write_shards


def write_maps(home: Path, table: pa.Table, rows_per_shard: Sequence[int]) -> ShardMaps:
    return ShardMaps(home, write_shards(home, table, rows_per_shard), table.schema)


def gatherer(home: Path, table: pa.Table, rows_per_shard: Sequence[int] | None = None) -> Gatherer:
    maps = write_maps(home, table, rows_per_shard or [table.num_rows])
    return Gatherer(maps, fields=table.column_names, split="train")


def column(values: Any, kind: pa.DataType) -> pa.Table:
    return pa.table({"x": pa.array(values, kind)})


def example_table(num_rows: int = 60) -> pa.Table:
    pixels = np.arange(num_rows * 6, dtype=np.uint8)
    image = pa.FixedSizeListArray.from_arrays(pa.FixedSizeListArray.from_arrays(pa.array(pixels), 3), 2)
    flags = pa.FixedSizeListArray.from_arrays(pa.array([i % 3 == 0 for i in range(num_rows * 5)]), 5)
    return pa.table(
        {
            "row": np.arange(num_rows),
            "image": image,
            "flag": [i % 2 == 0 for i in range(num_rows)],
            "flags": flags,
            "text": [f"row {i}" if i % 7 else None for i in range(num_rows)],
        }
    )


@pytest.mark.parametrize(
    "name",
    ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"],
)
def test_numbers_keep_their_dtype(tmp_path: Path, name: str) -> None:
    values = np.array([0, 1, 2, 100], dtype=name)

    batch = gatherer(tmp_path, pa.table({"x": values})).gather(np.array([3, 0, 1]))

    assert batch["x"].dtype == getattr(torch, name)
    assert batch["x"].tolist() == [100, 0, 1]


@pytest.mark.parametrize(
    ("kind", "values", "dtype", "expected"),
    [
        (pa.bool_(), [True, False, True], torch.bool, [True, False, True]),
        (pa.date32(), [dt.date(1970, 1, 2)], torch.int32, [1]),
        (pa.date64(), [dt.date(1970, 1, 2)], torch.int64, [86_400_000]),
        (pa.time32("s"), [dt.time(0, 1)], torch.int32, [60]),
        (pa.time64("us"), [dt.time(0, 0, 1)], torch.int64, [1_000_000]),
        (pa.timestamp("ms"), [dt.datetime(1970, 1, 1, 0, 0, 1)], torch.int64, [1000]),  # noqa: DTZ001  # naive on purpose
        (pa.timestamp("us", "UTC"), [dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=dt.UTC)], torch.int64, [1_000_000]),
        (pa.duration("s"), [dt.timedelta(minutes=1)], torch.int64, [60]),
    ],
)
def test_times_and_booleans_have_a_documented_tensor(
    tmp_path: Path, kind: pa.DataType, values: list[Any], dtype: torch.dtype, expected: list[Any]
) -> None:
    tensor = gatherer(tmp_path, column(values, kind)).gather(np.arange(len(values)))["x"]

    assert (tensor.dtype, tensor.tolist()) == (dtype, expected)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.string(), ["ä", "", None, "b"]),
        (pa.binary(), [b"\x00", b"", None, b"b"]),
        (pa.binary(2), [b"ab", b"cd", None, b"ef"]),
        (pa.list_(pa.string(), 2), [["a", "b"], ["c", None], ["d", "e"], ["f", "g"]]),
    ],
)
def test_text_and_bytes_are_lists(tmp_path: Path, kind: pa.DataType, values: list[Any]) -> None:
    batch = gatherer(tmp_path, column(values, kind), [1, 3]).gather(np.array([3, 0, 2, 1, 0]))

    assert batch["x"] == [values[i] for i in (3, 0, 2, 1, 0)]


@pytest.mark.parametrize("shape", [(4,), (2, 3), (1, 2, 2), (3, 0)])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "bool"])
def test_fixed_size_lists_are_tensors_of_their_shape(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    values = np.arange(5 * int(np.prod(shape))).astype(dtype)
    array = pa.array(values)
    for size in reversed(shape[1:]):
        array = pa.FixedSizeListArray.from_arrays(array, size) if size else pa.array([[]] * 15, pa.list_(array.type, 0))
    array = pa.FixedSizeListArray.from_arrays(array, shape[0])

    tensor = gatherer(tmp_path, pa.table({"x": array}), [2, 3]).gather(np.array([4, 1, 1]))["x"]

    assert tensor.is_contiguous()
    assert torch.equal(tensor, torch.from_numpy(values.reshape(5, *shape)[[4, 1, 1]]))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_rows_come_in_order_whatever_the_shards(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    table = example_table()
    cuts = sorted(data.draw(st.sets(st.integers(1, 59), max_size=8)))
    sizes = np.diff([0, *cuts, 60]).tolist()
    start, length = data.draw(st.integers(0, 59)), data.draw(st.integers(1, 60))
    rows = data.draw(
        st.one_of(
            st.just(np.arange(start, min(60, start + length))),
            st.lists(st.integers(0, 59), min_size=1, max_size=90).map(np.array),
            st.permutations(range(60)).map(np.array),
        )
    )

    batch = gatherer(tmp_path_factory.mktemp("shards"), table, sizes).gather(rows)

    expected = table.take(rows)
    assert batch["row"].tolist() == expected["row"].to_pylist()
    assert batch["image"].tolist() == expected["image"].to_pylist()
    assert batch["flag"].tolist() == expected["flag"].to_pylist()
    assert batch["flags"].tolist() == expected["flags"].to_pylist()
    assert batch["text"] == expected["text"].to_pylist()


@pytest.mark.parametrize("rows", [np.arange(60), np.arange(59, -1, -1)])
def test_writing_to_a_batch_changes_no_shard(tmp_path: Path, rows: np.ndarray) -> None:
    source = gatherer(tmp_path, example_table(), [30, 30])
    before = [path.read_bytes() for path in sorted(tmp_path.iterdir())]

    batch = source.gather(rows)
    for name in ("row", "image", "flag", "flags"):
        batch[name].zero_()

    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == before
    assert source.gather(rows)["row"].tolist() == rows.tolist()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_many_batches_at_once_are_what_each_is_alone(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    table = example_table()
    cuts = sorted(data.draw(st.sets(st.integers(1, 59), max_size=8)))
    source = gatherer(tmp_path_factory.mktemp("shards"), table, np.diff([0, *cuts, 60]).tolist())
    parts = data.draw(
        st.lists(
            st.one_of(
                st.lists(st.integers(0, 59), max_size=20),
                st.tuples(st.integers(0, 59), st.integers(0, 60)).map(lambda t: list(range(t[0], min(60, sum(t))))),
            ),
            min_size=1,
            max_size=6,
        )
    )
    rows = np.concatenate([np.array(part, dtype=np.int64) for part in parts])

    batches = source.gather_many(rows, [len(part) for part in parts])

    for batch, part in zip(batches, parts, strict=True):
        expected = table.take(pa.array(part, pa.int64()))
        for name in table.column_names:
            found = batch[name] if name == "text" else batch[name].tolist()
            assert found == expected[name].to_pylist()


@pytest.mark.parametrize("rows", [np.arange(60), np.arange(59, -1, -1)], ids=["in order", "not"])
def test_tensors_of_different_batches_share_no_storage(tmp_path: Path, rows: np.ndarray) -> None:
    first, second = gatherer(tmp_path, example_table(), [30, 30]).gather_many(rows, [20, 40])

    for name in ("row", "image", "flag", "flags"):
        assert first[name].untyped_storage().nbytes() == first[name].numel() * first[name].itemsize
        before = second[name].clone()
        first[name].fill_(1)
        assert torch.equal(second[name], before)
        assert second[name]._version == 0
    saved = io.BytesIO()
    torch.save(gatherer(tmp_path, example_table(6000)).gather_many(np.arange(6000), [1, 5999])[0], saved)
    assert len(saved.getvalue()) < 8000


@pytest.mark.skipif(not torch.cuda.is_available(), reason="page-locked memory needs a CUDA device")
def test_pinned_batches_are_page_locked_and_the_same(tmp_path: Path) -> None:
    maps = write_maps(tmp_path, example_table(), [30, 30])
    source = Gatherer(maps, fields=example_table().column_names, split="train", pin_memory=True)

    batches = source.gather_many(np.arange(59, -1, -1), [20, 40])

    assert [batch["row"].tolist() for batch in batches] == [list(range(59, 39, -1)), list(range(39, -1, -1))]
    assert all(batch[name].is_pinned() for batch in batches for name in ("row", "image", "flag", "flags"))


def test_sizes_that_are_not_those_of_the_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="5 rows are no batches of 6 rows"):
        gatherer(tmp_path, example_table()).gather_many(np.arange(5), [4, 2])


def test_batches_of_an_empty_split_and_of_no_rows_are_empty(tmp_path: Path) -> None:
    table = example_table()
    empty = Gatherer(ShardMaps(tmp_path, [], table.schema), fields=table.column_names, split="train")

    for source in (empty, gatherer(tmp_path, table), gatherer(tmp_path, table, [30, 30])):
        batch = source.gather(np.array([], dtype=np.int64))
        assert (batch["image"].shape, batch["flags"].shape, batch["text"]) == ((0, 2, 3), (0, 5), [])


def test_a_row_has_the_bytes_of_its_tensors_or_about_those_of_its_file(tmp_path: Path) -> None:
    table = example_table()
    maps = write_maps(tmp_path, table, [60])

    assert Gatherer(maps, fields=["row", "image", "flags"], split="train").row_bytes == 8 + 6 + 5
    assert 64 <= Gatherer(maps, fields=["text"], split="train").row_bytes <= maps.size_bytes // 60 + 64


def test_large_rows_and_rows_of_odd_sizes_come_whole(tmp_path: Path) -> None:
    for size in (70_001, 300_000):
        values = np.random.default_rng(0).integers(0, 255, 6 * size, dtype=np.uint8)
        table = pa.table({"x": pa.FixedSizeListArray.from_arrays(pa.array(values), size)})
        batch = gatherer(tmp_path, table, [2, 4]).gather(np.array([5, 0, 3]))

        assert torch.equal(batch["x"], torch.from_numpy(values.reshape(6, size)[[5, 0, 3]]))
        for path in tmp_path.iterdir():
            path.unlink()


def test_nulls_in_a_tensor_field_are_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(BatchError) as caught:
        gatherer(tmp_path, column([1, None, 3], pa.int64())).gather(np.array([0]))

    assert str(caught.value) == (
        "CORAL-E0705 x: has nulls in split 'train', and a tensor has no place for them\n"
        "  got:      1 nulls or more\n"
        '  try:      fields: {x: {nulls: fill, fill: 0}}     # or mask, or `where: "x is not null"`'
    )


@pytest.mark.parametrize("values", [[[1, 2], None], [[1, None], [2, 3]]], ids=["a whole row", "an element"])
def test_nulls_inside_a_fixed_size_list_are_refused(tmp_path: Path, values: list[Any]) -> None:
    with pytest.raises(BatchError, match="has nulls"):
        gatherer(tmp_path, column(values, pa.list_(pa.int32(), 2))).gather(np.array([0]))


def test_lists_of_different_lengths_need_a_word_on_their_form(tmp_path: Path) -> None:
    with pytest.raises(BatchError, match="has lists of different lengths") as caught:
        gatherer(tmp_path, column([[1], [1, 2]], pa.list_(pa.int64())))

    assert caught.value.remedy.startswith('collate="pad"     # or collate="offsets"')


def test_shards_are_mapped_only_when_a_row_of_them_is_asked_for(tmp_path: Path) -> None:
    source = gatherer(tmp_path, example_table(), [30, 30])
    (tmp_path / "1.arrow").unlink()

    assert source.gather(np.array([29, 0]))["row"].tolist() == [29, 0]
    with pytest.raises(ShardMissingError, match="is gone") as caught:
        source.gather(np.array([30]))
    assert "coral build" in caught.value.remedy


def test_pickles_hold_paths_and_no_data(tmp_path: Path) -> None:
    source = gatherer(tmp_path, example_table())
    source.gather(np.arange(60))

    pickled = pickle.dumps(source)

    assert len(pickled) < 4096
    assert pickle.loads(pickled).gather(np.array([5]))["row"].tolist() == [5]
    assert copy.deepcopy(source).gather(np.array([6]))["row"].tolist() == [6]


def test_a_batch_outlives_its_shards(tmp_path: Path) -> None:
    source = gatherer(tmp_path, example_table())
    batch = source.gather(np.arange(60))
    del source
    (tmp_path / "0.arrow").write_bytes(b"")

    assert batch["row"].sum() == 59 * 30


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "truncated":
        path.write_bytes(data[:-64])
    elif how == "noise":
        path.write_bytes(b"\x5a" * len(data))
    elif how == "headless":
        path.write_bytes(b"\xff\xff\xff\xff\x00\x00\x00\x00" + b"\x00" * (len(data) - 8))


@pytest.mark.parametrize("how", ["truncated", "noise", "headless"])
def test_a_damaged_shard_is_one_typed_error(tmp_path: Path, how: str) -> None:
    table = example_table()
    shard = write_shard(tmp_path / "s.arrow", table)
    damage(tmp_path / "s.arrow", how)

    with pytest.raises(ShardMissingError):
        open_shard(tmp_path, shard, table.schema)


def test_a_shard_with_other_rows_or_columns_is_refused(tmp_path: Path) -> None:
    table = example_table()
    shard = write_shard(tmp_path / "s.arrow", table)
    fewer = Shard(path=shard.path, num_rows=59, size_bytes=shard.size_bytes, sha256=shard.sha256)

    with pytest.raises(ShardMissingError, match="other rows or columns"):
        open_shard(tmp_path, fewer, table.schema)
    with pytest.raises(ShardMissingError, match="other rows or columns"):
        open_shard(tmp_path, shard, table.drop_columns(["flag"]).schema)


def test_many_shards_need_no_open_files(tmp_path: Path) -> None:
    maps = write_maps(tmp_path, example_table(60), [1] * 60)
    opened = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0

    assert len(list(maps.batches())) == 60

    if opened:
        assert len(list(Path("/proc/self/fd").iterdir())) < opened + 30

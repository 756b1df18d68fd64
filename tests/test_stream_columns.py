"""Every Arrow type has one form in a batch, the same over any shards, with nulls where there is a place for them."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coralord_lightning.errors import BatchError, ShardMissingError
from coralord_lightning.stream.gather import Gatherer
from coralord_lightning.stream.shards import ShardMaps
from damaged_shards import every_type
from hand_built import write_shards

STRUCT = pa.struct([("n", pa.int64()), ("t", pa.string()), ("l", pa.list_(pa.float32()))])


def gatherer(home: Path, table: pa.Table, sizes: list[int] | None = None, **options: Any) -> Gatherer:
    maps = ShardMaps(home, write_shards(home, table, sizes or [table.num_rows]), table.schema)
    return Gatherer(maps, fields=table.column_names, split="train", **options)


def column(values: Any, kind: pa.DataType) -> pa.Table:
    return pa.table({"x": pa.array(values, kind)})


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.decimal128(9, 2), [Decimal("1.50"), None, Decimal("-3.00"), Decimal("0.01")]),
        (pa.decimal32(5, 1), [Decimal("1.5"), Decimal("2.5"), None, Decimal("0.1")]),
        (pa.decimal64(12, 0), [Decimal(1), Decimal(2), None, Decimal(-4)]),
        (pa.decimal256(60, 1), [Decimal("1.5"), Decimal("2.5"), None, Decimal("-9.9")]),
        (STRUCT, [{"n": 1, "t": "a", "l": [0.5]}, None, {"n": None, "t": None, "l": None}, {"n": 2, "t": "", "l": []}]),
        (pa.struct([]), [{}, {}, None, {}]),
        (pa.null(), [None] * 4),
        (pa.map_(pa.string(), pa.int32()), [[("a", 1)], [], None, [("b", 2), ("c", None)]]),
        (pa.list_(pa.string()), [["a", None], [], None, ["b", "c", ""]]),
        (pa.list_(pa.list_(pa.binary())), [[[b"a"], None], [], None, [[], [b"b"]]]),
        (pa.list_(STRUCT), [[{"n": 1, "t": "a", "l": [0.5]}], [], None, [None]]),
        (pa.list_(pa.decimal128(9, 2), 1), [[Decimal("1.50")], None, [None], [Decimal("2.50")]]),
        (pa.list_(pa.string(), 2), [["a", "b"], None, [None, "c"], ["d", "e"]]),
        (pa.list_(pa.list_(pa.int64()), 2), [[[1], []], None, [None, [2]], [[3, 4], [5]]]),
        (pa.list_(pa.list_(pa.list_(pa.int8()), 1)), [[[[1]], [[2, 3]]], [], None, [[[]]]]),
        (pa.binary(0), [b"", b"", None, b""]),
        (
            pa.month_day_nano_interval(),
            [pa.MonthDayNano([1, 2, 3]), None, pa.MonthDayNano([-1, 0, 0]), pa.MonthDayNano([0, 0, 9])],
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("sizes", [[4], [1, 3], [2, 1, 1]], ids=str)
def test_what_is_no_tensor_is_a_list_of_python_objects(
    tmp_path: Path, kind: pa.DataType, values: list[Any], sizes: list[int]
) -> None:
    batch = gatherer(tmp_path, column(values, kind), sizes).gather(np.array([3, 0, 2, 1, 0]))

    assert batch["x"] == [values[i] for i in (3, 0, 2, 1, 0)]


def test_numbers_within_dicts_are_pythons_own_and_times_are_whole_numbers(tmp_path: Path) -> None:
    kind = pa.struct([("at", pa.timestamp("us")), ("day", pa.date32()), ("half", pa.float16()), ("yes", pa.bool_())])
    row = {"at": dt.datetime(1970, 1, 1, 0, 0, 1), "day": dt.date(1970, 1, 3), "half": np.float16(0.5), "yes": True}  # noqa: DTZ001  # naive on purpose

    (found,) = gatherer(tmp_path, column([row], kind)).gather(np.array([0]))["x"]

    assert found == {"at": 1_000_000, "day": 2, "half": 0.5, "yes": True}
    assert [type(value) for value in found.values()] == [int, int, float, bool]


@pytest.mark.parametrize("kind", [pa.string(), pa.binary()], ids=str)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_text_and_bytes_come_whole_from_anywhere(
    tmp_path_factory: pytest.TempPathFactory, kind: pa.DataType, data: st.DataObject
) -> None:
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
    values = data.draw(st.lists(st.one_of(st.none(), text if kind == pa.string() else st.binary()), min_size=1))
    cut = data.draw(st.integers(0, len(values)))
    rows = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=20))

    sizes = [size for size in (cut, len(values) - cut) if size]
    source = gatherer(tmp_path_factory.mktemp("text"), column(values, kind), sizes)

    assert source.gather(np.array(rows, dtype=np.int64))["x"] == [values[row] for row in rows]


@pytest.mark.parametrize(
    ("kind", "plain"),
    [
        (pa.dictionary(pa.int8(), pa.string()), ["a", "b", "a", None]),
        (pa.large_string(), ["a", "b", None, "c"]),
        (pa.string_view(), ["a", "b", None, "a text that is longer than a view"]),
        (pa.large_list(pa.string()), [["a"], [], None, ["b", "c"]]),
    ],
    ids=str,
)
def test_other_encodings_are_decoded(tmp_path: Path, kind: pa.DataType, plain: list[Any]) -> None:
    source = gatherer(tmp_path, column(plain, kind), [2, 2])

    assert source.gather(np.array([3, 0, 2, 1]))["x"] == [plain[i] for i in (3, 0, 2, 1)]


def test_dictionaries_of_numbers_are_tensors(tmp_path: Path) -> None:
    table = pa.table({"x": pa.array([2.5, 1.5, 2.5]).dictionary_encode()})

    assert gatherer(tmp_path, table).gather(np.array([2, 1]))["x"].tolist() == [2.5, 1.5]


def test_damaged_text_is_a_typed_error_that_names_its_shard(tmp_path: Path) -> None:
    table = pa.table({"x": ["whole", "broken"]})
    shards = write_shards(tmp_path, table, [1, 1])
    path = tmp_path / "1.arrow"
    path.write_bytes(path.read_bytes().replace(b"broken", b"br\xffken"))
    source = Gatherer(ShardMaps(tmp_path, shards, table.schema), fields=["x"], split="train")

    assert source.gather(np.array([0]))["x"] == ["whole"]
    with pytest.raises(ShardMissingError, match="no UTF-8") as caught:
        source.gather(np.array([0, 1]))
    assert caught.value.subject == str(path)


def test_offsets_that_point_elsewhere_are_found_before_they_are_followed(tmp_path: Path) -> None:
    table = pa.table({"x": ["aaaa", "bbbb"]})
    (shard,) = write_shards(tmp_path, table, [2])
    path = tmp_path / "0.arrow"
    offsets = np.array([0, 4, 8], np.int32)
    path.write_bytes(path.read_bytes().replace(offsets.tobytes(), np.array([0, 2**30, 8], np.int32).tobytes()))

    with pytest.raises(ShardMissingError, match="point outside"):
        Gatherer(ShardMaps(tmp_path, [shard], table.schema), fields=["x"], split="train").gather(np.array([0]))


@pytest.mark.parametrize(
    ("kind", "values", "remedy"),
    [
        (pa.int64(), [1, None], "fields: {x: {nulls: fill, fill: 0}}"),
        (pa.list_(pa.int64(), 2), [[1, 2], [None, 3]], "fields: {x: {nulls: fill, fill: 0}}"),
        (pa.list_(pa.int64()), [[1], None], 'where: "x is not null"'),
        (pa.list_(pa.int64()), [[1], [None]], 'where: "x is not null"'),
    ],
)
def test_nulls_in_a_tensor_are_refused_where_a_shard_has_them(
    tmp_path: Path, kind: pa.DataType, values: list[Any], remedy: str
) -> None:
    source = gatherer(tmp_path, column(values, kind), [1, 1], collate="offsets")

    assert source.gather(np.array([0]))["x"].numel() > 0
    with pytest.raises(BatchError, match="has nulls in split 'train'") as caught:
        source.gather(np.array([0, 1]))
    assert caught.value.remedy.startswith(remedy)


def test_a_type_without_a_form_is_refused_before_the_first_batch(tmp_path: Path) -> None:
    union = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])

    with pytest.raises(BatchError, match="has a type that no batch can hold") as caught:
        gatherer(tmp_path, pa.table({"x": union}))
    assert "leave 'x' out" in caught.value.remedy


@pytest.mark.parametrize("sizes", [[12], [5, 7], [1] * 12], ids=str)
def test_all_types_at_once_are_what_arrow_says(tmp_path: Path, sizes: list[int]) -> None:
    table = every_type()
    rows = np.array([7, 0, 11, 7, 3])
    batch = gatherer(tmp_path, table, sizes, collate="rows").gather(rows)

    expected = table.take(rows)
    for name in table.column_names:
        found, values = batch[name], expected[name]
        if name in ("time", "date"):
            values = values.cast(pa.int64() if name == "time" else pa.int32())
        assert plain(found) == values.to_pylist(), name


def plain(value: Any) -> Any:
    """Tensors anywhere as lists."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    return [plain(item) for item in value] if isinstance(value, list) else value

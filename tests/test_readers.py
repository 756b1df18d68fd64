"""What other libraries read of a version: the rows, values and order of `table`, over the same memory maps."""

from __future__ import annotations

import builtins
import datetime as dt
import gc
import importlib.util
import os
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as pds
import pytest

from coralord_lightning.errors import SplitNotFoundError, UnknownFieldError, UsageError
from many_types import all_types, built

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:lance.*")
NOT_DUCKDB = ("half", "of halffloat", "wide")
NOT_POLARS = ("wide", "span", "spans")
SPANS = ("span", "spans", "of duration[s]", "of duration[ns]")
MAPS = ("map", "maps")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return built(tmp_path_factory.mktemp("home"), train=all_types())


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """64 MB of tensors in 20 shards."""
    numbers = pa.array(range(16_000_000), pa.int32())
    pictures = pa.FixedSizeListArray.from_arrays(pa.FixedSizeListArray.from_arrays(numbers, 20), 20)
    rows = len(pictures)
    table = pa.table(
        {"row": pa.array(range(rows)), "picture": pictures, "label": pa.array([i % 10 for i in range(rows)])}
    )
    return built(tmp_path_factory.mktemp("large"), rows=2_000, train=table, test=table.slice(0, 10))


def _names(data, *without: str) -> list[str]:
    return [name for name in data.table("train").column_names if name not in without]


def _anonymous() -> int:
    """Bytes of this process that lie in no file."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("needs /proc to tell memory of our own from mapped files")
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def test_duckdb_reads_every_value_that_it_has_a_type_for(data):
    names = _names(data, *NOT_DUCKDB, *SPANS, "map")
    got = data.duckdb("train", columns=names).to_arrow_table()
    assert got.column_names == names
    for name in names:
        assert got[name].to_pylist() == data.table("train")[name].to_pylist(), name


def test_duckdb_has_days_and_microseconds_for_durations_and_intervals(data):
    rows = data.duckdb("train", columns=["of duration[s]"]).fetchall()
    assert [value for (value,) in rows] == data.table("train")["of duration[s]"].to_pylist()
    months = data.duckdb("train", columns=["span"]).project("date_part('month', span)").fetchall()
    assert months == [(span.months,) for span in data.table("train")["span"].to_pylist()]


def test_a_column_that_duckdb_has_no_type_for_is_named_and_the_remedy_leaves_it_out(data):
    with pytest.raises(UsageError, match="no type") as caught:
        data.duckdb("train")
    refused = caught.value.facts["columns"]
    assert set(NOT_DUCKDB) == {part.partition(": ")[0] for part in refused.split(", ") if ": " in part}
    columns = eval(caught.value.remedy.removeprefix("columns="))
    assert data.duckdb("train", columns=columns).columns == columns


def test_a_relation_outlives_the_data_and_the_connection_that_made_it(large):
    connection = duckdb.connect()
    relation = built_relation = large.duckdb("train", connection=connection).filter("row >= 39990")
    del connection, built_relation
    gc.collect()
    assert relation.aggregate("count(*), min(row)").fetchall() == [(10, 39_990)]


def test_relations_of_two_splits_join_and_sql_finds_them_by_their_python_names(large):
    train, test = large.duckdb("train"), large.duckdb("test")
    assert train.set_alias("a").join(test.set_alias("b"), "a.row = b.row").aggregate("count(*)").fetchall() == [(10,)]
    found = duckdb.sql("select label, count(*) from train group by label order by label")
    assert found.fetchall() == [(label, 4_000) for label in range(10)]


def test_duckdb_keeps_the_order_and_copies_no_column_that_no_query_names(large):
    relation = large.duckdb("train")
    relation.aggregate("max(label)").fetchall()
    before = _anonymous()
    got = relation.aggregate("min(row), max(row), sum(label)").fetchall()
    grown = _anonymous() - before
    assert got == [(0, 39_999, 180_000)]
    assert grown < 20_000_000
    assert [row for (row,) in relation.project("row").fetchall()] == list(range(40_000))


def test_pandas_has_every_type_and_value(data):
    frame = data.to_pandas("train")
    table = data.table("train")
    assert list(frame.columns) == table.column_names
    for name in table.column_names:
        assert frame[name].dtype.pyarrow_dtype == table.schema.field(name).type
    again = pa.Table.from_pandas(frame, preserve_index=False)
    for name in table.column_names:
        assert again[name].combine_chunks().equals(table[name].combine_chunks()), name


def test_polars_has_every_value_that_it_has_a_type_for(data):
    table = data.table("train")
    frame = data.to_polars("train", columns=_names(data, *NOT_POLARS, *MAPS))
    for name in frame.columns:
        got, expected = frame[name].to_list(), table[name].to_pylist()
        if name == "date64":  # a datetime at midnight
            got = [value and value.date() for value in got]
        if name in ("of timestamp[ns]", "of duration[ns]"):  # Python's own have no nanoseconds; the columns do
            zero = dt.timedelta(0) if "duration" in name else dt.datetime(1970, 1, 1)  # noqa: DTZ001
            assert frame[name].to_physical().to_list() == table[name].cast(pa.int64()).to_pylist()
            expected = [None if value is None else zero for value in expected]
        assert got == expected, name
    assert str(frame["image"].dtype) == "Array(Int16, shape=(2, 2))"


def test_a_column_that_polars_has_no_type_for_is_named(data):
    with pytest.raises(UsageError, match="Polars has no type") as caught:
        data.to_polars("train")
    assert [name for name in NOT_POLARS if f"{name}: " not in caught.value.facts["columns"]] == []


@pytest.mark.parametrize("method", ["to_pandas", "to_polars", "arrow_dataset", "table"])
def test_tensors_are_not_copied(large, method):
    getattr(large, method)("test")
    before = _anonymous()
    got = getattr(large, method)("train")
    assert _anonymous() - before < 20_000_000
    assert (got.count_rows() if method == "arrow_dataset" else len(got)) == 40_000


def test_an_arrow_dataset_filters_and_keeps_the_order(large, data):
    dataset = large.arrow_dataset("train")
    assert isinstance(dataset, pds.Dataset)
    assert dataset.to_table(columns=["row"], filter=pds.field("label") == 3)["row"].to_pylist() == list(
        range(3, 40_000, 10)
    )
    assert dataset.to_table(columns=["row"])["row"].to_pylist() == list(range(40_000))
    assert data.arrow_dataset("train").to_table().equals(data.table("train"))


def test_lance_takes_the_table(data, tmp_path):
    lance = pytest.importorskip("lance", reason="needs pylance")
    names = _names(data, "pair", "span", "spans", "decimal32", "decimal64")  # Lance has none of them
    table = data.table("train").select(names)
    lance.write_dataset(table, tmp_path / "train.lance")
    read = lance.dataset(tmp_path / "train.lance").to_table()
    assert {name: read[name].to_pylist() for name in names} == {name: table[name].to_pylist() for name in names}


def test_ray_takes_the_table(large):
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed")
    import ray.data

    assert ray.data.from_arrow(large.table("train")).count() == 40_000


@pytest.mark.parametrize("method", ["duckdb", "to_pandas", "to_polars"])
def test_columns_are_taken_in_the_order_asked_for_and_a_wrong_one_is_named(data, method):
    assert list(getattr(data, method)("train", columns=["long", "bool"]).columns) == ["long", "bool"]
    with pytest.raises(UnknownFieldError, match=r'(?s)no field \'lng\'.*columns=\["long"\]'):
        getattr(data, method)("train", columns=["lng"])


@pytest.mark.parametrize("method", ["duckdb", "to_pandas", "to_polars", "arrow_dataset"])
def test_an_unknown_split_is_named(data, method):
    with pytest.raises(SplitNotFoundError, match="tran"):
        getattr(data, method)("tran")


@pytest.mark.parametrize(
    ("method", "module", "remedy"),
    [
        ("to_pandas", "pandas", "pip install pandas"),
        ("to_polars", "polars", r"pip install 'coralord-lightning\[polars\]'"),
    ],
)
def test_a_library_that_is_absent_is_named_with_what_installs_it(data, monkeypatch, method, module, remedy):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name.partition(".")[0] == module:
            raise ModuleNotFoundError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=remedy):
        getattr(data, method)("train")


def test_a_damaged_shard_is_our_error_in_every_reader(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    data = built(home, train=pa.table({"row": pa.array(range(20))}))
    shard = sorted(home.glob("train-*.arrow"))[1]
    os.truncate(shard, 40)
    for method in ("duckdb", "to_pandas", "to_polars", "arrow_dataset"):
        with pytest.raises(Exception, match="CORAL-E") as caught:
            getattr(data, method)("train")
        assert type(caught.value).__name__ == "ShardMissingError"

"""Selected rows come out of every format the same: exact values, the selection's types, in file order."""

from __future__ import annotations

import datetime as dt
import gzip
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coralord_lightning.builder.duck import Complaints
from coralord_lightning.builder.extract import _OrderCheck
from coralord_lightning.errors import BuildError, SourceFormatError, SourceMissingError, StoreFullError
from coralord_lightning.spec.plan import BatchBounds
from coralord_lightning.spec.selection import InlineData, OrderKey, SplitRule
from extractions import field, opened, predicate, rows_of, selection, write

FORMATS = ["parquet", "csv", "tsv", "jsonl"]


def table(**columns: object) -> pa.Table:
    return pa.table(columns)


@pytest.mark.parametrize("suffix", FORMATS)
def test_each_format_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    data = table(n=[1, 2, None, 4], t=["00707", "NA", 'a,"b"\nc', None], x=[0.5, None, -1e300, 3.0])
    chosen = selection(
        field("n", "int32"), field("t", "text"), field("x", "float64"), where=predicate("n < 4", n="int32")
    )

    found = rows_of(chosen, write(tmp_path / f"a.{suffix}", data))

    assert found.schema == pa.schema([("n", pa.int32()), ("t", pa.string()), ("x", pa.float64())])
    assert found.to_pylist() == data.to_pylist()[:2]


def test_inline_rows_read_like_those_of_files(tmp_path: Path) -> None:
    rows = [{"n": 2**62 + 1, "v": [1, 2]}, {"n": None, "v": [3, 4], "other": "x"}, {}]
    chosen = selection(field("n"), field("v", "float32", (2,)), distribution=InlineData(rows=tuple(rows)))

    assert rows_of(chosen).to_pylist() == [
        {"n": 2**62 + 1, "v": [1.0, 2.0]},
        {"n": None, "v": [3.0, 4.0]},
        {"n": None, "v": None},
    ]


def test_inline_numbers_that_json_cannot_say_are_refused() -> None:
    chosen = selection(field("n", "float"), distribution=InlineData(rows=({"n": float("nan")},)))

    with pytest.raises(SourceFormatError, match="row 0"):
        rows_of(chosen)


@pytest.mark.parametrize(
    ("dtype", "stored", "expected"),
    [
        ("integer", pa.int8(), pa.int8()),
        ("integer", pa.uint16(), pa.uint16()),
        ("integer", pa.float64(), pa.int64()),
        ("integer", pa.string(), pa.int64()),
        ("float", pa.float32(), pa.float32()),
        ("float", pa.int32(), pa.float64()),
        ("float16", pa.float64(), pa.float16()),
        ("float16", pa.float16(), pa.float16()),
        ("uint64", pa.int8(), pa.uint64()),
        ("bool", pa.int8(), pa.bool_()),
        ("text", pa.int64(), pa.string()),
        ("text", pa.binary(), pa.string()),
        ("bytes", pa.string(), pa.binary()),
        ("int64", pa.decimal128(10, 2), pa.int64()),
    ],
)
def test_values_are_cast_exactly(tmp_path: Path, dtype: str, stored: pa.DataType, expected: pa.DataType) -> None:
    values = ["0", "1"] if stored in (pa.string(), pa.binary()) else [0, 1]
    if stored == pa.binary():
        values = [value.encode() for value in values]
    path = write(tmp_path / "a.parquet", table(v=pa.array([*values, None], stored)))

    found = rows_of(selection(field("v", dtype)), path)

    wanted = {pa.string(): ["0", "1", None], pa.binary(): [b"0", b"1", None]}.get(expected, [0, 1, None])
    assert found.schema.field("v").type == expected
    assert found["v"].to_pylist() == wanted


@pytest.mark.parametrize(
    ("dtype", "values", "shown"),
    [
        ("int8", [1, 300], "300"),
        ("uint8", [1, -1], "-1"),
        ("integer", [1.0, 1.5], "1.5"),
        ("integer", [1.0, float("nan")], "nan"),
        ("integer", ["1", "1.5"], "1.5"),
        ("integer", ["1", "1_000"], "1_000"),
        ("float", ["1", "abc"], "abc"),
        ("float32", [1.0, 1e300], "1e+300"),
        ("bool", [1, 2], "2"),
        ("bool", ["true", "maybe"], "maybe"),
        ("date", ["2024-01-01", "2024-01-01 10:00:00"], "10:00"),
        ("time", ["10:00:00", "10:00:00+02:00"], "+02"),
        ("text", [b"a", b"\xff"], "xFF"),
    ],
)
def test_a_value_that_a_cast_would_change_is_an_error(tmp_path: Path, dtype: str, values: list, shown: str) -> None:
    path = write(tmp_path / "a.parquet", table(v=values))

    with pytest.raises(SourceFormatError) as caught:
        rows_of(selection(field("v", dtype)), path)

    assert caught.value.subject == "a.parquet"
    assert "'v'" in caught.value.message
    assert shown in caught.value.facts["got"]


def test_a_number_too_large_for_a_half_float_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceFormatError, match="float16"):
        rows_of(selection(field("v", "float16")), write(tmp_path / "a.parquet", table(v=[1.0, 1e6])))


def test_dates_and_times_keep_their_moment(tmp_path: Path) -> None:
    moment = dt.datetime(2024, 1, 2, 3, 4, 5, 6)  # noqa: DTZ001 - Arrow timestamps without a zone
    day = dt.datetime(2024, 1, 2)  # noqa: DTZ001 - Arrow timestamps without a zone
    zoned = pa.array([moment], pa.timestamp("us", tz="Europe/Berlin"))
    path = write(
        tmp_path / "a.parquet", table(t=zoned, s=["2024-01-02T05:04:05.000006+02:00"], d=[day], c=["03:04:05"])
    )
    chosen = selection(field("t", "timestamp"), field("s", "timestamp"), field("d", "date"), field("c", "time"))

    found = rows_of(chosen, path)

    assert found.to_pylist() == [{"t": moment, "s": moment, "d": day.date(), "c": dt.time(3, 4, 5)}]


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
@pytest.mark.parametrize("nested", [True, False])
def test_fixed_shapes_become_nested_fixed_size_lists(tmp_path: Path, suffix: str, nested: bool) -> None:
    images = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
    values = [image.tolist() if nested else image.ravel().tolist() for image in images]
    path = write(tmp_path / f"a.{suffix}", table(image=[*values[:2], None, *values[2:]]))

    found = rows_of(selection(field("image", "uint8", (2, 3))), path)

    assert found.schema.field("image").type == pa.list_(pa.list_(pa.uint8(), 3), 2)
    assert found["image"].to_pylist() == [
        images[0].tolist(),
        images[1].tolist(),
        None,
        images[2].tolist(),
        images[3].tolist(),
    ]


@pytest.mark.parametrize(
    ("shape", "values", "kind"),
    [
        ((-1,), [[1], [], None, [2, 3]], pa.list_(pa.int32())),
        ((-1, 2), [[[1, 2]], [], None, [[3, 4], [5, 6]]], pa.list_(pa.list_(pa.int32(), 2))),
        ((2, -1), [[[1], []], None, [[1, 2], [3]]], pa.list_(pa.list_(pa.int32()), 2)),
        ((-1, -1), [[[1], []], None, [None]], pa.list_(pa.list_(pa.int32()))),
        ((3,), [[1, None, 2], None], pa.list_(pa.int32(), 3)),
    ],
)
@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_ragged_and_nullable_shapes(tmp_path: Path, suffix: str, shape: tuple, values: list, kind: pa.DataType) -> None:
    found = rows_of(selection(field("v", "int32", shape)), write(tmp_path / f"a.{suffix}", table(v=values)))

    assert found.schema.field("v").type == kind
    assert found["v"].to_pylist() == values


@pytest.mark.parametrize("values", [[[1, 2], [1]], [[[1, 2], [3]]], [[[1, 2], None]]])
def test_a_list_of_the_wrong_length_is_an_error(tmp_path: Path, values: list) -> None:
    shape = (2,) if values[0][0] == 1 else (2, 2)

    with pytest.raises(SourceFormatError, match=r"shape \[2"):
        rows_of(selection(field("v", "int32", shape)), write(tmp_path / "a.parquet", table(v=values)))


def test_a_shape_of_many_numbers_is_no_trouble(tmp_path: Path) -> None:
    image = np.zeros((3, 224, 224), np.uint8)
    path = write(tmp_path / "a.parquet", table(image=pa.array([image.ravel()] * 3)))

    found = rows_of(selection(field("image", "uint8", image.shape)), path, batch=BatchBounds(bytes=image.nbytes))

    assert [len(chunk) for chunk in found["image"].chunks] == [1, 1, 1]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (field("lable", column="lable"), "label"),
        (field("v", "date", column="label"), "cannot become date"),
        (field("v", "int8", (2,), column="label"), "asks for 1"),
        (field("v", "int8", column="list"), "1 lists deep"),
    ],
)
def test_a_column_that_cannot_be_the_field_is_named(tmp_path: Path, asked: object, told: str) -> None:
    path = write(tmp_path / "a.parquet", table(label=[1], list=[[1]]))

    with pytest.raises(SourceFormatError) as caught:
        rows_of(selection(asked), path)

    assert caught.value.subject == "a.parquet"
    assert told in str(caught.value)


def test_columns_of_null_only_are_null_in_any_type(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", table(a=pa.nulls(2), b=[1, 2]))
    chosen = selection(field("a", "text"), field("b"))

    assert rows_of(chosen, path)["a"].to_pylist() == [None, None]


def test_order_and_limit_see_all_files(tmp_path: Path) -> None:
    first = write(tmp_path / "a.parquet", table(n=[3, None, 1], k=["a", "b", "c"]))
    second = write(tmp_path / "b.jsonl", table(n=[1, 2, 3], k=["d", "e", "f"]))
    up = selection(field("k", "text"), helpers=(field("n"),), order_by=(OrderKey(field="n"),), limit=5)
    down = selection(field("k", "text"), helpers=(field("n"),), order_by=(OrderKey(field="n", descending=True),))

    assert rows_of(up, first, second)["k"].to_pylist() == ["c", "d", "e", "a", "f"]
    assert rows_of(down, first, second)["k"].to_pylist() == ["a", "f", "e", "c", "d", "b"]
    assert rows_of(selection(field("k", "text"), limit=2), first, second)["k"].to_pylist() == ["a", "b"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_rows_and_batches_are_the_same_for_any_number_of_threads(tmp_path: Path, suffix: str) -> None:
    count = 20_000
    path = tmp_path / f"a.{suffix}"
    data = table(n=range(count), t=[f"text {n}" for n in range(count)])
    pq.write_table(data, path, row_group_size=2048) if suffix == "parquet" else write(path, data)
    chosen = selection(field("n"), field("t", "text"), where=predicate("n % 3 = 0", n="integer"))

    def batches(threads: int) -> list[list[int]]:
        found = rows_of(chosen, path, threads=threads, batch=BatchBounds(rows=1000, bytes=20_000))
        return [chunk.to_pylist() for chunk in found["n"].chunks]

    assert batches(4) == batches(1)
    assert list(itertools.chain.from_iterable(batches(1))) == list(range(0, count, 3))


def test_integer_widths_of_several_files_meet_in_the_widest(tmp_path: Path) -> None:
    small = write(tmp_path / "a.parquet", table(n=pa.array([1], pa.int8()), u=pa.array([1], pa.uint8())))
    large = write(tmp_path / "b.parquet", table(n=pa.array([2], pa.uint16()), u=pa.array([2], pa.uint32())))

    found = rows_of(selection(field("n"), field("u")), small, large)

    assert found.schema.types == [pa.int32(), pa.uint32()]


def test_a_split_without_rows_still_has_its_schema(tmp_path: Path) -> None:
    none = SplitRule(name="train", claims=predicate("n > 5", n="integer"))
    path = write(tmp_path / "a.parquet", table(n=pa.array([1], pa.int16()), v=[[1, 2]]))

    found = rows_of(selection(field("n"), field("v", "int8", (2,)), splits=(none,)), path)

    assert found.num_rows == 0
    assert found.schema.types == [pa.int16(), pa.list_(pa.int8(), 2)]


def test_names_cannot_break_out_of_the_query(tmp_path: Path) -> None:
    name = "\"; COPY (SELECT 1) TO 'x'; --"
    folder = tmp_path / "it's [a] *folder*"
    folder.mkdir()
    path = write(folder / "a'b?.parquet", table(**{name: [1], "Label": [2], "label": [3]}))

    found = rows_of(selection(field(name), field("LABEL", column="Label")), path)

    assert found.to_pylist() == [{name: 1, "LABEL": 2}]
    assert rows_of(selection(field("label")), path).to_pylist() == [{"label": 3}]  # DuckDB folds case, we do not
    with pytest.raises(SourceFormatError, match="no column 'label_1'"):  # what DuckDB calls it then
        rows_of(selection(field("label_1")), path)


def test_csv_files_are_read_by_their_header_and_nothing_is_guessed(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'\xef\xbb\xbfA,a,"x ""y"""\r\n007,1e3,\r\n"","2,5","l\r\n2"\r\n')
    chosen = selection(field("A", "text"), field("a", "text"), field("q", "text", column='x "y"'))

    expected = [{"A": "007", "a": "1e3", "q": None}, {"A": None, "a": "2,5", "q": "l\r\n2"}]
    assert rows_of(chosen, path).to_pylist() == expected
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert rows_of(chosen, path).to_pylist() == expected


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b""),
        ("a.csv", b"\xff\xfe\n1"),
        ("a.csv", b"n,m\n1\n"),
        ("a.csv", b"n,m\n1,2,3\n"),
        ("a.csv", b'n,m\n1,"2\n'),
        ("a.csv", b"n,n\n1,2\n"),
        ("a.csv", b"\x1f\x8bnot gzip"),
        ("a.jsonl", b'{"n": 1}\n[1, 2]\n'),
        ("a.jsonl", b'{"n": 1}\n{"n": \n'),
        ("a.jsonl", b'{"n": [1]}\n'),
        ("a.parquet", b"PAR1"),
        ("a.parquet", b""),
        ("a.parquet", b"no parquet at all, but long enough to look"),
    ],
)
def test_a_file_that_is_not_its_format_is_named_with_a_remedy(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(SourceFormatError) as caught:
        rows_of(selection(field("n")), path)

    assert caught.value.subject == name
    assert str(tmp_path) not in str(caught.value)


def test_a_truncated_parquet_file_is_found_while_its_rows_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(table(n=range(100_000)), path, compression="none", use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[1000:20_000] = b"\xff" * 19_000
    path.write_bytes(content)

    with pytest.raises(SourceFormatError, match=r"a\.parquet"):
        rows_of(selection(field("n", "int8")), path)


def test_a_file_that_is_gone_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SourceMissingError, match=r"gone\.csv"):
        rows_of(selection(field("n")), tmp_path / "gone.csv")


def test_the_connection_reads_no_file_that_the_plan_does_not_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", table(n=[1]))
    other = write(tmp_path / "b.parquet", table(n=[2]))

    with opened(selection(field("n")), path) as (extractor, _):
        cursor = extractor._connection.cursor()
        for attack in (
            f"SELECT * FROM read_parquet('{other}')",
            f"SELECT * FROM read_parquet('{tmp_path}/*.parquet')",
            "SELECT * FROM read_csv('/etc/passwd')",
            "SELECT content FROM read_text('/etc/passwd')",
            f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
            f"ATTACH '{tmp_path}/new.db'",
            "INSTALL httpfs",
            "LOAD httpfs",
            "SET threads = 2",
            "SET enable_external_access = true",
            "SELECT * FROM other",
        ):
            with pytest.raises(Exception, match=r"Permission|locked|Catalog|disabled|Cannot"):
                cursor.execute(attack).fetchall()
        assert extractor._connection.cursor().sql("SELECT 1").fetchall() == [(1,)]
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.parquet", "b.parquet"]


def test_rows_out_of_their_order_in_the_files_are_an_error() -> None:
    check = _OrderCheck(selection(field("n")))

    check.take(pa.array([0, 0, 1]), pa.array([1, 5, 0]))
    check.take(pa.array([], pa.int64()), pa.array([], pa.int64()))
    check.take(pa.array([1]), pa.array([1]))
    with pytest.raises(BuildError, match="order"):
        check.take(pa.array([1]), pa.array([1]))


def test_what_duckdb_says_becomes_an_error_of_ours() -> None:
    complaints = Complaints(subject="rows", names={"/x/a.csv": "a", "/x/b.csv": "b"}, filesystem=None)

    assert isinstance(complaints.error("IO Error: Could not write: No space left on device"), StoreFullError)
    assert "memory" in complaints.error("Out of Memory Error: failed to allocate").message
    assert complaints.error("CSV Error in /x/b.csv").subject == "b"
    assert "/x" not in str(complaints.error("CSV Error in /x/b.csv"))
    unknown = complaints.error("something else")
    assert type(unknown) is BuildError
    assert unknown.facts["files"] == "a, b"


def test_extraction_imports_neither_pandas_nor_torch(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", table(n=[1, 2], v=[[1, 2], [3, 4]]))
    code = f"""
import sys
sys.path.insert(0, {json.dumps(str(Path(__file__).parent))})
from pathlib import Path
from extractions import field, rows_of, selection
assert rows_of(selection(field("n"), field("v", "int8", (2,))), Path({json.dumps(str(path))})).num_rows == 2
assert not {{"pandas", "torch", "fsspec", "httpx"}} & sys.modules.keys(), sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True)

"""Found by attack: data, descriptions and locks that gave wrong rows, a bare exception, or no end."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coralord_lightning.errors import (
    ConfigError,
    CroissantNotFoundError,
    CroissantSyntaxError,
    DescriptorValueError,
    ForbiddenSourceError,
    PredicateError,
    SourceFormatError,
    SourceMissingError,
    SplitError,
)
from coralord_lightning.sources.globs import glob_files, matches
from coralord_lightning.sources.hashes import HashCache
from coralord_lightning.sources.local import resolve_file, resolve_set
from coralord_lightning.sources.texts import read_local_text
from coralord_lightning.spec.descriptor import descriptor_from_mapping
from coralord_lightning.spec.lock import parse_lock
from coralord_lightning.spec.selection import FileObject, FileSet, SplitRule
from coralord_lightning.workspace.locking import read_lock
from extractions import field, opened, predicate, rows_of, selection


def parquet(path: Path, *columns: tuple[str, list[int]]) -> Path:
    names = [name for name, _ in columns]
    pq.write_table(pa.Table.from_arrays([pa.array(values) for _, values in columns], names=names), path)
    return path


def test_columns_that_differ_in_case_are_told_apart_and_never_swapped(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", ("a", [1]), ("A", [2]), ("A_1", [3]))

    found = rows_of(selection(field("x", column="a"), field("y", column="A"), field("z", column="A_1")), path)

    assert found.to_pylist() == [{"x": 1, "y": 2, "z": 3}]


def test_a_column_is_found_by_its_own_name_also_behind_nested_ones(tmp_path: Path) -> None:
    nested = pa.array([{"A_1": 7, "in": [{"deep": 1}]}])
    table = pa.Table.from_arrays([nested, pa.array([1]), pa.array([[2]]), pa.array([3])], names=["s", "a", "l", "A"])
    pq.write_table(table, tmp_path / "a.parquet")

    assert rows_of(selection(field("A"), field("a")), tmp_path / "a.parquet").to_pylist() == [{"A": 3, "a": 1}]
    with pytest.raises(SourceFormatError, match="no column 'A_1'"):
        rows_of(selection(field("A_1")), tmp_path / "a.parquet")


def test_columns_of_one_name_are_refused_and_not_guessed(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", ("a", [1]), ("a", [2]), ("b", [3]))
    (tmp_path / "a.csv").write_text("a,a,b\n1,2,3\n")

    assert rows_of(selection(field("b")), path).to_pylist() == [{"b": 3}]
    for file in (path, tmp_path / "a.csv"):
        with pytest.raises(SourceFormatError, match="several columns 'a'"):
            rows_of(selection(field("a")), file)


@pytest.mark.parametrize("name", ["file_row_number", "FILE_ROW_NUMBER"])
def test_a_column_with_duckdbs_own_name_is_read_like_any_other(tmp_path: Path, name: str) -> None:
    path = parquet(tmp_path / "a.parquet", (name, [9, 8, 7]), ("x", [1, 2, 3]))

    chosen = selection(field("n", column=name), field("x"), where=predicate("x > 1", x="integer"))

    assert rows_of(chosen, path).to_pylist() == [{"n": 8, "x": 2}, {"n": 7, "x": 3}]


def test_a_bar_in_a_file_name_or_a_value_does_not_garble_the_error(tmp_path: Path) -> None:
    (tmp_path / "f|x.csv").write_text("a\nab|cd\n")

    with pytest.raises(SourceFormatError) as caught:
        rows_of(selection(field("a")), tmp_path / "f|x.csv")

    assert caught.value.subject == "f|x.csv"
    assert caught.value.message == "a value of field 'a' is no integer"
    assert caught.value.facts["got"] == "ab|cd"


def many_splits(test: str) -> tuple[SplitRule, ...]:
    return tuple(SplitRule(name=f"s{at:03}", claims=predicate(test.format(at=at), x="integer")) for at in range(60))


def test_very_many_splits_are_checked_for_overlap_without_counting_every_pair(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", ("x", list(range(10))))

    with opened(selection(field("x"), splits=many_splits("x = {at}")), path) as (extractor, partition):
        assert extractor.overlaps(partition) == []

    with opened(selection(field("x"), splits=many_splits("x % 50 = {at} % 50")), path) as (extractor, partition):
        assert extractor.overlaps(partition) == [("s000", "s050", 1)]
        with pytest.raises(SplitError, match="in two splits"):
            extractor.require_disjoint(partition)


@pytest.mark.parametrize("digits", ["x", "x * 1000000000000", "31", "-31", "1.5", "2147483648"])
def test_rounding_to_what_duckdb_cannot_is_refused_before_any_row_is_read(digits: str) -> None:
    with pytest.raises(PredicateError, match="rounds to a number of digits"):
        predicate(f"round(f, {digits}) > 1", x="integer", f="float")


def test_rounding_to_a_constant_is_taken() -> None:
    assert predicate("round(f, -2) > 1 AND round(f, 2) > 1 AND round(f) > 1", f="float").fields() == {"f"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("limit", 2**63),
        ("environment", {"local": True, "timeout": 1e300}),
        ("environment", {"local": True, "timeout": "10000000d"}),
        ("environment", {"local": True, "memory": "99999999t"}),
        ("environment", {"cpus": 1e-12}),
    ],
)
def test_numbers_that_no_engine_and_no_system_call_takes_are_refused(tmp_path: Path, key: str, value: object) -> None:
    asked = {"name": "d", "croissant": "c.json", key: value}
    with pytest.raises(DescriptorValueError) as caught:
        descriptor_from_mapping(asked, origin="d", base_dir=tmp_path)
    assert caught.value.subject.startswith(key)


@pytest.mark.parametrize(
    "text", ['{"a": 1,\n', '{"a":\n\n', '{"a":\x0c\n}', '{"a": ' + "9" * 5_000 + "}", '{"a":\u2028 x']
)
def test_broken_json_of_every_shape_is_an_error_of_ours(tmp_path: Path, text: str) -> None:
    from coralord_lightning import load

    (tmp_path / "c.json").write_text(text)
    with pytest.raises(CroissantSyntaxError) as caught:
        load({"name": "d", "croissant": "c.json"}, base_dir=tmp_path, home=tmp_path / "home")
    assert caught.value.subject.startswith("c.json")
    assert caught.value.remedy


def test_a_croissant_file_that_is_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "c.json")
    with pytest.raises(CroissantNotFoundError):
        read_local_text("c.json", base_dir=tmp_path)


@pytest.mark.parametrize("noise", [b"\xff\xfe", b"a=" + b"[" * 100_000, b"version=" + b"9" * 5_000])
def test_a_lock_of_noise_is_an_error_of_ours(tmp_path: Path, noise: bytes) -> None:
    (tmp_path / "coral.lock").write_bytes(noise)
    with pytest.raises(ConfigError, match=r"coral\.lock"):
        read_lock(tmp_path)
    with pytest.raises(ConfigError):
        parse_lock(noise.decode(errors="replace"), "coral.lock")


def test_a_file_name_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    try:
        Path(os.fsdecode(bytes(tmp_path) + b"/\xff.parquet")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    node = FileSet(id="files", format="parquet", includes=("*.parquet",))
    with pytest.raises(ForbiddenSourceError, match="not UTF-8") as caught:
        resolve_set(node, root=tmp_path, hashes=HashCache(tmp_path / "hashes"))
    assert json.dumps(caught.value.to_json()).isascii()


@pytest.mark.parametrize("name", ["a/" * 3_000 + "x", "x" * 300])
def test_a_path_longer_than_any_is_an_error_of_ours(tmp_path: Path, name: str) -> None:
    node = FileObject(id="f", content_url=name, format="parquet")
    with pytest.raises(SourceMissingError):
        resolve_file(node, root=tmp_path, hashes=HashCache(tmp_path / "hashes"))


def test_repeated_stars_say_no_more_than_one_and_cost_no_more(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a"] * 24)
    deep.mkdir(parents=True)
    (deep / "x.parquet").touch()
    pattern = "**/" * 20

    assert list(glob_files(tmp_path, pattern + "z.parquet")) == []
    assert list(glob_files(tmp_path, pattern + "x.parquet")) == ["a/" * 24 + "x.parquet"]
    assert matches("a/" * 24 + "x.parquet", pattern + "x.parquet")
    assert not matches("a/" * 24 + "x.parquet", pattern + "z.parquet")

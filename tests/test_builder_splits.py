"""Splits are disjoint, complete but for what is counted, and stable under appended rows and files."""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
import tempfile
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coralord_lightning.builder.extract import Extractor
from coralord_lightning.builder.split_sql import (
    Rows,
    Scan,
    file_key,
    overlap_pairs,
    overlap_query,
    split_query,
    unassigned_query,
)
from coralord_lightning.errors import SplitError
from coralord_lightning.spec.predicate import equals
from coralord_lightning.spec.selection import InlineData, OrderKey, Selection, SplitRule
from extractions import field, opened, predicate, rows_of, selection, write

GOLDEN = Path(__file__).parent / "golden" / "sql"
WHOLE = 2**64
KINDS = {"n": "integer", "part": "text"}


def rest(name: str, low: float, high: float, **of: object) -> SplitRule:
    return SplitRule(name=name, bounds=(int(low * WHOLE), int(high * WHOLE)), **of)


def claims(name: str, text: str) -> SplitRule:
    return SplitRule(name=name, claims=predicate(text, **KINDS))


def keys(selected: Selection, split: str, *paths: Path) -> set[int]:
    found = rows_of(selected, *paths, split=split)["n"].to_pylist()
    assert len(found) == len(set(found))
    return set(found)


def overlaps_of(rows: Rows) -> str:
    return overlap_query(rows, overlap_pairs(rows.selection.splits))


def example(**changes: object) -> Rows:
    values = {
        "fields": (field("image", "uint8", (8, 8)), field("label")),
        "helpers": (field("part", "text"), field("id", "text"), field("n")),
        "where": predicate("label % 2 = 0 AND label < 8", label="integer"),
        "splits": (
            SplitRule(name="test", claims=equals("part", "test")),
            rest("train", 0, 0.9),
            rest("val", 0.9, 1),
        ),
    } | changes
    fields = values["fields"] + values["helpers"]
    scans = [
        Scan(
            src=str(index),
            key=file_key([f"{name}.parquet"]),
            relation=f"read_parquet('/data/{name}.parquet', file_row_number = true)",
            row="file_row_number",
            fields={item.name: f'"{item.column}"' for item in fields},
        )
        for index, name in enumerate("ab"[: 2 if "limit" in changes else 1])
    ]
    return Rows(
        selection=selection(**values) if not fields else selection(*values.pop("fields"), **values), scans=scans
    )


@pytest.mark.parametrize(
    ("name", "sql"),
    [
        ("claimed_split", lambda: split_query(example(), "test")),
        ("fraction_of_the_rest", lambda: split_query(example(), "train")),
        ("fraction_by_key", lambda: split_query(example(split_key=("id", "label")), "val")),
        (
            "ordered_and_limited",
            lambda: split_query(
                example(limit=10, order_by=(OrderKey(field="label", descending=True), OrderKey(field="id"))), "test"
            ),
        ),
        (
            "fraction_by_group",
            lambda: split_query(
                example(splits=(rest("a", 0, 0.5, group_by=("id",)), rest("b", 0.5, 1, group_by=("id",)))), "a"
            ),
        ),
        (
            "fraction_within_strata",
            lambda: split_query(example(splits=(rest("a", 0, 0.5, stratify_by=("label", "part")),)), "a"),
        ),
        ("rows_in_no_split", lambda: unassigned_query(example(splits=(claims("a", "part = 'x'"), rest("b", 0, 0.5))))),
        (
            "rows_in_two_splits",
            lambda: overlaps_of(example(splits=(claims("a", "part = 'x'"), claims("b", "n > 1")))),
        ),
    ],
)
def test_the_sql_is_what_it_was(name: str, sql: object) -> None:
    path = GOLDEN / f"{name}.sql"

    assert sql() + "\n" == path.read_text()


def python_hash(text: str) -> int:
    return int.from_bytes(hashlib.md5(text.encode()).digest()[:8], "little")


def test_the_hash_is_the_upper_half_of_md5_on_every_duckdb() -> None:
    for text in ("", "abc", "é" * 100):
        found = duckdb.sql(f"SELECT md5_number_upper('{text}')").fetchall()

        assert found == [(python_hash(text),)]


def test_fractions_follow_the_hash_of_file_and_row(tmp_path: Path) -> None:
    path = write(tmp_path / "é.parquet", pa.table({"n": range(500)}))
    hashes = [python_hash(f"10:sé.parqueti{row}") for row in range(500)]
    cut = sorted(hashes)[200]
    parts = (SplitRule(name="low", bounds=(0, cut)), SplitRule(name="high", bounds=(cut, WHOLE)))
    chosen = selection(field("n"), splits=parts)

    assert keys(chosen, "low", path) == {row for row, value in enumerate(hashes) if value < cut}
    assert keys(chosen, "high", path) == {row for row, value in enumerate(hashes) if value >= cut}


@pytest.mark.parametrize(
    ("dtype", "value", "text"),
    [
        ("integer", 7, "i7"),
        ("int8", -7, "i-7"),
        ("uint64", 2**64 - 1, "i18446744073709551615"),
        ("text", "7", "s7"),
        ("text", "", "s"),
        ("bool", True, "btrue"),
        ("float", 0.1, "f0.1"),
        ("float32", 0.5, "f0.5"),
        ("bytes", b"\x00\xff", "y00FF"),
        ("date", dt.date(2024, 1, 2), "d2024-01-02"),
        ("timestamp", dt.datetime(1970, 1, 1, 0, 0, 1), "t1000000"),  # noqa: DTZ001
        ("time", dt.time(1, 2, 3), "c01:02:03"),
        ("text", None, "n"),
    ],
)
def test_a_key_is_hashed_as_kind_and_value(tmp_path: Path, dtype: str, value: object, text: str) -> None:
    kind = pa.uint64() if dtype == "uint64" else pa.string() if dtype == "text" else None
    path = write(tmp_path / "a.parquet", pa.table({"k": pa.array([value], kind), "n": [1]}))
    wanted = python_hash(f"{len(text)}:{text}2:i1")
    exact = SplitRule(name="one", bounds=(wanted, wanted + 1))
    around = (SplitRule(name="below", bounds=(0, wanted)), exact, SplitRule(name="above", bounds=(wanted + 1, WHOLE)))
    chosen = selection(field("n"), helpers=(field("k", dtype),), split_key=("k", "n"), splits=around)

    assert [len(keys(chosen, rule.name, path)) for rule in around] == [0, 1, 0]


def test_the_same_keys_go_to_the_same_split_in_every_format(tmp_path: Path) -> None:
    data = pa.table({"n": range(200), "part": [f"row {n}" for n in range(200)]})
    inline = InlineData(rows=tuple(data.to_pylist()))
    values = {"splits": (rest("a", 0, 0.5), rest("b", 0.5, 1)), "split_key": ("part", "n")}
    chosen = selection(field("n"), field("part", "text"), **values)

    found = [rows_of(chosen, write(tmp_path / f"x.{s}", data), split="a") for s in ("parquet", "csv", "tsv", "jsonl")]
    found.append(rows_of(selection(field("n"), field("part", "text"), distribution=inline, **values), split="a"))

    assert 60 < found[0].num_rows < 140
    assert all(each.to_pylist() == found[0].to_pylist() for each in found)


def test_rows_of_one_group_stay_together_and_stay_where_they_are(tmp_path: Path) -> None:
    halves = {"group_by": ("part",)}
    chosen = selection(
        field("n"), helpers=(field("part", "text"),), splits=(rest("a", 0, 0.5, **halves), rest("b", 0.5, 1, **halves))
    )
    groups = [None if n % 41 == 0 else f"patient {n % 40}" for n in range(400)]
    first = write(tmp_path / "a.parquet", pa.table({"n": range(200), "part": groups[:200]}))
    second = write(tmp_path / "b.parquet", pa.table({"n": range(200, 400), "part": groups[200:]}))

    before = {name: keys(chosen, name, first) for name in "ab"}
    after = {name: keys(chosen, name, first, second) for name in "ab"}

    assert before["a"] <= after["a"]
    assert before["b"] <= after["b"]
    assert after["a"] | after["b"] == set(range(400))
    assert not {groups[n] for n in after["a"]} & {groups[n] for n in after["b"]}
    assert 10 < len({groups[n] for n in after["a"]}) < 30


def test_every_stratum_gives_about_its_fraction_and_appended_rows_move_none(tmp_path: Path) -> None:
    within = {"stratify_by": ("part",)}
    chosen = selection(
        field("n"),
        helpers=(field("part", "text"),),
        splits=(rest("train", 0, 0.8, **within), rest("val", 0.8, 1, **within)),
    )
    strata = ["rare" if n % 10 == 0 else "common" for n in range(4000)]
    whole = write(tmp_path / "whole.parquet", pa.table({"n": range(4000), "part": strata}))

    train, val = keys(chosen, "train", whole), keys(chosen, "val", whole)
    whole.unlink()
    fewer = write(whole, pa.table({"n": range(3000), "part": strata[:3000]}))

    assert train | val == set(range(4000))
    for name in ("rare", "common"):
        rows = {n for n in range(4000) if strata[n] == name}
        assert 0.74 < len(rows & train) / len(rows) < 0.86
    assert keys(chosen, "train", fewer) == {n for n in train if n < 3000}


def test_strata_draw_their_lots_apart(tmp_path: Path) -> None:
    splits = (rest("a", 0, 0.5, stratify_by=("part",)), rest("b", 0.5, 1, stratify_by=("part",)))
    values = {"helpers": (field("part", "text"),), "splits": splits, "split_key": ("n",)}
    left = write(tmp_path / "a.parquet", pa.table({"n": range(300), "part": ["x"] * 300}))
    right = write(tmp_path / "b.parquet", pa.table({"n": range(300), "part": ["y"] * 300}))

    assert keys(selection(field("n"), **values), "a", left) != keys(selection(field("n"), **values), "a", right)


@st.composite
def rules(draw: st.DrawFn) -> tuple[SplitRule, ...]:
    """Splits of all kinds: predicates, fractions of the rest, fractions of a group."""
    texts = draw(st.lists(st.sampled_from(["n % 3 = 0", "n > 5", "part = 'a'", "part IS NULL"]), max_size=2))
    out = [claims(f"claim{index}", text) for index, text in enumerate(texts)]
    for name, of in (("rest", None), ("group", draw(st.sampled_from([None, "part = 'b'"])))):
        cuts = sorted(draw(st.lists(st.integers(0, WHOLE), max_size=3)))
        if name == "group" and of is None:
            continue
        group = None if of is None else predicate(of, **KINDS)
        for index, (low, high) in enumerate(itertools.pairwise(cuts)):
            out.append(SplitRule(name=f"{name}{index}", of=group, bounds=(low, high)))
    return tuple(sorted(out, key=lambda rule: rule.name)) or (SplitRule(name="all"),)


def values_of(count: int) -> st.SearchStrategy:
    return st.lists(st.sampled_from(["a", "b", "c", None]), min_size=count, max_size=count)


@settings(deadline=None, max_examples=30)
@given(rules(), values_of(25), st.booleans(), st.booleans())
def test_no_row_is_in_two_splits_and_none_is_lost(
    splits: tuple[SplitRule, ...], parts: list, keyed: bool, more: bool
) -> None:
    data = pa.table({"n": range(25), "part": pa.array(parts, pa.string())})
    chosen = selection(
        field("n"), helpers=(field("part", "text"),), splits=splits, split_key=("n",) if keyed else (),
        where=predicate("n < 20", **KINDS) if more else None,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "a.parquet", data)
        with opened(chosen, path) as (extractor, partition):
            found = {rule.name: extractor.read(partition, rule.name).read_all()["n"].to_pylist() for rule in splits}
            unassigned = extractor.count_unassigned(partition)
            overlaps = extractor.overlaps(partition)
    seen = [n for rows in found.values() for n in rows]

    assert all(rows == sorted(set(rows)) for rows in found.values())
    if not overlaps:
        assert len(seen) == len(set(seen))
    assert len(set(seen)) + unassigned == (20 if more else 25)
    if len(seen) != len(set(seen)):
        with pytest.raises(SplitError):
            require_disjoint(chosen, data)


def require_disjoint(chosen: Selection, data: pa.Table) -> None:
    with tempfile.TemporaryDirectory() as folder, opened(chosen, write(Path(folder) / "a.parquet", data)) as (e, p):
        e.require_disjoint(p)


@settings(deadline=None, max_examples=12)
@given(st.integers(1, 30), st.booleans(), st.sampled_from(["parquet", "csv", "jsonl"]))
def test_appended_rows_and_files_move_no_row(added: int, keyed: bool, suffix: str) -> None:
    parts = (claims("test", "part = 'b'"), rest("train", 0, 0.7), rest("val", 0.7, 1))
    chosen = selection(field("n"), helpers=(field("part", "text"),), splits=parts, split_key=("n",) if keyed else ())
    first = pa.table({"n": range(30), "part": ["a", "b", "c"] * 10})
    later = pa.table({"n": range(1000, 1000 + added), "part": ["b"] * added})
    with tempfile.TemporaryDirectory() as name:
        path = write(Path(name) / f"m.{suffix}", first)
        before = {rule.name: keys(chosen, rule.name, path) for rule in parts}
        write(path, pa.concat_tables([first, later]))
        other = write(Path(name) / f"a.{suffix}", pa.table({"n": [5000], "part": ["c"]}))
        after = {rule.name: keys(chosen, rule.name, other, path) for rule in parts}

    assert before == {name: {n for n in rows if n < 1000} for name, rows in after.items()}


def test_inserted_rows_move_no_row_with_a_split_key(tmp_path: Path) -> None:
    parts = (rest("train", 0, 0.5), rest("val", 0.5, 1))
    chosen = selection(field("n"), splits=parts, split_key=("n",))
    path = write(tmp_path / "a.parquet", pa.table({"n": range(100)}))
    before = keys(chosen, "train", path)

    write(path, pa.table({"n": [*range(200, 230), *range(100)]}))

    assert {n for n in keys(chosen, "train", path) if n < 100} == before


def overlapping(tmp_path: Path, *splits: SplitRule) -> Extractor:
    data = pa.table({"n": range(10), "part": ["a", "b"] * 5})
    chosen = selection(field("n"), helpers=(field("part", "text"),), splits=splits)
    return opened(chosen, write(tmp_path / "a.parquet", data), write(tmp_path / "b.parquet", data))


def test_overlapping_predicates_are_refused_with_counts(tmp_path: Path) -> None:
    with overlapping(tmp_path, claims("low", "n < 3"), claims("part", "part = 'a'")) as (extractor, partition):
        assert extractor.overlaps(partition) == [("low", "part", 4)]
        with pytest.raises(SplitError) as caught:
            extractor.require_disjoint(partition)

    assert caught.value.facts == {"low and part": "4 rows"}


def test_a_predicate_that_cuts_into_a_divided_group_is_refused_whatever_the_hash(tmp_path: Path) -> None:
    group = predicate("part = 'a'", **KINDS)
    tiny = SplitRule(name="tiny", of=group, bounds=(0, 0))
    with overlapping(tmp_path, claims("low", "n < 3"), tiny) as (extractor, partition):
        assert extractor.overlaps(partition) == [("low", "tiny", 4)]


def test_fractions_of_one_group_overlap_only_where_their_bounds_do(tmp_path: Path) -> None:
    group = predicate("part = 'a'", **KINDS)
    apart = [rest("x", 0, 0.5, of=group), rest("y", 0.5, 1, of=group), rest("z", 0, 1)]
    with overlapping(tmp_path, *apart) as (extractor, partition):
        assert overlap_pairs(apart) == []
        extractor.require_disjoint(partition)
        assert extractor.count_unassigned(partition) == 0

    both = [rest("x", 0, 1, of=group), rest("y", 0, 1, of=group)]
    with overlapping(tmp_path, *both) as (extractor, partition):
        assert extractor.overlaps(partition) == [("x", "y", 10)]


def test_a_split_that_claims_everything_leaves_no_rest(tmp_path: Path) -> None:
    with overlapping(tmp_path, SplitRule(name="all"), rest("none", 0, 1)) as (extractor, partition):
        assert extractor.read(partition, "none").read_all().num_rows == 0
        assert extractor.read(partition, "all").read_all().num_rows == 20
        assert extractor.count_unassigned(partition) == 0
        extractor.require_disjoint(partition)


def test_rows_whose_predicate_is_null_belong_to_the_rest(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", pa.table({"n": [1, 2, 3], "part": ["test", None, "x"]}))
    parts = (claims("test", "part = 'test'"), rest("train", 0, 1))

    assert keys(selection(field("n"), helpers=(field("part", "text"),), splits=parts), "train", path) == {2, 3}

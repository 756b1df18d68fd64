"""Joined tables: every row of the left one, its matches in the order of files and rows, whatever the threads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coralord_lightning.builder.extract import Extractor
from coralord_lightning.spec.plan import BatchBounds, LocalFile, Partition, SourceFile
from coralord_lightning.spec.selection import FileSet, Join, OrderKey, SelectedField, Selection, SplitRule
from extractions import field, no_remote, predicate, selection

Json = dict[str, Any]
FILES = FileSet(id="files", format="jsonl", includes=("*",))


def joined(alias: str, left: SelectedField, right: SelectedField, **changes: Any) -> Join:
    return Join(alias=alias, distribution=FILES, on=(left, replace(right, table=alias)), **changes)


def there(alias: str, name: str, dtype: Any = "text", column: str = "v") -> SelectedField:
    return replace(field(name, dtype, column=column), table=alias)


@contextmanager
def tables(folder: Path, selected: Selection, threads: int, **files: list[list[Json]]) -> Iterator[Extractor]:
    """An extractor over files of rows: `own` and, by alias, those of joined tables."""
    sources, places = [], {}
    for table, parts in files.items():
        for number, rows in enumerate(parts):
            name = f"{table}{number}.jsonl"
            (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
            alias = "" if table == "own" else table
            sources.append(SourceFile(name=name, format="jsonl", identity={}, size_bytes=0, table=alias))
            places[name] = LocalFile(path=folder / name)
    with Extractor(
        selected, sources, places, BatchBounds(rows=100), filesystem_factory=no_remote, threads=threads
    ) as extractor:
        yield extractor


def read(folder: Path, selected: Selection, threads: int = 1, split: str = "train", **files: Any) -> list[Json]:
    """The rows, read twice by one extractor."""
    count = sum(len(parts) for parts in files.values())
    with tables(folder, selected, threads, **files) as extractor:
        whole = Partition(sources=tuple(range(count)))
        first, second = (extractor.read(whole, split).read_all().to_pylist() for _ in range(2))
    assert first == second
    return first


OWN = [[{"n": 0, "k": "a"}, {"n": 1, "k": None}, {"n": 2, "k": "z"}], [{"n": 3, "k": "b"}, {"n": 4, "k": "a"}]]
RIGHT = [[{"k": "b", "v": "b0"}, {"k": "a", "v": "a0"}, {"k": None, "v": "none"}], [{"k": "a", "v": "a1"}]]
KEYS = (field("k", "text"), field("k", "text"))


@pytest.mark.parametrize("threads", [1, 2])
def test_every_row_stays_and_its_matches_come_in_file_order(tmp_path: Path, threads: int) -> None:
    chosen = selection(field("n"), there("t1", "v"), joins=(joined("t1", *KEYS),))

    found = read(tmp_path, chosen, threads, own=OWN, t1=RIGHT)

    assert [tuple(row.values()) for row in found] == [
        (0, "a0"), (0, "a1"), (1, None), (2, None), (3, "b0"), (4, "a0"), (4, "a1"),
    ]  # fmt: skip


@pytest.mark.parametrize("threads", [1, 2])
def test_two_tables_may_both_multiply_rows_and_one_may_hang_on_another(tmp_path: Path, threads: int) -> None:
    second = joined("t2", replace(field("v", "text"), table="t1"), field("k", "text"))
    third = joined("t3", *KEYS)
    chosen = selection(field("n"), there("t2", "w"), there("t3", "x"), joins=(joined("t1", *KEYS), second, third))
    more = [[{"k": "a1", "v": "p"}, {"k": "a0", "v": "q"}, {"k": "a1", "v": "r"}]]

    found = read(
        tmp_path, chosen, threads, own=[OWN[0][:1]], t1=RIGHT, t2=more, t3=[[{"k": "a", "v": n} for n in "xy"]]
    )

    assert [(row["w"], row["x"]) for row in found] == [(w, x) for w in "qpr" for x in "xy"]


def test_matches_of_a_nested_join_are_a_list_and_no_match_is_an_empty_one(tmp_path: Path) -> None:
    whole = SelectedField(
        name="items", column="", dtype="struct", shape=(-1,), table="t1", children=(there("t1", "v"),)
    )
    chosen = selection(field("n"), whole, joins=(joined("t1", *KEYS, nested=True),))

    found = read(tmp_path, chosen, own=OWN, t1=RIGHT)

    both = [{"v": "a0"}, {"v": "a1"}]
    assert found == [{"n": n, "items": items} for n, items in enumerate([both, [], [], [{"v": "b0"}], both])]


def test_conditions_order_and_limit_see_the_joined_rows(tmp_path: Path) -> None:
    chosen = selection(
        field("n"),
        helpers=(there("t1", "v"),),
        joins=(joined("t1", *KEYS),),
        where=predicate("v <> 'a0'", v="text"),
        order_by=(OrderKey(field="v", descending=True),),
    )

    assert [row["n"] for row in read(tmp_path, chosen, own=OWN, t1=RIGHT)] == [3, 0, 4]
    assert [row["n"] for row in read(tmp_path, replace(chosen, limit=2), own=OWN, t1=RIGHT)] == [3, 0]
    unordered = replace(chosen, order_by=(), limit=2)
    assert [row["n"] for row in read(tmp_path, unordered, own=OWN, t1=RIGHT)] == [0, 3]


def test_splits_by_fraction_keep_the_matches_of_a_row_together(tmp_path: Path) -> None:
    own = [[{"n": n, "k": "a"} for n in range(60)]]
    halves = (SplitRule(name="train", bounds=(0, 2**63)), SplitRule(name="val", bounds=(2**63, 2**64)))
    chosen = selection(field("n"), there("t1", "v"), joins=(joined("t1", *KEYS),), splits=halves)

    train, val = (
        [row["n"] for row in read(tmp_path, chosen, split=name, own=own, t1=RIGHT)] for name in ("train", "val")
    )

    assert sorted(train + val) == sorted([*range(60)] * 2)
    assert not set(train) & set(val)
    assert train
    assert val


def test_a_joined_table_without_rows_or_files_matches_nothing(tmp_path: Path) -> None:
    chosen = selection(field("n"), there("t1", "v"), joins=(joined("t1", *KEYS),))

    assert [row["v"] for row in read(tmp_path, chosen, own=OWN, t1=[[]])] == [None] * 5


_KEY = st.one_of(st.none(), st.integers(0, 3))


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_KEY, max_size=8), st.lists(_KEY, max_size=8), st.sampled_from([1, 2]))
def test_a_join_is_what_two_loops_give(tmp_path: Path, left: list[Any], right: list[Any], threads: int) -> None:
    own = [{"n": n, "k": key} for n, key in enumerate(left)]
    other = [{"v": n, "k": key} for n, key in enumerate(right)]
    chosen = selection(field("n"), there("t1", "v", "int64"), joins=(joined("t1", field("k"), field("k")),))

    found = read(tmp_path, chosen, threads, own=[own[:3], own[3:]], t1=[other[:2], other[2:]])

    expected = []
    for row in own:
        matches = [item["v"] for item in other if row["k"] is not None and item["k"] == row["k"]]
        expected += [(row["n"], value) for value in matches or [None]]
    assert [(row["n"], row["v"]) for row in found] == expected

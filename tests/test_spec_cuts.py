"""Where large sources are cut: windows tile, every row group is in one, slices follow their lines."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coralord_lightning.spec.cuts import WINDOW_BYTES, WINDOWED_BYTES, LineSlicer, Slice, rows_in, windows
from coralord_lightning.spec.fingerprint import canonical, partition_key, partition_keys
from coralord_lightning.spec.plan import Partition, Plan, SourceFile
from coralord_lightning.spec.selection import FileSet, SelectedField, Selection, SplitRule


def sliced(content: bytes, piece: int = 1000, **how: int) -> tuple[Slice, ...]:
    slicer = LineSlicer(**({"slice_bytes": 2000, "spacing_bytes": 400, "slack_bytes": 1500} | how))
    for at in range(0, len(content), piece):
        slicer.update(content[at : at + piece])
    return slicer.finish()


def lines(count: int, **more: object) -> list[bytes]:
    return [
        json.dumps({"n": number, "text": f"row {number % 97}" * 3, **more}).encode() + b"\n" for number in range(count)
    ]


@settings(deadline=None)
@given(st.integers(1, 2**38))
@example(WINDOWED_BYTES)
@example(WINDOWED_BYTES + 1)
def test_windows_tile_a_file_and_are_no_shorter_than_said(size: int) -> None:
    found = windows(size)

    if size <= WINDOWED_BYTES:
        assert found == ()
    else:
        assert [found[0][0], *(stop for _, stop in found)] == [*(start for start, _ in found), size]
        assert all(WINDOW_BYTES <= stop - start < 2 * WINDOW_BYTES for start, stop in found)


@settings(deadline=None)
@given(
    st.integers(WINDOWED_BYTES + 1, 2**32),
    st.lists(st.tuples(st.integers(0, 2**33), st.integers(0, 1000)), max_size=20),
)
def test_every_row_is_in_one_window_in_order_whatever_a_footer_says(size: int, groups: list[tuple[int, int]]) -> None:
    found = [rows_in(window, groups, size_bytes=size) for window in windows(size)]
    taken = [row for first, stop in found for row in range(first, stop)]

    assert taken == list(range(sum(rows for _, rows in groups)))


def test_a_row_group_is_in_the_window_where_its_middle_lies() -> None:
    groups = [(10, 5), (99, 5), (100, 5), (150, 5)]

    assert rows_in((0, 100), groups, size_bytes=300) == (0, 10)
    assert rows_in((100, 200), groups, size_bytes=300) == (10, 20)
    assert rows_in((200, 300), groups, size_bytes=300) == (0, 0)


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_slices_are_all_bytes_once_at_line_ends_with_the_rows_before_them_counted(seed: int) -> None:
    kinds = [b"\n", b"  \n", b"\r\n", b'{"a": 1}\n', b' {"a": 1}\n', b'{"a": "' + b"x" * 90 + b'"}\n']
    drawn = random.Random(seed)
    kinds = drawn.sample(kinds, drawn.randint(1, len(kinds)))
    content = b"".join(drawn.choices(kinds, k=2000 if max(map(len, kinds)) < 20 else 600))
    found = sliced(content)

    for cut, before in zip(found, [None, *found], strict=False):
        own = content[cut.start : cut.stop]
        assert cut.sha256 == hashlib.sha256(own).hexdigest()
        assert cut.start == (before.stop if before else 0)
        assert cut.start == 0 or content[cut.start - 1 : cut.start] == b"\n"
        assert cut.first_row == sum(1 for line in content[: cut.start].split(b"\n") if line.strip())
    assert len(found) > 2 or len(content) < 9000
    assert not found or found[-1].stop == len(content)
    assert all(len(content[cut.start : cut.stop]) >= 2000 for cut in found[:-1])


@settings(deadline=None)
@given(st.integers(1, 5000))
def test_how_bytes_arrive_does_not_move_a_cut(piece: int) -> None:
    content = b"".join(lines(500))
    assert sliced(content, piece) == sliced(content)


def test_an_appended_row_changes_the_last_slice_only() -> None:
    rows = lines(1000)
    before, after = sliced(b"".join(rows)), sliced(b"".join([*rows, b'{"n": "more"}\n']))

    assert len(before) > 10
    assert after[: len(before) - 1] == before[:-1]


def test_a_line_that_got_longer_changes_its_own_slice_and_no_cut_after_it() -> None:
    rows = lines(2000)
    before = {cut.sha256 for cut in sliced(b"".join(rows))}
    changed = []
    for at in range(100, 1900, 100):
        edited = b"".join([*rows[:at], rows[at].replace(b'"n"', b'"n n"'), *rows[at + 1 :]])
        changed.append(len({cut.sha256 for cut in sliced(edited)} - before))

    assert sorted(changed)[len(changed) // 2] == 1
    assert max(changed) < len(before) / 2


@pytest.mark.parametrize("content", [b"", b"{}\n", gzip.compress(b"".join(lines(5000)))])
def test_what_is_small_or_compressed_is_not_cut(content: bytes) -> None:
    assert sliced(content) == ()


def cut_plan(*parts: Partition, sha256: str = "a", **changes: object) -> Plan:
    selection = Selection(
        record_set="rows",
        distribution=FileSet(id="files", format="jsonl", includes=("*",)),
        fields=(SelectedField(name="x", column="x", dtype="integer"),),
        **({"splits": (SplitRule(name="train", bounds=(0, 2**63)),)} | changes),
    )
    source = SourceFile(name="a.jsonl", format="jsonl", identity={"sha256": sha256 * 64}, size_bytes=10)
    return Plan(selection=selection, sources=(source,), partitions=parts)


def keys(plan: Plan) -> list[str]:
    return list(partition_keys(canonical(plan.to_json())))


def part(first_row: int = 0, sha256: str = "b", start: int = 0) -> Partition:
    return Partition(sources=(0,), slice=Slice(start=start, stop=start + 5, first_row=first_row, sha256=sha256 * 64))


def test_a_slice_is_keyed_by_its_own_bytes_and_not_by_its_file() -> None:
    own = keys(cut_plan(part()))

    assert keys(cut_plan(part(), part(9, "c", 5), sha256="f"))[0] == own[0]
    assert keys(cut_plan(part(start=7))) == own
    assert keys(cut_plan(part(sha256="c"))) != own
    assert keys(cut_plan(Partition(sources=(0,)))) != own


def test_the_number_of_its_first_row_counts_only_where_rows_are_keyed_by_their_number() -> None:
    for same in ({"split_key": ("x",)}, {"splits": (SplitRule(name="train"),)}):
        assert keys(cut_plan(part(), **same)) == keys(cut_plan(part(5), **same))
    assert keys(cut_plan(part())) != keys(cut_plan(part(5)))


def test_a_window_is_in_the_key_with_its_file() -> None:
    parts = [Partition(sources=(0,), window=window) for window in pairwise((0, 5, 10))]
    whole, first, second = keys(cut_plan(Partition(sources=(0,)), *parts))

    assert len({whole, first, second, *keys(cut_plan(*parts, sha256="c"))}) == 5


def test_one_key_is_the_same_alone_and_among_all() -> None:
    plan = canonical(cut_plan(part(), part(3, "c"), Partition(sources=(0,))).to_json())
    classes = {"x": ["é", "a"]}

    assert [partition_key(plan, at, classes) for at in range(3)] == list(partition_keys(plan, classes))
    assert list(partition_keys(plan, classes)) != list(partition_keys(plan))

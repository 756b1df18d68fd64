"""When a remembered hash counts: an edit that `stat` could hide is never taken for none."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from coralord_lightning.sources.hashes import HashCache
from coralord_lightning.sources.stamps import Stamp, StampMemory

SECOND = 1_000_000_000
STAMP = Stamp(device=1, inode=2, size=3, mtime_ns=100 * SECOND, ctime_ns=100 * SECOND)
SHA256 = "a" * 64


def test_a_hash_counts_for_the_very_stamp_it_was_noted_with(tmp_path: Path) -> None:
    StampMemory(tmp_path / "cache").note(tmp_path / "a", STAMP, SHA256, 200 * SECOND)
    memory = StampMemory(tmp_path / "cache")  # another process

    assert memory.recall(tmp_path / "a", STAMP) == SHA256
    assert memory.recall(tmp_path / "b", STAMP) is None
    for changed in ({"device": 9}, {"inode": 9}, {"size": 9}, {"mtime_ns": 9}, {"ctime_ns": 9}):
        assert memory.recall(tmp_path / "a", replace(STAMP, **changed)) is None


@pytest.mark.parametrize("late", ["mtime_ns", "ctime_ns"])
def test_a_hash_made_right_after_a_change_is_not_trusted(tmp_path: Path, late: str) -> None:
    memory = StampMemory(tmp_path / "cache")
    fresh = replace(STAMP, **{late: 199 * SECOND})
    memory.note(tmp_path / "a", fresh, SHA256, 200 * SECOND)

    assert not fresh.settled_at(200 * SECOND)
    assert memory.recall(tmp_path / "a", fresh) is None
    assert StampMemory(tmp_path / "cache").recall(tmp_path / "a", fresh) is None


def test_a_file_whose_time_is_set_back_right_after_an_edit_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    os.utime(path, (1, 1))
    hashes = HashCache(tmp_path / "cache", clock_ns=lambda: path.stat().st_ctime_ns + SECOND)
    before = hashes.hash_file(path)

    assert hashes.recall(path) is None
    path.write_bytes(b"two")
    os.utime(path, (1, 1))
    assert hashes.hash_file(path) != before


def test_a_line_that_a_dead_process_left_unfinished_harms_no_other(tmp_path: Path) -> None:
    memory = StampMemory(tmp_path / "cache")
    memory.note(tmp_path / "a", STAMP, SHA256, 200 * SECOND)
    (place,) = (tmp_path / "cache").rglob("*.lines")
    place.write_bytes(place.read_bytes() + b'["b", 1, 2')
    memory.note(tmp_path / "c", STAMP, SHA256, 200 * SECOND)
    again = StampMemory(tmp_path / "cache")

    assert [again.recall(tmp_path / name, STAMP) for name in "abc"] == [SHA256, None, SHA256]


def test_notes_that_no_longer_hold_do_not_pile_up(tmp_path: Path) -> None:
    memory = StampMemory(tmp_path / "cache")
    for number in range(1500):
        memory.note(tmp_path / "a", replace(STAMP, size=number), SHA256, 200 * SECOND)
    (place,) = (tmp_path / "cache").rglob("*.lines")

    assert StampMemory(tmp_path / "cache").recall(tmp_path / "a", replace(STAMP, size=1499)) == SHA256
    assert len(place.read_bytes().split()) < 20

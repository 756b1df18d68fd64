"""Advice about pages: which rows come and go when, and that pages go."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from coralord_lightning.stream.chunks import chunks_of
from coralord_lightning.stream.feed import Feed, split_feed
from coralord_lightning.stream.layout import BatchLayout, EpochLayout
from coralord_lightning.stream.loader import CoralLoader
from coralord_lightning.stream.options import LoaderOptions
from coralord_lightning.stream.order import SplitOrder, Window, lane_starts
from coralord_lightning.stream.readahead import Advice, ReadAhead, advised, memory_bytes
from hand_built import write_manifest

linux = pytest.mark.skipif(sys.platform != "linux", reason="posix_fadvise and mincore are Linux's")


def example_feed(home: Path, num_rows: int = 64, width: int = 1 << 16) -> Feed:
    pixels = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(num_rows * width, np.uint8)), width)
    table = pa.table({"row": np.arange(num_rows), "pixels": pixels})
    return split_feed(write_manifest(home, {"train": table}, rows_per_shard=num_rows // 4), home, "train")


def cached_bytes(path: Path) -> int:
    """How much of a file is in the page cache."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file, mmap.mmap(file.fileno(), size_bytes, prot=mmap.PROT_READ) as view:
        seen = (ctypes.c_ubyte * -(-size_bytes // mmap.PAGESIZE))()
        array = np.frombuffer(view, np.uint8)
        failed = ctypes.CDLL(None).mincore(ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(size_bytes), seen)
        del array
        assert not failed
        return sum(flags & 1 for flags in seen) * mmap.PAGESIZE


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("start", [0, 3000])
def test_each_window_comes_before_it_is_read_and_goes_two_windows_later(lanes: int, start: int) -> None:
    order = SplitOrder(num_rows=6000, content_digest="c0", shuffle="block", lanes=lanes, block_rows=7)
    there: set[int] = set()
    most = [0]

    def come(window: Window) -> None:
        there.update(row for first, stop in window.ranges for row in range(first, stop))
        most[0] = max(most[0], len(there))

    def go(window: Window) -> None:
        there.difference_update(row for first, stop in window.ranges for row in range(first, stop))

    windows = [order.windows(2, lane) for lane in range(lanes)]
    ahead = ReadAhead(windows, lane_starts(6000, lanes), come=come, go=go)
    layout = BatchLayout(num_rows=6000, global_batch=30, lanes=lanes)
    for chunk in chunks_of(order, EpochLayout(base=layout, start=start), epoch=2, rank=0, batches=1):
        ahead.follow(chunk.positions)
        assert there.issuperset(chunk.rows.tolist())

    assert most[0] <= lanes * 4 * 127 * 7


def read_all(feed: Feed, order: SplitOrder, memory: int) -> int:
    loader = CoralLoader(feed, LoaderOptions(batch_size=4))
    layout = BatchLayout(num_rows=order.num_rows, global_batch=4).whole
    chunks = chunks_of(order, layout, epoch=0, rank=0, batches=1)
    rows = 0
    for chunk in advised(chunks, maps=feed.maps, fields=feed.fields, order=order, epoch=0, memory=memory):
        rows += len(loader._maker.gather(chunk.rows, chunk.sizes, chunk.padding)[0]["row"])
    return rows


@linux
def test_what_is_behind_leaves_memory_where_data_are_large_and_stays_where_they_are_small(tmp_path: Path) -> None:
    feed = example_feed(tmp_path, num_rows=6400)  # 400 MiB: a stored order goes by runs of 64 MiB
    paths = feed.maps.paths()
    os.sync()  # a page that is not written yet cannot go
    order = SplitOrder(num_rows=6400, content_digest="c0", shuffle=False)

    assert read_all(feed, order, memory=1 << 40) == 6400
    assert cached_bytes(paths[0]) > 0.9 * paths[0].stat().st_size
    assert read_all(feed, order, memory=1 << 20) == 6400
    assert cached_bytes(paths[0]) < 0.1 * paths[0].stat().st_size


@linux
def test_rows_that_will_be_needed_are_read_before_they_are_asked_for(tmp_path: Path) -> None:
    feed = example_feed(tmp_path)
    path = feed.maps.paths()[1]
    advice = Advice(feed.maps, feed.fields)
    os.sync()
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert cached_bytes(path) < 0.2 * path.stat().st_size

    advice.will_need([(8, 32)])

    until = time.monotonic() + 20
    while cached_bytes(path) < 0.9 * path.stat().st_size:
        assert time.monotonic() < until
        time.sleep(0.02)


@linux
def test_a_shard_that_is_gone_fails_no_batch_that_does_not_need_it(tmp_path: Path) -> None:
    feed = example_feed(tmp_path)
    feed.maps.paths()[3].unlink()
    order = SplitOrder(num_rows=64, content_digest="c0", shuffle=False)
    chunks = chunks_of(order, BatchLayout(num_rows=64, global_batch=4).whole, epoch=0, rank=0, batches=1)

    told = advised(chunks, maps=feed.maps, fields=feed.fields, order=order, epoch=0, memory=1)

    assert next(told).rows.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("shuffle", [False, "full", "block"])
def test_advice_changes_no_batch(tmp_path: Path, shuffle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = example_feed(tmp_path)
    expected = [batch["row"].tolist() for batch in CoralLoader(feed, LoaderOptions(batch_size=4, shuffle=shuffle))]
    monkeypatch.setattr("coralord_lightning.stream.readahead.memory_bytes", lambda: 1)

    assert [
        batch["row"].tolist() for batch in CoralLoader(feed, LoaderOptions(batch_size=4, shuffle=shuffle))
    ] == expected


@pytest.mark.parametrize(
    ("group", "folder", "name"),
    [
        ("0::/a/b", "sys/fs/cgroup/a", "memory.max"),
        ("0::/a/b", "sys/fs/cgroup", "memory.max"),
        ("1:cpu:/x\n5:memory:/job", "sys/fs/cgroup/memory/job", "memory.limit_in_bytes"),
    ],
)
def test_memory_is_what_the_container_may_use(tmp_path: Path, group: str, folder: str, name: str) -> None:
    whole = memory_bytes(tmp_path)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(group + "\n")
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / name).write_text("12345678\n")

    assert memory_bytes(tmp_path) == 12345678 < whole

    (tmp_path / folder / name).write_text("max\n")
    assert memory_bytes(tmp_path) == whole

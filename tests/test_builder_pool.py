"""The pool of workers: what is handed over, in which bounds, and how it ends; and builds by several of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coralord_lightning.builder.pool import Pool
from coralord_lightning.builder.runners.base import Started
from coralord_lightning.config import Config
from coralord_lightning.errors import BuildError, PipelineFailedError, PipelineOutputError
from coralord_lightning.spec.manifest import PartitionRecord
from coralord_lightning.workspace import open_workspace
from coralord_lightning.workspace.progress import PlainProgress, Silence
from projects import parquet_project as project


class Hand:
    """A worker that does nothing until it may, and remembers."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.isolation = {"runner": "hand"}
        self.stopped = threading.Event()

    def make(self, item: str) -> PartitionRecord:
        with self.shop.lock:
            self.shop.busy += 1
            self.shop.most = max(self.shop.most, self.shop.busy)
        while not self.shop.go.wait(0.01):
            if self.stopped.is_set():
                raise BuildError(item, "was stopped", remedy="again")
        with self.shop.lock:
            self.shop.busy -= 1
        if item == self.shop.broken:
            raise BuildError(item, "is broken", remedy="mend it")
        return PartitionRecord(key=item, columns=None, splits={})

    def stop(self) -> None:
        self.stopped.set()


class Shop:
    def __init__(self, broken: str = "") -> None:
        self.lock = threading.Lock()
        self.go = threading.Event()
        self.busy = self.most = 0
        self.broken = broken
        self.hands: list[Hand] = []
        self.closed = 0

    def open_hand(self, stack: ExitStack, started: Started) -> Hand:
        stack.callback(self._close)
        self.hands.append(Hand(self))
        return self.hands[-1]

    def _close(self) -> None:
        with self.lock:
            self.closed += 1

    def pool(self, size: int) -> Pool:
        return Pool(size=size, open_worker=self.open_hand, progress=Silence())


def test_all_that_was_given_comes_back_under_its_key():
    shop = Shop()
    shop.go.set()
    with shop.pool(3) as pool:
        for number in range(20):
            pool.room()
            pool.put(str(number))
        assert set(pool.finish()) == {str(number) for number in range(20)}
    assert pool.isolation == {"runner": "hand"}
    assert shop.closed == len(shop.hands) <= 3


def test_no_more_workers_than_asked_for_and_no_more_ready_than_one_for_each():
    shop = Shop()
    given = []

    def give(pool: Pool) -> None:
        for number in range(10):
            pool.room()
            pool.put(str(number))
            given.append(number)

    with shop.pool(2) as pool:
        giver = threading.Thread(target=give, args=(pool,))
        giver.start()
        for _ in range(200):
            if len(given) == 4 and shop.busy == 2:
                break
            time.sleep(0.01)
        time.sleep(0.1)
        assert (len(given), shop.busy) == (4, 2)  # two at work, one ready for each
        shop.go.set()
        giver.join()
        assert len(pool.finish()) == 10
    assert shop.most == 2


def test_a_worker_is_opened_only_when_there_is_work_for_it():
    shop = Shop()
    shop.go.set()
    with shop.pool(8) as pool:
        pool.put("one")
        pool.finish()
    assert len(shop.hands) == 1


def _give_for_ever(shop: Shop) -> None:
    with shop.pool(2) as pool:
        for number in range(4):
            pool.put(str(number))
        shop.go.set()
        while True:
            pool.room()
            time.sleep(0.001)


def _give_and_leave(pool: Pool) -> None:
    with pool:
        for number in range(4):
            pool.put(str(number))
        raise KeyboardInterrupt


def _leave_locked(pool: Pool) -> None:
    with pool:
        pool.put("one")
        pool._changed.acquire()  # as an interrupt between taking it and the block behind does
        raise KeyboardInterrupt


def _leave_unstarted(pool: Pool) -> None:
    with pool:
        pool._threads.append(threading.Thread(target=pool._work))
        raise KeyboardInterrupt


def _give_and_finish(pool: Pool) -> None:
    with pool:
        pool.put("one")
        pool.finish()


def test_what_a_worker_raises_comes_out_where_partitions_are_given_and_the_others_are_stopped():
    shop = Shop(broken="1")
    with pytest.raises(BuildError, match="is broken"):
        _give_for_ever(shop)
    assert shop.closed == len(shop.hands)
    assert all(hand.stopped.is_set() for hand in shop.hands)


def test_leaving_early_stops_workers_that_wait():
    shop = Shop()
    with pytest.raises(KeyboardInterrupt):
        _give_and_leave(shop.pool(2))
    assert shop.closed == len(shop.hands)


def test_a_worker_that_cannot_be_opened_ends_the_build():
    def broken(_stack: ExitStack, _started: Started) -> Hand:
        raise BuildError("worker", "cannot be opened", remedy="mend it")

    with pytest.raises(BuildError, match="cannot be opened"):
        _give_and_finish(Pool(size=2, open_worker=broken, progress=Silence()))


def test_a_second_ctrl_c_while_a_build_ends_leaves_no_worker_behind():
    shop = Shop()

    class Late(Hand):
        def stop(self) -> None:
            if not self.stopped.is_set():
                self.stopped.set()
                raise KeyboardInterrupt

    def open_late(stack: ExitStack, started: Started) -> Hand:
        stack.callback(shop._close)
        shop.hands.append(Late(shop))
        return shop.hands[-1]

    with pytest.raises(KeyboardInterrupt):
        _give_and_leave(Pool(size=1, open_worker=open_late, progress=Silence()))
    assert shop.closed == len(shop.hands) == 1


def test_what_begins_while_the_pool_ends_is_ended_too():
    begun, ended = threading.Event(), threading.Event()

    def late(_stack: ExitStack, started: Started) -> Hand:
        begun.set()
        while not pool._ending:
            time.sleep(0.001)
        started(ended.set)
        raise BuildError("worker", "was stopped", remedy="again")

    pool = Pool(size=1, open_worker=late, progress=Silence())
    with pool:
        pool.put("one")
        begun.wait()
    assert ended.is_set()


def test_a_ctrl_c_that_leaves_the_pool_locked_does_not_hang():
    shop = Shop()
    pool = shop.pool(2)
    with pytest.raises(KeyboardInterrupt):
        _leave_locked(pool)
    assert shop.closed == len(shop.hands)


def test_a_ctrl_c_before_a_thread_has_begun_is_no_other_error():
    shop = Shop()
    pool = shop.pool(2)
    with pytest.raises(KeyboardInterrupt):
        _leave_unstarted(pool)
    pool._threads[0].start()
    pool._threads[0].join()
    assert shop.hands == []  # one that begins later opens nothing


SAME = "def run(batch):\n    return batch\n"


def test_any_number_of_jobs_gives_the_same_rows_in_the_same_order(tmp_path):
    descriptor = project(tmp_path / "project", SAME)
    versions = []
    for jobs in (1, 4):
        space = open_workspace(Config(home=tmp_path / f"home-{jobs}", jobs=jobs))
        versions.append(space.ensure(descriptor).version)
    assert versions[0].fingerprint == versions[1].fingerprint
    assert versions[0].manifest.splits == versions[1].manifest.splits


def test_partitions_that_were_finished_before_an_error_are_kept(tmp_path):
    code = "def run(batch):\n    assert batch['x'][0].as_py() != 700\n    return batch\n"
    descriptor = project(tmp_path / "project", code)
    space = open_workspace(Config(home=tmp_path / "home", jobs=2))
    with pytest.raises(PipelineFailedError) as caught:
        space.ensure(descriptor)
    assert "pipeline.py:2" in caught.value.subject
    assert "partition 8 of 8" in caught.value.message
    assert list((tmp_path / "home" / "manifests").glob("*")) == []
    kept = len(list((tmp_path / "home" / "partitions").glob("*.json")))
    assert kept >= 5  # but for those that were in hand, and the broken one
    table = pa.table({"x": list(range(701, 800))})
    pq.write_table(table, tmp_path / "project" / "data" / "007.parquet")
    outcome = space.ensure(descriptor)
    assert outcome.partitions_reused == kept
    assert list((tmp_path / "home" / "tmp").iterdir()) == []


def test_partitions_of_other_columns_are_refused_whichever_worker_has_them(tmp_path):
    code = """
import pyarrow as pa
def run(batch):
    kind = pa.int64() if batch['x'][0].as_py() else pa.int32()
    return pa.record_batch({'y': batch['x'].cast(kind)})
"""
    descriptor = project(tmp_path / "project", code)
    for jobs in (1, 4):
        space = open_workspace(Config(home=tmp_path / f"home-{jobs}", jobs=jobs))
        with pytest.raises(PipelineOutputError) as caught:
            space.ensure(descriptor)
        assert "column 'y'" in caught.value.message
        assert set(caught.value.facts.values()) == {"int32", "int64"}


def test_what_several_workers_print_says_which_partition_it_is_about(tmp_path):
    code = "def run(batch):\n    print('saw', batch['x'][0].as_py())\n    return batch\n"
    descriptor = project(tmp_path / "project", code, files=3)
    home = tmp_path / "home"
    done = subprocess.run(
        [sys.executable, "-m", "coralord_lightning.cli", "build", str(descriptor), "--home", str(home), "--jobs", "2"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    said = sorted(line for line in done.stderr.splitlines() if line.startswith("[pipeline"))
    assert said == ["[pipeline 1/3] saw 0", "[pipeline 2/3] saw 100", "[pipeline 3/3] saw 200"]


def test_ctrl_c_ends_a_build_whose_pipeline_hangs_while_it_is_imported(tmp_path):
    code = "print('importing')\nwhile True:\n    pass\ndef run(batch):\n    return batch\n"
    descriptor = project(tmp_path / "project", code)
    started = subprocess.Popen(
        [sys.executable, "-m", "coralord_lightning.cli", "build", str(descriptor), "--home", str(tmp_path / "home")],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        while "importing" not in (line := started.stderr.readline()):
            assert line
        os.killpg(started.pid, signal.SIGINT)
        started.communicate(timeout=60)
    finally:
        started.kill()
    assert started.returncode == 130
    assert list((tmp_path / "home" / "tmp").iterdir()) == []


def test_ctrl_c_ends_a_build_of_of_several_workers_with_130_and_keeps_what_was_finished(tmp_path):
    code = """
import time
from pathlib import Path
def run(batch):
    if batch['x'][0].as_py() >= 300:
        print('waiting')
        time.sleep(600)
    return batch
"""
    descriptor = project(tmp_path / "project", code)
    home = tmp_path / "home"
    command = [sys.executable, "-m", "coralord_lightning.cli", "build", str(descriptor)]
    started = subprocess.Popen(
        [*command, "--home", str(home), "--jobs", "2"], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        waiting = 0
        while waiting < 2:
            line = started.stderr.readline()
            assert line
            waiting += "waiting" in line
        os.killpg(started.pid, signal.SIGINT)
        started.communicate(timeout=60)
    finally:
        started.kill()
    assert started.returncode == 130
    assert list((home / "tmp").iterdir()) == []
    assert len(list((home / "partitions").glob("*.json"))) == 3
    (tmp_path / "project" / "pipeline.py").write_text(SAME)
    outcome = open_workspace(Config(home=home)).ensure(descriptor)
    assert outcome.partitions_built == 8  # the code is another now


def test_plain_progress_says_now_and_then_how_far_it_is_and_how_long_it_will_take(capsys):
    now = [0.0]
    progress = PlainProgress(sys.stderr, clock=lambda: now[0])
    progress.start(100)
    for second in range(1, 26):
        now[0] = float(second)
        progress.advance(partitions=1, rows=1000, bytes=2_000_000)
    assert capsys.readouterr().err.splitlines() == [
        "coral: 10 of 100 partitions, 10,000 rows, 20 MB, about 90 s left",
        "coral: 20 of 100 partitions, 20,000 rows, 40 MB, about 80 s left",
    ]

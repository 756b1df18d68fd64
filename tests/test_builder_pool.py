"""The pool of workers: what is handed over, in which bounds, and how it ends; and builds by several of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coralord_lightning.builder.pool import Pool
from coralord_lightning.builder.runners.base import Started
from coralord_lightning.config import Config
from coralord_lightning.errors import BuildError, NotDeterministicError, PipelineFailedError, PipelineOutputError
from coralord_lightning.spec.manifest import PartitionRecord
from coralord_lightning.workspace import open_workspace
from coralord_lightning.workspace.progress import PlainProgress, Silence


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


def project(folder: Path, code: str, *, files: int = 8, rows: int = 100, more: str = "") -> Path:
    """A descriptor over so many files, with a pipeline of its own."""
    (folder / "data").mkdir(parents=True)
    for number in range(files):
        table = pa.table({"x": list(range(number * rows, (number + 1) * rows))})
        pq.write_table(table, folder / "data" / f"{number:03}.parquet")
    (folder / "pipeline.py").write_text(code)
    (folder / "rows.yaml").write_text(
        f"name: rows\nfiles: data/*.parquet\npipeline: {{entrypoint: 'pipeline.py:run'}}\nenvironment: local\n{more}"
    )
    return folder / "rows.yaml"


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


VARYING = {
    "time": """
import time, pyarrow as pa
def run(b):
    return b.append_column('v', pa.array([0.0] * 5 + [time.time()] * (b.num_rows - 5)))
""",
    "randomness": """
import random, pyarrow as pa
def run(b):
    return b.append_column('v', pa.array([random.random() for _ in range(b.num_rows)]))
""",
    "process": """
import os, pyarrow as pa
def run(b):
    return b.append_column('v', pa.array([os.getpid()] * b.num_rows))
""",
    "processors": """
import os, pyarrow as pa
def run(b):
    return b.append_column('v', pa.array([len(os.sched_getaffinity(0))] * b.num_rows))
""",
    "state between batches": """
import pyarrow as pa
n = 0
def run(b):
    global n
    n += 1
    return b.append_column('v', pa.array([n] * b.num_rows))
""",
}


@pytest.mark.parametrize("what", VARYING)
def test_check_finds_what_differs_from_run_to_run_and_names_column_and_row(tmp_path, what):
    if what == "processors" and len(os.sched_getaffinity(0)) == 1:
        pytest.skip("this machine has one processor: there is nothing to vary")
    descriptor = project(tmp_path / "project", VARYING[what], files=3)
    space = open_workspace(Config(home=tmp_path / "home"))
    with pytest.raises(NotDeterministicError) as caught:
        space.ensure(descriptor, check=True, lock=True)
    assert (caught.value.facts["column"], caught.value.facts["row"]) == ("v", "5" if what == "time" else "0")
    assert "data/000.parquet" in caught.value.facts["partition"]
    assert list((tmp_path / "home" / "manifests").glob("*")) == []
    assert not (tmp_path / "project" / "coral.lock").exists()
    assert list((tmp_path / "home" / "tmp").iterdir()) == []


def test_check_of_a_seeded_pipeline_says_so(tmp_path):
    code = "import random, pyarrow as pa\ndef run(b):\n    random.seed(b['x'][0].as_py())\n"
    code += "    return b.append_column('r', pa.array([random.random() for _ in range(b.num_rows)]))\n"
    descriptor = project(tmp_path / "project", code, files=3)
    command = [sys.executable, "-m", "coralord_lightning.cli", "build", str(descriptor), "--check", "--json"]
    done = subprocess.run([*command, "--home", str(tmp_path / "home")], capture_output=True, text=True, check=True)
    first = json.loads(done.stdout)
    assert (first["built"], first["checked"]) == (True, True)
    done = subprocess.run([*command, "--home", str(tmp_path / "home")], capture_output=True, text=True, check=True)
    assert (json.loads(done.stdout)["built"], json.loads(done.stdout)["checked"]) == (False, True)


def test_check_finds_that_a_version_which_is_there_comes_out_otherwise_now(tmp_path):
    code = "import time, pyarrow as pa\ndef run(b):\n    return b.append_column('t', pa.array([time.time()] * 100))\n"
    descriptor = project(tmp_path / "project", code, files=2)
    space = open_workspace(Config(home=tmp_path / "home"))
    space.ensure(descriptor)
    with pytest.raises(NotDeterministicError, match="a second build"):
        space.ensure(descriptor, check=True)


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

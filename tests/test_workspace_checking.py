"""`coral build --check`: a second build under other circumstances finds what a pipeline gets from elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coralord_lightning.config import Config
from coralord_lightning.errors import NotDeterministicError, SourceIntegrityError
from coralord_lightning.spec.first_difference import first_difference
from coralord_lightning.workspace import open_workspace
from coralord_lightning.workspace.progress import Silence
from projects import parquet_project as project

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


@pytest.mark.parametrize("there", [False, True], ids=["built", "there already"])
def test_check_tells_of_a_source_that_was_edited_meanwhile_and_blames_no_pipeline(tmp_path, there):
    descriptor = project(tmp_path / "project", "def run(batch):\n    return batch\n", files=2)
    space = open_workspace(Config(home=tmp_path / "home"))

    class Meddler(Silence):
        def phase(self, text: str) -> None:
            if "once more" in text:
                pq.write_table(pa.table({"x": [1, 2, 3]}), tmp_path / "project" / "data" / "000.parquet")

    if there:
        space.ensure(descriptor)
    with pytest.raises(SourceIntegrityError, match="changed while it was in use"):
        space.ensure(descriptor, check=True, progress=Meddler())


def test_columns_in_another_order_are_told_by_their_places():
    found = first_difference(pa.table({"a": [1], "b": [2]}), pa.table({"b": [2], "a": [1]}))
    assert found is not None
    assert (found.column, found.was, found.now) == ("a", "column 1", "column 2")


def test_a_column_that_only_one_build_has_is_told():
    found = first_difference(pa.table({"a": [1], "b": [2]}), pa.table({"a": [1]}))
    assert found is not None
    assert (found.column, found.was, found.now) == ("b", "int64", "absent")


@pytest.mark.parametrize("at", [0, 1, 6, 7, 12])
def test_the_first_row_that_differs_is_found_wherever_it_is(at):
    one = list(range(13))
    other = one[:at] + [-1] * (13 - at)
    found = first_difference(pa.table({"k": [0] * 13, "v": one}), pa.table({"k": [0] * 13, "v": other}))
    assert found is not None
    assert (found.row, found.column, found.was, found.now) == (at, "v", str(at), "-1")


@pytest.mark.parametrize(("one", "other"), [(3, 5), (5, 3)])
def test_a_row_that_only_one_build_has_is_told(one, other):
    found = first_difference(pa.table({"v": range(one)}), pa.table({"v": range(other)}))
    assert found is not None
    assert (found.row, found.column, found.was, found.now) == (3, "", f"{one} rows", f"{other} rows")
    assert first_difference(pa.table({"v": range(one)}), pa.table({"v": range(one)})) is None

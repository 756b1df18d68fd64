"""The same fingerprint built under other circumstances has the same content digest, in processes and in containers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

# Everything a careless pipeline could let in, in a form that depends on nothing of it when the sandbox is as promised.
PIPELINE = """
import locale, os, time
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

def run(batch):
    names = {"zeta", "alpha", "mü", "Ä", "z", "a"}
    word = ",".join(names)  # the order of a set: the hash seed
    stamp = time.strftime("%H:%M", time.localtime(1_000_000_000))  # the time zone
    number = locale.str(1.5) + "İ".lower()  # the locale
    means = np.cumsum(batch["y"].to_numpy() * 0.1) / 3  # floating point, in one order
    listing = ",".join(sorted(os.listdir(".")))
    rows = batch.num_rows
    return pa.record_batch({
        "x": batch["x"], "means": pa.array(means), "sorted": pc.array_sort_indices(batch["y"]).cast(pa.int64()),
        **{name: pa.array([value] * rows)
           for name, value in {"word": word, "stamp": stamp, "number": number, "listing": listing}.items()},
    })
"""
DESCRIPTOR = """
name: rows
files: data/*.parquet
where: "x % 7 <> 3"
splits:
  test: {where: "x % 5 = 0"}
  train: {from: rest, fraction: 0.8}
  val: {from: rest, fraction: 0.2}
pipeline: {entrypoint: "pipeline.py:run", files: [vocabulary.txt]}
"""
FILES = 12


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """How one build differs from another."""

    jobs: int = 1
    environ: dict[str, str] = field(default_factory=dict)
    processors: int | None = None
    backwards: bool = False
    umask: int = 0o022
    user: int | None = None


VARIED = {
    "four jobs": Circumstances(jobs=4),
    "another user": Circumstances(user=12345),
    "an open umask": Circumstances(umask=0),
    "all of it": Circumstances(
        jobs=4,
        environ={"TZ": "Asia/Kathmandu", "LC_ALL": "C", "LANG": "tr_TR.UTF-8", "PYTHONHASHSEED": "4711"},
        processors=1,
        backwards=True,
        umask=0o077,
        user=23456,
    ),
}


def project(folder: Path, environment: str, *, backwards: bool) -> Path:
    """The same descriptor, made in this or the other order; another folder each time."""
    (folder / "data").mkdir(parents=True)
    numbers = range(FILES)
    for number in reversed(numbers) if backwards else numbers:
        x = list(range(number * 200, number * 200 + 200))
        table = pa.table({"x": x, "y": [(value * 7919 % 1009) / 3 for value in x]})
        pq.write_table(table, folder / "data" / f"{number:02}.parquet")
    (folder / "pipeline.py").write_text(PIPELINE)
    (folder / "vocabulary.txt").write_text("a b c\n")
    (folder / "rows.yaml").write_text(DESCRIPTOR + environment)
    return folder / "rows.yaml"


def built(root: Path, environment: str, how: Circumstances) -> dict:
    """What `coral build --json` says of a build in a process of its own, in a folder and a store of its own."""
    root.mkdir()
    descriptor = project(root / "project", environment, backwards=how.backwards)
    command = [sys.executable, "-m", "coralord_lightning.cli", "build", str(descriptor), "--json"]
    command += ["--home", str(root / "home"), "--jobs", str(how.jobs)]
    if how.user is not None:
        command = [*as_user(how.user), *command]
        for path in (root, *root.rglob("*")):
            os.chown(path, how.user, how.user)

    def before() -> None:
        os.umask(how.umask)
        if how.processors is not None:
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: how.processors])

    environ = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG", "TZ"))}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environ | {"HOME": str(root)} | how.environ, cwd=root,
        preexec_fn=before, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    if how.user is not None:
        assert all(path.lstat().st_uid == how.user for path in (root / "home" / "objects").rglob("*"))
    return found


def as_user(user: int) -> list[str]:
    """The words that run a command as another user, who may read where the interpreter lies and use the engine."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can be another user, by `setpriv`")
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    socket = Path(host.removeprefix("unix://"))
    groups = ["--groups", str(socket.stat().st_gid)] if socket.exists() else ["--clear-groups"]
    reads = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return ["setpriv", "--reuid", str(user), "--regid", str(user), *groups, *reads]


def open_the_way_to(folder: Path) -> None:
    """Let every user come here, as `access(2)` asks, by which DuckDB 1.5 tells whether there is a file."""
    for place in (folder, *folder.parents):
        if place == Path(tempfile.gettempdir()):
            return
        place.chmod(0o755)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> dict:
    return built(tmp_path_factory.mktemp("plain") / "local", "environment: local\n", Circumstances())


@pytest.mark.parametrize("how", VARIED)
def test_a_build_in_a_process_does_not_depend_on(tmp_path, plain, how):
    open_the_way_to(tmp_path)
    found = built(tmp_path / "other", "environment: local\n", VARIED[how])
    assert found["partitions_built"] == FILES
    assert (found["fingerprint"], found["content_digest"]) == (plain["fingerprint"], plain["content_digest"])


@pytest.mark.docker
def test_a_build_in_containers_does_not_depend_on_all_of_it(tmp_path, default_image, plain):
    open_the_way_to(tmp_path)
    first = built(tmp_path / "one", "", Circumstances())
    found = built(tmp_path / "other", "", VARIED["all of it"])
    assert (found["fingerprint"], found["content_digest"]) == (first["fingerprint"], first["content_digest"])
    assert found["fingerprint"] != plain["fingerprint"]


def test_the_pipeline_would_come_out_otherwise_without_its_sandbox(tmp_path):
    code = (
        PIPELINE + "\nb = pa.record_batch({'x': [1], 'y': [2.0]})\nprint(run(b).select(['word', 'stamp']).to_pylist())"
    )
    environs = [{"PYTHONHASHSEED": "1", "TZ": "UTC"}, {"PYTHONHASHSEED": "4711", "TZ": "Asia/Kathmandu"}]
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | environ,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for environ in environs
    ]
    assert runs[0] != runs[1]

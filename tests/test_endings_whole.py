"""Every way in which a build in containers can end badly, through `coral build`; then the same build, mended.

The mode is the container's memory limit, because limits are not part of a partition's key: what was finished before the
bad end has to be reused by the mended build.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from contained import ours
from coralord_lightning.errors import CoralError, PipelineOutputError, RunnerError
from coralord_lightning.workspace import open_workspace
from projects import example_project, write_rows

pytestmark = pytest.mark.docker

FILES = 4
BAD_FROM = 2000
PIPELINE = """
import ctypes, os, signal, sys, time
from pathlib import Path
import pyarrow as pa

PLACES = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"
LIMIT = next(int(Path(place).read_text()) for place in PLACES if Path(place).exists()) >> 20

def scale(batch, factor):
    if batch["x"][0].as_py() < BAD_FROM or LIMIT >= 500:
        return batch
    return BAD[LIMIT](batch)

def sleep(batch):
    print("up")
    time.sleep(600)

def kill(batch):
    os.kill(os.getpid(), signal.SIGKILL)

def leave(batch):
    os._exit(0)

def hoard(batch):
    held = []
    while True:
        held.append(bytearray(os.urandom(1 << 20)) * 8)

def more(batch):
    Path("/out/more.txt").write_text("more")
    return batch

def fill(batch):
    with open("/out/fill", "wb") as file:
        while True:
            file.write(os.urandom(1 << 20))
            time.sleep(0.005)

def changed(change):
    def bad(batch):
        output = sys.modules["__main__"].Output
        whole = output.__exit__
        def leave_it_so(self, *error):
            whole(self, *error)
            change(Path(self.path))
        output.__exit__ = leave_it_so
        return batch
    return bad

def linked(path):
    path.unlink()
    path.symlink_to("/etc/passwd")

def corrupt(path):
    data = bytearray(path.read_bytes())
    data[:64] = bytes(64)
    path.write_bytes(data)

def cut(path):
    os.truncate(path, path.stat().st_size // 2)

BAD = {300: sleep, 301: kill, 302: leave, 303: hoard, 304: more, 305: fill, 306: changed(Path.unlink),
       307: changed(linked), 308: changed(corrupt), 309: changed(cut)}
""".replace("BAD_FROM", str(BAD_FROM))


@dataclass(frozen=True, kw_only=True)
class Ending:
    """A bad end.

    Args:
        memory: the mode, in MiB.
        limits: more of the environment.
        says: of message and remedy.
    """

    memory: int
    error: type[CoralError]
    says: tuple[str, ...]
    limits: str = ""


ENDINGS = {
    "time-out": Ending(
        memory=300, limits=", timeout: 2s", error=RunnerError, says=("longer than it may", "timeout: 4s")
    ),
    "killed": Ending(memory=301, error=RunnerError, says=("ended before it answered", "mend the pipeline")),
    "exit 0 without output": Ending(memory=302, error=RunnerError, says=("exit code 0", "mend the pipeline")),
    "out of memory": Ending(memory=303, error=RunnerError, says=("ran out of memory", "memory: 606m")),
    "a file too many": Ending(memory=304, error=PipelineOutputError, says=("more.txt",)),
    "too much output": Ending(memory=305, limits=", output: 20m", error=RunnerError, says=("20.0 MiB", "output: 42m")),
    "output removed": Ending(memory=306, error=RunnerError, says=("output is not here",)),
    "output is a link": Ending(memory=307, error=PipelineOutputError, says=("link",)),
    "output is corrupt": Ending(memory=308, error=PipelineOutputError, says=("Arrow stream",)),
    "output is cut": Ending(memory=309, error=PipelineOutputError, says=("Arrow stream",)),
}


@pytest.fixture
def descriptor(tmp_path: Path, default_image: str) -> Path:
    """Of a project with four files, of which the later two end badly."""
    path = example_project(tmp_path / "project", files=1)
    (path.parent / "data" / "a.parquet").unlink()
    for number in range(FILES):
        write_rows(path.parent, f"{number}.parquet", 1000 * number, 1000 * number + 50)
    (path.parent / "pipeline.py").write_text(PIPELINE)
    return path


def limited(descriptor: Path, image: str, memory: int, more: str = "") -> None:
    lines = descriptor.read_text().splitlines()
    kept = [line for line in lines if not line.startswith("environment:")]
    environment = f"environment: {{image: '{image}', memory: {memory}m{more}}}"
    descriptor.write_text("\n".join([*kept, environment]) + "\n")


def command(descriptor: Path, home: Path) -> list[str]:
    return [
        sys.executable,
        "-m",
        "coralord_lightning.cli",
        "build",
        str(descriptor),
        "--home",
        str(home),
        "--jobs",
        "1",
    ]


def require_clean(home: Path) -> None:
    """No partial version, no leftover."""
    assert list((home / "manifests").glob("*")) == []
    assert list((home / "tmp").iterdir()) == []
    assert len(list((home / "partitions").glob("*.json"))) == FILES - 2


def require_reuse(descriptor: Path, image: str, home: Path, config) -> None:
    """The mended build makes what was missing and no more."""
    limited(descriptor, image, 600)
    outcome = open_workspace(config).ensure(descriptor)
    assert (outcome.partitions_built, outcome.partitions_reused) == (2, FILES - 2)
    assert outcome.version.num_rows == FILES * 50


@pytest.mark.parametrize("name", ENDINGS)
def test_a_bad_end_is_a_typed_error_and_the_next_build_goes_on(name, descriptor, default_image, docker_config):
    ending, home = ENDINGS[name], docker_config.home
    limited(descriptor, default_image, ending.memory, ending.limits)
    started = subprocess.Popen(command(descriptor, home), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    _, said = started.communicate(timeout=200)
    assert started.returncode == 1, said
    assert f"{ending.error.code} " in said
    assert "  try: " in said
    assert "Traceback" not in said
    for text in ending.says:
        assert text in said
    assert ours(docker_config, started.pid) == []
    require_clean(home)
    require_reuse(descriptor, default_image, home, docker_config)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_build_that_is_interrupted_or_killed_goes_on_where_it_was(number, descriptor, default_image, docker_config):
    limited(descriptor, default_image, 300)
    home = docker_config.home
    started = subprocess.Popen(
        command(descriptor, home), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True
    )
    while "up" not in (line := started.stderr.readline()):
        assert line, "it ended"
    os.killpg(started.pid, number)
    started.communicate(timeout=60)
    assert started.returncode == (130 if number == signal.SIGINT else -9)
    if number == signal.SIGINT:
        assert ours(docker_config, started.pid) == []
        require_clean(home)
    require_reuse(descriptor, default_image, home, docker_config)  # reaps, too
    assert ours(docker_config, started.pid) == []
    assert list((home / "tmp").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_build_on_a_full_disk_goes_on_when_there_is_room(descriptor, default_image, docker_config):
    limited(descriptor, default_image, 305)
    home = docker_config.home
    home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "none", str(home)], check=True)
    try:
        done = subprocess.run(command(descriptor, home), capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "CORAL-E0601" in done.stderr
        assert shutil.disk_usage(home).free > 40 << 20
        require_clean(home)
        require_reuse(descriptor, default_image, home, docker_config)
    finally:
        subprocess.run(["umount", str(home)], check=True)

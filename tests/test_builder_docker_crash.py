"""Builds that end badly: Ctrl-C, a killed parent, a dead engine, a full disk. They leave no container."""

# ruff: noqa: F811  # `make` is a fixture

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from contained import SAME, TASK, make, ours, quiet, read  # noqa: F401  # a fixture
from coralord_lightning.builder.runners.docker import DockerRunner
from coralord_lightning.builder.runners.engine import connect
from coralord_lightning.config import Config
from coralord_lightning.errors import CoralError, EngineUnreachableError
from coralord_lightning.workspace import open_workspace
from projects import example_project, write_rows

pytestmark = pytest.mark.docker

CORAL = [sys.executable, "-m", "coralord_lightning.cli"]
WAITS = "import time\ndef scale(batch, factor):\n    print('up')\n    time.sleep(600)\n    return batch\n"
FINE = "def scale(batch, factor):\n    return batch\n"


@pytest.fixture
def descriptor(tmp_path: Path, default_image: str) -> Path:
    """Of a project with four files, whose pipeline runs in a container."""
    path = example_project(tmp_path / "project")
    for number in range(4):
        write_rows(path.parent, f"{number}.parquet", 1000 * number, 1000 * number + 100)
    text = path.read_text()
    assert "environment: local" in text
    path.write_text(text.replace("environment: local", f"environment: {{image: '{default_image}'}}"))
    (path.parent / "pipeline.py").write_text(WAITS)
    return path


@contextmanager
def building(descriptor: Path, home: Path, containers: int) -> Iterator[subprocess.Popen[str]]:
    """A real process that builds, once so many of its containers wait in the pipeline."""
    command = [*CORAL, "build", str(descriptor), "--home", str(home), "--jobs", str(containers)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as started:
        try:
            up = 0
            while up < containers:
                line = started.stderr.readline()
                assert line, "it ended"
                up += line.endswith("up\n")
            yield started
        finally:
            with suppress(ProcessLookupError):
                started.kill()


def test_ctrl_c_leaves_no_container(descriptor, docker_config, tmp_path):
    home = tmp_path / "home"
    with building(descriptor, home, containers=2) as started:
        assert len(ours(docker_config, started.pid)) == 2
        os.killpg(started.pid, signal.SIGINT)
        _, said = started.communicate(timeout=60)
    assert started.returncode == 130
    assert "Traceback" not in said
    assert ours(docker_config, started.pid) == []
    assert list((home / "tmp").iterdir()) == []


def test_containers_of_a_killed_build_end_by_themselves_and_are_reaped(descriptor, docker_config, tmp_path):
    home = tmp_path / "home"
    with building(descriptor, home, containers=2) as started:
        started.kill()
        started.wait()
        with connect(docker_config) as client:
            left = ours(docker_config, started.pid)
            assert len(left) == 2
            for container in left:
                client.api.wait(container)  # the end of its input ended it
    (descriptor.parent / "pipeline.py").write_text(FINE)
    assert open_workspace(replace(docker_config, home=home)).ensure(descriptor).partitions_built > 0
    assert ours(docker_config, started.pid) == []


def test_a_partition_that_fails_ends_the_others_and_keeps_what_was_finished(descriptor, docker_config, tmp_path):
    code = """
        import time
        def scale(batch, factor):
            if batch["x"][0].as_py() >= 3000:
                1 / 0
            if batch["x"][0].as_py() >= 2000:
                time.sleep(600)
            return batch
    """
    (descriptor.parent / "pipeline.py").write_text(textwrap.dedent(code))
    space = open_workspace(replace(docker_config, home=tmp_path / "home", jobs=2))
    with pytest.raises(CoralError, match="ZeroDivisionError"):
        space.ensure(descriptor)
    assert ours(docker_config) == []
    assert len(list((tmp_path / "home" / "partitions").glob("*.json"))) >= 2
    assert list((tmp_path / "home" / "manifests").glob("*")) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_store_on_a_full_disk_names_it_and_goes_on_when_there_is_room(descriptor, docker_config, tmp_path):
    code = """
        import pyarrow as pa
        def scale(batch, factor):
            while True:
                yield pa.table({"x": list(range(100_000))})
    """
    (descriptor.parent / "pipeline.py").write_text(textwrap.dedent(code))
    home = tmp_path / "home"
    home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(home)], check=True)
    try:
        command = [*CORAL, "build", str(descriptor), "--home", str(home), "--jobs", "2"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "CORAL-E0601" in done.stderr
        assert "--home DIR" in done.stderr
        assert shutil.disk_usage(home).free > 60 << 20
        (descriptor.parent / "pipeline.py").write_text(FINE)
        assert open_workspace(replace(docker_config, home=home)).ensure(descriptor).partitions_built > 0
    finally:
        subprocess.run(["umount", str(home)], check=True)


@pytest.fixture
def own_engine(default_image: str, docker_config: Config) -> Iterator[Engine]:
    """An engine that a test may kill, with the default image."""
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("starting an engine of its own needs root and dockerd")
    engine = Engine(Path(tempfile.mkdtemp(prefix="cde-", dir="/tmp")))
    try:
        engine.start()
        config = replace(docker_config, docker_host=engine.address)
        with connect(docker_config) as source, connect(config) as target:
            target.images.load(b"".join(source.images.get(default_image).save()))
        yield engine
    finally:
        engine.stop()


class Engine:
    """A container engine in a folder of its own, without a network."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"unix://{folder}/d.sock"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        for left in ("pid", "exec/containerd/containerd.pid"):  # or it waits for one that died with its parent
            (self.folder / left).unlink(missing_ok=True)
        words = ["--data-root", "root", "--exec-root", "exec", "--pidfile", "pid"]
        words = [word if word.startswith("--") else str(self.folder / word) for word in words]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                # in a network namespace: an engine without a bridge removes docker0, and that is another engine's
                ["unshare", "--net", "dockerd", *words, "-H", self.address, "--bridge", "none", "--iptables=false"],
                stdout=log,
                stderr=log,
            )
        while subprocess.run(["docker", "-H", self.address, "info"], capture_output=True, check=False).returncode:
            assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
            time.sleep(0.2)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for place in sorted((place for place in mounts if place.startswith(f"{self.folder}/")), reverse=True):
            subprocess.run(["umount", place], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def test_an_engine_that_dies_is_named_and_the_next_one_is_used(own_engine, docker_config, make, tmp_path):
    config = replace(docker_config, docker_host=own_engine.address)
    code = "import time\ndef run(batch):\n    print('up', flush=True)\n    time.sleep(600)\n"
    runner = DockerRunner(config, echo=lambda line: own_engine.kill())
    with pytest.raises(EngineUnreachableError) as caught, runner.open(make(code)) as session:
        session.run(TASK)
    assert "start Docker" in caught.value.remedy
    own_engine.start()
    (left,) = ours(config)
    with connect(config) as client:
        assert not client.api.inspect_container(left)["State"]["Running"]
        client.api.remove_container(left, force=True)  # we live, so it is no orphan
    (tmp_path / "again").mkdir()
    sandbox = make(SAME, out_dir=tmp_path / "again")
    with quiet(config).open(sandbox) as session:
        session.run(TASK)
    assert read(sandbox).num_rows == 3
    assert ours(config) == []

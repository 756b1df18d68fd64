"""The container runner on a real engine: isolation seen from inside, limits, cleaning up, same bytes as local."""

# ruff: noqa: F811  # `make` is a fixture

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import textwrap
import uuid
from dataclasses import replace

import docker.errors
import pytest

from contained import TASK, failure, make, ours, put, quiet, read  # noqa: F401  # a fixture
from coralord_lightning.builder.runners.base import Task
from coralord_lightning.builder.runners.docker import LABEL, DockerRunner
from coralord_lightning.builder.runners.engine import NAME_PREFIX, connect, ownership_labels, reap_orphans
from coralord_lightning.builder.runners.local import LocalRunner
from coralord_lightning.errors import (
    EngineUnreachableError,
    ImageNotFoundError,
    PipelineFailedError,
    PipelineNotFoundError,
    PipelineOutputError,
    RunnerError,
)
from coralord_lightning.spec.plan import Limits

pytestmark = pytest.mark.docker


def test_isolation_records_what_was_enforced(docker_config, make):
    with quiet(docker_config).open(
        make("def run(batch): ...", limits=Limits(memory_bytes=1 << 30, cpus=99))
    ) as session:
        isolation = dict(session.isolation)
    json.dumps(isolation)
    assert isolation["runner"] == "docker"
    assert isolation["network"] == "none"
    assert isolation["hermetic"] is True
    assert isolation["memory_bytes"] == 1 << 30
    assert 0 < isolation["cpus"] <= 99
    assert isolation["engine"].startswith("Docker ")


def test_one_container_serves_many_tasks(docker_config, make):
    code = "import socket\ndef run(batch):\n    return batch.append_column('h', [socket.gethostname()] * len(batch))\n"
    sandbox = make(code)
    with quiet(docker_config).open(sandbox) as session:
        for name in "cde":
            put(sandbox.in_dir / name)
            session.run(Task(input=name, output=f"{name}.out", label=name))
        assert len(ours(docker_config)) == 1
    assert len({value for name in "cde" for value in read(sandbox, f"{name}.out").column("h").to_pylist()}) == 1


def test_local_and_docker_give_the_same_bytes(docker_config, make):
    code = """
        import numpy as np
        import pyarrow as pa
        def run(batch, k):
            values = batch["x"].to_numpy()
            yield pa.record_batch({"y": np.sqrt(values * k), "h": [hash(str(v)) for v in values], "s": list("abc")})
    """
    sandbox = make(code, params={"k": 3})
    outputs = []
    for runner in (LocalRunner(), quiet(docker_config)):
        with runner.open(sandbox) as session:
            session.run(TASK)
        outputs.append((sandbox.out_dir / "b").read_bytes())
        (sandbox.out_dir / "b").unlink()
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize("mask", [0o077, 0o027])
def test_a_strict_umask_is_no_obstacle_and_permissions_come_back(mask, docker_config, make, tmp_path):
    before = os.umask(mask)
    try:
        sandbox = make("import os\nos.umask(0o777)\ndef run(batch):\n    return batch\n")
        was = sandbox.out_dir.stat()
        with quiet(docker_config).open(sandbox) as session:
            session.run(TASK)
    finally:
        os.umask(before)
    now = sandbox.out_dir.stat()
    assert (was.st_mode, was.st_uid, was.st_gid) == (now.st_mode, now.st_uid, now.st_gid)
    assert read(sandbox).num_rows == 3
    assert not list(tmp_path.glob("driver-*"))


def test_an_engine_that_counts_users_otherwise_can_write_too(docker_config, make, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)  # as for a user who is not root
    sandbox = make("def run(batch):\n    return batch\n")
    was = sandbox.out_dir.stat().st_mode
    with quiet(docker_config).open(sandbox) as session:
        session.run(TASK)
    assert sandbox.out_dir.stat().st_mode == was
    assert read(sandbox).num_rows == 3


def test_prints_reach_the_user_even_after_the_last_answer(docker_config, make):
    lines: list[str] = []
    code = "def run(batch):\n    print('one')\n    print('half', end='')\n    print(' two')\n    return batch\n"
    with DockerRunner(docker_config, echo=lines.append).open(make(code)) as session:
        session.run(TASK)
    assert lines == ["[pipeline] one", "[pipeline] half two"]


def test_user_errors_are_the_same_as_locally(docker_config, make):
    for code, kind in (
        ("def run(batch):\n    return batch['nope']\n", PipelineFailedError),
        ("def run(batch):\n    return 3\n", PipelineOutputError),
        ("def other(batch): ...\n", PipelineNotFoundError),
    ):
        sandbox = make(code)
        inside = failure(docker_config, sandbox)
        with pytest.raises(kind) as outside, LocalRunner().open(sandbox) as session:
            session.run(TASK)
        assert str(inside) == str(outside.value)


def test_a_module_that_the_image_lacks_is_a_matter_of_the_image(docker_config, make):
    error = failure(docker_config, make("import torch\ndef run(batch): ...\n"))
    assert "environment.image" in error.remedy


def test_a_process_that_was_killed_leaves_a_container_that_the_next_one_reaps(docker_config, make, tmp_path):
    sandbox = make("import time\nprint('up', flush=True)\ntime.sleep(600)\n")
    program = f"""
        from pathlib import Path
        from coralord_lightning.builder.runners.base import Sandbox
        from coralord_lightning.builder.runners.docker import DockerRunner
        from coralord_lightning.config import load_config
        with DockerRunner(load_config(home={str(tmp_path)!r})).open(
            Sandbox(code_dir=Path({str(sandbox.code_dir)!r}), in_dir=Path({str(sandbox.in_dir)!r}),
                    out_dir=Path({str(sandbox.out_dir)!r}), file="pipeline.py", function="run", per="batch",
                    params={{}}, batch_rows=1, image={sandbox.image!r})):
            pass
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"[pipeline] up\n"
        process.kill()
    filters = {"label": f"{LABEL}.pid={process.pid}"}
    with connect(docker_config) as client:
        assert len(client.api.containers(all=True, filters=filters)) == 1
        with quiet(docker_config).open(make("def run(batch): ...\n")):
            pass
        assert client.api.containers(all=True, filters=filters) == []


def test_only_orphans_are_reaped(docker_config, default_image):
    foreign = ownership_labels() | {f"{LABEL}.host": "another"}
    reused = ownership_labels() | {f"{LABEL}.started": "1"}
    with connect(docker_config) as client:
        made = {"unnamed": client.containers.create(default_image, labels=reused)} | {
            name: client.containers.create(default_image, labels=labels, name=f"{NAME_PREFIX}{uuid.uuid4().hex[:12]}")
            for name, labels in {"ours": ownership_labels(), "foreign": foreign, "reused": reused}.items()
        }
        try:
            reap_orphans(client)
            left = {item.id for item in client.containers.list(all=True)}
            assert {name for name, item in made.items() if item.id in left} == {"ours", "foreign", "unnamed"}
            reap_orphans(client, now=4e9)
            left = {item.id for item in client.containers.list(all=True)}
            assert {name for name, item in made.items() if item.id in left} == {"ours", "unnamed"}
        finally:
            for container in made.values():
                with contextlib.suppress(docker.errors.NotFound):
                    container.remove(force=True)


def test_an_image_that_is_not_there_is_named(docker_config, make):
    error = failure(docker_config, make("", image="sha256:" + "0" * 64))
    assert isinstance(error, ImageNotFoundError)


def test_an_image_without_python_or_pyarrow_is_named(docker_config, make):
    base = docker_config.base_image
    error = failure(docker_config, make("def run(batch): ...\n", image=base))
    assert isinstance(error, RunnerError)
    assert "pyarrow" in error.remedy
    with connect(docker_config) as client:
        empty = client.api.import_image_from_data(b"\0" * 1024, repository="coral-test-empty", tag="1")
        image = json.loads(empty.splitlines()[-1])["status"]
        try:
            assert "has no Python" in str(failure(docker_config, make("", image=image)))
        finally:
            client.images.remove("coral-test-empty:1")


@pytest.mark.skipif(os.geteuid() != 0, reason="hiding a directory from the engine needs root")
def test_an_engine_that_does_not_see_our_files_is_noticed(docker_config, make, tmp_path):
    make("def run(batch):\n    return batch\n")
    program = f"""
        import shutil, sys
        from pathlib import Path
        from coralord_lightning.builder.runners.base import Sandbox
        from coralord_lightning.builder.runners.docker import DockerRunner
        from coralord_lightning.config import load_config
        for name in ("code", "in", "out"):
            Path({str(tmp_path)!r}, name).mkdir()
        folders = [Path({str(tmp_path)!r}, name) for name in ("code", "in", "out")]
        with DockerRunner(load_config(home={str(tmp_path)!r})).open(
            Sandbox(code_dir=folders[0], in_dir=folders[1], out_dir=folders[2], file="pipeline.py", function="run",
                    per="batch", params={{}}, batch_rows=1, image=sys.argv[1])):
            pass
    """
    hide = f'mount --make-rprivate / && mount -t tmpfs none {tmp_path} && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", hide, "-", sys.executable, "-c", textwrap.dedent(program)]
    image = make("").image
    ended = subprocess.run([*command, str(image)], capture_output=True, text=True, check=False)
    assert "RunnerError" in ended.stderr
    assert "--home DIR" in ended.stderr


def test_no_engine_names_both_remedies(docker_config, make, tmp_path):
    error = failure(replace(docker_config, docker_host=f"unix://{tmp_path}/no.sock"), make(""))
    assert isinstance(error, EngineUnreachableError)
    assert "start Docker" in error.remedy
    assert "environment: local" in error.remedy

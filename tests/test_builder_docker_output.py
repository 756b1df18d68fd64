"""What a container may leave in its output directory: looked at while it writes, limited, and gone afterwards."""

# ruff: noqa: F811  # `make` is a fixture

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from contained import SAME, TASK, failure, make, quiet, read  # noqa: F401  # a fixture
from coralord_lightning.builder.runners import watch
from coralord_lightning.builder.runners.base import Sandbox
from coralord_lightning.builder.runners.container import container_arguments
from coralord_lightning.builder.runners.mounts import Mounts
from coralord_lightning.builder.runners.watch import Allowance, Found, allowance_for, clear, count, judge, overflow
from coralord_lightning.errors import RunnerError, StoreFullError
from coralord_lightning.spec.plan import Limits

MIB = 1 << 20
LITTLE = Limits(output_bytes=64 * MIB)
ALLOWED = Allowance(output_bytes=100, asked=True, floor_bytes=10)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=700", "none", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.docker
@pytest.mark.parametrize(
    "write",
    [
        "open('/out/x', 'ab').write(bytes(1 << 20))",
        "n += 1; open(f'/out/{n}', 'wb').write(bytes(1 << 20))",
        "n += 1; os.makedirs('/out/d/e', exist_ok=True); open(f'/out/d/e/{n}', 'wb').write(bytes(1 << 20))",
    ],
)
def test_a_pipeline_that_fills_its_output_directory_is_stopped(write, docker_config, make):
    code = f"import os, time\ndef run(batch):\n    n = 0\n    while True:\n        {write}\n        time.sleep(0.001)\n"
    sandbox = make(code, limits=LITTLE)
    error = failure(docker_config, sandbox)
    assert isinstance(error, RunnerError) or "disk is full" in error.message
    assert error.remedy
    assert list(sandbox.out_dir.iterdir()) == []


@pytest.mark.docker
def test_an_output_beyond_its_limit_names_the_limit_and_what_was_written(docker_config, make):
    code = """
        import pyarrow as pa
        def run(batch):
            while True:
                yield pa.table({"x": list(range(100_000))})
    """
    sandbox = make(code, limits=LITTLE)
    error = failure(docker_config, sandbox)
    assert isinstance(error, RunnerError)
    assert error.facts["allowed"] == "output 64.0 MiB"
    assert "in 1 files" in error.facts["written"]
    assert "environment.output" in error.remedy
    assert list(sandbox.out_dir.iterdir()) == []


@pytest.mark.docker
def test_an_output_that_is_over_at_once_is_found_before_it_is_taken(docker_config, make):
    code = """
        import os
        def run(batch):
            os.posix_fallocate(os.open("/out/x", os.O_CREAT | os.O_WRONLY), 0, 65 << 20)
            return batch
    """
    error = failure(docker_config, make(code, limits=LITTLE))
    assert error.facts["allowed"] == "output 64.0 MiB"


@pytest.mark.docker
def test_too_many_files_are_an_error_and_gone(docker_config, make):
    code = """
        import time
        def run(batch):
            n = 0
            while True:
                n += 1
                open(f"/out/{n}", "w").close()
    """
    sandbox = make(code)
    error = failure(docker_config, sandbox)
    assert error.facts["allowed"] == f"{watch.MAX_FILES:,} files"
    assert list(sandbox.out_dir.iterdir()) == []


@pytest.mark.docker
def test_a_directory_too_deep_to_look_into_is_an_error_and_gone(docker_config, make):
    code = """
        import os
        def run(batch):
            os.chdir("/out")
            for _ in range(5000):
                os.mkdir("d" * 100)
                os.chdir("d" * 100)
            return batch
    """
    sandbox = make(code)
    error = failure(docker_config, sandbox)
    assert error.remedy
    assert list(sandbox.out_dir.iterdir()) == []


@pytest.mark.docker
def test_a_full_disk_is_named_and_only_the_pipeline_pays(docker_config, make, small_disk):
    code = """
        import pyarrow as pa
        def run(batch):
            while True:
                yield pa.table({"x": list(range(100_000))})
    """
    out_dir = small_disk / "out"
    out_dir.mkdir()
    error = failure(docker_config, make(code, out_dir=out_dir))
    assert isinstance(error, StoreFullError)
    assert "free some space" in error.remedy
    assert shutil.disk_usage(small_disk).free > 60 * MIB


@pytest.mark.docker
def test_a_deleted_file_that_is_still_open_fills_no_disk(docker_config, make, small_disk):
    code = """
        import os, time
        def run(batch):
            held = []
            for n in range(4):
                held.append(open("/out/x", "wb", buffering=0))
                os.unlink("/out/x")
                for _ in range(16):
                    try:
                        held[-1].write(bytes(1 << 20))
                    except OSError:
                        pass
            while True:
                time.sleep(0.1)
    """
    out_dir = small_disk / "out"
    out_dir.mkdir()
    error = failure(docker_config, make(code, out_dir=out_dir))
    assert isinstance(error, StoreFullError)
    assert shutil.disk_usage(small_disk).free > 60 * MIB


@pytest.mark.docker
def test_an_ordinary_output_is_left_alone(docker_config, make):
    sandbox = make(SAME, limits=LITTLE)
    with quiet(docker_config).open(sandbox) as session:
        session.run(TASK)
    assert read(sandbox).num_rows == 3


def test_a_reserve_stays_free_unless_the_disk_is_nearly_full(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    for total, free, allowed in (
        (100 << 30, 50 << 30, 45 << 30),
        (10 << 30, 5 << 30, 3 << 30),
        (10 << 30, 1 << 30, 1 << 29),
    ):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, t=total, f=free: usage._replace(total=t, free=f))
        assert allowance_for(tmp_path, None).output_bytes == allowed
        assert not allowance_for(tmp_path, None).asked
        assert allowance_for(tmp_path, 7).output_bytes == 7
        assert allowance_for(tmp_path, 7).asked
        assert allowance_for(tmp_path, 1 << 40).output_bytes == allowed
        assert not allowance_for(tmp_path, 1 << 40).asked


@pytest.mark.parametrize(
    ("size", "files", "hidden", "free", "verdict"),
    [
        (100, 10_000, False, 10, None),
        (101, 1, False, 99, "bytes"),
        (1, 10_001, False, 99, "files"),
        (1, 1, True, 99, "hidden"),
        (1, 1, False, 9, "disk"),
    ],
)
def test_which_limit_is_passed(size, files, hidden, free, verdict):
    found = Found(bytes=size, files=files, hidden=hidden, free_bytes=free)
    assert judge(found, ALLOWED) == verdict
    if verdict is not None:
        error = overflow(verdict, found, ALLOWED, label="partition 1 of 1", out_dir=Path("/x"))
        assert error.remedy
        assert error.facts["written"]
        assert error.facts["allowed"]


def test_counting_follows_nothing_and_sees_holes_as_what_they_take(tmp_path):
    (tmp_path / "out" / "d").mkdir(parents=True)
    (tmp_path / "elsewhere").write_bytes(bytes(MIB))
    (tmp_path / "out" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "out" / "loop").symlink_to("loop")
    (tmp_path / "out" / "up").symlink_to("..")
    os.mkfifo(tmp_path / "out" / "d" / "fifo")
    with (tmp_path / "out" / "d" / "hole").open("wb") as file:
        file.truncate(1 << 40)
    found = count(tmp_path / "out")
    assert found.files == 6
    assert found.bytes < MIB
    assert not found.hidden


def test_clearing_removes_everything_and_nothing_else(tmp_path):
    (tmp_path / "kept").write_text("kept")
    out = tmp_path / "out"
    out.mkdir()
    (out / "link").symlink_to(tmp_path / "kept")
    folder = os.open(out, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("deep", dir_fd=folder)
        inner = os.open("deep", os.O_RDONLY, dir_fd=folder)
        os.symlink(tmp_path, "out", dir_fd=inner)
        os.close(folder)
        folder = inner
    os.close(folder)
    (out / "file").write_text("x")
    clear(out, folders_only=True)
    assert sorted(item.name for item in out.iterdir()) == ["file", "link"]
    clear(out)
    assert list(out.iterdir()) == []
    assert (tmp_path / "kept").read_text() == "kept"


@pytest.mark.parametrize("volume", ["/", "/./", "/out/sub", "/code/sub/", "/in/../in/x", "/proc", "/sys/fs", "/usr"])
def test_a_volume_over_our_directories_or_the_system_is_the_images_fault(tmp_path, volume):
    (tmp_path / "out").mkdir()
    sandbox = Sandbox(
        code_dir=tmp_path, in_dir=tmp_path, out_dir=tmp_path / "out", image="sha256:0",
        file="p.py", function="run", per="batch", params={}, batch_rows=1,
    )  # fmt: skip
    mounts, allowance = Mounts(sandbox, user=None), allowance_for(sandbox.out_dir, None)
    with pytest.raises(RunnerError, match="declares a volume where") as caught:
        container_arguments(sandbox, mounts, allowance, cpus=1, volumes=[volume])
    assert caught.value.subject == "environment.image"

"""How a container may end, each way provoked on a real engine: a typed error with a remedy, and no container left."""

# ruff: noqa: F811  # `make` is a fixture

from __future__ import annotations

import contextlib
import re
import resource
import threading

import pytest

from contained import TASK, failure, make, ours, put, quiet, read  # noqa: F401  # a fixture
from coralord_lightning.builder.runners.attached import Frames
from coralord_lightning.builder.runners.base import Task
from coralord_lightning.builder.runners.docker import DockerRunner
from coralord_lightning.builder.runners.engine import connect
from coralord_lightning.builder.runners.prints import MAX_LINES, Prints
from coralord_lightning.errors import CoralError, PipelineFailedError, PipelineOutputError, RunnerError
from coralord_lightning.spec.plan import Limits

LITTLE = Limits(memory_bytes=256 << 20)


@pytest.mark.docker
def test_running_out_of_memory_names_the_setting(docker_config, make):
    error = failure(docker_config, make("def run(batch):\n    return bytearray(b'x') * (1 << 30)\n", limits=LITTLE))
    assert isinstance(error, RunnerError)
    assert error.facts == {"allowed": "256m"}
    assert error.remedy == "raise environment.memory, e.g. memory: 512m"


@pytest.mark.docker
def test_a_child_that_is_killed_for_memory_is_out_of_memory_too(docker_config, make):
    code = """
        import subprocess, sys
        def run(batch):
            if batch.num_rows == 3:
                subprocess.run([sys.executable, "-c", "x = bytearray(b'x') * (1 << 30)"], check=True)
            return batch
    """
    error = failure(docker_config, make(code, limits=LITTLE))
    assert isinstance(error, RunnerError)
    assert error.facts["allowed"] == "256m"
    assert "CalledProcessError" in error.facts["raised"]
    assert error.remedy == "raise environment.memory, e.g. memory: 512m"


@pytest.mark.docker
def test_a_failure_without_shortage_is_no_matter_of_memory(docker_config, make):
    code = "import os\ndef run(batch):\n    os.fork() or os.kill(os.getpid(), 9)\n    os.wait()\n    1 / 0\n"
    assert isinstance(failure(docker_config, make(code, limits=LITTLE)), PipelineFailedError)


@pytest.mark.docker
def test_memory_filled_through_its_scratch_space_counts_too(docker_config, make):
    code = """
        def run(batch):
            with open("/dev/shm/x", "wb") as f:
                for _ in range(512):
                    f.write(bytes(1 << 20))
            return batch
    """
    error = failure(docker_config, make(code, limits=LITTLE))
    assert error.facts["allowed"] == "256m"


@pytest.mark.docker
def test_a_pipeline_that_hangs_is_stopped_at_its_limit(docker_config, make):
    error = failure(
        docker_config, make("import time\ndef run(batch):\n    time.sleep(600)\n", limits=Limits(timeout_s=3))
    )
    assert isinstance(error, RunnerError)
    assert "environment.timeout" in error.remedy


@pytest.mark.docker
@pytest.mark.parametrize(
    ("act", "ended"),
    [
        ("os._exit(7)", "with exit code 7"),
        ("os.kill(os.getpid(), 9)", "with exit code 137"),
        ("os.kill(os.getpid(), 11)", "with exit code 139"),
        ("os._exit(0)", "with exit code 0"),
        ("os.closerange(0, 100)", "with exit code 120"),
    ],
)
def test_a_death_is_told_with_exit_code_and_last_lines(act, ended, docker_config, make):
    code = f"import os\ndef run(batch):\n    print('last words', flush=True)\n    {act}\n    return batch\n"
    error = failure(docker_config, make(code))
    assert isinstance(error, RunnerError)
    assert error.facts["ended"] == ended
    assert error.facts["last"].startswith("last words")
    assert error.remedy


@pytest.mark.docker
@pytest.mark.parametrize(
    ("act", "kind"),
    [
        ("os.unlink('/out/b')", RunnerError),
        ("open('/out/extra', 'w').close()", PipelineOutputError),
        ("os.mkdir('/out/extra')", PipelineOutputError),
        ("os.unlink('/out/b'); os.symlink('/etc/passwd', '/out/b')", PipelineOutputError),
        ("os.unlink('/out/b'); os.mkfifo('/out/b')", PipelineOutputError),
        ("os.link('/out/b', '/out/c')", PipelineOutputError),
    ],
)
def test_an_output_that_is_not_what_was_asked_for_is_an_error(act, kind, docker_config, make):
    sandbox = make(f"import os\ndef run(batch):\n    yield batch\n    {act}\n")
    with quiet(docker_config).open(sandbox) as session:
        with pytest.raises(kind) as caught:
            session.run(TASK)
        assert caught.value.remedy
        assert list(sandbox.out_dir.iterdir()) == []


@pytest.mark.docker
@pytest.mark.parametrize("action", ["kill", "remove_container", "pause"])
def test_a_container_ended_by_somebody_is_an_error(action, docker_config, make):
    code = "import time\ndef run(batch):\n    print('up', flush=True)\n    time.sleep(600)\n"
    up = threading.Event()

    def end():
        up.wait()
        with connect(docker_config) as client:
            for container in ours(docker_config):
                getattr(client.api, action)(container, **({"force": True} if action == "remove_container" else {}))

    thread = threading.Thread(target=end)
    thread.start()
    with (
        pytest.raises(RunnerError) as caught,
        DockerRunner(docker_config, echo=lambda line: up.set()).open(make(code)) as session,
    ):
        session.run(TASK)
    thread.join()
    said = {"kill": "ended before", "remove_container": "somebody removed|ended before", "pause": "somebody paused"}
    assert re.search(said[action], caught.value.message)
    assert caught.value.remedy


@pytest.mark.docker
def test_stopping_from_another_thread_ends_a_waiting_task(docker_config, make):
    code = "import time\ndef run(batch):\n    print('up', flush=True)\n    time.sleep(600)\n"
    up = threading.Event()
    with DockerRunner(docker_config, echo=lambda line: up.set()).open(make(code)) as session:
        thread = threading.Thread(target=lambda: (up.wait(), session.stop()))
        thread.start()
        for _ in range(2):
            with pytest.raises(RunnerError, match="stopped"):
                session.run(TASK)
        thread.join()


@pytest.mark.docker
def test_closing_from_another_thread_ends_a_waiting_task(docker_config, make):
    code = "import time\ndef run(batch):\n    print('up', flush=True)\n    time.sleep(600)\n"
    up, errors = threading.Event(), []

    def wait():
        with pytest.raises(RunnerError) as caught:
            session.run(TASK)
        errors.append(caught.value)

    with contextlib.ExitStack() as stack:
        runner = DockerRunner(docker_config, echo=lambda line: up.set())
        session = stack.enter_context(runner.open(make(code)))
        thread = threading.Thread(target=wait)
        thread.start()
        up.wait()
    thread.join()
    assert "stopped" in errors[0].message
    assert ours(docker_config) == []


@pytest.mark.docker
def test_sessions_of_several_threads_share_inputs_and_code(docker_config, make, tmp_path):
    code = "import socket\ndef run(batch):\n    return batch.append_column('h', [socket.gethostname()] * len(batch))\n"
    runner = quiet(docker_config)
    base = make(code)
    hosts: list[set[str]] = []
    all_open = threading.Barrier(3)

    def lane(number: int) -> None:
        out_dir = tmp_path / f"out-{number}"
        out_dir.mkdir()
        sandbox = make(code, out_dir=out_dir)
        with runner.open(sandbox) as session:
            all_open.wait()
            for turn in range(3):
                name = f"{number}-{turn}"
                put(base.in_dir / name)
                session.run(Task(input=name, output=name, label=name))
                (base.in_dir / name).unlink()
            hosts.append({value for turn in range(3) for value in read(sandbox, f"{number}-{turn}")["h"].to_pylist()})

    threads = [threading.Thread(target=lane, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(names) for names in hosts] == [1, 1, 1]
    assert len(set.union(*hosts)) == 3


@pytest.mark.docker
def test_prints_without_end_are_bounded_for_user_and_memory(docker_config, make):
    code = """
        import sys
        def run(batch):
            line = "x" * 1023 + "\\n"
            for _ in range(60):
                sys.stdout.write(line * 1024)
            print("the end")
            return batch
    """
    lines: list[str] = []
    sandbox = make(code)
    with DockerRunner(docker_config, echo=lines.append).open(sandbox) as session:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        session.run(TASK)
        (container,) = ours(docker_config)
        with connect(docker_config) as client:
            log = sum(len(chunk) for chunk in client.api.logs(container, stream=True, follow=False))
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(lines) == MAX_LINES + 1
    assert lines[-1] == f"[pipeline] … {60 * 1024 + 1 - MAX_LINES:,} lines left out"
    assert log <= 10 << 20
    assert after - before < 32 << 10  # KiB; 60 MiB went by
    assert read(sandbox).num_rows == 3


@pytest.mark.docker
def test_answers_without_end_are_bounded(docker_config, make):
    code = """
        import os
        def run(batch):
            for fd in range(3, 20):
                try:
                    while os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:"):
                        os.write(fd, b"x" * 65536)
                except OSError:
                    pass
            return batch
    """
    error = failure(docker_config, make(code))
    assert isinstance(error, RunnerError)
    assert len(str(error)) < 2000


@pytest.mark.docker
def test_an_answer_given_in_advance_answers_nothing(docker_config, make):
    code = """
        import os
        def run(batch):
            for fd in range(3, 20):
                try:
                    if os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:"):
                        os.write(fd, b'{"ok": true}\\n' * 3)
                except OSError:
                    pass
            return batch
    """
    sandbox = make(code)
    put(sandbox.in_dir / "c")
    done = []
    with contextlib.suppress(CoralError), quiet(docker_config).open(sandbox) as session:
        for task in (TASK, Task(input="c", output="d", label="the next")):
            session.run(task)
            done.append(read(sandbox, task.output).num_rows)  # an answer in advance would find no rows
    assert set(done) <= {3}


def test_frames_are_the_same_however_they_are_cut():
    sent = [(1, b"answer\n"), (2, b""), (2, b"x" * 70_000), (1, b"y")]
    wire = b"".join(bytes([stream, 0, 0, 0]) + len(body).to_bytes(4, "big") + body for stream, body in sent)
    for size in (1, 7, 8, 9, 65_536, len(wire)):
        got: dict[int, bytes] = {1: b"", 2: b""}
        frames = Frames(lambda stream, body: got.update({stream: got[stream] + body}))  # noqa: B023
        for at in range(0, len(wire), size):
            frames.feed(wire[at : at + size])
        assert got == {1: b"answer\ny", 2: b"x" * 70_000}


def test_a_frame_that_claims_gigabytes_keeps_nothing():
    taken = []
    frames = Frames(lambda stream, body: taken.append(len(body)))
    frames.feed(b"\x02\0\0\0\xff\xff\xff\xff")
    for _ in range(100):
        frames.feed(bytes(65_536))
    assert sum(taken) == 100 * 65_536
    assert all(not isinstance(value, bytes) or len(value) <= 8 for value in vars(frames).values())


def test_prints_are_harmless_to_a_terminal_and_bounded():
    lines: list[str] = []
    prints = Prints(lines.append)
    prints.begin("3/12")
    prints.feed("grün\x1b]52;c;AAAA\x07\n10 %\r20 %\r".encode())
    prints.feed(b"\nhalf")
    prints.feed(b" two" + b"z" * 200_000 + b"\n")
    prints.feed(b"\xff\n" * (MAX_LINES + 5))
    prints.end()
    assert lines[:3] == ["[pipeline 3/12] grün\\x1b]52;c;AAAA\\x07", "[pipeline 3/12] 20 %", lines[2]]
    assert max(map(len, lines)) < 4_100
    assert len(lines) == MAX_LINES + 1
    assert lines[-1].endswith("lines left out")
    assert len(prints.last) == 20

"""Every runner keeps the contract; one that breaks it on purpose is caught."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path

import pytest

from coralord_lightning.builder.runners import process
from coralord_lightning.builder.runners.docker import DockerRunner
from coralord_lightning.builder.runners.local import LocalRunner
from coralord_lightning.errors import RunnerError, StoreFullError
from coralord_lightning.spec.plan import Limits
from runner_contract import RunnerContract
from runner_lab import ESCAPE, IDENTITY, Lab, alive

TESTS = Path(__file__).resolve().parent


class TestLocal(RunnerContract):
    isolated = False
    memory_bytes = 2 << 30 if sys.platform == "linux" else None

    @pytest.fixture
    def lab(self, tmp_path):
        return Lab(folder=tmp_path, make_runner=lambda echo: LocalRunner(echo=echo))


@pytest.mark.docker
class TestDocker(RunnerContract):
    isolated = True
    memory_bytes = 256 << 20

    @pytest.fixture
    def lab(self, tmp_path, docker_config, default_image):
        def make(echo):
            return DockerRunner(docker_config, echo=echo)

        return Lab(folder=tmp_path, make_runner=make, image=default_image, out_inside="/out")


LOOSE = '''
    """A runner that breaks the contract: the host's environment, no clean directory, children left, no prefix."""
    import contextlib, json, os, subprocess, sys
    import pytest
    from runner_contract import RunnerContract
    from runner_lab import Lab
    from coralord_lightning.builder.runners.protocol import DRIVER
    from coralord_lightning.errors import RunnerError

    class Session:
        isolation = {"runner": "loose", "isolated": False}
        def __init__(self, process, echo):
            self.process, self.echo = process, echo
        def ask(self, request):
            self.process.stdin.write(json.dumps(request) + "\\n")
            self.process.stdin.flush()
            answer = json.loads(self.process.stdout.readline() or "null")
            if not answer or not answer["ok"]:
                raise RunnerError("t", "no", remedy="none")
        def run(self, task):
            self.ask({"input": task.input, "output": task.output, "label": task.label})
        def stop(self):
            self.process.kill()

    class Loose:
        def __init__(self, echo):
            self.echo = echo
        @contextlib.contextmanager
        def open(self, sandbox):
            process = subprocess.Popen([sys.executable, str(DRIVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       stderr=subprocess.DEVNULL, text=True, start_new_session=True)
            with process:
                session = Session(process, self.echo)
                session.ask({"code_dir": str(sandbox.code_dir), "in_dir": str(sandbox.in_dir),
                             "out_dir": str(sandbox.out_dir), "file": sandbox.file, "function": sandbox.function,
                             "per": sandbox.per, "params": dict(sandbox.params), "batch_rows": sandbox.batch_rows})
                yield session
                process.kill()

    class TestLoose(RunnerContract):
        isolated = False
        memory_bytes = None
        @pytest.fixture
        def lab(self, tmp_path):
            return Lab(folder=tmp_path, make_runner=Loose)
'''
BROKEN = [
    "test_the_surroundings_are_the_same_whatever_the_hosts_are",
    "test_nothing_that_the_code_started_outlives_the_session[closed]",
    "test_anything_but_the_output_is_an_error_and_is_removed[symlink]",
    "test_prints_reach_the_user_with_the_tag_of_their_task",
    "test_an_exception_shows_the_users_own_lines",
    "test_isolation_says_what_was_enforced",
]
KEPT = ["test_all_documented_kinds_of_results_are_taken[a batch]", "test_what_is_printed_is_no_answer"]


def test_a_runner_that_breaks_the_contract_fails_the_suite(tmp_path):
    (tmp_path / "test_loose.py").write_text(textwrap.dedent(LOOSE))
    names = [f"{tmp_path / 'test_loose.py'}::TestLoose::{name}" for name in (*BROKEN, *KEPT)]
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "-c", os.devnull, *names]
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    outcome = {
        line.partition("::TestLoose::")[2].partition(" - ")[0]: line.split()[0]
        for line in ended.stdout.splitlines()
        if line.startswith(("PASSED", "FAILED", "ERROR"))
    }
    for path in Path("/proc").glob("[0-9]*/cmdline"):  # what it left behind is ours to end
        with contextlib.suppress(OSError):
            last = path.read_bytes().rpartition(b"\0")[0].rpartition(b"\0")[2]
            if last.startswith(b"coral-") and last.decode() in ended.stdout:
                os.kill(int(path.parent.name), 9)
    assert outcome == dict.fromkeys(BROKEN, "FAILED") | dict.fromkeys(KEPT, "PASSED"), ended.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has child subreapers")
def test_a_killed_parent_takes_along_what_the_pipeline_started(tmp_path):
    token = f"coral-{uuid.uuid4().hex}"
    lab = Lab(folder=tmp_path, make_runner=lambda echo: LocalRunner(echo=echo))
    hang = f"    escape({token!r})\n    print('up', flush=True)\n    time.sleep(600)\n"
    lab.sandbox(f"{ESCAPE}\nimport time\ndef run(batch):\n{hang}")
    lab.task()
    program = f"""
        from pathlib import Path
        from coralord_lightning.builder.runners.base import Sandbox, Task
        from coralord_lightning.builder.runners.local import LocalRunner
        folder = Path({str(tmp_path)!r})
        sandbox = Sandbox(code_dir=folder / "code", in_dir=folder / "in", out_dir=folder / "out", file="pipeline.py",
                          function="run", per="batch", params={{}}, batch_rows=1)
        with LocalRunner().open(sandbox) as session:
            session.run(Task(input="a", output="b", label="t"))
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"[pipeline] up\n"
        assert alive(token)
        process.kill()
    while alive(token):  # the suite's own time limit ends this
        pass


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_told_and_the_next_session_works(tmp_path):
    lab = Lab(folder=tmp_path, make_runner=lambda echo: LocalRunner(echo=echo))
    code = (
        "import pyarrow as pa\ndef run(batch):\n    while True:\n        yield pa.table({'x': list(range(10_000))})\n"
    )
    small = lab.sandbox(code, out="small").out_dir
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(small)], check=False)
    if mounted.returncode:
        pytest.skip("this machine does not let us mount a small disk")
    try:
        assert isinstance(lab.failure(code, out="small"), StoreFullError)
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert lab.run(IDENTITY).num_rows == 3


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("number", [9, 19])
def test_a_pipeline_that_ends_or_stops_its_guard_does_not_outlive_it(number, tmp_path, monkeypatch):
    monkeypatch.setattr(process, "GRACE_S", 1.0)
    token = f"coral-{uuid.uuid4().hex}"
    start = f"subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', {token!r}])"
    code = f"import os, subprocess, sys, time\ndef run(batch):\n    {start}\n    os.kill(os.getppid(), {number})\n"
    lab = Lab(folder=tmp_path, make_runner=lambda echo: LocalRunner(echo=echo))
    limits = Limits(timeout_s=5)
    assert isinstance(lab.failure(code + "    time.sleep(600)\n", limits=limits), RunnerError)
    while alive(token):  # the suite's own time limit ends this
        pass

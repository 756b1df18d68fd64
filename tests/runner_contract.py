"""What every runner must do, as one suite: inherit `RunnerContract` and give it a `lab`.

Nothing here knows a runner; what a platform cannot do stands in the class attributes, with the tests that it excuses.
"""

from __future__ import annotations

import json
import os
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import pytest

from coralord_lightning.builder.runners.protocol import DETERMINISTIC_ENVIRONMENT
from coralord_lightning.errors import (
    CoralError,
    PipelineFailedError,
    PipelineNotFoundError,
    PipelineOutputError,
    RunnerError,
)
from coralord_lightning.spec.plan import Limits
from runner_lab import BATCH, ESCAPE, IDENTITY, Lab, alive, seen

__all__ = ["RunnerContract"]

RETURNS = {
    "a batch": "def run(batch):\n    return batch\n",
    "a table": "import pyarrow as pa\ndef run(batch):\n    return pa.Table.from_batches([batch])\n",
    "a list": "def run(batch):\n    return [batch.slice(0, 1), batch.slice(1)]\n",
    "a generator": "def run(batch):\n    yield batch.slice(0, 2)\n    yield batch.slice(2)\n",
    "an iterator": "def run(batch):\n    return iter([batch])\n",
    "a reader": "import pyarrow as pa\ndef run(batch):\n    return pa.Table.from_batches([batch]).to_reader()\n",
}
RAISES = {
    "KeyError": "raise KeyError('x')",
    "SystemExit": "sys.exit(3)",
    "KeyboardInterrupt": "raise KeyboardInterrupt",
}
DIES = {
    "exit": "os._exit(7)",
    "SIGKILL": "os.kill(os.getpid(), 9)",
    "SIGTERM to all": "os.kill(-os.getpgrp(), 15) or signal.pause()",
    "abort": "os.abort()",
}
LEAVES = {
    "missing": "os.unlink(mine)",
    "extra": "open(out + '/extra', 'w').close()",
    "extra folder": "os.makedirs(out + '/deep/er'); open(out + '/deep/er/x', 'w').close()",
    "symlink": "os.rename(mine, out + '/real'); os.symlink('/etc/hostname', mine)",
    "dangling link": "os.unlink(mine); os.symlink('nowhere', mine)",
    "directory": "os.unlink(mine); os.mkdir(mine)",
    "pipe": "os.unlink(mine); os.mkfifo(mine)",
    "hard link": "os.link(mine, out + '/twin')",
}
SURROUNDINGS = """
    import json, locale, os, sys, time
    import numpy as np
    import pyarrow as pa
    mask = os.umask(0)
    os.umask(mask)
    locale.setlocale(locale.LC_ALL, "")
    def run(batch):
        values = np.arange(300_000, dtype=np.float32) ** 0.5
        kept = {k: v for k, v in os.environ.items() if k not in ("HOME", "PATH", "HOSTNAME")}
        report = {
            "environment": kept, "hash": hash("x"), "zone": [time.tzname, time.timezone, time.localtime(0).tm_hour],
            "locale": [locale.getlocale(), f"{1234.5:n}"], "umask": mask, "flags": list(sys.flags),
            "here": sorted(os.listdir(".")),
            "threads": pa.cpu_count(), "sum": float(values.sum()), "product": float(values @ values),
            "input": sys.stdin.read(), "encoding": [sys.getfilesystemencoding(), sys.stdout.encoding],
        }
        return pa.table({"seen": [json.dumps(report, sort_keys=True)]})
"""


class RunnerContract:
    """Tests of a runner; the class of each runner gives `lab`."""

    isolated: ClassVar[bool]
    """Whether the code is kept from the host's files and its inputs are read-only."""
    memory_bytes: ClassVar[int | None]
    """A limit that is enforced and lets pyarrow be imported; None where none is."""

    @pytest.fixture
    def lab(self) -> Lab:
        raise NotImplementedError

    @pytest.mark.parametrize("kind", RETURNS)
    def test_all_documented_kinds_of_results_are_taken(self, lab, kind):
        assert lab.run(RETURNS[kind], BATCH, BATCH).column("x").to_pylist() == [1, 2, 3] * 2

    @pytest.mark.parametrize("per", ["partition", "dataset"])
    def test_per_partition_hands_over_one_reader_of_all_batches(self, lab, per):
        code = "import pyarrow as pa\ndef run(reader):\n    return pa.table({'n': [len(list(reader))]})\n"
        assert lab.run(code, BATCH, BATCH, BATCH, per=per).column("n").to_pylist() == [3]

    def test_one_session_serves_many_tasks_and_passes_parameters(self, lab):
        code = "import os\ndef run(batch, k):\n    return batch.append_column('p', [os.getpid() * k] * len(batch))\n"
        sandbox = lab.sandbox(code, params={"k": 2})
        tasks = [lab.task(name) for name in "abc"]
        with lab.open(sandbox) as session:
            for task in tasks:
                session.run(task)
        assert len({value for task in tasks for value in lab.read(sandbox, task).column("p").to_pylist()}) == 1

    def test_a_schema_that_changes_between_batches_is_refused(self, lab):
        code = "def run(batch):\n    yield batch\n    yield batch.set_column(0, 'x', batch['x'].cast('int8'))\n"
        error = lab.failure(code)
        assert isinstance(error, PipelineOutputError)
        assert "column 'x'" in error.message

    def test_an_exception_shows_the_users_own_lines(self, lab):
        code = "def helper(batch):\n    return batch['nope']\n\n\ndef run(batch):\n    return helper(batch)\n"
        error = lab.failure(code, source_names={"pipeline.py": "etl/pipeline.py"})
        assert isinstance(error, PipelineFailedError)
        assert error.subject == "etl/pipeline.py:2"
        assert [line.split(" ")[0] for line in error.facts["at"].splitlines()] == [
            "etl/pipeline.py:6",
            "etl/pipeline.py:2",
        ]

    @pytest.mark.parametrize("name", RAISES)
    def test_whatever_the_code_raises_the_session_goes_on(self, lab, name):
        code = f"import sys\ndef run(batch):\n    if len(batch) == 3:\n        {RAISES[name]}\n    return batch\n"
        sandbox = lab.sandbox(code)
        bad, good = lab.task("bad"), lab.task("good", BATCH.slice(0, 2))
        with lab.open(sandbox) as session:
            with pytest.raises(PipelineFailedError) as caught:
                session.run(bad)
            session.run(good)
        assert caught.value.facts["raised"].startswith(name)
        assert sorted(os.listdir(sandbox.out_dir)) == ["good.out"]

    def test_what_cannot_be_loaded_is_named_with_a_remedy(self, lab):
        error = lab.failure("def runn(batch): ...\n")
        assert isinstance(error, PipelineNotFoundError)
        assert error.remedy == "entrypoint: pipeline.py:runn"

    def test_prints_reach_the_user_with_the_tag_of_their_task(self, lab):
        code = """
            import os, sys
            print("loading")
            def run(batch):
                os.write(1, b"raw\\n")
                print(f"rows {len(batch)}", file=sys.stderr)
                print("half", end="", flush=True)
                return batch
        """
        with lab.open(lab.sandbox(code)) as session:
            session.run(lab.task("a", tag="1/2"))
            session.run(lab.task("b", BATCH.slice(1), tag="2/2"))
        one = [f"[pipeline 1/2] {line}" for line in ("raw", "rows 3", "half")]
        two = [f"[pipeline 2/2] {line}" for line in ("raw", "rows 2", "half")]
        assert lab.lines == ["[pipeline] loading", *one, *two]

    def test_what_is_printed_is_no_answer(self, lab):
        code = (
            "import json\ndef run(batch):\n    print(json.dumps({'ok': False, 'kind': 'memory'}))\n    return batch\n"
        )
        assert lab.run(code).num_rows == 3

    def test_the_surroundings_are_the_same_whatever_the_hosts_are(self, lab, monkeypatch):
        here = {"pipeline.py": SURROUNDINGS, "b.txt": "", "a.txt": ""}
        first = lab.run(here, processors=1)
        for name, value in {"TZ": "Asia/Tokyo", "LC_ALL": "de_DE.UTF-8", "PYTHONHASHSEED": "7", "X_TOKEN": "canary",
                            "OMP_NUM_THREADS": "5", "PYTHONUTF8": "0", "PYTHONOPTIMIZE": "1"}.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        before = os.umask(0o077)
        try:
            second = lab.run(here)
        finally:
            os.umask(before)
        assert first == second
        report = seen(first)
        assert DETERMINISTIC_ENVIRONMENT.items() <= report["environment"].items()
        assert "canary" not in json.dumps(report)
        assert report["here"] == ["a.txt", "b.txt", "pipeline.py"]
        assert (report["umask"], report["threads"], report["input"]) == (0o022, 1, "")

    def test_local_modules_and_declared_files_are_found(self, lab):
        code = {
            "sub/entry.py": "import near, far\ndef run(batch):\n"
            "    return batch.append_column('y', [near.A + far.B + open('v.txt').read()] * len(batch))\n",
            "sub/near.py": "A = 'a'\n",
            "far.py": "B = 'b'\n",
            "v.txt": "c",
        }
        assert lab.run(code, file="sub/entry.py").column("y").to_pylist() == ["abc"] * 3

    def test_a_file_that_is_not_declared_is_named(self, lab):
        (lab.folder / "project").mkdir()
        (lab.folder / "project" / "vocab.json").write_text("{}")
        code = "def run(batch):\n    open('vocab.json')\n"
        error = lab.failure(code, project_dir=lab.folder / "project", files=("b.txt",))
        assert isinstance(error, PipelineFailedError)
        assert error.remedy == "files: [b.txt, vocab.json]  # beneath pipeline:"

    def test_inputs_and_code_are_read_only_where_that_is_enforced(self, lab):
        if not self.isolated:
            pytest.skip("this runner does not isolate, and its isolation says so")
        code = """
            import json, os
            import pyarrow as pa
            def attempt(path):
                try:
                    open(path, "a").close()
                except OSError:
                    return None
                return path
            def run(batch):
                here = os.getcwd()
                paths = [here + "/pipeline.py", here + "/new", "/in/a", "/in/new", "/new", "/etc/new"]
                return pa.table({"x": [json.dumps([p for p in paths if attempt(p)])]})
        """
        assert seen(lab.run(code)) == []

    @pytest.mark.parametrize("name", DIES)
    def test_a_death_is_told_and_the_session_stays_dead(self, lab, name):
        code = f"import os, signal\ndef run(batch):\n    print('last words', flush=True)\n    {DIES[name]}\n"
        with lab.open(lab.sandbox(code)) as session:
            for _ in range(2):
                with pytest.raises(RunnerError) as caught:
                    session.run(lab.task())
        assert "last words" in caught.value.facts["last"]
        assert lab.run(IDENTITY, out="next").num_rows == 3

    @pytest.mark.parametrize("name", LEAVES)
    def test_anything_but_the_output_is_an_error_and_is_removed(self, lab, name):
        code = f"""
            import os
            def run(batch, out):
                mine = out + "/bad.out"
                yield batch
                if len(batch) == 3:
                    {LEAVES[name]}
        """
        sandbox = lab.sandbox(code)
        sandbox = lab.sandbox(code, params={"out": lab.out(sandbox)})
        bad, good = lab.task("bad"), lab.task("good", BATCH.slice(0, 2))
        with lab.open(sandbox) as session:
            with pytest.raises(RunnerError if name == "missing" else PipelineOutputError) as caught:
                session.run(bad)
            assert os.listdir(sandbox.out_dir) == []
            session.run(good)
        assert caught.value.remedy
        assert os.listdir(sandbox.out_dir) == ["good.out"]

    @pytest.mark.parametrize("what", ["os.mkfifo({})", "os.symlink('/dev/zero', {})", "os.mkdir({})"])
    def test_what_was_planted_where_the_output_goes_is_not_written_to(self, lab, what):
        sandbox = lab.sandbox("")
        plant = what.format("out + '/a.out'")
        code = f"import os\nout = {lab.out(sandbox)!r}\n{plant}\ndef run(batch):\n    return batch\n"
        error = lab.failure(code, limits=Limits(timeout_s=60))
        assert isinstance(error, RunnerError)
        assert "timeout" not in error.remedy

    def test_the_time_limit_is_for_one_task(self, lab):
        code = "import time\ndef run(batch):\n    time.sleep(1.5 if len(batch) == 3 else 600)\n    return batch\n"
        with lab.open(lab.sandbox(code, limits=Limits(timeout_s=5))) as session:
            for name in "abcd":  # more than that in all
                session.run(lab.task(name))
            with pytest.raises(RunnerError) as caught:
                session.run(lab.task("e", BATCH.slice(1)))
        assert caught.value.facts["allowed"] == "5 s for one partition"
        assert "environment.timeout" in caught.value.remedy

    def test_memory_beyond_the_limit_is_named(self, lab):
        if self.memory_bytes is None:
            pytest.skip("this platform bounds no memory")
        code = (
            "def run(batch):\n    if len(batch) == 3:\n        return bytearray(b'x') * (4 << 30)\n    return batch\n"
        )
        error = lab.failure(code, limits=Limits(memory_bytes=self.memory_bytes))
        assert isinstance(error, RunnerError)
        assert "memory" in error.message
        assert "environment.memory" in error.remedy
        assert lab.run(IDENTITY, out="next").num_rows == 3

    def test_two_sessions_share_inputs_and_mix_nothing(self, lab):
        code = "import os\ndef run(batch):\n    print(len(batch))\n    return batch\n"
        boxes = [lab.sandbox(code, out=f"out{number}") for number in range(2)]
        tasks = [lab.task("a", tag="1/2"), lab.task("b", BATCH.slice(1), tag="2/2")]

        def serve(number):
            with lab.open(boxes[number]) as session:
                for _ in range(5):
                    session.run(tasks[number])
                    assert lab.take(boxes[number], tasks[number]).num_rows == 3 - number

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(serve, range(2)))
        assert sorted(lab.lines) == ["[pipeline 1/2] 3"] * 5 + ["[pipeline 2/2] 2"] * 5

    def test_a_start_that_hangs_ends_when_another_thread_says_so(self, lab):
        up, stops = threading.Event(), []
        sandbox = lab.sandbox("print('up', flush=True)\nwhile True:\n    pass\ndef run(batch):\n    return batch\n")
        runner = lab.make_runner(lambda line: up.set())

        def stop_when_up():
            assert up.wait(60)
            stops[0]()

        thread = threading.Thread(target=stop_when_up)
        thread.start()
        with pytest.raises(RunnerError, match="was stopped"):
            runner.open(sandbox, started=stops.append).__enter__()
        thread.join(60)

    @pytest.mark.parametrize("how", ["stop", "close"])
    def test_a_task_that_waits_ends_when_another_thread_says_so(self, lab, how):
        up, errors = threading.Event(), []
        code = "import time\ndef run(batch):\n    print('up', flush=True)\n    time.sleep(600)\n"
        lab.sandbox(code)
        task = lab.task()
        manager = lab.make_runner(lambda line: up.set()).open(lab.sandbox(code))
        session = manager.__enter__()

        def wait():
            for _ in range(2):
                try:
                    session.run(task)
                except CoralError as error:
                    errors.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        assert up.wait(60)
        if how == "stop":
            session.stop()
            session.stop()
            thread.join(60)
        manager.__exit__(None, None, None)
        thread.join(60)
        assert not thread.is_alive()
        assert [type(error) for error in errors] == [RunnerError, RunnerError]
        assert "was stopped" in errors[0].message

    @pytest.mark.parametrize("how", ["closed", "died", "stopped", "late"])
    def test_nothing_that_the_code_started_outlives_the_session(self, lab, how):
        token = f"coral-{uuid.uuid4().hex}"
        ends = {
            "closed": "return batch",
            "died": "os._exit(1)",
            "stopped": "time.sleep(600)",
            "late": "time.sleep(600)",
        }
        code = f"{ESCAPE}\nimport time\ndef run(batch):\n    escape({token!r})\n    {ends[how]}\n"
        limits = Limits(timeout_s=5 if how == "late" else None)
        with lab.open(lab.sandbox(code, limits=limits)) as session:
            if how == "stopped":
                threading.Timer(3, session.stop).start()
            try:
                session.run(lab.task())
            except RunnerError:
                assert how != "closed"
            else:
                assert alive(token)
        assert alive(token) == []

    def test_isolation_says_what_was_enforced(self, lab):
        with lab.open(lab.sandbox(IDENTITY, limits=Limits(timeout_s=60, memory_bytes=self.memory_bytes))) as session:
            isolation = dict(session.isolation)
        json.dumps(isolation)
        assert isolation["isolated"] is self.isolated
        assert isolation["timeout_s"] == 60
        assert isolation["memory_bytes"] == self.memory_bytes
        assert {"runner", "python", "pyarrow"} <= set(isolation)

"""`kill -9` at every step of a build that reaches the disk, then the same build again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from projects import example_project

DRIVER = '''
"""For every step n of a build: a child is killed at n, then another builds again. One JSON line a step."""
import json, os, shutil, signal, sys
from pathlib import Path

import duckdb, numpy, pyarrow, pyarrow.compute, pyarrow.ipc, pydantic, rfc8785, ruamel.yaml  # warm, before the forks
from coralord_lightning.config import Config
from coralord_lightning.errors import CoralError
from coralord_lightning.versions.status import status
from coralord_lightning.workspace import open_workspace

descriptor, root = sys.argv[1], Path(sys.argv[2])

def attempt(home, crash_at, report):
    """Build in a forked child that kills itself at a step; returns how it ended."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    steps = []
    def crash_point(name):
        steps.append(name)
        if len(steps) == crash_at:
            os.kill(os.getpid(), signal.SIGKILL)
    space = open_workspace(Config(home=home), crash_point=crash_point)
    outcome = space.ensure(descriptor)
    listed = space.store.query("select name, fingerprint, content_digest from entries").rows
    report.write_text(json.dumps({"steps": steps, "listed": [list(map(str, row)) for row in listed],
                                  "version": outcome.version.to_json(), "built": outcome.built}))
    os._exit(0)

def seen(home, report):
    """What a reader finds after a crash, in a child of its own."""
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return json.loads(report.read_text())
    space = open_workspace(Config(home=home))
    found = []
    for path in sorted((home / "manifests").glob("*")):
        manifest = space.store.read_manifest(path.stem)
        space.store.check_shards(manifest, mode="read")
        found.append(manifest.fingerprint)
    listed = [str(row[0]) for row in space.store.query("select fingerprint from entries").rows]
    pinned = [pin.fingerprint for name in space.store.names() for pin in space.store.pins(name)]
    report.write_text(json.dumps({"found": found, "pinned": pinned, "listed": listed,
                                  "state": status(space, descriptor).state}))
    os._exit(0)

report = root / "report.json"
assert attempt(root / "whole", 0, report) == 0
whole = json.loads(report.read_text())
print(json.dumps(whole), flush=True)
for step in range(1, len(whole["steps"]) + 1):
    home = root / f"home-{step}"
    ended = attempt(home, step, report)
    after = seen(home, report)
    again_ended = attempt(home, 0, report)
    again = json.loads(report.read_text())
    leftovers = [str(path.relative_to(home)) for path in (home / "tmp").iterdir()]
    print(json.dumps({"step": whole["steps"][step - 1], "ended": ended, "after": after, "again_ended": again_ended,
                      "again": again, "leftovers": leftovers}), flush=True)
    shutil.rmtree(home)
'''


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_build_killed_at_any_step_leaves_nothing_partial_and_the_next_one_ends_the_same(tmp_path):
    descriptor: Path = example_project(tmp_path / "project", files=1)
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(descriptor), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    whole, *crashes = (json.loads(line) for line in done.stdout.splitlines())
    fingerprint, digest = whole["version"]["fingerprint"], whole["version"]["content_digest"]
    assert len(crashes) == len(whole["steps"]) > 10
    for crash in crashes:
        step = crash["step"]
        assert crash["ended"] == -9, step
        assert set(crash["after"]["listed"]) <= set(crash["after"]["found"]) <= {fingerprint}, step
        assert set(crash["after"]["pinned"]) <= set(crash["after"]["found"]), step
        assert (crash["after"]["state"] == "fresh") == (crash["after"]["found"] == [fingerprint]), step
        assert crash["again_ended"] == 0, step
        assert crash["again"]["version"]["content_digest"] == digest, step
        assert crash["again"]["listed"] == [["points", fingerprint, digest]], step
        assert crash["leftovers"] == [], step

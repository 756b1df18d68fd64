"""Killed after any effect on the disk, or full, or eight at once: nothing partial is ever seen, and the next try works.

The file is its own child: `python test_store_crash.py drive publish ROOT` forks a process for every step, which kills
itself there, then one that reads, then one that does everything again.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from coralord_lightning.errors import CoralError, StoreFullError
from coralord_lightning.spec.description import Description
from coralord_lightning.store import open_store
from coralord_lightning.store.disk import CRASH_POINTS
from stored import admit, clock, manifest_of, publish, record_of, sha


def description_of(name):
    return Description(
        name=name, descriptor={"name": name}, croissant_name="digits", croissant_sha256=sha("text"), record_set="digits"
    )


def publish_all(store):
    """Two versions and a run into an empty home: the catalog is made, then added to."""
    publish(store, 1)
    store.describe(sha(1), description_of("digits"))
    store.write_run("run-1", {"name": "digits", "fingerprint": sha(1)})
    publish(store, 2, name="team/other")


def heal_all(store):
    """Every path that puts something in place of something."""
    publish_all(store)
    shard = next(manifest_of(1, [admit(store, b"rows of 1")]).shards())
    (store.home / shard.path).write_bytes(b"torn")
    store.set_damaged_aside(manifest_of(1, [shard]))
    again = admit(store, b"the same rows from another release")
    store.publish_partition(record_of(1, again))
    store.publish_manifest(manifest_of(1, [again]))
    store.describe(sha(1), description_of("digits-renamed"))
    store.write_run("run-1", {"name": "digits", "fingerprint": sha(1), "step": 2})
    (store.home / "catalog.duckdb").write_bytes(b"noise" * 1_000)
    store.sync_catalog()


SCENARIOS = {"publish": publish_all, "heal": heal_all}


EVERYTHING = """
    select 'entry', name, fingerprint from entries
    union all select 'pin', name || '/' || number, fingerprint from pins
    union all select 'run', run_id, details from runs
"""


def read_all(home):
    """What a reader finds: whole versions, or nothing."""
    store = open_store(home)
    rows = sorted(store.query(EVERYTHING).rows)
    damaged = []
    for fingerprint in store.fingerprints():
        try:
            store.check_shards(store.read_manifest(fingerprint), mode="read")
        except CoralError as error:
            damaged.append(f"{fingerprint}: {error}")
    return {
        "listed": [fingerprint for kind, _, fingerprint in rows if kind == "entry"],
        "rows": [list(row) for row in rows],
        "damaged": damaged,
        "manifests": {item: store.read_manifest(item).to_json() for item in store.fingerprints()},
        "described": {item: getattr(store.read_description(item), "name", None) for item in store.fingerprints()},
        "latest": {name: store.latest_pin(name) for name in store.names()},
        "tmp": [path.name for path in (home / "tmp").iterdir()],
    }


def in_child(work, report):
    """Run it in a forked process; how that ended, and what it said."""
    report.unlink(missing_ok=True)
    pid = os.fork()
    if pid == 0:
        try:
            report.write_text(json.dumps(work()))
            os._exit(0)
        finally:
            os._exit(1)
    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return ended, json.loads(report.read_text()) if report.exists() else None


def run_until(scenario, home, last):
    steps = []

    def crash_point(name):
        steps.append(name)
        if len(steps) == last:
            os.kill(os.getpid(), signal.SIGKILL)

    SCENARIOS[scenario](open_store(home, crash_point=crash_point, clock=clock))
    return steps


def again(scenario, home):
    """What a process after the crash sees, and what the next one after doing everything again."""
    seen = read_all(home)
    SCENARIOS[scenario](open_store(home, clock=clock))
    return {"seen": seen, "after": read_all(home)}


def drive(scenario, root, start):
    report = root / "report.json"
    whole = root / "whole"
    _, steps = in_child(lambda: run_until(scenario, whole, 0), report)
    _, expected = in_child(lambda: read_all(whole), report)
    print(json.dumps({"steps": steps, "expected": expected}), flush=True)
    for number in range(start, len(steps) + 1):
        home = root / f"home-{number}"
        killed, _ = in_child(lambda home=home, number=number: run_until(scenario, home, number), report)
        repeated, after = in_child(lambda home=home: again(scenario, home), report)
        print(
            json.dumps({"step": steps[number - 1], "killed": killed, "repeated": repeated, **(after or {})}), flush=True
        )
        shutil.rmtree(home)
    return steps


def child(*arguments):
    return [sys.executable, __file__, *map(str, arguments)]


def drive_in_child(scenario, root, start=1):
    root.mkdir()
    done = subprocess.run(child("drive", scenario, root, start), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, *crashes = (json.loads(line) for line in done.stdout.splitlines())
    assert len(crashes) == len(first["steps"]) - start + 1 > 10
    for crash in crashes:
        assert (crash["killed"], crash["repeated"]) == (-signal.SIGKILL, 0), f"{crash}\n{done.stderr}"
        assert crash["seen"]["tmp"] == crash["after"]["tmp"] == [], crash["step"]
        assert set(crash["seen"]["listed"]) <= crash["seen"]["manifests"].keys(), crash["step"]
        assert crash["after"] == first["expected"], crash["step"]
    return first, crashes


@pytest.mark.slow
def test_killed_at_any_step_nothing_partial_is_seen_and_the_next_try_is_whole(tmp_path):
    published, crashes = drive_in_child("publish", tmp_path / "publish")
    for crash in crashes:
        assert crash["seen"]["damaged"] == [], crash["step"]
        assert sorted(crash["seen"]["listed"]) == sorted(crash["seen"]["latest"].values()), crash["step"]
    healed, _ = drive_in_child("heal", tmp_path / "heal", start=len(published["steps"]) + 1)
    assert healed["expected"]["damaged"] == []
    assert set(healed["steps"]) == set(CRASH_POINTS)


def be_busy(home, number):
    """One of many processes: its own version, one that all share, pins of one name, and a look."""
    store = open_store(home, clock=clock)
    with store.build_lock(sha("shared"), timeout_s=60):
        publish(store, "shared", name="shared")
    publish(store, f"own {number}", name=f"own-{number}")
    store.pin("contested", sha(f"own {number}"))
    store.sync_catalog()
    names = [row[0] for row in store.query("select name from entries").rows]
    assert {"shared", f"own-{number}", "contested"} <= set(names), names


def test_eight_processes_at_once_lose_nothing(tmp_path):
    home = tmp_path / "home"
    count = 8
    running = [subprocess.Popen(child("busy", home, number), stderr=subprocess.PIPE) for number in range(count)]
    ended = [(process.communicate()[1].decode(), process.returncode) for process in running]
    assert [code for _, code in ended] == [0] * count, [text for text, code in ended if code]
    store = open_store(home)
    assert [pin.number for pin in store.pins("contested")] == list(range(1, count + 1))
    assert len(store.pins("shared")) == 1
    assert len(store.query("from entries").rows) == 1 + 2 * count
    assert read_all(home)["damaged"] == []
    assert list((home / "tmp").iterdir()) == []


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = f"cannot mount a small tmpfs here: {done.stderr.strip()}"
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_said_with_path_and_free_space_and_leaves_nothing(small_disk):
    home = small_disk / "home"
    store = open_store(home)
    manifest = manifest_of(1, [admit(store, b"x")])
    store.publish_manifest(manifest)
    filler = small_disk / "filler"
    subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=512"], capture_output=True, check=False)
    before = sorted(home.rglob("*"))
    with pytest.raises(StoreFullError) as caught:
        store.publish_manifest(manifest_of(2, []))
    assert "bytes" in caught.value.facts["free"]
    assert caught.value.remedy.startswith(f"df -h {home}")
    assert sorted(home.rglob("*")) == before
    with pytest.raises(StoreFullError), store.temp_dir() as folder:
        (folder / "shard").write_bytes(b"0" * 9_000_000)
    assert sorted(home.rglob("*")) == before
    assert store.read_manifest(manifest.fingerprint) == manifest
    assert not store.sync_catalog()
    assert store.query("from entries").rows == []
    filler.unlink()
    store.pin("digits", manifest.fingerprint)
    assert store.sync_catalog()
    assert store.query("select name from entries").rows == [("digits",)]


if __name__ == "__main__":
    if sys.argv[1] == "drive":
        import duckdb  # noqa: F401  # once, before the forks

        drive(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
    else:
        be_busy(Path(sys.argv[2]), int(sys.argv[3]))

"""`coral verify`: what it finds, how it names it, and that its remedies mend."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from command_line import coral, coral_json
from coralord_lightning.store import open_store
from projects import edit, example_project, write_rows
from stored import admit, manifest_of, publish, sha

CORAL = [sys.executable, "-m", "coralord_lightning.cli"]


class Built:
    """A version in a home of its own, and its files by kind."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        self.descriptor = example_project(folder / "project")
        self.fingerprint = coral_json("build", self.descriptor, "--home", self.home)["fingerprint"]

    def file(self, kind: str) -> Path:
        return min(path for path in (self.home / kind).rglob("*") if path.is_file())

    def verify(self, *words: object, code: int) -> list[dict]:
        return coral_json("verify", *words, "--home", self.home, code=code)

    def run(self, command: str) -> None:
        """Paste a remedy into a shell."""
        shell = f'coral() {{ {sys.executable} -m coralord_lightning.cli "$@"; }}\n{command}'
        done = subprocess.run(["bash", "-c", shell], cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Built:
    return Built(tmp_path_factory.mktemp("original"))


@pytest.fixture
def built(original):
    """The version, for tests to break; it is put back afterwards."""
    kept = original.folder / "kept"
    shutil.copytree(original.home, kept)
    yield original
    shutil.rmtree(original.home)
    kept.rename(original.home)


def flip(path: Path, at: int = -9) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


def break_json(path: Path) -> None:
    path.write_bytes(b"\xff{" + path.read_bytes()[:100])


def put_a_folder(path: Path) -> None:
    path.unlink()
    (path / "within").mkdir(parents=True)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def test_a_sound_version_is_ok_and_says_how_much_was_looked_at(built):
    assert built.verify(code=0) == [{"fingerprint": built.fingerprint, "ok": True, "damaged": []}]
    assert built.verify(built.fingerprint[:9], "--deep", code=0)[0]["ok"]
    code, out, err = coral("verify", "--deep", "--home", built.home)
    assert (code, err) == (0, "")
    assert out.startswith(f"ok    {built.fingerprint[:12]}  9 files, ")


def test_an_empty_home_has_nothing_to_verify(tmp_path):
    assert coral_json("verify", "--deep", "--home", tmp_path / "none") == []
    assert "nothing is built here yet" in coral("verify", "--home", tmp_path / "none")[2]
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("kind", "damage", "what"),
    [
        ("objects", Path.unlink, "is gone"),
        ("objects", truncate, "has another size than was written"),
        ("objects", put_a_folder, "is no file: a folder lies there"),
        ("manifests", Path.unlink, "is gone"),
        ("manifests", break_json, "is no JSON"),
        ("manifests", put_a_folder, "is no file: a folder lies there"),
        ("manifests", flip, "is damaged: its checksum"),
    ],
)
def test_what_a_look_finds_is_named_and_mended_by_its_remedy(built, kind, damage, what):
    path = built.file(kind)
    damage(path)
    (found,) = built.verify(code=4)
    assert built.verify("--deep", code=4) == [found]
    assert (found["fingerprint"], found["ok"]) == (built.fingerprint, False)
    (named,) = found["damaged"]
    assert named["path"] == path.relative_to(built.home).as_posix()
    assert named["what"].startswith(what)
    built.run(named["remedy"])
    assert built.verify("--deep", code=0) == [{"fingerprint": built.fingerprint, "ok": True, "damaged": []}]


@pytest.mark.parametrize(
    ("kind", "damage", "what"),
    [
        ("objects", flip, "has other bytes than were written: sha256 "),
        ("partitions", flip, "is damaged: "),
        ("partitions", break_json, "is damaged: "),
        ("partitions", put_a_folder, "is no file"),
        ("pins", flip, "is damaged: "),
        ("pins", put_a_folder, "is no file"),
    ],
)
def test_what_only_reading_finds_is_named_and_mended_by_its_remedy(built, kind, damage, what):
    path = built.file(kind)
    damage(path)
    built.verify(built.fingerprint, code=0)
    found = [item for item in built.verify(built.fingerprint, "--deep", code=4) if not item["ok"]]
    (named,) = [damaged for item in found for damaged in item["damaged"]]
    assert named["path"] == path.relative_to(built.home).as_posix()
    assert named["what"].startswith(what)
    built.run(named["remedy"])
    assert built.verify("--deep", code=0) == [{"fingerprint": built.fingerprint, "ok": True, "damaged": []}]


def test_a_blank_that_changes_no_value_is_found(built):
    path = built.file("manifests")
    path.write_bytes(path.read_bytes()[:-1] + b" ")
    (found,) = built.verify(code=4)
    assert found["damaged"][0]["what"] == "has other bytes than were written"


def test_every_damaged_file_is_named_not_the_first_alone(built):
    shards = sorted((built.home / "objects").rglob("*.arrow"))
    for shard in shards:
        flip(shard)
    (found,) = built.verify("--deep", code=4)
    assert {item["path"] for item in found["damaged"]} == {shard.relative_to(built.home).as_posix() for shard in shards}
    code, out, _ = coral("verify", "--deep", "--home", built.home)
    assert code == 4
    assert out.startswith(f"FAIL  {built.fingerprint[:12]}  6 damaged\n")
    assert f"try: coral build --home {built.home} --verify read {built.descriptor}" in out


def test_only_the_versions_that_have_the_file_fail(built):
    write_rows(built.folder / "project", "c.parquet", 100, 120)
    try:
        second = coral_json("build", built.descriptor, "--home", built.home)["fingerprint"]
    finally:
        (built.folder / "project" / "data" / "c.parquet").unlink()
    manifest = open_store(built.home).require_manifest(second)
    own = next(shard for part in manifest.splits.values() for shard in part[-1].shards)
    flip(built.home / own.path)
    found = {item["fingerprint"]: item["ok"] for item in built.verify("--deep", code=4)}
    assert found == {built.fingerprint: True, second: False}
    assert built.verify(built.fingerprint, "--deep", code=0)[0]["ok"]


def test_the_remedy_of_an_older_version_says_that_the_descriptor_has_moved_on(built):
    edit(built.descriptor, "factor: 3", "factor: 4")
    try:
        coral_json("build", built.descriptor, "--home", built.home)
    finally:
        edit(built.descriptor, "factor: 4", "factor: 3")
    shard = next(open_store(built.home).require_manifest(built.fingerprint).shards())
    (built.home / shard.path).unlink()
    (found,) = built.verify(built.fingerprint, code=4)
    assert "   # with the descriptor as it was on 20" in found["damaged"][0]["remedy"]
    built.run(found["damaged"][0]["remedy"])
    built.verify(built.fingerprint, "--deep", code=0)


def test_a_pin_that_no_longer_says_whose_it_was_counts_against_every_version(built):
    built.file("pins").write_bytes(b"")
    found = built.verify(built.fingerprint, "--deep", code=4)
    assert [(item["fingerprint"], item["ok"]) for item in found] == [(built.fingerprint, True), (None, False)]
    assert "(unknown)" in coral("verify", "--deep", "--home", built.home)[1]


def test_unknown_and_ambiguous_prefixes_are_errors_that_name_the_versions(built):
    code, out, err = coral("verify", "0" * 12, "--home", built.home)
    assert (code, out) == (1, "")
    assert err.startswith("CORAL-E0605")
    assert f"try:      coral verify {built.fingerprint}" in err
    store = open_store(built.home)
    prefixes = {publish(store, seed, name=f"n{seed}").fingerprint[0] for seed in range(17)}  # 16 digits: two agree
    for prefix in prefixes:
        coral("verify", prefix, "--home", built.home)
    ambiguous = [p for p in prefixes if sum(fp.startswith(p) for fp in store.fingerprints()) > 1]
    code, _, err = coral("verify", ambiguous[0], "--home", built.home)
    assert code == 1
    assert "versions begin so" in err
    assert coral("verify", "", "--home", built.home)[0] == 1


def test_the_same_version_named_twice_is_verified_once(built):
    assert len(built.verify(built.fingerprint, built.fingerprint[:7], code=0)) == 1


def test_records_and_pins_of_an_older_release_are_read_and_held_against_the_manifest(tmp_path):
    store = open_store(tmp_path / "home")
    manifest = publish(store, 1)
    key = manifest.partitions[0]
    (record,) = (store.home / "partitions").iterdir()
    body = json.loads(record.read_bytes()) | {"key": key}
    body.pop("checksum")
    record.unlink()
    record = store.home / "partitions" / f"{key}.json"

    def write(path: Path, value: dict) -> list[dict]:
        path.write_text(json.dumps(value, sort_keys=True, indent=1) + "\n")
        return coral_json("verify", "--deep", "--home", store.home, code=0 if value in (body, pin_body) else 4)

    (pin,) = (store.home / "pins" / "digits").iterdir()
    pin_body = {key: value for key, value in json.loads(pin.read_bytes()).items() if key != "checksum"}
    assert write(record, body)[0]["ok"]
    assert write(pin, pin_body)[0]["ok"]
    assert store.latest_pin("digits") == manifest.fingerprint
    assert store.lookup_partition(key) is not None
    assert "other rows" in write(record, _with_other_rows(body))[0]["damaged"][0]["what"]
    assert "checkrum" in write(record, body | {"checkrum": sha(1)})[0]["damaged"][0]["what"]


def _with_other_rows(body: dict) -> dict:
    (part,) = body["splits"].values()
    return body | {"splits": {"train": part | {"blocks": [[4, part["blocks"][0][1]]]}}}


def test_a_record_that_was_changed_is_not_built_from(tmp_path):
    store = open_store(tmp_path / "home")
    publish(store, 1)
    (record,) = (store.home / "partitions").iterdir()
    assert store.lookup_partition(record.stem) is not None
    record.write_text(record.read_text().replace('"num_rows": 3', '"num_rows": 4'))
    assert store.lookup_partition(record.stem) is None


def test_a_file_or_folder_that_may_not_be_read_is_no_sound_one(built):
    words = ["verify", "--json", "--home", str(built.home)]
    code = (
        f"import io, os, sys\nfrom coralord_lightning.cli.run import run\nwords = {words!r}\n"
        "run(words, out=io.StringIO(), err=sys.stderr)  # nobody may not read where our modules lie\n"
        "if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "sys.exit(run([*words, *sys.argv[1:]], out=sys.stdout, err=sys.stderr))"
    )
    for folder in [built.home, *built.home.parents[:-2]]:
        folder.chmod(0o755)

    def as_nobody(*words: str) -> tuple[int, object]:
        command = [sys.executable, "-c", code, *words]
        home = os.environ | {"HOME": str(built.folder), "XDG_CONFIG_HOME": str(built.folder)}
        done = subprocess.run(command, cwd=built.folder, env=home, capture_output=True, text=True, check=False)
        return done.returncode, json.loads(done.stdout)

    shard, manifests = built.file("objects"), built.home / "manifests"
    shard.chmod(0)
    exit_code, found = as_nobody("--deep")
    assert exit_code == 4, found
    assert found[0]["damaged"][0]["what"] == "cannot be read: Permission denied"
    manifests.chmod(0)
    exit_code, found = as_nobody()
    manifests.chmod(0o755)
    assert exit_code == 1
    assert found["error"]["message"] == "cannot be looked into"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_it_at_once(tmp_path, number):
    store = open_store(tmp_path / "home")
    shard = admit(store, b"rows")
    with (store.home / shard.path).open("r+b") as file:
        file.truncate(1 << 40)  # a hole: hours of reading
    store.publish_manifest(manifest_of(1, [replace(shard, size_bytes=1 << 40)]))
    command = [*CORAL, "verify", "--deep", "--home", str(store.home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while int(Path(f"/proc/{process.pid}/io").read_text().split("rchar: ")[1].split()[0]) < 100_000_000:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    assert process.returncode == 128 + number
    assert (out, "interrupted" in err) == ("", True)


def test_progress_is_drawn_on_a_terminal(built):
    leader, follower = os.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    command = [*CORAL, "verify", "--deep", "--json", "--home", str(built.home)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=follower, env=environment, check=False)
    os.close(follower)
    drawn = os.read(leader, 65_536).decode()
    os.close(leader)
    assert done.returncode == 0
    assert "reading" in drawn
    assert json.loads(done.stdout)[0]["ok"]

"""Writing to the store: permissions, temporary files, no replacing, and failures of the operating system."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from coralord_lightning.errors import StoreError, StoreFullError
from coralord_lightning.store import open_store
from coralord_lightning.store.disk import Disk
from coralord_lightning.store.scratch import new_name
from stored import clock, publish


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "home", clock=clock)


def files_under(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_leftovers_of_dead_processes_go_and_work_in_progress_stays(store):
    code = "from coralord_lightning.store.scratch import new_name; print(new_name())"
    dead = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    tmp = store.home / "tmp"
    (tmp / dead / "deep").mkdir(parents=True)
    place, pid, start, token = dead.split(".")
    own = new_name().split(".")
    (tmp / f"{place}.{pid}.{start}.{'0' * 32}.json").write_text("x")
    (tmp / f"{place}.{own[1]}.{int(own[2]) + 1}.{'1' * 32}").write_text("a process of this number, earlier")
    kept = {f"elsewhere-1.{pid}.{start}.{token}", "a-users-file", new_name()}
    for name in kept:
        (tmp / name).write_text("x")
    with store.temp_dir() as folder:
        assert {path.name for path in tmp.iterdir()} == kept | {folder.name}
    assert {path.name for path in tmp.iterdir()} == kept


def test_files_have_the_permissions_of_the_home(tmp_path):
    for mode, file_mode in ((0o2775, 0o664), (0o755, 0o644), (0o700, 0o600)):
        home = tmp_path / f"{mode:o}"
        home.mkdir()
        home.chmod(mode)
        publish(open_store(home), 1)
        with open_store(home).build_lock("ab" * 32, timeout_s=1):
            pass
        kept = [path for kind in ("objects", "manifests", "pins", "locks") for path in files_under(home / kind)]
        assert (
            len({path.name for path in kept} & {"catalog.lock", f"{'ab' * 32}.lock", f"{'ab' * 32}.holder.json"}) == 3
        )
        assert {path.stat().st_mode & 0o777 for path in (*kept, home / "catalog.duckdb")} == {file_mode}
        assert {path.parent.stat().st_mode & 0o7777 for path in kept} == {mode}


def no_links(source, target):
    raise OSError(errno.EPERM, "no hard links here")


def test_without_hard_links_nothing_is_replaced_either(tmp_path):
    disk = Disk(tmp_path, link=no_links)
    final = tmp_path / "pins" / "1.json"
    assert disk.publish_bytes("pins", final, b"first")
    assert not disk.publish_bytes("pins", final, b"second")
    assert final.read_bytes() == b"first"
    final.unlink()
    final.with_name("1.json.claim").mkdir()
    assert disk.publish_bytes("pins", final, b"after a claimant died")
    final.with_name("1.json.claim").mkdir()
    assert not disk.publish_bytes("pins", final, b"third")
    assert sorted(path.name for path in files_under(tmp_path)) == ["1.json"]


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOSPC, StoreFullError, "disk is full"),
        (errno.EDQUOT, StoreFullError, "disk is full"),
        (errno.EROFS, StoreError, "cannot be written"),
        (errno.EACCES, StoreError, "cannot be written"),
        (errno.EIO, StoreError, "disk failed"),
    ],
)
def test_failures_of_the_disk_are_store_errors_and_leave_no_temp(tmp_path, number, kind, words):
    def failing(source, target):
        raise OSError(number, os.strerror(number))

    disk = Disk(tmp_path, link=failing)
    with pytest.raises(StoreError, match=words) as caught:
        disk.publish_bytes("pins", tmp_path / "pins" / "1.json", b"x")
    assert type(caught.value) is kind
    assert str(tmp_path) in caught.value.remedy
    assert files_under(tmp_path) == []


def test_who_fills_the_disk_in_a_temp_dir_is_told_so_and_other_failures_stay_their_own(store):
    with pytest.raises(StoreFullError), store.temp_dir():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(FileNotFoundError), store.temp_dir() as folder:
        (folder / "missing").read_bytes()


def test_what_is_published_was_synced_before_it_had_its_name_and_its_folder_after(tmp_path, monkeypatch):
    events = []
    sync = os.fsync

    def recording(descriptor):
        sync(descriptor)
        events.append(("synced", os.fstat(descriptor).st_ino))

    monkeypatch.setattr(os, "fsync", recording)
    home = tmp_path / "home"
    publish(open_store(home, crash_point=lambda name: events.append(("passed", name))), 1)
    for kind in ("objects", "partitions", "manifests", "pins"):
        (path,) = files_under(home / kind)
        linked = events.index(("passed", f"{kind}.linked"))
        settled = events.index(("passed", f"{kind}.settled"))
        assert ("synced", path.stat().st_ino) in events[:linked]
        assert ("synced", path.parent.stat().st_ino) in events[linked:settled]


def test_a_home_below_a_file_is_a_store_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError), open_store(tmp_path / "file" / "home").temp_dir():
        pass

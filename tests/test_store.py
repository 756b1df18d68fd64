"""The store keeps what it is given, once, durably, and says what is wrong with what it finds."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading

import pytest

from coralord_lightning.errors import (
    LockConflictError,
    ManifestCorruptError,
    NotDeterministicError,
    ShardMissingError,
    StoreError,
    UsageError,
    VersionNotFoundError,
)
from coralord_lightning.store import Pin, open_store
from stored import admit, bad_manifest, clock, manifest_of, part_of, publish, record_of, sha


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "home", clock=clock)


def damage(store, shard):
    path = store.home / shard.path
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)


def files_under(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_opening_and_asking_an_empty_store_touches_nothing(store):
    assert store.read_manifest(sha(1)) is None
    assert store.lookup_partition(sha(1)) is None
    assert store.latest_pin("digits") is None
    assert (store.names(), store.fingerprints(), store.pins("digits"), store.read_runs()) == ([], [], (), {})
    assert "home" in repr(store)
    assert not store.home.exists()


def test_a_version_reads_back(store):
    manifest = publish(store, 1)
    assert store.read_manifest(manifest.fingerprint) == manifest
    store.check_shards(manifest)
    store.check_shards(manifest, mode="read")
    assert list((store.home / "tmp").iterdir()) == []


def test_a_moved_home_still_works(store, tmp_path):
    manifest = publish(store, 1)
    store.home.rename(tmp_path / "moved")
    moved = open_store(tmp_path / "moved")
    moved.check_shards(moved.read_manifest(manifest.fingerprint), mode="read")
    assert moved.query("select name from entries").rows == [("digits",)]


def test_the_same_bytes_are_kept_once(store):
    assert admit(store, b"same") == admit(store, b"same")
    assert len(files_under(store.home / "objects")) == 1


def test_a_shard_that_changed_since_it_was_counted_is_refused(store):
    with store.temp_dir() as folder:
        (folder / "x").write_bytes(b"three")
        with pytest.raises(StoreError, match="changed between"):
            store.admit_shard(folder / "x", sha("x"), 4)


def test_a_truncated_shard_is_put_aside_and_kept_anew(store):
    shard = admit(store, b"some bytes")
    (store.home / shard.path).write_bytes(b"some")
    assert admit(store, b"some bytes") == shard
    assert (store.home / shard.path).read_bytes() == b"some bytes"
    assert [path.read_bytes() for path in files_under(store.home / "quarantine")] == [b"some"]


def test_a_missing_shard_names_itself_and_the_build(store):
    manifest = publish(store, 1)
    store.pin("digits", sha(2))
    store.pin("digits", manifest.fingerprint, origin="sub/digits.yaml")
    shard = next(manifest.shards())
    (store.home / shard.path).unlink()
    with pytest.raises(ShardMissingError, match="is gone") as caught:
        store.check_shards(manifest)
    assert caught.value.subject == shard.path
    assert caught.value.remedy == "coral build sub/digits.yaml"
    with pytest.raises(ShardMissingError) as caught:
        store.check_shards(manifest_of(3, [shard]))
    assert caught.value.remedy == "run `coral build` on its descriptor again"


def test_another_size_is_found_by_a_look_and_can_be_put_aside(store):
    manifest = publish(store, 1)
    (store.home / next(manifest.shards()).path).write_bytes(b"")
    with pytest.raises(ShardMissingError, match="another size"):
        store.check_shards(manifest)
    store.set_damaged_aside(manifest)
    store.set_damaged_aside(manifest)
    with pytest.raises(ShardMissingError, match="is gone"):
        store.check_shards(manifest)
    assert store.read_manifest(manifest.fingerprint) == manifest


def test_bit_rot_is_found_by_reading_and_healed_by_building_again(store):
    manifest = publish(store, 1)
    damage(store, next(manifest.shards()))
    store.check_shards(manifest)
    with pytest.raises(ShardMissingError, match="other bytes") as caught:
        store.check_shards(manifest, mode="read")
    assert "quarantine" in caught.value.facts["kept"]
    assert store.lookup_partition(sha(1)) is None
    publish(store, 1)
    store.check_shards(manifest, mode="read")


def test_the_same_manifest_twice_is_fine_and_keeps_the_first(store):
    manifest = publish(store, 1)
    store.publish_manifest(manifest_of(1, list(manifest.shards()), created_at="2027-01-01T00:00:00+00:00"))
    assert store.read_manifest(manifest.fingerprint) == manifest


def test_a_manifest_of_lost_shards_gives_way_to_the_same_content_in_new_ones(store):
    manifest = publish(store, 1)
    (store.home / next(manifest.shards()).path).unlink()
    healed = manifest_of(1, [admit(store, b"the same rows, written by another release")])
    store.publish_manifest(healed)
    assert store.read_manifest(manifest.fingerprint) == healed


def test_another_content_for_one_fingerprint_is_raised_and_kept_as_evidence(store):
    manifest = publish(store, 1)
    other = manifest_of(1, list(manifest.shards()), content_digest=sha("other"))
    for _ in range(2):
        with pytest.raises(NotDeterministicError) as caught:
            store.publish_manifest(other)
    facts = caught.value.facts
    assert (facts["kept"], facts["new"]) == (manifest.content_digest, other.content_digest)
    assert len(files_under(store.home / "quarantine")) == 1
    assert sha("other") in files_under(store.home / "quarantine")[0].read_text()
    assert store.read_manifest(manifest.fingerprint) == manifest
    assert subprocess.run(caught.value.remedy, shell=True, capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "[" * 100_000, bad_manifest(1)], ids=range(6))
def test_a_damaged_manifest_is_an_error_and_gives_way_to_a_new_build(store, text):
    manifest = publish(store, 1)
    path = store.home / "manifests" / f"{manifest.fingerprint}.json"
    path.write_text(text)
    with pytest.raises(ManifestCorruptError) as caught:
        store.read_manifest(manifest.fingerprint)
    assert str(path) in caught.value.subject + caught.value.remedy
    store.publish_manifest(manifest)
    assert store.read_manifest(manifest.fingerprint) == manifest
    assert len(files_under(store.home / "quarantine")) == 1


def test_a_manifest_under_another_name_is_an_error(store):
    manifest = publish(store, 1)
    folder = store.home / "manifests"
    (folder / f"{manifest.fingerprint}.json").rename(folder / f"{sha(2)}.json")
    with pytest.raises(ManifestCorruptError, match="another version's"):
        store.read_manifest(sha(2))


@pytest.mark.parametrize("key", ["", "../../etc/passwd", "A" * 64, "a" * 63])
def test_what_is_no_fingerprint_reaches_no_path(store, key):
    with pytest.raises(VersionNotFoundError, match="is no fingerprint"):
        store.read_manifest(key)


def test_a_partition_counts_only_with_all_its_shards(store):
    record = record_of("p", admit(store, b"1"), admit(store, b"22"))
    store.publish_partition(record)
    assert store.lookup_partition(record.key) == record
    (store.home / record.splits["train"].shards[1].path).unlink()
    assert store.lookup_partition(record.key) is None


def test_a_newer_partition_record_replaces_the_older(store):
    store.publish_partition(record_of("p", admit(store, b"1")))
    newer = record_of("p", admit(store, b"22"), unassigned_rows=4)
    store.publish_partition(newer)
    store.publish_partition(newer)
    assert store.lookup_partition(sha("p")) == newer
    empty = record_of("q", columns=None, splits={})
    store.publish_partition(empty)
    assert store.lookup_partition(sha("q")) == empty


@pytest.mark.parametrize("text", ["", "null", "{}", '{"key": 1}', '{"key": "x", "columns": null, "splits": []}'])
def test_damaged_partitions_pins_and_runs_are_skipped_with_a_warning(store, text, caplog):
    manifest = publish(store, 1)
    store.write_run("run-1", {"name": "digits"})
    (store.home / "partitions" / f"{sha(1)}.json").write_text(text)
    (store.home / "pins" / "digits" / "2.json").write_text(text)
    (store.home / "runs" / "run-2.json").write_text("nonsense")
    with caplog.at_level(logging.WARNING, "coralord"):
        assert store.lookup_partition(sha(1)) is None
        assert store.latest_pin("digits") == manifest.fingerprint
        assert store.read_runs() == {"run-1": {"name": "digits"}}
    assert len(caplog.records) == 3
    assert all("skipping damaged" in record.message for record in caplog.records)
    assert store.pin("digits", sha(2)) == 3


def test_pins_count_up_and_say_nothing_twice(store):
    assert [store.pin("digits", sha(item)) for item in (1, 1, 2, 2, 1)] == [1, 1, 2, 2, 3]
    assert store.pin("team/digits", sha(1), origin="d.yaml") == 1
    assert store.names() == ["digits", "team/digits"]
    assert store.latest_pin("digits") == sha(1)
    assert store.pins("digits")[1] == Pin(
        name="digits", number=2, fingerprint=sha(2), created_at="2026-01-02T03:04:05+00:00"
    )
    assert store.pins("team/digits")[0].origin == "d.yaml"


def test_a_pin_in_the_wrong_place_or_of_no_fingerprint_is_skipped(store):
    store.pin("digits", sha(1))
    folder = store.home / "pins" / "digits"
    (folder / "5.json").write_bytes((folder / "1.json").read_bytes())
    (folder / "6.json").write_text(
        (folder / "1.json").read_text().replace(sha(1), "x").replace('"number": 1', '"number": 6')
    )
    assert len(store.pins("digits")) == 1


@pytest.mark.parametrize("name", ["", "../x", "A", "a/b/c", "/a", "a/", "a.b", "a\n"])
def test_what_is_no_name_is_refused(store, name):
    with pytest.raises(UsageError, match="is no name"):
        store.pin(name, sha(1))
    assert not store.home.exists()


def test_runs_read_back_and_are_replaced(store):
    store.write_run("a-1", {"name": "digits", "step": 1})
    store.write_run("a-1", {"step": 2, "name": "digits"})
    store.write_run("a-1", {"name": "digits", "step": 2})
    assert store.read_runs() == {"a-1": {"name": "digits", "step": 2}}
    with pytest.raises(UsageError, match="is no id"):
        store.write_run("../x", {})


def test_json_files_are_the_same_bytes_for_the_same_values(store, tmp_path):
    other = open_store(tmp_path / "other", clock=clock)
    for each in (store, other):
        publish(each, 1)
    texts = [
        {path.relative_to(each.home): path.read_bytes() for path in files_under(each.home) if path.suffix == ".json"}
        for each in (store, other)
    ]
    assert texts[0] == texts[1]


def test_a_prefix_finds_one_version_or_names_the_candidates(store):
    with pytest.raises(VersionNotFoundError) as caught:
        store.find("abc")
    assert "empty" in caught.value.facts["versions"]
    prints = [publish(store, seed).fingerprint for seed in range(20)]
    assert store.find(prints[3][:12].upper()) == prints[3]
    first = next(digit for digit in "0123456789abcdef" if sum(item.startswith(digit) for item in prints) > 1)
    for prefix, words in ((first, "versions begin so"), ("xyz", "no version"), ("", "no version")):
        with pytest.raises(VersionNotFoundError, match=words) as caught:
            store.find(prefix)
        assert any(item in caught.value.facts["versions"] for item in prints)
    assert "more" in caught.value.facts["versions"]


def test_one_process_builds_and_the_other_learns_who(store):
    with contextlib.ExitStack() as stack:
        stack.enter_context(store.build_lock(sha(1), timeout_s=1))
        with pytest.raises(LockConflictError) as caught:
            stack.enter_context(store.build_lock(sha(1), timeout_s=0.1))
    assert f"process {os.getpid()} on " in caught.value.facts["holder"]
    assert caught.value.remedy.startswith(f"ps -fp {os.getpid()}")
    with store.build_lock(sha(1), timeout_s=0.1), store.build_lock(sha(2), timeout_s=0.1):
        pass


@pytest.mark.parametrize("note", [None, "{", "[]"])
def test_a_lock_of_an_unknown_holder_says_so(store, note):
    with store.build_lock(sha(1), timeout_s=1):
        path = store.home / "locks" / f"{sha(1)}.holder.json"
        path.unlink() if note is None else path.write_text(note)
        with pytest.raises(LockConflictError) as caught, store.build_lock(sha(1), timeout_s=0.1):
            pass
    assert caught.value.facts["holder"] == "unknown"


def test_waiting_for_a_lock_ends_when_it_is_free(store):
    entered = threading.Event()

    def hold():
        with store.build_lock(sha(1), timeout_s=5):
            entered.set()
            threading.Event().wait(0.2)

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait()
    with store.build_lock(sha(1), timeout_s=10):
        pass
    thread.join()


def test_the_hit_path_imports_nothing_heavy(store):
    manifest = publish(store, 1)
    code = f"""
import sys
from pathlib import Path
from coralord_lightning.store import open_store
store = open_store(Path({str(store.home)!r}))
manifest = store.read_manifest({manifest.fingerprint!r})
store.check_shards(manifest)
store.pin("digits", manifest.fingerprint)
heavy = {{"torch", "lightning", "pandas", "mlcroissant", "duckdb", "pyarrow", "filelock", "httpx"}}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_empty_part_needs_no_shard(store):
    manifest = manifest_of(1, [], splits={"train": (part_of(),)})
    store.publish_manifest(manifest)
    store.check_shards(manifest, mode="read")

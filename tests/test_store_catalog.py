"""The catalog answers from the JSON files whatever happens to its own file, and does nothing but read for users."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest

from coralord_lightning.errors import QueryError
from coralord_lightning.store import open_store
from coralord_lightning.store.catalog import Catalog
from coralord_lightning.store.disk import Disk
from stored import admit, bad_manifest, clock, manifest_of, publish, record_of, sha

QUESTIONS = ("from entries", "from pins", "from runs", "from shards", "from sources", "show tables")


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "home", clock=clock)


@pytest.fixture
def filled(store):
    for seed in range(3):
        publish(store, seed, name=("digits", "team/other")[seed % 2])
    store.pin("digits", sha(0))
    store.write_run("run-1", {"name": "digits", "fingerprint": sha(0), "started_at": "2026-01-01T02:00:00+02:00"})
    return store


def answers(store):
    return [store.query(sql) for sql in QUESTIONS]


def catalog_of(store):
    return store.home / "catalog.duckdb"


def test_entries_are_pleasant_to_query(filled):
    sql = "select name, num_rows, splits['train'], environment_kind, pipeline, created_at::varchar from entries"
    assert filled.query(sql).rows == [
        (name, 3, 3, "docker", "pipeline.py:scale", "2026-01-02 03:04:05")
        for name in ("digits", "digits", "team/other")
    ]
    result = filled.query("select image_digest, num_shards, size_bytes from entries limit 1")
    assert result.columns == [("image_digest", "VARCHAR"), ("num_shards", "BIGINT"), ("size_bytes", "BIGINT")]
    assert result.rows == [("sha256:" + sha("image"), 1, 9)]
    assert filled.query("select started_at::varchar, details->>'$.name' from runs").rows == [
        ("2026-01-01 00:00:00", "digits")
    ]
    assert filled.query("select number from pins where name = 'digits'").rows == [(1,), (2,), (3,)]
    assert filled.query("select distinct url, etag, size_bytes from sources where url is not null").rows == [
        ("https://example.org/b.csv", '"1"', 9)
    ]
    assert filled.query("describe entries").rows[0][0] == "name"
    assert len(filled.query("summarize entries").rows) == 12
    assert filled.query("with a as (select 1 as x) select x from a").rows == [(1,)]


def noise(path):
    path.write_bytes(bytes(number * 7919 % 251 for number in range(100_000)))


def truncated(path):
    os.truncate(path, path.stat().st_size // 2)


def flipped(path):
    data = bytearray(path.read_bytes())
    for place in range(20_000, len(data), 4_001):
        data[place] ^= 0xFF
    path.write_bytes(data)


def flip(path, place):
    with path.open("r+b") as file:
        file.seek(place)
        value = file.read(1)[0]
        file.seek(place)
        file.write(bytes([value ^ 1]))


def newer(path):
    data = bytearray(path.read_bytes())
    data[12:20] = (9_999).to_bytes(8, "little")
    path.write_bytes(data)


def foreign(path):
    path.unlink()
    with duckdb.connect(str(path)) as connection:
        connection.execute("create table entries (name varchar)")


def other_schema(path):
    with duckdb.connect(str(path)) as connection:
        connection.execute("update data.catalog_schema set version = 99")


def emptied(path):
    with duckdb.connect(str(path)) as connection:
        connection.execute("delete from data.entries; delete from data.indexed_files")


def stale_log(path):
    shutil.copy(path, path.with_name(path.name + ".wal"))


def folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "ruin",
    [
        Path.unlink,
        noise,
        truncated,
        flipped,
        newer,
        foreign,
        other_schema,
        stale_log,
        lambda path: path.write_bytes(b""),
    ],
    ids=lambda ruin: ruin.__name__,
)
def test_a_ruined_catalog_gives_the_same_answers(filled, ruin):
    before = answers(filled)
    assert all(result.rows for result in before)
    ruin(catalog_of(filled))
    assert answers(filled) == before
    assert answers(filled) == before
    publish(filled, 7)
    assert filled.query("select count(*) from entries").rows == [(4,)]


def test_a_damaged_catalog_is_kept_as_evidence_and_a_deleted_one_is_not(filled):
    catalog_of(filled).unlink()
    filled.sync_catalog()
    assert not (filled.home / "quarantine").exists()
    noise(catalog_of(filled))
    filled.sync_catalog()
    assert [path.name for path in (filled.home / "quarantine").iterdir()] == ["catalog.duckdb"]


@pytest.mark.parametrize("ruin", [folder, emptied], ids=lambda ruin: ruin.__name__)
def test_a_catalog_that_cannot_be_mended_does_not_hide_anything(filled, ruin):
    before = answers(filled)
    ruin(catalog_of(filled))
    assert [result.columns for result in answers(filled)] == [result.columns for result in before]
    assert {row[0] for row in filled.query("from entries").rows} == {"digits", "team/other"}


def test_rows_come_in_the_same_order_one_by_one_and_in_a_rebuild(store):
    for seed in (5, 3, 9, 1, 7):
        publish(store, seed, name=f"name-{seed % 4}")
    before = answers(store)
    catalog_of(store).unlink()
    assert answers(store) == before


def test_a_version_that_vanished_or_changed_is_not_listed(filled):
    (filled.home / "manifests" / f"{sha(1)}.json").unlink()
    assert [row[0] for row in filled.query("select name from entries").rows] == ["digits", "digits"]
    filled.write_run("run-1", {"name": "renamed"})
    assert filled.query("select name from runs").rows == [("renamed",)]


def test_a_manifest_that_comes_after_its_pin_is_listed(store):
    store.pin("digits", sha(1))
    store.sync_catalog()
    assert store.query("from entries").rows == []
    store.publish_manifest(manifest_of(1, [admit(store, b"x")]))
    assert store.query("select name from entries").rows == [("digits",)]
    store.pin("again", sha(1))
    assert store.query("select name from entries order by 1").rows == [("again",), ("digits",)]


def test_damaged_files_are_skipped_and_the_rest_is_listed(filled, caplog):
    (filled.home / "manifests" / f"{sha(1)}.json").write_text(bad_manifest(1))
    (filled.home / "manifests" / f"{sha(8)}.json").write_text("{")
    (filled.home / "manifests" / f"{sha(9)}.json").write_text(
        (filled.home / "manifests" / f"{sha(0)}.json").read_text()
    )
    (filled.home / "runs" / "odd.json").write_text("[1]")
    (filled.home / "runs" / "timeless.json").write_text(json.dumps({"started_at": "yesterday", "name": 7}))
    with caplog.at_level(logging.WARNING, "coralord"):
        assert [row[0] for row in filled.query("select name from entries").rows] == ["digits", "digits"]
    assert filled.query("select name, started_at from runs where run_id = 'timeless'").rows == [("7", None)]
    assert len([record for record in caplog.records if "skipping damaged" in record.message]) == 4


def test_a_plan_without_pipeline_or_sources_is_listed(store):
    store.publish_manifest(manifest_of(1, [], plan={}, created_at="whenever"))
    store.pin("plain", sha(1))
    assert store.query("select pipeline, environment_kind, image_digest, created_at from entries").rows == [(None,) * 4]


@pytest.mark.parametrize(
    ("sql", "words", "remedy"),
    [
        ("select * from entrie", "there is no table 'entrie'", 'coral query "select * from entries"'),
        ("select * from qqqqqq", "there is no table 'qqqqqq'", 'coral query "show tables"'),
        ("select nam from entries", "there is no column 'nam'", 'coral query "select name from entries"'),
        ('select "nam" from entries', "there is no column 'nam'", 'coral query "describe entries"'),
        ("selec 1", "Parser Error", "coral query"),
        ("", "exactly one statement", "coral query"),
        ("select 1; select 2", "exactly one statement", "coral query"),
        ("drop table entries", "exactly one statement", "coral query"),
        ("insert into entries (name) values ('x')", "exactly one statement", "coral query"),
        ("copy entries to 'x.csv'", "exactly one statement", "coral query"),
        ("attach 'x.db'", "exactly one statement", "coral query"),
        ("set enable_external_access=true", "exactly one statement", "coral query"),
        ("install httpfs", "exactly one statement", "coral query"),
        ("select * from read_csv('/etc/passwd')", "Permission Error", "coral query"),
        ("select * from read_text('https://example.org')", "Permission Error", "coral query"),
        ("select content from read_blob('/proc/self/environ')", "Permission Error", "coral query"),
        ("select * from '/etc/passwd'", "there is no table", "coral query"),
        ("select cast('x' as int)", "Conversion Error", "coral query"),
        ("select error('mine')", "mine", "coral query"),
    ],
)
def test_what_does_not_only_read_the_catalog_is_refused(filled, sql, words, remedy):
    with pytest.raises(QueryError, match=words) as caught:
        filled.query(sql)
    assert caught.value.remedy.startswith(remedy)
    assert filled.query("select count(*) from entries").rows == [(3,)]
    assert not (filled.home / "quarantine").exists()


def test_an_empty_home_answers_too(store):
    assert store.query("from entries").rows == []


def test_a_home_below_a_file_is_answered_from_memory(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    assert open_store(tmp_path / "file" / "home").query("from entries").rows == []
    assert "not up to date" in caplog.text


def test_a_home_that_cannot_be_written_is_read(filled, monkeypatch):
    before = answers(filled)

    def refuse(self, folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Disk, "ensure_dir", refuse)
    assert answers(filled) == before
    catalog_of(filled).unlink()
    assert answers(filled) == before
    assert not catalog_of(filled).exists()


def test_while_another_process_has_the_catalog_open_readers_get_answers(filled):
    filled.sync_catalog()
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(catalog_of(filled))]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "open\n"
    pauses = []
    catalog = Catalog(Disk(filled.home), timeout_s=0.05, sleep=pauses.append)
    assert not catalog.sync()
    assert pauses
    with catalog.reading(synced=False) as connection:
        assert connection.execute("select count(*) from entries").fetchall() == [(3,)]
    other.communicate("")
    assert Catalog(Disk(filled.home)).sync()


def test_while_another_thread_has_the_lock_readers_get_answers(filled):
    filled.sync_catalog()
    held, free = threading.Event(), threading.Event()

    def read():
        with Catalog(Disk(filled.home)).reading(synced=True):
            held.set()
            free.wait()

    thread = threading.Thread(target=read)
    thread.start()
    held.wait()
    catalog = Catalog(Disk(filled.home), timeout_s=0.05)
    assert not catalog.sync()
    assert not catalog.rebuild()
    with catalog.reading(synced=True) as connection:
        assert connection.execute("select count(*) from entries").fetchall() == [(3,)]
    free.set()
    thread.join()


def test_an_interrupt_ends_a_query(filled):
    threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        filled.query("select count(*) from range(100000000000) where range % 7 = 3 and hash(range) % 11 = 2")
    assert filled.query("select 1").rows == [(1,)]


def test_a_query_imports_no_pandas(filled):
    code = f"""
import sys
from pathlib import Path
from coralord_lightning.store import open_store
store = open_store(Path({str(filled.home)!r}))
(store.home / "catalog.duckdb").unlink()
print(store.query("select count(*) from entries").rows, sorted({{"pandas", "torch", "pyarrow"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[(3,)] []"


@pytest.mark.slow
def test_many_versions_are_indexed_in_bulk_and_no_flipped_bit_changes_an_answer(store):
    shard = admit(store, b"x")
    store.publish_partition(record_of("p", shard))
    folder = store.home / "manifests"
    folder.mkdir()
    (store.home / "pins" / "many").mkdir(parents=True)
    body = manifest_of(0, [shard])
    for seed in range(1_500):
        manifest = manifest_of(seed, [shard])
        (folder / f"{manifest.fingerprint}.json").write_text(json.dumps(manifest.to_json()))
        pin = {"name": "many", "number": seed + 1, "fingerprint": manifest.fingerprint, "created_at": body.created_at}
        (store.home / "pins" / "many" / f"{seed + 1}.json").write_text(json.dumps(pin))
    assert store.query("select count(*), sum(num_rows) from entries").rows == [(1_500, 4_500)]
    publish(store, "one more")
    sqls = (
        "select count(*), sum(splits['train']), max(created_at) from entries",
        "select max(path), max(sha256) from shards",
    )
    before = [store.query(sql) for sql in sqls]
    assert before[0].rows[0][0] == 1_501
    place = 20_000
    while place < catalog_of(store).stat().st_size:
        flip(catalog_of(store), place)
        assert [store.query(sql) for sql in reversed(sqls)] == before[::-1], place
        place += 130_000

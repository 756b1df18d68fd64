"""`coral.lock`: who writes it, what it pins, and what obeying it means when the world moves on."""

from __future__ import annotations

import io
import json
import threading
from dataclasses import replace

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest

from coralord_lightning.config import Config
from coralord_lightning.errors import (
    ConfigError,
    EngineUnreachableError,
    LockedError,
    NotDeterministicError,
    OfflineError,
    SourceIntegrityError,
    StoreError,
    UsageError,
)
from coralord_lightning.sources import HashCache
from coralord_lightning.spec.lock import LockedCroissant, LockEntry, print_lock, with_entry
from coralord_lightning.versions.status import status
from coralord_lightning.versions.update import update_lock
from coralord_lightning.workspace import open_workspace
from coralord_lightning.workspace.locking import read_lock, write_entry
from coralord_lightning.workspace.planning import EnvironmentResolver, read_descriptor
from projects import croissant, edit, example_project
from web import serve


@pytest.fixture
def project(tmp_path):
    return example_project(tmp_path / "project", files=1)


@pytest.fixture
def space(tmp_path):
    return open_workspace(Config(home=tmp_path / "home"))


def change_entry(folder, name="points", **changes):
    lock = read_lock(folder)
    (folder / "coral.lock").write_text(print_lock(with_entry(lock, replace(lock.entries[name], **changes))))


def test_the_lock_is_created_by_build_only_filled_once_and_never_moved(space, project):
    lock = project.parent / "coral.lock"
    space.ensure(project)
    assert not lock.exists()
    first = space.ensure(project, lock=True).version
    text = lock.read_text()
    assert first.fingerprint in text
    assert first.content_digest in text
    edit(project, "factor: 3", "factor: 4")
    space.ensure(project, lock=True)
    assert lock.read_text() == text


def test_locked_refuses_a_descriptor_that_no_longer_fits_and_update_moves_the_lock(space, project):
    with pytest.raises(LockedError, match="no entry"):
        space.ensure(project, update="locked")
    space.ensure(project, lock=True)
    assert not space.ensure(project, update="locked").built
    edit(project, "factor: 3", "factor: 4")
    with pytest.raises(LockedError, match=r"pipeline\.params\.factor: 3 -> 4"):
        space.ensure(project, update="locked")
    foretold = update_lock(space, project, dry_run=True)
    assert foretold.moves
    assert [change.what for change in foretold.changed] == ["pipeline.params.factor"]
    update_lock(space, project)
    assert "content_digest" not in (project.parent / "coral.lock").read_text()
    assert space.ensure(project, update="locked", lock=True).built
    assert "content_digest" in (project.parent / "coral.lock").read_text()
    assert not update_lock(space, project).moves


def test_a_damaged_lock_is_named(space, project):
    (project.parent / "coral.lock").write_text("version = [")
    with pytest.raises(ConfigError, match=r"coral\.lock"):
        space.ensure(project)


def test_a_lock_of_other_bytes_than_text_is_named(space, project):
    (project.parent / "coral.lock").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"coral\.lock"):
        space.ensure(project)


def test_a_lock_that_cannot_be_written_is_a_store_error(space, project):
    (project.parent / "coral.lock").mkdir()
    with pytest.raises(StoreError, match=r"coral\.lock"):
        space.ensure(project, lock=True)


def test_a_descriptor_given_as_a_value_has_no_lock(space, project, monkeypatch):
    monkeypatch.chdir(project.parent)
    (project.parent / "descriptor").write_text("a file of the name that values have in messages")
    space.ensure({"name": "points", "croissant": "croissant.json"}, lock=True)
    assert not (project.parent / "coral.lock").exists()
    with pytest.raises(UsageError, match="is not a file"):
        update_lock(space, {"name": "points", "croissant": "croissant.json"})


def test_a_descriptor_file_called_descriptor_has_a_lock(space, project, monkeypatch):
    monkeypatch.chdir(project.parent)
    project.rename("descriptor")
    space.ensure("descriptor", lock=True)
    assert list(read_lock(project.parent).entries) == ["points"]


def test_many_builds_in_one_folder_keep_each_others_entries(space, project):
    planned = space.planned(project)
    names = [f"points-{number}" for number in range(24)]
    gate = threading.Barrier(len(names))

    def write(name):
        gate.wait()
        write_entry(replace(planned, job=replace(planned.job, name=name)), "ab" * 32, move=False)

    threads = [threading.Thread(target=write, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(read_lock(project.parent).entries) == sorted(names)
    assert [path.name for path in project.parent.glob(".coral*")] == []


def test_content_that_differs_from_the_lock_is_raised_until_the_lock_is_updated(space, project):
    digest = space.ensure(project, lock=True).version.content_digest
    change_entry(project.parent, content_digest="0" * 64)
    for update in (None, "locked"):
        with pytest.raises(NotDeterministicError, match=digest):
            space.ensure(project, update=update)
    assert not space.ensure(project, update="auto").built
    assert not update_lock(space, project).moves
    assert read_lock(project.parent).entries["points"].content_digest == digest
    space.ensure(project)


def test_an_update_that_moves_nothing_keeps_the_content_digest_of_another_machine(space, project, tmp_path):
    digest = space.ensure(project, lock=True).version.content_digest
    elsewhere = open_workspace(Config(home=tmp_path / "other"))
    assert not update_lock(elsewhere, project).moves
    assert read_lock(project.parent).entries["points"].content_digest == digest


SHIPPED = {"context": "c", "base": "b", "build_args": {}, "platform": "linux/amd64"}
NAMED = {"image": f"sha256:{'1' * 64}", "platform": "linux/amd64"}


def environment_of(project, kept, image):
    """The pinned environment, under a lock that keeps `kept`, where no engine answers."""
    edit(project, "environment: local\n", "" if image is None else f"environment: {{image: '{image}'}}\n")
    pins = LockEntry(name="points", fingerprint="0" * 64, image=kept)
    resolver = EnvironmentResolver(Config(home=project.parent, docker_host=f"unix://{project.parent}/none.sock"))
    return resolver(read_descriptor(project), frozenset(), pins, HashCache(project.parent / "hashes"))


@pytest.mark.parametrize(
    ("image", "kept", "told"),
    [
        (None, SHIPPED, None),
        (f"etl@sha256:{'1' * 64}", NAMED, f"etl@sha256:{'1' * 64}"),
        (f"sha256:{'1' * 64}", NAMED, None),
    ],
)
def test_a_locked_image_is_taken_without_asking_an_engine(project, image, kept, told):
    found = environment_of(project, kept, image)
    assert (found.identity, found.image) == (kept, told)


@pytest.mark.parametrize(
    ("image", "kept"), [(None, NAMED), (f"etl@sha256:{'2' * 64}", NAMED), (f"sha256:{'1' * 64}", SHIPPED)]
)
def test_a_locked_image_says_nothing_of_another_one(project, image, kept):
    with pytest.raises(EngineUnreachableError):
        environment_of(project, kept, image)


def table(rows: int) -> pa.Table:
    x = list(range(rows))
    return pa.table({"x": x, "y": [value * 0.5 for value in x], "part": ["train"] * rows})


def content(kind: str, rows: int) -> bytes:
    sink = io.BytesIO()
    (pq.write_table if kind == "parquet" else pc.write_csv)(table(rows), sink)
    return sink.getvalue()


def remote_croissant(kind: str, description: str = "") -> bytes:
    body = croissant()
    body["@context"] |= {"fileObject": "cr:fileObject"}
    encoding = {"parquet": "application/x-parquet", "csv": "text/csv"}[kind]
    body["distribution"] = [
        {"@type": "cr:FileObject", "@id": "rows", "contentUrl": f"rows.{kind}", "encodingFormat": encoding}
    ]
    for field in body["recordSet"][0]["field"]:
        field["source"] = {"fileObject": {"@id": "rows"}, "extract": field["source"]["extract"]}
    return json.dumps(body | {"description": description}).encode()


class Remote:
    """A remote Croissant dataset of 10 rows, its descriptor, and homes that have or have not seen it."""

    def __init__(self, site, folder, kind):
        self.site, self.folder, self.kind = site, folder, kind
        self.descriptor = folder / "far.yaml"
        self.descriptor.write_text(f"name: far\ncroissant: {site.url}/croissant.json\nfields: [x, y]\n")
        site.files["/croissant.json"] = remote_croissant(kind)
        self.serve_rows(10)

    def serve_rows(self, rows):
        self.site.files[f"/rows.{self.kind}"] = content(self.kind, rows)

    def space(self, home):
        config = Config(home=self.folder / home, allow_private_hosts=frozenset({"127.0.0.1"}))
        return open_workspace(config)

    def rows(self, home, **options):
        return self.space(home).ensure(self.descriptor, **options).version.num_rows


@pytest.fixture(params=["parquet", "csv"])
def remote(request, tmp_path):
    with serve() as site:
        site.ranges = request.param == "parquet"  # so that a CSV file is read whole
        yield Remote(site, tmp_path, request.param)


def test_a_remote_dataset_is_locked_with_what_it_was_read_from(remote):
    version = remote.space("home").ensure(remote.descriptor, lock=True).version
    entry = read_lock(remote.folder).entries["far"]
    assert (entry.fingerprint, entry.content_digest) == (version.fingerprint, version.content_digest)
    assert entry.croissant is not None
    (source,) = entry.sources
    assert source.url == f"{remote.site.url}/rows.{remote.kind}"
    assert (source.etag is None, source.sha256 is None) == ((True, False) if remote.kind == "csv" else (False, True))


@pytest.mark.parametrize("update", [None, "locked", "offline"])
def test_who_has_the_locked_data_keeps_them_whatever_happens_upstream(remote, update):
    remote.rows("home", lock=True)
    lock = (remote.folder / "coral.lock").read_text()
    remote.serve_rows(12)
    remote.site.files["/croissant.json"] = remote_croissant(remote.kind, "new")
    remote.site.requests.clear()
    assert remote.rows("home", update=update, lock=True) == 10
    assert remote.site.requests == []
    assert status(remote.space("home"), remote.descriptor, update=update).state == "fresh"
    assert (remote.folder / "coral.lock").read_text() == lock


@pytest.mark.parametrize("update", [None, "locked"])
def test_locked_data_that_are_gone_upstream_are_an_error_and_auto_follows(remote, update):
    remote.rows("home", lock=True)
    lock = (remote.folder / "coral.lock").read_text()
    remote.serve_rows(12)
    with pytest.raises(SourceIntegrityError, match="coral update"):
        remote.rows("fresh", update=update)
    with pytest.raises(OfflineError) as caught:
        remote.rows("fresh", update="offline")
    assert caught.value.exit_code == 6
    assert remote.rows("fresh", update="auto") == 12
    assert (remote.folder / "coral.lock").read_text() == lock
    change = update_lock(remote.space("home"), remote.descriptor)
    assert change.moves
    assert remote.rows("fresh", update="locked") == 12


def test_a_croissant_that_changed_upstream_raises_and_update_moves_the_lock(remote):
    remote.rows("home", lock=True)
    remote.site.files["/croissant.json"] = remote_croissant(remote.kind, "only words")
    with pytest.raises(LockedError, match="changed upstream"):
        remote.rows("fresh")
    foretold = update_lock(remote.space("home"), remote.descriptor, dry_run=True)
    assert (foretold.moves, foretold.was) == (True, foretold.now)
    assert [change.what for change in foretold.changed] == ["croissant.sha256"]
    update_lock(remote.space("home"), remote.descriptor)
    assert remote.rows("fresh", update="locked") == 10


def test_a_lock_of_another_croissant_address_says_nothing_of_this_one(remote):
    remote.rows("home", lock=True)
    remote.site.files["/other.json"] = remote.site.files["/croissant.json"]
    change_entry(remote.folder, "far", croissant=LockedCroissant(url="https://example.org/x", sha256="0" * 64))
    edit(remote.descriptor, "/croissant.json", "/other.json")
    assert remote.rows("fresh", update="locked") == 10

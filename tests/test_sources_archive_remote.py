"""Archives at an address: fetched once, locked by their hash, planned without a request once they were here."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from archive_files import archive, contents, files_in, sources, zip_file
from coralord_lightning.config import Config
from coralord_lightning.errors import SourceIntegrityError
from coralord_lightning.sources import open_sources
from coralord_lightning.spec.lock import LockedSource
from coralord_lightning.workspace.locking import _locked_source
from web import serve

MEMBERS = {"train/a.csv": b"x\n1\n", "train/b.csv": b"x\n2\n", "test/a.csv": b"x\n3\n", "README.md": b"hi"}


def test_a_remote_archive_is_fetched_once_and_locked_by_its_hash(tmp_path: Path) -> None:
    with serve() as site:
        site.files["/a.zip"] = zip_file(MEMBERS)
        node = files_in(archive(f"{site.url}/a.zip"), includes=("*.csv",))
        with sources(tmp_path) as door:
            found = door.resolve(node, base=tmp_path)
        pins = [_locked_source(source, place) for source, place in found]
        sha256 = hashlib.sha256(site.files["/a.zip"]).hexdigest()
        assert pins[0] == LockedSource(
            url=f"{site.url}/a.zip#sha256={sha256}!test/a.csv", size_bytes=4,
            sha256=hashlib.sha256(b"x\n3\n").hexdigest(),
        )  # fmt: skip
        assert len(site.asked("GET")) == 1

        site.files["/a.zip"] = zip_file({"new.csv": b"new"})
        site.requests.clear()
        with sources(tmp_path) as door:
            assert door.resolve(node, base=tmp_path, pinned=pins) == found
        assert site.requests == []
        with sources(tmp_path / "elsewhere") as door, pytest.raises(SourceIntegrityError):
            door.resolve(node, base=tmp_path, pinned=pins)
        with sources(tmp_path) as door:
            assert list(contents(door.resolve(node, base=tmp_path))) == ["archive!new.csv"]


def test_a_remote_archive_is_planned_offline_once_it_was_there(tmp_path: Path) -> None:
    with serve() as site:
        site.files["/a.zip"] = zip_file(MEMBERS)
        node = files_in(archive(f"{site.url}/a.zip"))
        with sources(tmp_path) as door:
            before = door.resolve(node, base=tmp_path)

    with open_sources(Config(home=tmp_path), cache_dir=tmp_path / "cache", offline=True) as door:
        assert door.resolve(node, base=tmp_path) == before

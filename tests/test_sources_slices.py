"""Where large JSON lines are cut is found in the reading that hashes them, and remembered by what they hold."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from coralord_lightning.config import Config
from coralord_lightning.errors import SourceIntegrityError
from coralord_lightning.sources import HashCache, open_sources
from coralord_lightning.sources.hashes import HashedFile
from coralord_lightning.spec.cuts import SLICE_BYTES, SLICED_BYTES, LineSlicer, Slice
from coralord_lightning.spec.plan import LocalFile, RemoteFile, SourceFile
from coralord_lightning.spec.selection import FileObject
from web import serve

ROW = b'{"x": 1, "pad": "' + b"p" * 500 + b'"}\n'
LARGE = ROW * (SLICED_BYTES // len(ROW) + 2)


def slices(content: bytes = LARGE) -> tuple[Slice, ...]:
    slicer = LineSlicer()
    slicer.update(content)
    return slicer.finish()


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LARGE)
    return path


def test_a_large_file_is_read_once_for_its_hash_and_its_slices(
    tmp_path: Path, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = HashCache(tmp_path / "hashes")
    read = []
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, at: read.append(at) or real(fd, size, at))
    descriptor = os.open(large, os.O_RDONLY)
    found = cache.hash_open(descriptor, large, lines=True)
    os.close(descriptor)

    assert cache.slices_of(large, found) == slices()
    assert read == sorted(set(read))
    assert slices()[0].stop >= SLICE_BYTES


def test_slices_of_a_file_whose_hash_is_known_are_found_once(tmp_path: Path, large: Path) -> None:
    found = HashedFile(sha256=hashlib.sha256(LARGE).hexdigest(), size_bytes=len(LARGE))
    assert HashCache(tmp_path / "hashes").slices_of(large, found) == slices()
    large.unlink()
    assert HashCache(tmp_path / "hashes").slices_of(large, found) == slices()
    (note,) = (tmp_path / "hashes" / "slices").iterdir()
    for damage in ('{"cuts": 0, "slices": []}', "{", '{"cuts": 1, "slices": [1]}'):
        note.write_text(damage)
        with pytest.raises(FileNotFoundError):  # so it would have been read
            HashCache(tmp_path / "hashes").slices_of(large, found)


def test_a_file_that_is_not_what_was_found_has_no_slices(tmp_path: Path, large: Path) -> None:
    found = HashedFile(sha256="0" * 64, size_bytes=len(LARGE))
    with pytest.raises(SourceIntegrityError, match="changes while"):
        HashCache(tmp_path / "hashes").slices_of(large, found)
    assert HashCache(tmp_path / "hashes").slices_of(large, HashedFile(sha256="0" * 64, size_bytes=SLICED_BYTES)) == ()


def test_downloads_are_cut_and_what_is_streamed_is_not(tmp_path: Path) -> None:
    declared = FileObject(id="a", content_url="a.jsonl", format="jsonl", sha256=hashlib.sha256(LARGE).hexdigest())
    streamed = FileObject(id="b", content_url="a.jsonl", format="jsonl")
    config = Config(home=tmp_path, allow_private_hosts=frozenset({"127.0.0.1"}))
    with serve(a_jsonl=LARGE) as site, open_sources(config, cache_dir=tmp_path / "cache") as door:
        cut: list[tuple[SourceFile, type | None]] = []
        for node in (declared, streamed):
            ((source, place),) = door.resolve(node, base=f"{site.url}/c.json")
            cut.append((door.sliced(source, place), type(place)))

    assert [kind for _, kind in cut] == [LocalFile, RemoteFile]
    assert [source.slices for source, _ in cut] == [slices(), ()]

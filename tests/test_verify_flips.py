"""Ten thousand single bytes changed, over all files of a version: each one is found before it can be used."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from command_line import coral_json
from coralord_lightning import load
from coralord_lightning.config import Config
from coralord_lightning.errors import ManifestCorruptError, ShardMissingError, StaleError
from coralord_lightning.spec.columns import arrow_schema
from coralord_lightning.spec.manifest import Manifest
from coralord_lightning.store import Store
from coralord_lightning.store.soundness import Flaw, pin_flaw, read_manifest, record_flaw, shard_flaw
from coralord_lightning.stream.shards import open_shard
from coralord_lightning.versions.verify import verify
from coralord_lightning.workspace import Workspace, open_workspace

FLIPS = 10_000

_DESCRIPTOR = """\
name: kinds
files: data/*.parquet
splits:
  val: {where: "number % 4 = 0"}
  train: {from: rest}
"""


def _rows(start: int, stop: int) -> pa.Table:
    numbers = list(range(start, stop))
    return pa.table(
        {
            "number": numbers,
            "half": pa.array([number / 2 for number in numbers], pa.float32()),
            "word": [f"word {number}" for number in numbers],
            "odd": [number % 2 == 1 for number in numbers],
            "ragged": [list(range(number % 3)) for number in numbers],
            "maybe": pa.array([None if number % 5 == 0 else number for number in numbers], pa.int16()),
            "bytes": [bytes([number % 256]) * 3 for number in numbers],
            "moment": pa.array([datetime(2026, 1, 1 + number % 28, tzinfo=UTC) for number in numbers]),
        }
    )


@pytest.fixture(scope="module")
def space(tmp_path_factory) -> Workspace:
    folder = tmp_path_factory.mktemp("flips")
    (folder / "data").mkdir()
    for number in range(3):
        pq.write_table(_rows(40 * number, 40 * number + 40), folder / "data" / f"{number}.parquet")
    (folder / "kinds.yaml").write_text(_DESCRIPTOR)
    found = open_workspace(Config(home=folder / "home"))
    found.ensure(folder / "kinds.yaml")
    return found


@pytest.fixture(scope="module")
def manifest(space) -> Manifest:
    (fingerprint,) = space.store.fingerprints()
    return space.store.require_manifest(fingerprint)


def _files(store: Store, *kinds: str) -> list[Path]:
    files = sorted(path for kind in kinds for path in (store.home / kind).rglob("*") if path.is_file())
    assert {path.relative_to(store.home).parts[0] for path in files} == set(kinds)
    return files


@contextmanager
def flipped(path: Path, at: int, mask: int) -> Iterator[None]:
    """One byte of a file changed; whatever became of the file, it is whole again afterwards."""
    whole = path.read_bytes()
    _write(path, at, whole[at] ^ mask)
    try:
        yield
    finally:
        if path.exists():
            _write(path, at, whole[at])
        else:  # it was put aside as evidence
            path.write_bytes(whole)


def _write(path: Path, at: int, value: int) -> None:
    with path.open("r+b", buffering=0) as file:
        file.seek(at)
        file.write(bytes([value]))


def _drawn(files: list[Path], count: int, seed: int) -> Iterator[tuple[Path, int, int]]:
    """Files in turn, of each a byte and what is done to it."""
    draw = random.Random(seed)
    for number in range(count):
        path = files[number % len(files)]
        yield path, draw.randrange(path.stat().st_size), draw.randrange(1, 256)


def _checks(store: Store, manifest: Manifest) -> dict[str, Callable[[Path], object]]:
    """What `coral verify --deep` does to a file of each kind."""
    shards = {store.home / shard.path: shard for shard in manifest.shards()}
    return {
        "objects": lambda path: shard_flaw(store.home, shards[path]),
        "manifests": lambda path: isinstance(read_manifest(store, path), Flaw),
        "partitions": lambda path: record_flaw(path, manifest),
        "pins": pin_flaw,
    }


def test_the_deep_check_finds_every_flipped_byte(space, manifest):
    checks = _checks(space.store, manifest)
    files = _files(space.store, *checks)
    assert len(files) >= 11  # six shards, three records, manifest and pin
    for path, at, mask in _drawn(files, FLIPS, seed=1):
        check = checks[path.relative_to(space.store.home).parts[0]]
        with flipped(path, at, mask):
            assert check(path), (path, at, mask)
        if at % 50 == 0:
            assert not isinstance(check(path), Flaw)


def test_every_byte_of_a_pin_and_every_fifth_of_a_manifest_counts(space, manifest):
    checks = _checks(space.store, manifest)
    for kind in ("pins", "manifests"):
        (path,) = _files(space.store, kind)
        for at in range(0, path.stat().st_size, 1 if kind == "pins" else 5):
            with flipped(path, at, mask=1):
                assert checks[kind](path), (path, at)


def test_the_whole_of_verify_names_the_file_and_no_other(space, manifest):
    for path, at, mask in _drawn(_files(space.store, "objects", "manifests", "partitions", "pins"), 200, seed=2):
        with flipped(path, at, mask):
            found = verify(space.store, [manifest.fingerprint], deep=True)
        named = [damaged.path for item in found for damaged in item.damaged]
        assert named == [path.relative_to(space.store.home).as_posix()], (path, at, mask)


def test_the_command_finds_them(space):
    for path, at, mask in _drawn(_files(space.store, "objects", "manifests", "partitions", "pins"), 22, seed=3):
        with flipped(path, at, mask):
            found = coral_json("verify", "--deep", "--home", space.store.home, code=4)
        named = [damaged["path"] for item in found for damaged in item["damaged"]]
        assert named == [path.relative_to(space.store.home).as_posix()]
    assert coral_json("verify", "--deep", "--home", space.store.home)[0]["ok"]


def test_reading_finds_every_flipped_byte_of_what_a_batch_comes_from(space, manifest):
    store, schema = space.store, arrow_schema(manifest.columns)
    shards = {store.home / shard.path: shard for shard in manifest.shards()}
    reads: dict[str, Callable[[Path], object]] = {
        "objects": lambda path: open_shard(store.home, shards[path], schema, verify="read"),
        "manifests": lambda path: store.read_manifest(path.stem, mode="read"),
    }
    for path, at, mask in _drawn(_files(store, *reads), FLIPS, seed=4):
        read = reads[path.relative_to(store.home).parts[0]]
        with flipped(path, at, mask), pytest.raises((ShardMissingError, ManifestCorruptError)):
            read(path)
    for shard in shards.values():
        assert open_shard(store.home, shard, schema, verify="read").num_rows


def test_load_hands_out_no_batch_of_a_flipped_byte(space, manifest):
    descriptor = space.config.home.parent / "kinds.yaml"
    for number, drawn in enumerate(_drawn(_files(space.store, "objects", "manifests"), 200, seed=5)):
        asked = {"pin": manifest.fingerprint} if number % 2 else {}
        with flipped(*drawn), pytest.raises((ShardMissingError, ManifestCorruptError, StaleError)):
            load(descriptor, home=space.store.home, verify="read", build=False, **asked)


def test_a_byte_that_flips_after_loading_is_found_before_a_batch_is_handed_out(space, manifest):
    descriptor = space.config.home.parent / "kinds.yaml"
    data = load(descriptor, home=space.store.home, verify="read", build=False)
    shards = [space.store.home / shard.path for shard in manifest.shards("train")]
    asked = {"batch_size": 90, "shuffle": True, "batch_as": ["number", "word"]}
    for path, at, mask in _drawn(shards, 100, seed=6):
        with flipped(path, at, mask), pytest.raises(ShardMissingError):
            next(iter(data.loader("train", **asked)))
    assert len(next(iter(data.loader("train", **asked)))[0]) == 90

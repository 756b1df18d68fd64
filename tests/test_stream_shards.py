"""Maps of shards: opened late, checked before every use, and whatever is damaged is a typed error, never a crash."""

from __future__ import annotations

import json
import pickle  # noqa: TID251  # others pickle loaders: spawned processes
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import damaged_shards
from coralord_lightning.errors import BatchError, ShardMissingError
from coralord_lightning.spec.manifest import Shard
from coralord_lightning.stream.gather import Gatherer
from coralord_lightning.stream.locate import ShardIndex
from coralord_lightning.stream.shards import ShardMaps
from hand_built import write_shards


def table_of(num_rows: int, first: int = 0) -> pa.Table:
    rows = np.arange(first, first + num_rows)
    return pa.table({"row": rows, "text": [f"row {row}" for row in rows]})


def written(home: Path, sizes: list[int], *, first: int = 0, stem: str = "") -> tuple[list[Shard], pa.Schema]:
    table = table_of(sum(sizes), first)
    return write_shards(home, table, sizes, stem=stem), table.schema


def gatherer(maps: ShardMaps) -> Gatherer:
    return Gatherer(maps, fields=maps.schema.names, split="train")


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 8)


def test_a_shard_cut_while_it_is_mapped_is_an_error_before_it_is_read(tmp_path: Path) -> None:
    source = gatherer(ShardMaps(tmp_path, *written(tmp_path, [4, 4])))
    source.gather(np.arange(8))
    cut(tmp_path / "1.arrow")

    assert source.gather(np.array([3, 0]))["row"].tolist() == [3, 0]
    with pytest.raises(ShardMissingError, match="has another size") as caught:
        source.gather(np.array([0, 5]))
    assert caught.value.subject == str(tmp_path / "1.arrow")


def test_a_shard_that_went_away_is_an_error_at_the_next_batch(tmp_path: Path) -> None:
    source = gatherer(ShardMaps(tmp_path, *written(tmp_path, [4, 4])))
    source.gather(np.arange(8))
    (tmp_path / "0.arrow").unlink()

    with pytest.raises(ShardMissingError, match="is gone"):
        source.gather(np.array([0]))


def test_of_many_shards_some_are_looked_at_in_turn_and_all_by_check(tmp_path: Path) -> None:
    maps = ShardMaps(tmp_path, *written(tmp_path, [1] * 200))
    source = gatherer(maps)
    source.gather(np.arange(200))
    maps.check()
    (tmp_path / "150.arrow").unlink()

    with pytest.raises(ShardMissingError):
        maps.check()
    seen = []
    for _ in range(4):
        try:
            source.gather(np.arange(200))
        except ShardMissingError:
            seen.append("gone")
    assert seen == ["gone"]


def test_check_opens_no_shard(tmp_path: Path) -> None:
    maps = ShardMaps(tmp_path, *written(tmp_path, [2, 2]))
    (tmp_path / "1.arrow").unlink()

    maps.check()
    assert gatherer(maps).gather(np.array([1]))["row"].tolist() == [1]


@pytest.mark.parametrize("place", [0.1, 0.5, 0.98])
def test_one_other_bit_is_found_before_a_value_is_handed_out_with_verify_read(tmp_path: Path, place: float) -> None:
    shards, schema = written(tmp_path, [300])
    data = bytearray((tmp_path / "0.arrow").read_bytes())
    data[int(len(data) * place)] ^= 1
    (tmp_path / "0.arrow").write_bytes(data)

    with pytest.raises(ShardMissingError, match="is damaged") as caught:
        gatherer(ShardMaps(tmp_path, shards, schema, "read")).gather(np.array([0]))

    assert caught.value.facts["expected"] == f"sha256 {shards[0].sha256}"


def test_whole_shards_pass_verify_read(tmp_path: Path) -> None:
    maps = ShardMaps(tmp_path, *written(tmp_path, [3, 3]), "read")

    assert gatherer(maps).gather(np.arange(6))["row"].tolist() == list(range(6))


def test_a_shard_with_an_equal_head_and_other_rows_is_refused(tmp_path: Path) -> None:
    shards, schema = written(tmp_path, [3, 3])
    maps = ShardMaps(tmp_path, [shards[0], replace(shards[1], num_rows=2)], schema)

    with pytest.raises(ShardMissingError, match="other rows or columns"):
        gatherer(maps).gather(np.array([0, 4]))


@pytest.mark.parametrize("rows", [[8], [-1], [0, 2**40]])
def test_rows_that_are_none_are_refused(tmp_path: Path, rows: list[int]) -> None:
    with pytest.raises(IndexError, match="from 0 to 7"):
        gatherer(ShardMaps(tmp_path, *written(tmp_path, [4, 4]))).gather(np.array(rows))


def test_joined_maps_are_one_run_of_rows(tmp_path: Path) -> None:
    parts = [
        ShardMaps(tmp_path, *written(tmp_path, [3, 2], stem="a")),
        ShardMaps(tmp_path, *written(tmp_path, [4], first=100, stem="b")),
    ]
    maps = pickle.loads(pickle.dumps(ShardMaps.joined(parts)))

    batch = gatherer(maps).gather(np.array([8, 0, 4, 5]))

    assert maps.num_rows == 9
    assert batch["row"].tolist() == [103, 0, 4, 100]
    assert batch["text"] == ["row 103", "row 0", "row 4", "row 100"]


def test_joined_maps_share_only_fields_that_are_alike(tmp_path: Path) -> None:
    one = table_of(2)
    other = one.set_column(1, "text", pa.array([1, 2]))
    maps = ShardMaps.joined(
        [ShardMaps(tmp_path, write_shards(tmp_path, t, [2], stem=s), t.schema) for s, t in (("a", one), ("b", other))]
    )

    assert maps.schema.names == ["row"]
    with pytest.raises(BatchError, match="is not the same in all sources") as caught:
        Gatherer(maps, fields=["text"], split="train")
    assert caught.value.facts == {"got": "string, int64"}


@given(sizes=st.lists(st.one_of(st.integers(1, 5), st.integers(1, 3000)), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_every_row_is_found_in_its_shard(sizes: list[int]) -> None:
    offsets = [0, *np.cumsum(sizes).tolist()]
    rows = np.arange(offsets[-1])

    expected = np.repeat(np.arange(len(sizes)), sizes)
    assert np.array_equal(ShardIndex(offsets).find(rows), expected)


def test_rows_are_found_among_shards_of_very_different_sizes() -> None:
    offsets = [0, 1, 10_000_000, 10_000_001]

    assert ShardIndex(offsets).find(np.array([0, 1, 9_999_999, 10_000_000])).tolist() == [0, 1, 1, 2]


@pytest.mark.parametrize(("verify", "count"), [("stat", 600), ("read", 60)])
def test_damage_of_any_byte_gives_values_or_a_typed_error(tmp_path: Path, verify: str, count: int) -> None:
    command = [sys.executable, damaged_shards.__file__, str(tmp_path), "5", str(count), verify]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)

    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert sum(seen.values()) == count
    if verify == "read":
        assert seen == {"ShardMissingError": count}
    else:
        assert min(seen["values"], seen["ShardMissingError"]) > 0

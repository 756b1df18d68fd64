"""Lanes: each of eight nodes opens its own shards and few of the others', and fewer nodes see the same sequence."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from coralord_lightning.spec.manifest import Manifest, SplitPart
from coralord_lightning.stream.feed import Feed, split_feed
from coralord_lightning.stream.loader import CoralLoader
from hand_built import write_manifest, write_shards
from toy_streams import Step, global_steps, loader_over, rows_table

SHARDS, LANES, GLOBAL_BATCH = 256, 8, 160
# Of shards that are not all alike, and rows that no lane divides: lanes begin and end inside shards.
ROWS_PER_SHARD = [9 + number % 5 for number in range(SHARDS)]


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Path]:
    home = tmp_path_factory.mktemp("home")
    table: pa.Table = rows_table(sum(ROWS_PER_SHARD))
    parts = (SplitPart(shards=tuple(write_shards(home, table, ROWS_PER_SHARD, stem="part-"))),)
    manifest = replace(write_manifest(home, {"train": rows_table(1)}), splits={"train": parts})
    return manifest, home


class Cluster:
    """So many nodes, each with its own maps and some ranks on it."""

    def __init__(self, version: tuple[Manifest, Path], nodes: int, ranks_a_node: int = 1, **options: Any) -> None:
        world_size = nodes * ranks_a_node
        self.feeds: list[Feed] = [split_feed(*version, "train") for _ in range(nodes)]
        options = {"batch_size": GLOBAL_BATCH // world_size, "lanes": LANES, "world_size": world_size} | options
        self.ranks: list[CoralLoader] = [
            loader_over(self.feeds[rank // ranks_a_node], rank=rank, **options) for rank in range(world_size)
        ]

    def steps(self, count: int) -> list[Step]:
        return global_steps(self.ranks, count)

    def epoch(self) -> list[Step]:
        return self.steps(len(self.ranks[0]) - self.ranks[0].position.batches)

    def opened(self) -> int:
        return sum(len(feed.maps._mapped) for feed in self.feeds)

    def opened_bytes(self) -> int:
        return sum(shard.buffer.size for feed in self.feeds for shard in feed.maps._mapped.values())


def goes_on(version: tuple[Manifest, Path], state: dict[str, Any], nodes: int, **options: Any) -> Cluster:
    cluster = Cluster(version, nodes, **options)
    for loader in cluster.ranks:
        loader.load_state_dict(state)
    return cluster


@pytest.mark.parametrize(
    ("ranks_a_node", "shuffle", "drop_last"),
    [
        (1, "full", False),
        (2, "full", False),
        (4, "full", False),
        (2, "block", False),
        (2, False, False),
        (1, "full", True),
    ],
)
def test_eight_nodes_open_little_more_than_the_dataset_in_many_epochs(
    version: tuple[Manifest, Path], ranks_a_node: int, shuffle: Any, drop_last: bool
) -> None:
    cluster = Cluster(version, 8, ranks_a_node, shuffle=shuffle, drop_last=drop_last)
    rows, total = sum(ROWS_PER_SHARD), cluster.feeds[0].maps.size_bytes

    for _ in range(5):
        seen = sorted(itertools.chain(*cluster.epoch()))
        assert seen == list(range(rows)) or (drop_last and len(set(seen)) == len(seen) > rows - GLOBAL_BATCH)

    assert cluster.ranks[0].position.epoch == 5
    assert SHARDS * 0.95 < cluster.opened() <= 1.1 * SHARDS
    assert cluster.opened_bytes() <= 1.1 * total


def test_without_lanes_each_node_opens_nearly_all(version: tuple[Manifest, Path]) -> None:
    cluster = Cluster(version, 8, lanes=1)
    for _ in range(3):
        cluster.epoch()

    assert cluster.opened() > 4 * SHARDS  # what lanes are there against


@pytest.mark.parametrize("nodes", [4, 2])
def test_fewer_nodes_open_little_more_than_the_dataset_too(version: tuple[Manifest, Path], nodes: int) -> None:
    cluster = Cluster(version, nodes, 2)
    for _ in range(3):
        cluster.epoch()

    assert cluster.opened() <= 1.1 * SHARDS


@pytest.mark.parametrize(("shuffle", "stop"), [("full", 0), ("full", 7), ("full", -1), ("block", 1), (False, 7)])
def test_a_run_on_eight_nodes_goes_on_with_four_and_two_in_the_same_sequence(
    version: tuple[Manifest, Path], shuffle: Any, stop: int
) -> None:
    whole = Cluster(version, 8, shuffle=shuffle)
    batches = len(whole.ranks[0])
    steps = whole.steps(3 * batches)
    stop %= batches

    eight = Cluster(version, 8, shuffle=shuffle)
    done = eight.steps(stop)
    four = goes_on(version, eight.ranks[3].state_dict(), 4, shuffle=shuffle)
    done += four.steps(batches)
    two = goes_on(version, four.ranks[1].state_dict(), 2, shuffle=shuffle)
    done += two.steps(2)
    sixteen = goes_on(version, two.ranks[0].state_dict(), 8, ranks_a_node=2, shuffle=shuffle)
    done += sixteen.steps(2 * batches - 2 - stop)

    assert done == steps


def test_another_number_of_lanes_is_another_sequence(version: tuple[Manifest, Path]) -> None:
    assert Cluster(version, 8).steps(1) != Cluster(version, 8, lanes=4).steps(1)

"""A split as torch's own kinds of dataset."""

from __future__ import annotations

import pickle  # noqa: TID251  # DataLoaders pickle datasets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler

import augmentations
from coralord_lightning.stream.feed import Feed, split_feed
from coralord_lightning.stream.loader import CoralLoader
from coralord_lightning.stream.options import LoaderOptions
from coralord_lightning.stream.views import BatchView, RowView
from hand_built import write_manifest


def example_feed(home: Path) -> Feed:
    table = pa.table(
        {
            "row": np.arange(40),
            "name": [f"n{row}" for row in range(40)],
            "pixels": pa.FixedSizeListArray.from_arrays(pa.array(np.arange(80, dtype=np.uint8)), 2),
            "tags": pa.array([[row] * (row % 3) for row in range(40)], pa.list_(pa.int32())),
        }
    )
    return split_feed(write_manifest(home, {"train": table}), home, "train")


def plain_feed(home: Path) -> Feed:
    return split_feed(write_manifest(home, {"train": augmentations.rows_table()}), home, "train")


def ids(batches: Any) -> list[list[int]]:
    return [batch["row"].tolist() for batch in batches]


def test_rows_by_number_have_no_batch_dimension(tmp_path: Path) -> None:
    view = RowView(example_feed(tmp_path))

    row = view[5]

    assert len(view) == 40
    assert (int(row["row"]), row["name"], row["pixels"].tolist(), row["tags"].tolist()) == (5, "n5", [10, 11], [5, 5])
    assert [int(row["row"]) for row in view.__getitems__([39, 0, 0, -40])] == [39, 0, 0, 0]
    assert int(view[-1]["row"]) == int(view[np.int64(39)]["row"]) == 39
    for wrong in (40, -41):
        with pytest.raises(IndexError, match="of 40"):
            view[wrong]
    assert len(list(view)) == 40  # type: ignore[call-overload]  # by IndexError, as any sequence


def test_a_row_can_be_changed_without_a_change_of_the_data(tmp_path: Path) -> None:
    view = RowView(example_feed(tmp_path))

    view[3]["pixels"] += 1

    assert view[3]["pixels"].tolist() == [6, 7]


def test_torchs_samplers_and_processes_read_rows(tmp_path: Path) -> None:
    view = RowView(plain_feed(tmp_path))
    sampler = DistributedSampler(view, num_replicas=2, rank=1, shuffle=False)  # type: ignore[arg-type]

    loader = DataLoader(
        view, batch_size=8, sampler=sampler, num_workers=2, multiprocessing_context="spawn", persistent_workers=False
    )

    assert torch.cat([batch["row"] for batch in loader]).tolist() == list(range(1, 40, 2))


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_batches_of_several_processes_are_the_loaders_in_its_order(tmp_path: Path, num_workers: int) -> None:
    options = LoaderOptions(batch_size=6, shuffle=True, transform=augmentations.draw, world_size=2, rank=1)
    loader = CoralLoader(plain_feed(tmp_path), options)
    view = BatchView(plain_feed(tmp_path), options)
    batches = DataLoader(
        view, batch_size=None, num_workers=num_workers,
        multiprocessing_context="spawn" if num_workers else None,
        collate_fn=augmentations.as_it_is,
    )  # fmt: skip

    assert len(view) == len(batches) == len(loader)
    for epoch in range(2):
        view.set_epoch(epoch)
        got, expected = list(batches), list(loader)
        assert ids(got) == ids(expected)
        assert [batch["drawn"] for batch in got] == [batch["drawn"] for batch in expected]


def test_every_iteration_is_the_epoch_that_was_set(tmp_path: Path) -> None:
    view = BatchView(plain_feed(tmp_path), LoaderOptions(batch_size=6, shuffle=True))

    first, again = ids(view), ids(view)
    view.set_epoch(1)

    assert first == again != ids(view)


def test_a_view_that_was_read_can_be_pickled(tmp_path: Path) -> None:
    rows, batches = RowView(plain_feed(tmp_path)), BatchView(plain_feed(tmp_path), LoaderOptions(batch_size=6))
    expected = int(rows[7]["row"]), ids(batches)

    rows, batches = pickle.loads(pickle.dumps((rows, batches)))

    assert (int(rows[7]["row"]), ids(batches)) == expected


def test_threads_may_read_one_view(tmp_path: Path) -> None:
    table = pa.table({"row": np.arange(600), "square": np.arange(600) ** 2})
    wrong: list[Any] = []

    def read(view: RowView, seed: int) -> None:
        for rows in np.random.default_rng(seed).integers(0, 600, (10, 30)).tolist():
            got = [(int(row["row"]), int(row["square"])) for row in view.__getitems__(rows)]
            wrong.extend(pair for pair, number in zip(got, rows, strict=True) if pair != (number, number**2))

    manifest = write_manifest(tmp_path, {"train": table}, rows_per_shard=10)
    for _ in range(3):
        view = RowView(split_feed(manifest, tmp_path, "train"))  # nothing is mapped yet
        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(read, view, seed) for seed in range(4)]:
                done.result()

    assert wrong == []

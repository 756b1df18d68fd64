"""Small versions of numbered rows, and loaders over them: what tests of order and position read."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from coralord_lightning.stream.feed import Feed, mixed_feed, split_feed
from coralord_lightning.stream.loader import CoralLoader
from coralord_lightning.stream.options import LoaderOptions
from hand_built import CONTENT_DIGEST, write_manifest

Step = list[int]


def rows_table(num_rows: int) -> pa.Table:
    """Rows 0, 1, 2, … with a weight that every third row has not."""
    numbers = np.arange(num_rows)
    return pa.table({"row": numbers, "weight": (numbers % 3).astype(np.float64)})


@functools.cache
def rows_feed(home: Path, num_rows: int, *, digest: str = CONTENT_DIGEST, rows_per_shard: int = 7) -> Feed:
    """A split of such rows, in shards of so many."""
    folder = home / f"{num_rows}-{digest[:2]}-{rows_per_shard}"
    folder.mkdir()
    manifest = write_manifest(
        folder, {"train": rows_table(num_rows)}, rows_per_shard=rows_per_shard, content_digest=digest
    )
    return split_feed(manifest, folder, "train")


def mixture_feed(home: Path, weights: Mapping[int, float], stopping: Any = "first") -> Feed:
    """Sources of so many rows each, drawn by weight; their rows keep the numbers of their own source."""
    feeds = {str(rows): rows_feed(home, rows, digest=f"{rows % 100:02d}" * 32) for rows in weights}
    return mixed_feed(feeds, {str(rows): weight for rows, weight in weights.items()}, stopping)


def loader_over(feed: Feed, **options: Any) -> CoralLoader:
    """A loader with batches of 4, shuffled."""
    return CoralLoader(feed, LoaderOptions(**{"batch_size": 4, "shuffle": True} | options))


def with_block_rows(loader: CoralLoader, block_rows: int) -> CoralLoader:
    """The same loader in a run whose blocks have so many rows; a toy's rows would all lie in one."""
    loader.load_state_dict(loader.state_dict() | {"block_rows": block_rows})
    return loader


def seen(batch: Mapping[str, Any]) -> Step:
    """The rows of a batch, without padding."""
    rows = batch["row"]
    return (rows[~batch["is_padding"]] if "is_padding" in batch else rows).tolist()


def steps_of(loader: CoralLoader, count: int) -> list[Step]:
    """The next batches of one rank, over as many epochs as that takes."""
    endless = itertools.chain.from_iterable(iter(loader) for _ in itertools.count())
    return [seen(batch) for batch in itertools.islice(endless, count)]


def global_steps(loaders: Iterable[CoralLoader], count: int) -> list[Step]:
    """The next global batches of all ranks: their parts behind each other."""
    return [list(itertools.chain(*parts)) for parts in zip(*(steps_of(one, count) for one in loaders), strict=True)]

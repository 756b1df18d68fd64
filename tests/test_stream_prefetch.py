"""A thread that makes what comes next: one ahead, its exceptions raised where they belong, and its end."""

from __future__ import annotations

import gc
import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from coralord_lightning.errors import ShardMissingError
from coralord_lightning.stream.feed import split_feed
from coralord_lightning.stream.loader import CoralLoader
from coralord_lightning.stream.options import LoaderOptions
from coralord_lightning.stream.prefetch import one_ahead
from hand_built import write_manifest


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("coralord-prefetch")]


def test_values_come_in_order_made_by_another_thread() -> None:
    makers = list[tuple[int, str]]()

    def values() -> Iterator[int]:
        for number in range(5):
            makers.append((number, threading.current_thread().name))
            yield number

    assert list(one_ahead(values())) == [0, 1, 2, 3, 4]
    assert all(name.startswith("coralord-prefetch") for _, name in makers)
    assert not threads()


def test_the_next_value_is_made_while_one_is_used_and_no_more() -> None:
    made = [threading.Event() for _ in range(4)]

    def values() -> Iterator[int]:
        for number, event in enumerate(made):
            event.set()
            yield number

    with closing(one_ahead(values())) as coming:
        next(coming)
        assert made[1].wait(10)
        assert not made[2].wait(0.2)


def test_an_exception_is_raised_in_its_place() -> None:
    def values() -> Iterator[int]:
        yield 1
        raise KeyError("two")

    coming = one_ahead(values())
    assert next(coming) == 1
    with pytest.raises(KeyError, match="two"):
        next(coming)
    assert not threads()


def test_leaving_early_ends_the_thread() -> None:
    coming = one_ahead(itertools.count())
    next(coming)
    assert threads()

    del coming
    gc.collect()

    assert not threads()


def wide_loader(home: Path) -> CoralLoader:
    """Batches so large that they are gathered ahead."""
    pixels = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(24 << 20, np.uint8)), 1 << 20)
    manifest = write_manifest(home, {"train": pa.table({"row": np.arange(24), "x": pixels})}, rows_per_shard=4)
    return CoralLoader(split_feed(manifest, home, "train"), LoaderOptions(batch_size=4))


def test_a_loader_reads_ahead_and_counts_what_it_handed_out(tmp_path: Path) -> None:
    loader = wide_loader(tmp_path)
    batches = iter(loader)

    next(batches)

    assert threads()
    assert loader.position.batches == 1
    batches.close()  # type: ignore[attr-defined]
    assert not threads()
    assert [batch["row"].tolist()[0] for batch in loader] == [0, 4, 8, 12, 16, 20]


def test_iterations_of_one_loader_that_gather_ahead_do_not_disturb_each_other(tmp_path: Path) -> None:
    loader = wide_loader(tmp_path)
    seen: list[list[int]] = [[], [], []]

    for batches in zip(*[iter(loader) for _ in seen], strict=True):
        assert threads()
        for rows, batch in zip(seen, batches, strict=True):
            rows.extend(batch["row"].tolist())

    assert seen == [list(range(24))] * 3


def test_a_shard_that_is_gone_is_told_where_its_batch_is_asked_for(tmp_path: Path) -> None:
    loader = wide_loader(tmp_path)
    (tmp_path / "train-3.arrow").unlink()

    with pytest.raises(ShardMissingError):
        list(loader)

    assert loader.position.batches == 1  # the second chunk has rows of that shard


@pytest.mark.parametrize("ending", ["", "raise RuntimeError('training failed')", "sys.exit(3)"])
def test_a_program_ends_in_the_middle_of_an_epoch(tmp_path: Path, ending: str) -> None:
    program = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_stream_prefetch
from pathlib import Path
batches = iter(test_stream_prefetch.wide_loader(Path({str(tmp_path)!r})))
next(batches)
assert test_stream_prefetch.threads()
{ending}
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60)

    assert done.returncode == {"": 0, "s": 3, "r": 1}[ending[:1]], done.stderr
    assert ("training failed" in done.stderr) == ending.startswith("raise")

"""Functions for `transform` and `collate` that a worker process can import, and a program that runs a loader."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coralord_lightning.stream.feed import split_feed
from coralord_lightning.stream.loader import CoralLoader
from coralord_lightning.stream.options import LoaderOptions
from hand_built import write_manifest


def draw(batch: dict[str, Any]) -> dict[str, Any]:
    """Add what the three global generators give."""
    numpy = float(np.random.standard_normal())  # noqa: NPY002  # the global one
    return batch | {"drawn": (random.random(), numpy, float(torch.rand(())))}


def name_process(batch: dict[str, Any]) -> dict[str, Any]:
    return batch | {"pid": os.getpid(), "threads": torch.get_num_threads()}


def as_it_is(batch: Any) -> Any:
    return batch


def rows_to_lists(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"row": [int(row["row"]) for row in rows], "drawn": random.random()}


def fail_at_7(batch: dict[str, Any]) -> dict[str, Any]:
    if 7 in batch["row"]:
        raise ZeroDivisionError("row seven")
    return name_process(batch)


class Unspeakable(Exception):
    """It cannot be made again from its arguments."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)
        self.second = second


def fail_unspeakably(batch: dict[str, Any]) -> dict[str, Any]:
    raise Unspeakable("this much", "is known")


def return_a_generator(batch: dict[str, Any]) -> Any:
    return (part for part in batch)


def die(batch: dict[str, Any]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def give_much(batch: dict[str, Any]) -> dict[str, Any]:
    """More than any pipe holds, so that a worker is always found in the middle of a message."""
    return {"pid": os.getpid(), "much": [b"x" * 4_000_000, torch.zeros(1_000_000)]}


def sleep_long(batch: dict[str, Any]) -> dict[str, Any]:
    time.sleep(600)
    return batch


class CountCalls:
    """Leaves a file for each batch that was made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        (self.folder / f"{int(batch['row'][0])}").touch()
        return batch


FORMS: dict[str, Any] = {
    "plain": torch.arange(6, dtype=torch.int16).view(2, 3),
    "no values": torch.zeros((0, 4)),
    "one value": torch.tensor(2.5),
    "bool": torch.tensor([True, False]),
    "bfloat": torch.ones(3, dtype=torch.bfloat16),
    "complex": torch.ones(2, dtype=torch.complex64).conj(),
    "turned": torch.arange(6).view(2, 3).T,
    "part": torch.arange(10)[2:5],
    "sparse": torch.eye(3).to_sparse(),
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "array": np.arange(3.0),
    "texts": ["a", "ß"],
    "nested": ({"x": [torch.ones(1)]}, None),
}


def give_forms(batch: dict[str, Any]) -> dict[str, Any]:
    return dict(FORMS)


def stop_or_sleep(batch: dict[str, Any]) -> dict[str, Any]:
    """The first batch passes, and every further one takes for ever."""
    return name_process(batch) if 0 in batch["row"] else sleep_long(batch)


def run_program(home: str, how: str) -> None:
    """Take one batch from two workers that are busy for ever after, say who they are, and end in some way."""
    folder = Path(home)
    manifest = write_manifest(folder, {"train": rows_table()})
    options = LoaderOptions(batch_size=4, num_workers=2, transform=stop_or_sleep)
    loader = CoralLoader(split_feed(manifest, folder, "train"), options)
    batches = iter(loader)
    next(batches)
    print(*(worker.process.pid for worker in loader._workers._workers), flush=True)
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "terminated":
        os.kill(os.getpid(), signal.SIGTERM)
    if how == "waiting":
        with contextlib.suppress(KeyboardInterrupt):
            next(batches)
        print("interrupted", flush=True)
    if how == "raising":
        raise RuntimeError("the training failed")


def rows_table() -> Any:
    import pyarrow as pa

    return pa.table({"row": np.arange(40)})


if __name__ == "__main__":
    run_program(*sys.argv[1:])

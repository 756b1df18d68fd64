"""Memory of a loader over data of 10 GB: what a process holds besides the page cache, through three epochs.

    python benchmarks/memory.py [--gigabytes 10] [--epochs 3] [--shuffle full block] [--folder /tmp]

Prints one line an epoch: rows a second, time of the first batch, the most that was held (RssAnon + RssShmem, sampled
ten times a second); and how it grew in MB an hour. Its files are deleted at the end.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch  # noqa: F401  # before the clock runs

from coralord_lightning.spec.columns import columns_of
from coralord_lightning.spec.manifest import Manifest, Shard, SplitPart
from coralord_lightning.stream.feed import split_feed
from coralord_lightning.stream.loader import CoralLoader
from coralord_lightning.stream.options import LoaderOptions

SHARD_BYTES = 256 << 20
WIDTH = 3072  # a picture of 32 x 32 x 3


def write_version(folder: Path, gigabytes: float) -> Manifest:
    """Shards of pictures and labels, written to disk and out of the page cache."""
    rows = SHARD_BYTES // (WIDTH + 8)
    pixels = np.random.default_rng(0).integers(0, 256, rows * WIDTH, dtype=np.uint8)
    shards, first = [], 0
    schema = pa.schema({"image": pa.list_(pa.uint8(), WIDTH), "label": pa.int64()})
    for number in range(max(1, round(gigabytes * 1e9 / SHARD_BYTES))):
        image = pa.FixedSizeListArray.from_arrays(pa.array(np.roll(pixels, number * WIDTH)), WIDTH)
        batch = pa.record_batch([image, pa.array(np.arange(first, first + rows))], schema=schema)
        path = folder / f"{number}.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            writer.write_batch(batch)
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        shards.append(Shard(path=path.name, num_rows=rows, size_bytes=path.stat().st_size, sha256="0" * 64))
        first += rows
    return Manifest(
        fingerprint="f" * 64,
        content_digest="c" * 64,
        created_at="2026-01-01T00:00:00+00:00",
        columns=columns_of(schema),
        splits={"train": (SplitPart(shards=tuple(shards)),)},
        partitions=(),
        plan={"format": 1},
    )


class Held(threading.Thread):
    """Samples what this process holds, in MB, besides the page cache."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.samples: list[tuple[float, float]] = []
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.1):
            self.samples.append((time.perf_counter(), held_mb()))

    def most(self, since: float) -> float:
        """The most in MB since a time."""
        return max((value for at, value in self.samples if at >= since), default=0.0)

    def stop(self) -> float:
        """The growth in MB an hour over the last two thirds of the run."""
        self._over.set()
        self.join()
        times, values = np.array(self.samples[len(self.samples) // 3 :]).T
        return float(np.polyfit(times - times[0], values, 1)[0]) * 3600


def held_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssShmem"))) / 1e3


def measure(manifest: Manifest, folder: Path, shuffle: str, epochs: int) -> None:
    held = Held()
    held.start()
    begun = time.perf_counter()
    loader = CoralLoader(split_feed(manifest, folder, "train"), LoaderOptions(batch_size=256, shuffle=shuffle))
    for epoch in range(epochs):
        first_s, rows, total = None, 0, 0
        for batch in loader:
            first_s = first_s or time.perf_counter() - begun
            rows += len(batch["label"])
            total += int(batch["label"].sum())
        seconds = time.perf_counter() - begun
        assert total == rows * (rows - 1) // 2, "each row once"
        print(
            f"{shuffle:6} epoch {epoch}: {rows / seconds:10,.0f} rows/s, {seconds:6.1f} s, "
            f"first batch {first_s:.3f} s, held at most {held.most(begun):5.0f} MB",
            flush=True,
        )
        begun = time.perf_counter()
    print(f"{shuffle:6} growth {held.stop():+.0f} MB an hour over the last two thirds of the run", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=10.0)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--shuffle", nargs="+", default=["full", "block"])
    parser.add_argument("--folder", default=None)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        begun = time.perf_counter()
        manifest = write_version(Path(folder), asked.gigabytes)
        rows = sum(shard.num_rows for shard in manifest.shards("train"))
        print(f"{asked.gigabytes} GB, {rows:,} rows written in {time.perf_counter() - begun:.0f} s", flush=True)
        for shuffle in asked.shuffle:
            measure(manifest, Path(folder), shuffle, asked.epochs)


if __name__ == "__main__":
    main()

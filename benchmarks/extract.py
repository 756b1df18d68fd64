"""Measures reading local Parquet: against the official Croissant reader, and against DuckDB's own COPY.

1. 1,000,000 rows x 5 columns, from the descriptor to Arrow, beside `mlcroissant.Dataset.records` on 100,000 of them.
   Target: 100 times its rows per second.
2. 10,000,000 rows x 10 columns, from the descriptor to Arrow stream files, beside DuckDB's COPY of the same query to
   Parquet with as many threads. Targets: half its speed, and less than 1.5 GB of memory for the whole process.

Each figure is the median of several runs, ours and the peer's in turn. Peak memory is that of a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from coralord_lightning.builder.extract import open_extractor
from coralord_lightning.builder.staging import write_batches
from coralord_lightning.config import Config
from coralord_lightning.sources import open_sources
from coralord_lightning.workspace import open_workspace
from coralord_lightning.workspace.describe import croissant_of


def make_data(folder: Path, rows: int, columns: int) -> Path:
    """A Parquet file of integers, floats and short texts, and its Croissant; returns the Croissant's path."""
    rng = np.random.default_rng(0)
    file = folder / f"{rows}.parquet"
    writer: pq.ParquetWriter | None = None
    for start in range(0, rows, 1_000_000):
        size = min(1_000_000, rows - start)
        makers: tuple[Callable[[], object], ...] = (
            lambda size=size: rng.integers(0, 1000, size),
            lambda size=size: rng.random(size),
            lambda size=size: pa.array(rng.integers(0, 10**6, size)).cast(pa.string()),
        )
        table = pa.table({f"c{at}": makers[at % 3]() for at in range(columns)})
        writer = writer or pq.ParquetWriter(file, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()
    described = folder / f"{rows}.json"
    with open_sources(Config(home=folder / "home"), cache_dir=folder / "home" / "cache") as sources:
        described.write_text(croissant_of([file.name], folder, sources=sources, name="rows").text)
    return described


def extract(described: Path, out: Path | None, threads: int) -> int:
    """Descriptor to Arrow: plan, open, read every batch; into stream files where `out` is given. Returns the rows."""
    with tempfile.TemporaryDirectory() as home:
        config = Config(home=Path(home))
        job = open_workspace(config).plan({"name": "rows", "croissant": described.name}, base_dir=described.parent)
        with (
            open_sources(config, cache_dir=config.home / "cache") as sources,
            open_extractor(job, filesystem=sources.filesystem, spill_dir=Path(home), threads=threads) as extractor,
        ):
            readers = [extractor.read(partition, "train") for partition in job.plan.partitions]
            if out is None:
                return sum(batch.num_rows for reader in readers for batch in reader)
            return sum(write_batches(reader, out) for reader in readers)


def copy(file: Path, out: Path, threads: int) -> None:
    """DuckDB's own way from the same rows to a file."""
    with duckdb.connect() as connection:
        connection.execute(f"SET threads = {threads}")
        connection.execute(f"COPY (SELECT * FROM read_parquet('{file}')) TO '{out}' (FORMAT parquet)")


def official(described: Path) -> int:
    """The official reader's records."""
    import mlcroissant

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        record_set = json.loads(described.read_text())["recordSet"][-1]["@id"]
        return sum(1 for _ in mlcroissant.Dataset(jsonld=str(described)).records(record_set))


def timed(act: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def own_peak_mb() -> float:
    """Peak resident memory of this process; `ru_maxrss` would count its parent's, from before it was this program."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes
    return next(int(line.split()[1]) / 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))


def peak_mb(described: Path, out: Path, threads: int) -> float:
    """Peak resident memory of a process that does nothing else."""
    command = [sys.executable, __file__, "--measure", str(described), str(out), str(threads)]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(found.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--rows", type=int, default=10_000_000, help="of the large table")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    values = parser.parse_args()
    if values.measure is not None:
        extract(Path(values.measure[0]), Path(values.measure[1]), int(values.measure[2]))
        print(own_peak_mb())
        return
    threads = os.cpu_count() or 1
    print(f"{platform.platform()}, {threads} cores, DuckDB {duckdb.__version__}, pyarrow {pa.__version__}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        million, part = make_data(folder, 1_000_000, 5), make_data(folder, 100_000, 5)
        extract(million, None, threads)  # what is imported and cached once
        ours, peer = [], []
        for _ in range(values.times):
            ours.append(1_000_000 / timed(lambda: extract(million, None, threads)))
            peer.append(100_000 / timed(lambda: official(part)))
        ratios = [a / b for a, b in zip(ours, peer, strict=True)]
        print(f"descriptor to Arrow   {statistics.median(ours):12,.0f} rows/s")
        print(f"mlcroissant.records   {statistics.median(peer):12,.0f} rows/s")
        print(f"ratio                 {statistics.median(ratios):12,.0f}   (target: at least 100)")
        large = make_data(folder, values.rows, 10)
        file, out = folder / f"{values.rows}.parquet", folder / "out"
        taken, copied = [], []
        for _ in range(values.times):
            taken.append(timed(lambda: extract(large, out, threads)))
            copied.append(timed(lambda: copy(file, folder / "copy.parquet", threads)))
        ratios = [b / a for a, b in zip(taken, copied, strict=True)]
        print(f"{values.rows:,} rows to Arrow {statistics.median(taken):8.2f} s")
        print(f"COPY to Parquet           {statistics.median(copied):8.2f} s")
        print(f"ratio                     {statistics.median(ratios):8.2f}   (target: at least 0.5)")
        print(f"peak memory               {peak_mb(large, out, threads):8,.0f} MB   (target: under 1,500)")


if __name__ == "__main__":
    main()

"""Time and memory of `to_hf` over data of 1 GB: tensors, undecoded pictures, texts with classes and languages.

    python benchmarks/huggingface.py [--gigabytes 1] [--shard-mb 64] [--folder /tmp]

Each kind is written, put out of the page cache, and opened by two fresh processes, one after the other. Prints a line a
process: seconds of the call (datasets is imported before), new private memory (RssAnon + RssShmem) after it and at its
peak, milliseconds to read the last row, bytes of a pickle. Its files are deleted at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle  # noqa: TID251  # what datasets itself does
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from coralord_lightning.spec.columns import columns_of
from coralord_lightning.spec.description import Description, FieldDescription
from coralord_lightning.spec.manifest import Manifest, Shard, SplitPart, parse_manifest
from coralord_lightning.store import open_store

CLASSES = ("ant", "bee", "cat")


def tensors(rows: int) -> pa.Table:
    pixels = np.random.default_rng(0).integers(0, 256, rows * 3072, dtype=np.uint8)
    nested = pa.array(pixels)
    for size in (3, 32, 32):
        nested = pa.FixedSizeListArray.from_arrays(nested, size)
    return pa.table({"image": nested, "species": pa.array(np.arange(rows) % 3)})


def pictures(rows: int) -> pa.Table:
    raw = np.random.default_rng(0).integers(0, 256, rows * 2000, dtype=np.uint8).tobytes()
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * 2000)
    picture = pa.Array.from_buffers(pa.binary(), rows, [None, offsets.buffers()[1], pa.py_buffer(raw)])
    return pa.table({"picture": picture, "species": pa.array(np.arange(rows) % 3)})


def texts(rows: int) -> pa.Table:
    said = {name: [f"{name} {number} " + "x" * 40 for number in range(rows)] for name in ("en", "de")}
    pairs = pa.StructArray.from_arrays([pa.array(said["en"]), pa.array(said["de"])], ["en", "de"])
    return pa.table({"said": pairs, "species": pa.array(np.arange(rows) % 3)})


KINDS: dict[str, tuple[Callable[[int], pa.Table], int]] = {
    "tensors": (tensors, 3080),
    "pictures": (pictures, 2012),
    "texts": (texts, 120),
}


def write_version(folder: Path, kind: str, gigabytes: float, shard_bytes: int) -> Manifest:
    make, row_bytes = KINDS[kind]
    table = make(shard_bytes // row_bytes).combine_chunks()
    shards = []
    for number in range(max(1, round(gigabytes * 1e9 / table.nbytes))):
        path = folder / f"{number}.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_batch(table.to_batches()[0])
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        shards.append(Shard(path=path.name, num_rows=table.num_rows, size_bytes=path.stat().st_size, sha256="0" * 64))
    manifest = Manifest(
        fingerprint="f" * 64,
        content_digest="c" * 64,
        created_at="2026-01-01T00:00:00+00:00",
        columns=columns_of(table.schema),
        splits={"train": (SplitPart(shards=tuple(shards)),)},
        partitions=(),
        plan={"format": 1},
        classes={"species": CLASSES},
    )
    fields = {"picture": FieldDescription(id="picture", media="image")}
    said = Description(
        name=kind, descriptor={}, croissant_name=kind, croissant_sha256="0" * 64, record_set="rows", fields=fields
    )
    open_store(folder).describe(manifest.fingerprint, said)
    (folder / "manifest.json").write_text(json.dumps(manifest.to_json()))
    return manifest


class Held(threading.Thread):
    """The most that this process held, sampled every 5 ms."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = held()
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.005):
            self.most = max(self.most, held())


def held() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("RssAnon", "RssShmem")))


def measure(folder: Path) -> dict[str, float]:
    start = time.perf_counter()
    import datasets  # noqa: F401

    imported = time.perf_counter() - start
    from coralord_lightning import Dataset
    from coralord_lightning.workspace import Version

    manifest = parse_manifest(json.loads((folder / "manifest.json").read_text()), origin="manifest.json")
    data = Dataset(Version(manifest=manifest, home=folder))
    before, watch = held(), Held()
    watch.start()
    start = time.perf_counter()
    view = data.to_hf("train")
    seconds = time.perf_counter() - start
    after = held()
    watch.ended.set()
    watch.join()
    pickled = len(pickle.dumps(view))
    start = time.perf_counter()
    row = view.with_format("arrow")[len(view) - 1]
    first = time.perf_counter() - start
    assert row.num_rows == 1
    return {
        "gigabytes": round(view.data.nbytes / 1e9, 3),
        "rows": len(view),
        "shards": len(view.cache_files),
        "seconds": round(seconds, 4),
        "new_mb": round((after - before) / 1e6, 1),
        "peak_mb": round((watch.most - before) / 1e6, 1),
        "last_row_ms": round(first * 1e3, 1),
        "pickle_kb": round(pickled / 1e3, 1),
        "import_seconds": round(imported, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--shard-mb", type=int, default=64)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    for kind in options.kinds:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            folder = Path(name)
            write_version(folder, kind, options.gigabytes, options.shard_mb << 20)
            for order in ("first", "again"):
                words = [sys.executable, __file__, "--measure", name]
                own = os.environ | {"HF_HOME": str(folder / "hf")}
                done = subprocess.run(words, capture_output=True, text=True, check=True, env=own)
                print(json.dumps({"kind": kind, "process": order, **json.loads(done.stdout)}), flush=True)


if __name__ == "__main__":
    main()

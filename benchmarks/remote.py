"""One of 50 columns, with a selective filter, out of a 200 MB Parquet file behind http: how many bytes, and how long.

python benchmarks/remote.py [MB]
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

COLUMNS = 50
GROUPS = 25


def write_sorted(path: Path, size_mb: int) -> None:
    """`n` ascending and 49 random columns that no compression makes smaller, in row groups of equal size."""
    rows = size_mb * 10**6 // (8 * COLUMNS) // GROUPS * GROUPS
    rng = np.random.default_rng(0)
    schema = pa.schema([("n", pa.int64()), *((f"c{number}", pa.float64()) for number in range(1, COLUMNS))])
    with pq.ParquetWriter(path, schema, use_dictionary=False) as writer:
        for group in range(GROUPS):
            first = np.arange(group * rows // GROUPS, (group + 1) * rows // GROUPS)
            rest = [rng.random(len(first)) for _ in range(1, COLUMNS)]
            writer.write_table(pa.table([first, *rest], schema=schema), row_group_size=len(first))


def needed_bytes(path: Path, columns: list[str], groups: list[int]) -> int:
    """What the column chunks of these row groups take, and the footer."""
    found = pq.read_metadata(path)
    names = found.schema.names
    chunks = [found.row_group(group).column(names.index(name)) for group in groups for name in columns]
    return sum(chunk.total_compressed_size for chunk in chunks) + found.serialized_size + 8


def main(size_mb: int = 200) -> None:
    from coralord_lightning.builder.extract import Extractor
    from coralord_lightning.config import Config
    from coralord_lightning.sources import open_sources
    from coralord_lightning.spec.plan import BatchBounds, Partition
    from coralord_lightning.spec.selection import FileObject
    from extractions import field, predicate, selection
    from web import serve

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sorted.parquet"
        write_sorted(path, size_mb)
        size, rows = path.stat().st_size, pq.read_metadata(path).num_rows
        low = rows // 2
        where = predicate(f"n >= {low} AND n < {low + 1000}", n="integer")
        chosen = selection(field("c7", "float"), where=where, helpers=(field("n"),))
        config = Config(home=Path(folder), allow_private_hosts=frozenset({"127.0.0.1"}))
        with (
            serve(sorted_parquet=path.read_bytes()) as site,
            open_sources(config, cache_dir=Path(folder) / "cache") as door,
        ):
            began = time.perf_counter()
            node = FileObject(id="sorted", content_url=f"{site.url}/sorted.parquet", format="parquet")
            ((source, place),) = door.resolve(node, base=Path())
            with Extractor(
                chosen, [source], {"sorted": place}, BatchBounds(), filesystem_factory=door.filesystem
            ) as extractor:
                found = extractor.read(Partition(sources=(0,)), "train").read_all()
            took = time.perf_counter() - began
            fetched, requests = door.bytes_fetched, len(site.requests)
        needed = needed_bytes(path, ["n", "c7"], [low * GROUPS // rows])
    print(f"file {size:,} bytes, {rows:,} rows; selected {found.num_rows:,} rows of 1 column in {took:.3f} s")
    print(f"fetched {fetched:,} bytes in {requests} requests: {fetched / size:.3%} of the file,")
    print(f"{fetched / needed:.3f} times the {needed:,} bytes of the needed column chunks and the footer")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

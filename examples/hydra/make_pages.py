"""Writes the digits as three pages, one Parquet file each, as they would come in one after the other.

Run once by us; the results are committed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).resolve().parent
ROWS = 599


def main() -> None:
    table = pq.read_table(HERE.parent / "digits" / "digits.parquet")
    pixels = pa.array(np.array(table["image"].to_pylist(), dtype=np.uint8).ravel())
    rows = pa.FixedSizeListArray.from_arrays(pixels, 8)
    table = table.set_column(0, "image", pa.FixedSizeListArray.from_arrays(rows, 8))
    (HERE / "pages").mkdir(exist_ok=True)
    for page in range(3):
        part = table.slice(page * ROWS, ROWS)
        pq.write_table(part, HERE / "pages" / f"page-{page + 1}.parquet", compression="zstd")


if __name__ == "__main__":
    main()

"""Writes `digits.parquet` from scikit-learn's copy of the UCI digits, and its SHA-256 into `croissant.json`.

Run once by us; the results are committed. Same pyarrow, same bytes: no clock and no chance is in it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.datasets import load_digits

HERE = Path(__file__).resolve().parent
TEST_EVERY = 5


def digits_table() -> pa.Table:
    """All 1,797 digits, in their published order.

    Returns:
        image: list<list<uint8>>, 8 rows of 8 grey values in 0..16; label: uint8 in 0..9;
        part: "test" for every fifth row, "train" for the others.
    """
    digits = load_digits()
    pixels = digits.images.astype(np.uint8)
    rows = pa.ListArray.from_arrays(np.arange(0, pixels.size + 1, 8, dtype=np.int32), pa.array(pixels.ravel()))
    images = pa.ListArray.from_arrays(np.arange(0, len(rows) + 1, 8, dtype=np.int32), rows)
    part = ["test" if row % TEST_EVERY == 0 else "train" for row in range(len(pixels))]
    return pa.table({"image": images, "label": pa.array(digits.target, pa.uint8()), "part": pa.array(part)})


def main() -> None:
    data = HERE / "digits.parquet"
    pq.write_table(digits_table(), data, compression="zstd")
    described = HERE / "croissant.json"
    croissant = json.loads(described.read_text(encoding="utf-8"))
    croissant["distribution"][0] |= {
        "contentSize": f"{data.stat().st_size} B",
        "sha256": hashlib.sha256(data.read_bytes()).hexdigest(),
    }
    described.write_text(json.dumps(croissant, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

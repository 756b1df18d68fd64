"""Shards of every type, and a program that reads thousands of damaged ones: it must end by itself, never crash.

As a program: `damaged_shards.py FOLDER SEED COUNT stat|read` prints how many shards gave values, and how many a typed
error, as JSON.
"""

from __future__ import annotations

import faulthandler
import json
import random
import sys
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa

from coralord_lightning.errors import BatchError, ShardMissingError
from coralord_lightning.stream.gather import Gatherer
from coralord_lightning.stream.shards import ShardMaps
from hand_built import write_shard

NUM_ROWS = 12


def every_type() -> pa.Table:
    """One column a kind of type, with nulls where a batch has a place for them."""
    count = range(NUM_ROWS)
    struct = pa.struct([("number", pa.int32()), ("text", pa.string()), ("list", pa.list_(pa.int8()))])
    return pa.table(
        {
            "uint8": pa.array(count, pa.uint8()),
            "half": pa.array(np.arange(NUM_ROWS, dtype=np.float16)),
            "float": pa.array([i / 2 for i in count], pa.float32()),
            "long": pa.array(count, pa.int64()),
            "bool": pa.array([i % 3 == 0 for i in count]),
            "time": pa.array(count, pa.timestamp("us", "UTC")),
            "date": pa.array(count, pa.date32()),
            "image": pa.array([[[i, 2], [3, 4]] for i in count], pa.list_(pa.list_(pa.int16(), 2), 2)),
            "flags": pa.array([[True, False, i > 3] for i in count], pa.list_(pa.bool_(), 3)),
            "text": pa.array([f"röw {i}" if i % 5 else None for i in count]),
            "bytes": pa.array([b"x" * i if i % 4 else None for i in count], pa.binary()),
            "code": pa.array([b"abc" if i % 4 else None for i in count], pa.binary(3)),
            "decimal": pa.array([Decimal(i) / 4 if i % 3 else None for i in count], pa.decimal128(9, 2)),
            "wide": pa.array([Decimal(i) for i in count], pa.decimal256(40, 2)),
            "struct": pa.array(
                [{"number": i, "text": "x" * i, "list": [1] * i} if i % 4 else None for i in count], struct
            ),
            "null": pa.nulls(NUM_ROWS),
            "ragged": pa.array([[i / 2] * i for i in count], pa.list_(pa.float64())),
            "deep": pa.array([[[j] * j for j in range(i % 4)] for i in count], pa.list_(pa.list_(pa.int32()))),
            "boxes": pa.array([[[i, 2]] * (i % 3) for i in count], pa.list_(pa.list_(pa.uint8(), 2))),
            "marks": pa.array([[i > 4] * i for i in count], pa.list_(pa.bool_())),
            "words": pa.array([["a", None] * i if i % 3 else None for i in count], pa.list_(pa.string())),
            "map": pa.array([[("key", i)] * (i % 3) for i in count], pa.map_(pa.string(), pa.int64())),
            "pair": pa.array([["a", "bc"]] * NUM_ROWS, pa.list_(pa.string(), 2)),
            "span": pa.array([pa.MonthDayNano([1, 2, i]) for i in count], pa.month_day_nano_interval()),
        }
    )


def damaged(data: bytes, chance: random.Random) -> bytes:
    """A few bytes or bits of the file are other ones, more often before its values than in them."""
    out = bytearray(data)
    for _ in range(chance.choice([1, 1, 1, 2, 5])):
        place = chance.randrange(len(out) if chance.random() < 0.4 else min(len(out), 7000))
        out[place] ^= 1 << chance.randrange(8) if chance.random() < 0.7 else chance.randrange(1, 256)
    return bytes(out)


def main(folder: Path, seed: int, count: int, verify: str) -> None:
    faulthandler.enable()
    chance, table, seen = random.Random(seed), every_type(), Counter[str]()
    whole = write_shard(folder / "whole.arrow", table)
    data = (folder / "whole.arrow").read_bytes()
    for number in range(count):
        path = folder / f"{number}.arrow"
        path.write_bytes(damaged(data, chance))
        maps = ShardMaps(folder, [replace(whole, path=path.name), whole], table.schema, verify)
        collate = chance.choice(["pad", "offsets", "rows"])
        try:
            gatherer = Gatherer(maps, fields=table.column_names, split="train", collate=collate)
            for rows in (range(NUM_ROWS), [3, 11, 0, 0, 7], [2 * NUM_ROWS - 1, 5]):
                gatherer.gather(np.array(rows))
            seen["values"] += 1
        except (ShardMissingError, BatchError) as error:
            seen[type(error).__name__] += 1
        path.unlink()
    print(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])

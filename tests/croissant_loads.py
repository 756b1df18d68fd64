"""Loads Croissant files with mlcroissant in processes of their own: its order of reading is random in each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["loads", "plain"]

_PROGRAM = """
import datetime, json, logging, sys, warnings
import numpy as np
warnings.simplefilter("ignore")
logging.getLogger("absl").setLevel(logging.CRITICAL)
import mlcroissant
from croissant_loads import plain
path, record_set, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
for number in range(times):
    dataset = mlcroissant.Dataset(jsonld=path)
    issues = dataset.metadata.ctx.issues
    found = {"errors": sorted(issues.errors), "warnings": sorted(issues.warnings), "name": dataset.metadata.name}
    if record_set and number == 0:
        found["records"] = [plain(record) for record in dataset.records(record_set)]
    print(json.dumps(found))
"""


def loads(path: Path, record_set: str = "", *, times: int = 1) -> list[dict[str, Any]]:
    """What mlcroissant finds in so many loads of one process: errors, warnings, and of the first all records."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(path), record_set, str(times)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
        env={"PYTHONHASHSEED": "random", "PATH": "/usr/bin:/bin", "HOME": str(path.parent)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def plain(value: Any) -> Any:
    """A value of a record as JSON, the same for ours and theirs: arrays are lists, bytes and pictures are texts."""
    import datetime as dt
    import io
    import math
    from decimal import Decimal

    import numpy as np
    import pandas as pd
    from PIL import Image

    if isinstance(value, dict):
        return {key.rpartition("/")[2]: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, Image.Image):
        file = io.BytesIO()
        value.save(file, "PPM" if value.mode in ("RGB", "L", "1") else "PNG")
        return f"picture {value.size} {hash_of(file.getvalue())}"
    if value is None or value is pd.NaT or (isinstance(value, float | np.floating) and math.isnan(value)):
        return None
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, str):
        return value.encode().decode("latin-1")
    if isinstance(value, dt.datetime):  # a pandas.Timestamp is one
        return pd.Timestamp(value).isoformat()
    if isinstance(value, dt.date):
        return pd.Timestamp(value).isoformat()
    return str(value) if isinstance(value, dt.time | Decimal) else value


def hash_of(data: bytes) -> str:
    """A short name of bytes."""
    import hashlib

    return hashlib.sha256(data).hexdigest()[:16]

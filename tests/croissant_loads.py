"""Loads Croissant files with mlcroissant in processes of their own: its order of reading is random in each."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

__all__ = ["Reader", "load_often", "load_once", "plain"]

_PROGRAM = """
import json, logging, sys, warnings
warnings.simplefilter("ignore")
logging.getLogger("absl").setLevel(logging.CRITICAL)
import mlcroissant
from croissant_loads import plain
logged = []
logging.getLogger().addHandler(logging.Handler())
logging.getLogger().handlers[0].emit = lambda record: logged.append(record.getMessage())
for line in sys.stdin:
    logged.clear()
    path, record_set = json.loads(line)
    try:
        dataset = mlcroissant.Dataset(jsonld=path)
        issues = dataset.metadata.ctx.issues
        found = {"errors": sorted(issues.errors), "warnings": sorted(issues.warnings), "name": dataset.metadata.name}
        if record_set:
            found["records"] = [plain(record) for record in dataset.records(record_set)]
    except Exception as error:
        found = {"errors": [repr(error)], "warnings": []}
    found["warnings"] += logged
    print(json.dumps(found), flush=True)
"""
Loaded = dict[str, Any]


class Reader:
    """mlcroissant in a process of its own, which loads one file after another; a context manager."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent,
            env={"PYTHONHASHSEED": "random", "PATH": "/usr/bin:/bin", "HOME": tempfile.gettempdir()},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def load(self, path: Path, record_set: str = "") -> Loaded:
        """Errors, warnings, and the records of a record set."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        print(json.dumps([str(path), record_set]), file=process.stdin, flush=True)
        return dict(json.loads(process.stdout.readline()))


def load_once(path: Path, record_set: str = "") -> Loaded:
    """One load in a process of its own."""
    with Reader() as reader:
        return reader.load(path, record_set)


def load_often(path: Path, times: int) -> list[Loaded]:
    """Loads in as many processes, two at a time: each has its own order of sets."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(load_once, [path] * times))


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

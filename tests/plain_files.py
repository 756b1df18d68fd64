"""Folders of plain files that tests describe, and what a description says of their columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from coralord_lightning.config import Config
from coralord_lightning.sources import open_sources
from coralord_lightning.workspace.describe import Described, describe

__all__ = ["CSV", "described", "folder", "kinds", "parquet_columns"]

CSV = """\
id,zip,x,when,ok,none,key,at,code,name
1,00707,1.5,2024-02-29,true,,12345678901234567890123,2024-01-01T00:00:00Z,+1,NA
2,90210,2,2024-03-01,FALSE,,1,2024-01-01T00:00:01+01:00,2,null
,1,1e-3,2024-03-02,True,,2,2024-01-01T00:00:02.5Z,3,
"""


def described(path: Path, home: Path, beside: Path | None = None) -> Described:
    """What `coral describe` sees."""
    with open_sources(Config(home=home), cache_dir=home / "cache") as sources:
        return describe(path, beside=beside, sources=sources)


def folder(path: Path, **files: str | bytes | pa.Table) -> Path:
    """A folder of files; `a__b_csv` is `a/b.csv`."""
    for name, content in files.items():
        stem, _, end = name.replace("__", "/").rpartition("_")
        place = path / f"{stem}.{end}"
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, pa.Table):
            pq.write_table(content, place)
        else:
            place.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def kinds(document: Any, record_set: str) -> dict[str, str]:
    (found,) = [item for item in document["recordSet"] if item["@id"] == record_set]
    return {field["name"].rpartition("/")[2]: _kind(field) for field in found["field"]}


def _kind(field: dict) -> str:
    if "subField" in field:
        return "{" + ", ".join(_kind(inner) for inner in field["subField"]) + "}"
    return field["dataType"] + (f"[{field['arrayShape']}]" if "isArray" in field else "")


def parquet_columns() -> pa.Table:
    png = b"\x89PNG\r\n\x1a\n" + b"\0" * 8
    return pa.table(
        {
            "i": pa.array([1, None], pa.int16()),
            "u": pa.array([1, 2], pa.uint64()),
            "f": pa.array([1, 2], pa.float16()),
            "money": pa.array([1, 2], pa.decimal128(9, 2)),
            "t": pa.array(["a", "b"], pa.large_string()),
            "word": pa.array(["a", "b"]).dictionary_encode(),
            "day": pa.array([1, 2], pa.date32()),
            "at": pa.array([1, 2], pa.timestamp("us", "UTC")),
            "clock": pa.array([1, 2], pa.time32("s")),
            "fixed": pa.array([[[1, 2]], [[3, 4]]], pa.list_(pa.list_(pa.int8(), 2), 1)),
            "ragged": pa.array([[1.5], []]),
            "both": pa.array([{"a": 1, "b": "x"}] * 2),
            "picture": pa.array([None, {"bytes": png, "path": "1.png"}]),
            "bare": pa.array([png, None]),
            "sound": pa.array([b"RIFF\0\0\0\0WAVEfmt ", None]),
            "raw": pa.array([b"x", b"y"]),
            "long": pa.array([1, 2], pa.duration("s")),
        }
    )

"""Small projects that tests build: Parquet files, their Croissant, a pipeline and a descriptor."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

PIPELINE = '''\
import shapes
import pyarrow.compute as pc

def scale(batch, factor=2):
    """Multiply x."""
    return batch.set_column(0, "x", pc.multiply(batch["x"], shapes.ONE * factor))
'''

DESCRIPTOR = """\
name: points
croissant: croissant.json
fields: [x, y]
where: "x >= 0"
splits:
  test: {where: "part = 'test'"}
  train: {from: rest, fraction: 0.75}
  val: {from: rest, fraction: 0.25}
pipeline:
  entrypoint: pipeline.py:scale
  params: {factor: 3}
environment: local
"""


def write_rows(folder: Path, name: str, start: int, stop: int) -> None:
    x = list(range(start, stop))
    rows = {"x": x, "y": [value * 0.5 for value in x], "part": ["test" if v % 5 == 0 else "train" for v in x]}
    (folder / "data").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(rows), folder / "data" / name)


TERMS = ("column", "extract", "field", "fileSet", "includes", "recordSet", "source")


def croissant() -> dict:
    kinds = {"x": "sc:Integer", "y": "cr:Float32", "part": "sc:Text"}
    return {
        "@context": {
            "@vocab": "https://schema.org/",
            "sc": "https://schema.org/",
            "cr": "http://mlcommons.org/croissant/",
            "dct": "http://purl.org/dc/terms/",
            "conformsTo": "dct:conformsTo",
            "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
            **{term: f"cr:{term}" for term in TERMS},
        },
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": "points",
        "distribution": [
            {
                "@type": "cr:FileSet",
                "@id": "files",
                "encodingFormat": "application/x-parquet",
                "includes": "data/*.parquet",
            }
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "points",
                "field": [
                    {
                        "@type": "cr:Field",
                        "@id": f"points/{name}",
                        "dataType": kind,
                        "source": {"fileSet": {"@id": "files"}, "extract": {"column": name}},
                    }
                    for name, kind in kinds.items()
                ],
            }
        ],
    }


def example_project(folder: Path, *, files: int = 2) -> Path:
    """A descriptor with all that it needs; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder, "a.parquet", 0, 40)
    if files == 2:
        write_rows(folder, "b.parquet", 40, 100)
    (folder / "croissant.json").write_text(json.dumps(croissant()))
    (folder / "pipeline.py").write_text(PIPELINE)
    (folder / "shapes.py").write_text("ONE = 1\n")
    (folder / "points.yaml").write_text(DESCRIPTOR)
    return folder / "points.yaml"


def edit(path: Path, old: str, new: str) -> None:
    """Replace a text that must be there."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def parquet_project(folder: Path, code: str, *, files: int = 8, rows: int = 100, more: str = "") -> Path:
    """A descriptor over so many files, with a pipeline of its own."""
    (folder / "data").mkdir(parents=True)
    for number in range(files):
        table = pa.table({"x": list(range(number * rows, (number + 1) * rows))})
        pq.write_table(table, folder / "data" / f"{number:03}.parquet")
    (folder / "pipeline.py").write_text(code)
    (folder / "rows.yaml").write_text(
        f"name: rows\nfiles: data/*.parquet\npipeline: {{entrypoint: 'pipeline.py:run'}}\nenvironment: local\n{more}"
    )
    return folder / "rows.yaml"

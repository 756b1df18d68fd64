"""A project of animals that tests refine: pictures, species, ages with nulls, in two Parquet files."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from coralord_lightning import Dataset
from coralord_lightning.config import load_config
from coralord_lightning.errors import CoralError
from coralord_lightning.workspace import Outcome, open_workspace
from projects import TERMS

KINDS = {"n": "sc:Integer", "age": "cr:Int32", "species": "sc:Text", "image": "sc:ImageObject", "pair": "cr:Float32"}


def picture(value: int, size: tuple[int, ...] = (3, 2)) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(np.full(size, value, np.uint8)).save(sink, "PNG")
    return sink.getvalue()


def rows(*numbers: int, **changes: Any) -> dict[str, Any]:
    columns = {
        "n": list(numbers),
        "age": [None if n % 4 == 3 else n for n in numbers],
        "species": [("cat", "dog", "bee")[n % 3] for n in numbers],
        "image": [picture(n) for n in numbers],
        "pair": [[n, n + 0.5] for n in numbers],
    }
    return columns | changes


class Project:
    """Two Parquet files and a descriptor whose fields and more are given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "data").mkdir(parents=True)
        self.write("a", rows(*range(6)))
        self.write("b", rows(*range(6, 10)))
        fields = [
            {
                "@type": "cr:Field",
                "@id": f"rows/{name}",
                "dataType": kind,
                "source": {"fileSet": {"@id": "files"}, "extract": {"column": name}},
            }
            | ({"isArray": True, "arrayShape": "2"} if name == "pair" else {})
            for name, kind in KINDS.items()
        ]
        terms = {term: f"cr:{term}" for term in (*TERMS, "isArray", "arrayShape")}
        croissant = {
            "@context": {
                "@vocab": "https://schema.org/",
                "sc": "https://schema.org/",
                "cr": "http://mlcommons.org/croissant/",
                "dct": "http://purl.org/dc/terms/",
                "conformsTo": "dct:conformsTo",
                "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
                **terms,
            },
            "@type": "sc:Dataset",
            "conformsTo": "http://mlcommons.org/croissant/1.1",
            "name": "animals",
            "distribution": [
                {"@type": "cr:FileSet", "@id": "files", "encodingFormat": "application/x-parquet",
                 "includes": "data/*.parquet"}
            ],
            "recordSet": [{"@type": "cr:RecordSet", "@id": "rows", "field": fields}],
        }  # fmt: skip
        (folder / "croissant.json").write_text(json.dumps(croissant))

    def write(self, name: str, columns: dict[str, Any]) -> None:
        kinds = {"age": pa.int32(), "image": pa.binary(), "pair": pa.list_(pa.float32())}
        table = pa.table({key: pa.array(values, kinds.get(key)) for key, values in columns.items()})
        pq.write_table(table, self.folder / "data" / f"{name}.parquet")

    def build(self, fields: str, more: str = "", **options: Any) -> Outcome:
        text = f"name: animals\ncroissant: croissant.json\nfields: {fields}\n{more}"
        (self.folder / "animals.yaml").write_text(text)
        workspace = open_workspace(load_config(home=self.folder / "home"))
        return workspace.ensure(self.folder / "animals.yaml", **options)

    def dataset(self, fields: str, more: str = "") -> Dataset:
        return Dataset(self.build(fields, more).version)

    def column(self, name: str, fields: str, more: str = "", split: str = "train") -> list[Any]:
        return self.dataset(fields, more).table(split)[name].to_pylist()


def failure(project: Project, fields: str, more: str = "") -> CoralError:
    with pytest.raises(CoralError) as caught:
        project.build(fields, more)
    return caught.value

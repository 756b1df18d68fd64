"""The official Croissant examples: the valid ones are read, the invalid ones refused by node."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from coralord_lightning.errors import CroissantSyntaxError
from coralord_lightning.spec.croissant import parse_croissant
from coralord_lightning.spec.selection import FileObject


def examples() -> Path:
    folder = Path(__file__).parents[2] / "shared" / "croissant"
    if not folder.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"the official examples are not at {folder}")
        pytest.skip(f"the official Croissant examples are not at {folder}")
    return folder


def metadata(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*/metadata.json"), *folder.glob("recipes/*.json")])


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_every_official_example_is_read(version):
    paths = metadata(examples() / version)
    assert len(paths) >= 5
    for path in paths:
        body = json.loads(path.read_text(encoding="utf-8"))
        dataset = parse_croissant(body, origin=str(path))
        # the folders are exact: nothing that the file declares is lost on the way
        assert len(dataset.files) == len(body.get("distribution", []))
        assert len(dataset.record_sets) == len(body.get("recordSet", []))
        for item in (field for record_set in dataset.record_sets for field in record_set.fields):
            assert item.unsupported or item.dtype is not None, item


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_every_official_invalid_example_is_refused_by_node(version):
    paths = metadata(examples() / "invalid" / version)
    assert paths
    for path in paths:
        if path.parent.name == "recordset_wrong_join":
            continue  # valid nodes; the compiler refuses the join
        with pytest.raises(CroissantSyntaxError) as caught:
            parse_croissant(json.loads(path.read_text(encoding="utf-8")), origin=str(path))
        assert "a-csv-table" in caught.value.subject or "first-field" in caught.value.subject


def test_the_official_parquet_example_reads_as_its_columns():
    path = examples() / "1.0" / "simple-parquet" / "metadata.json"
    dataset = parse_croissant(json.loads(path.read_text(encoding="utf-8")), origin=str(path))
    assert dataset.files["dataframe"].value == FileObject(
        id="dataframe",
        content_url="data/dataframe.parquet",
        format="parquet",
        sha256=dataset.files["dataframe"].value.sha256,
    )
    assert [(item.name, item.column, item.dtype) for item in dataset.record_sets[0].fields] == [
        ("name", "name", "text"),
        ("age", "age", "integer"),
    ]

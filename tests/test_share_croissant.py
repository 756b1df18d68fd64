"""A version as a Croissant dataset: valid for mlcroissant, the same records there, the same content here."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import official
from command_line import Digits, coral, coral_json
from coralord_lightning import load
from croissant_loads import Reader, load_often, plain
from official import FILTERS, WITH_DATA


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with Reader() as reader:
        yield reader


def exported(descriptor: Any, base: Path, folder: Path) -> dict[str, Any]:
    """What was built, after it was exported to `out`."""
    data = load(descriptor, base_dir=base, home=folder / "home")
    coral_json("export", "croissant", data.version.fingerprint, folder / "out", "--home", folder / "home")
    return data.version.to_json()


def check(folder: Path, digest: str, reader: Reader) -> None:
    document = json.loads((folder / "out" / "croissant.json").read_text())
    record_set = document["recordSet"][-1]
    found = reader.load(folder / "out" / "croissant.json", record_set["@id"])
    assert (found["errors"], found["warnings"]) == ([], [])
    again = load(folder / "out" / "dataset.yaml", home=folder / "again")
    assert again.version.content_digest == digest
    split = record_set["field"][-1]["@id"].rpartition("/")[2]
    pictures = {
        item["name"].rpartition("/")[2] for item in record_set["field"] if item.get("dataType") == "sc:ImageObject"
    }
    rows = [{**row, split: name} for name in sorted(again.version.splits) for row in again.table(name).to_pylist()]
    ours = [
        plain(
            {key: Image.open(io.BytesIO(value)) if key in pictures and value else value for key, value in row.items()}
        )
        for row in rows
    ]
    assert found["records"] == ours


def test_the_digits_come_back_the_same(tmp_path, reader):
    digits = Digits.copy_to(tmp_path / "digits")
    built = exported(digits.descriptor, digits.folder, tmp_path)
    check(tmp_path, built["content_digest"], reader)
    document = json.loads((tmp_path / "out" / "croissant.json").read_text())
    assert document["cl:fingerprint"] == built["fingerprint"]
    assert document["prov:wasGeneratedBy"]["cl:pipeline"]["cl:entrypoint"] == "pipeline.py:scale"
    assert document["license"] == json.loads((digits.folder / "croissant.json").read_text())["license"]
    loads = load_often(tmp_path / "out" / "croissant.json", 5)
    assert [(item["errors"], item["warnings"]) for item in loads] == [([], [])] * 5


@pytest.mark.parametrize("example", WITH_DATA, ids=str)
def test_an_official_example_comes_back_the_same(example, tmp_path, reader):
    path = official.folder() / example.file
    asked = {"name": "official", "croissant": path.name, "record_set": example.record_set}
    built = exported(asked | {"where": FILTERS.get(example.file)}, path.parent, tmp_path)
    check(tmp_path, built["content_digest"], reader)


def test_a_descriptor_is_written_as_json_ld_and_builds_the_same_version(tmp_path):
    digits = Digits.copy_to(tmp_path / "digits")
    target = digits.folder / "digits.jsonld"
    code, _, err = coral("describe", digits.descriptor, "-o", target, "--validate", "--home", tmp_path / "home")
    assert code == 0, err
    first = coral_json("build", digits.descriptor, "--home", tmp_path / "home")
    second = coral_json("build", target, "--home", tmp_path / "home")
    assert (second["fingerprint"], second["built"]) == (first["fingerprint"], False)

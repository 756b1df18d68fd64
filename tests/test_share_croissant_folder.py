"""An exported Croissant as a folder: replaced, forced, cut, and what is said in it of the parent and its classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_share_croissant_types import exported as exported_by_hand
from test_share_croissant_types import written

import coralord_lightning.share.croissant.parquet as parquet
from command_line import Digits, coral_json
from coralord_lightning import load
from coralord_lightning.errors import UsageError
from coralord_lightning.share.croissant.folder import write_folder
from coralord_lightning.sources.address import without_secrets
from coralord_lightning.spec.description import Description, FieldDescription
from croissant_loads import load_once
from many_types import picture


def exported(digits: Digits, *words: object) -> tuple[Path, dict[str, Any]]:
    home, out = digits.folder.parent / "home", digits.folder.parent / "out"
    data = load(digits.descriptor, home=home)
    coral_json("export", "croissant", data.version.fingerprint, out, "--home", home, *words)
    return out, json.loads((out / "croissant.json").read_text())


def field(document: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [item for item in document["recordSet"][-1]["field"] if item["name"].endswith(f"/{name}")]
    return dict(found)


def test_an_export_is_replaced_after_a_build_in_it_and_nothing_of_the_users_is(tmp_path: Path) -> None:
    digits = Digits.copy_to(tmp_path / "digits")
    out, _ = exported(digits)
    coral_json("build", out / "dataset.yaml", "--home", tmp_path / "other")
    assert (out / "coral.lock").exists()

    exported(digits)
    assert not (out / "coral.lock").exists()

    pinned = '[datasets.mine.croissant]\nurl = "https://example.org/c.json"\nsha256 = "' + "0" * 64 + '"\n'
    lock = 'version = 1\n[datasets.mine]\nfingerprint = "' + "1" * 64 + '"\n'
    for text in ("mine", lock + pinned):
        (out / "coral.lock").write_text(text)
        with pytest.raises(AssertionError, match=r"is no export[^§]*coral\.lock"):
            exported(digits)
    exported(digits, "--force")
    assert (tmp_path / "out.before" / "coral.lock").read_text() == lock + pinned
    assert not (out / "coral.lock").exists()


def test_classes_are_an_enumeration_and_what_is_said_of_the_parent_is_said(tmp_path: Path) -> None:
    digits = Digits.copy_to(tmp_path / "digits")
    said = {
        "usageInfo": "https://example.org/terms",
        "rai:dataBiases": "Few people wrote them.",
        "rai:dataCollection": ["Scanned", "Scaled"],
        "citeAs": "@misc{digits}",
        "keywords": ["digits", "ink"],
        "license": "https://user:secret@example.org/licence?token=abc",
        "creator": {"@type": "sc:Person", "name": "E. Alpaydin"},
        "version": "7.0.0",
    }
    digits.croissant(lambda document: document.update(said))

    out, document = exported(digits)

    for key in ("usageInfo", "rai:dataBiases", "citeAs", "keywords"):
        assert document[key] == said[key], key
    assert document["creator"]["name"] == "E. Alpaydin"
    assert document["license"] == "https://example.org/licence"
    assert document["rai:dataCollection"] == "Scanned; Scaled"  # mlcroissant takes one
    assert document["version"] == "1.0.0"
    assert document["prov:wasDerivedFrom"]["version"] == "7.0.0"
    assert b"secret" not in b"".join(path.read_bytes() for path in out.glob("*.*"))
    found = load_once(out / "croissant.json")
    assert (found["errors"], found["warnings"]) == ([], [])


def test_categories_reference_their_names(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("species,size\nbee,1\nant,2\nbee,3\n")
    (tmp_path / "d.yaml").write_text("name: a\nfiles: a.csv\nfields:\n  species: {encode: category}\n  size:\n")
    data = load(tmp_path / "d.yaml", home=tmp_path / "home")
    coral_json("export", "croissant", data.version.fingerprint, tmp_path / "out", "--home", tmp_path / "home")
    document = json.loads((tmp_path / "out" / "croissant.json").read_text())

    (listing,) = [item for item in document["recordSet"] if item.get("dataType") == "sc:Enumeration"]

    key = field(document, "species")["references"]["field"]["@id"]
    assert [row[key] for row in listing["data"]] == [0, 1]
    assert [sorted(row.values(), key=str)[1] for row in listing["data"]] == ["ant", "bee"]
    found = load_once(tmp_path / "out" / "croissant.json", document["recordSet"][-1]["@id"])
    assert (found["errors"], found["warnings"]) == ([], [])
    assert [record["species"] for record in found["records"]] == [1, 0, 1]
    again = load(tmp_path / "out" / "dataset.yaml", home=tmp_path / "again")
    assert again.version.content_digest == data.version.content_digest


def test_a_large_file_is_cut_where_blocks_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_FILE_BYTES", 4_000_000)
    rows = 70_000
    table = pa.table({"x": pa.array(range(rows)), "text": [f"row {number:060d}" for number in range(rows)]})
    manifest = written(tmp_path / "home", {"train": table, "test": table.slice(0, 2)})
    assert len(manifest.splits["train"][0].blocks) > 1

    out = exported_by_hand(tmp_path, manifest)

    files = sorted((out / "data" / "train").iterdir())
    assert len(files) > 1
    assert {pq.ParquetFile(path).num_row_groups for path in files} == {1}
    again = load(out / "dataset.yaml", home=tmp_path / "again")
    assert again.version.content_digest == manifest.content_digest


def test_a_split_without_rows_is_a_split(tmp_path: Path) -> None:
    table = pa.table({"x": [1, 2, 3]})
    manifest = written(tmp_path / "home", {"train": table, "val": table.slice(0, 0)})

    out = exported_by_hand(tmp_path, manifest)

    assert not (out / "data" / "val").exists()
    again = load(out / "dataset.yaml", home=tmp_path / "again")
    assert again.version.splits == {"train": 3, "val": 0}
    assert again.version.content_digest == manifest.content_digest
    found = load_once(out / "croissant.json", "records")
    assert (found["errors"], found["warnings"], len(found["records"])) == ([], [], 3)


def test_splits_whose_names_begin_alike_are_told_apart(tmp_path: Path) -> None:
    names = ["train", "train.1", "train-1", "trainx1", "data"]
    splits = {name: pa.table({"x": [number]}) for number, name in enumerate(names)}
    manifest = written(tmp_path / "home", splits)

    out = exported_by_hand(tmp_path, manifest)

    assert load(out / "dataset.yaml", home=tmp_path / "again").version.content_digest == manifest.content_digest
    found = load_once(out / "croissant.json", "records")
    assert (found["errors"], found["warnings"]) == ([], [])
    assert {record["split"]: record["x"] for record in found["records"]} == {
        name: number for number, name in enumerate(names)
    }


def test_splits_that_a_disk_cannot_tell_apart_are_refused(tmp_path: Path) -> None:
    table = pa.table({"x": [1]})
    with pytest.raises(UsageError, match="would be one folder"):
        exported_by_hand(tmp_path, written(tmp_path / "home", {"train": table, "Train": table}))


def test_pictures_are_images(tmp_path: Path) -> None:
    manifest = written(tmp_path / "home", {"train": pa.table({"view": [picture(1), None, picture(3)]})})
    said = Description(name="toy", descriptor={}, croissant_name="toy", croissant_sha256="0" * 64, record_set="r",
                       fields={"view": FieldDescription(id="view", media="image", text="What is seen.")})  # fmt: skip
    shards = {shard.path: tmp_path / "home" / shard.path for shard in manifest.shards()}
    (tmp_path / "out").mkdir()

    write_folder(tmp_path / "out", manifest, said, shards)

    document = json.loads((tmp_path / "out" / "croissant.json").read_text())
    assert field(document, "view")["dataType"] == "sc:ImageObject"
    assert field(document, "view")["description"] == "What is seen."
    again = load(tmp_path / "out" / "dataset.yaml", home=tmp_path / "again")
    assert again.version.content_digest == manifest.content_digest
    found = load_once(tmp_path / "out" / "croissant.json", "r")
    assert [str(record["view"])[:14] for record in found["records"]] == ["picture (4, 3)", "None", "picture (4, 3)"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://www.w3.org/ns/prov#", "http://www.w3.org/ns/prov#"),
        ("HTTPS://Example.org/A?b=1#part", "HTTPS://Example.org/A?b=1#part"),
        ("https://u:p@example.org/a#b", "https://example.org/a"),
        ("https://example.org/a?token=x&n=1", "https://example.org/a?n=1"),
        ("https://example.org/a#access_token=x", "https://example.org/a"),
        ("see https://u:p@example.org/a, or (http://b.org/?sig=1)", "see https://example.org/a, or (http://b.org/)"),
        ("a text: no address", "a text: no address"),
        ("http://[broken", "an unreadable address"),
    ],
)
def test_addresses_lose_their_secrets_and_nothing_else(text: str, shown: str) -> None:
    assert without_secrets({"a": [text]}) == {"a": [shown]}

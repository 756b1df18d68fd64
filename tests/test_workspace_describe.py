"""Plain files described: what is seen in them, that mlcroissant finds it valid, and that it builds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from command_line import coral, coral_json
from coralord_lightning import load
from coralord_lightning.errors import CroissantError, SourceMissingError, UsageError
from coralord_lightning.workspace.describe import Described, validate
from plain_files import CSV, described, folder, kinds, parquet_columns


@pytest.fixture
def home(tmp_path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def look(home) -> Callable[..., Described]:
    return lambda path, beside=None: described(path, home, beside)


def test_what_is_no_data_is_said_and_what_is_not_there_too(tmp_path, look):
    found = look(folder(tmp_path / "d", a_csv="x\n1\n", README_md="hello"))
    assert found.skipped == ("README.md",)
    with pytest.raises(SourceMissingError, match="no data that can be described"):
        look(folder(tmp_path / "e", README_md="hello"))
    with pytest.raises(SourceMissingError) as caught:
        look(tmp_path / "d" / "b.csv")
    assert caught.value.remedy == f"coral describe {tmp_path}/d/a.csv"


def test_a_file_whose_name_is_a_glob_is_that_file(tmp_path, look):
    path = folder(tmp_path / "d", a_csv="x\n1\n") / "a[1]*.csv"
    path.write_text("y\nz\n")
    (node,) = look(path).document["distribution"]
    assert node["contentUrl"] == "a[1]*.csv"


def test_a_second_look_reads_no_file(tmp_path, home, look):
    path = folder(tmp_path / "d", a_csv=CSV)
    first = look(path)
    (note,) = (home / "cache" / "observed").iterdir()
    kept = json.loads(note.read_text())
    kept["columns"] = kept["columns"][:1]
    note.write_text(json.dumps(kept))
    assert list(kinds(look(path).document, "a")) == ["id"]
    note.write_text("{damaged")
    assert look(path).document == first.document


def test_a_link_out_of_the_folder_is_not_followed(tmp_path, look):
    (tmp_path / "secret.csv").write_text("a\n1\n")
    folder(tmp_path / "d", a_csv="x\n1\n")
    (tmp_path / "d" / "link.csv").symlink_to(tmp_path / "secret.csv")
    with pytest.raises(Exception, match="leaves the Croissant file's folder"):
        look(tmp_path / "d")


def test_data_is_described_from_the_folder_of_the_description(tmp_path, look):
    folder(tmp_path / "d", in__a_csv="x\n1\n")
    (node,) = look(tmp_path / "d" / "in", beside=tmp_path / "d").document["distribution"]
    assert node["contentUrl"] == "in/a.csv"
    with pytest.raises(UsageError, match="beneath its own folder"):
        look(tmp_path / "d", beside=tmp_path / "d" / "in")


def test_mlcroissant_says_what_is_wrong(tmp_path, look):
    document = dict(look(folder(tmp_path / "d", a_csv=CSV)).document)
    assert all("recommended" in warning for warning in validate(document))
    document["distribution"] = [{**document["distribution"][0], "sha256": None}]
    with pytest.raises(CroissantError, match="invalid") as caught:
        validate(document)
    assert "sha256" in caught.value.facts["got"]


def _rows(start: int, stop: int) -> str:
    return "id,zip,x\n" + "".join(f"{i},0{i},{i / 2}\n" for i in range(start, stop))


def _described(path: Path, home: Path) -> None:
    """`coral describe` a folder into it, valid for mlcroissant."""
    code, out, err = coral("describe", path, "-o", path / "croissant.json", "--validate", "--home", home)
    assert (code, out) == (0, ""), err
    assert f"wrote {path / 'croissant.json'}" in err


def test_a_folder_of_csv_files_is_described_and_builds(tmp_path, home):
    path = folder(tmp_path / "d", a_csv=_rows(0, 5), b_csv=_rows(5, 12), notes_txt="…")
    _described(path, home)
    data = load({"name": "d", "croissant": "croissant.json"}, base_dir=path, home=home)
    table = data.table("train")
    assert table["id"].to_pylist() == list(range(12))
    assert table["zip"].to_pylist() == [f"0{i}" for i in range(12)]
    assert table.schema.field("id").type == pa.int64()
    assert table.schema.field("x").type == pa.float64()


def test_a_folder_of_parquet_files_is_described_and_builds(tmp_path, home):
    rows = pa.table({"n": pa.array(range(10), pa.int16()), "v": pa.array([[1, 2]] * 10, pa.list_(pa.float32(), 2))})
    path = folder(tmp_path / "d", a_parquet=rows.slice(0, 4), b_parquet=rows.slice(4))
    _described(path, home)
    data = load({"name": "d", "croissant": "croissant.json", "where": "n % 2 = 0"}, base_dir=path, home=home)
    table = data.table("train")
    assert table["n"].to_pylist() == [0, 2, 4, 6, 8]
    assert table.schema.field("n").type == pa.int16()
    assert table.schema.field("v").type == pa.list_(pa.float32(), 2)


def test_a_folder_of_json_lines_is_described_and_builds(tmp_path, home):
    path = folder(tmp_path / "d", a_jsonl='{"a": 1, "t": "x"}\n', b_jsonl='{"a": 2}\n')
    _described(path, home)
    table = load({"name": "d", "croissant": "croissant.json"}, base_dir=path, home=home).table("train")
    assert table.to_pylist() == [{"a": 1, "t": "x"}, {"a": 2, "t": None}]


def test_a_description_is_not_written_over_another(tmp_path, home):
    path = folder(tmp_path / "d", a_csv=CSV)
    _described(path, home)
    _described(path, home)  # the same: nothing to lose
    (path / "croissant.json").write_text("{}")
    words = ("describe", path, "-o", path / "croissant.json", "--home", home)
    code, _, err = coral(*words)
    assert (code, (path / "croissant.json").read_text()) == (2, "{}")
    assert "--force" in err
    assert coral(*words, "--force")[0] == 0
    assert json.loads((path / "croissant.json").read_text())["name"] == "d"


def test_a_description_goes_to_standard_output_and_what_it_leaves_out_to_the_other(tmp_path, home):
    path = folder(tmp_path / "d", a_parquet=parquet_columns(), x_md="")
    code, out, err = coral("describe", path, "--home", home)
    assert code == 0
    assert json.loads(out)["recordSet"][0]["@id"] == "a"
    assert "column 'raw' is left out" in err
    assert "x.md" in err
    found = coral_json("describe", path, "--home", home, "--validate")
    assert found["croissant"] == json.loads(out)
    assert (found["files"], found["num_rows"], found["skipped"], len(found["left_out"])) == (1, 2, ["x.md"], 2)
    assert all("recommended" in warning for warning in found["warnings"])


def test_plain_files_stand_in_a_descriptor(tmp_path, home):
    path = folder(tmp_path / "d", data__a_csv=_rows(0, 5), data__b_csv=_rows(5, 12))
    (path / "d.yaml").write_text("name: d\nfiles: data/*.csv\nfields: [id]\nwhere: \"zip >= '03'\"\n")
    first = coral_json("build", path / "d.yaml", "--home", home)
    assert (first["built"], first["num_rows"], first["partitions_built"]) == (True, 7, 2)
    assert coral_json("build", path / "d.yaml", "--home", home)["built"] is False
    folder(path, data__c_csv="id,zip,x\n12,99,1\n")
    second = coral_json("build", path / "d.yaml", "--home", home)
    assert (second["num_rows"], second["partitions_built"], second["partitions_reused"]) == (8, 1, 2)


def test_a_lone_plain_file_keeps_its_partition_when_another_comes(tmp_path, home):
    path = folder(tmp_path / "d", a_csv=_rows(0, 5))
    (path / "d.yaml").write_text("name: d\nfiles: '*.csv'\n")
    coral_json("build", path / "d.yaml", "--home", home)
    folder(path, b_csv=_rows(5, 6))
    found = coral_json("build", path / "d.yaml", "--home", home)
    assert (found["num_rows"], found["partitions_built"], found["partitions_reused"]) == (6, 1, 1)


def test_plain_files_of_two_schemas_ask_for_a_record_set(tmp_path, home):
    path = folder(tmp_path / "d", a_csv=_rows(0, 5), b_csv="q\n1\n")
    (path / "d.yaml").write_text("name: d\nfiles: '*.csv'\n")
    code, _, err = coral("build", path / "d.yaml", "--home", home)
    assert code == 1
    assert "record_set: a" in err
    (path / "d.yaml").write_text("name: d\nfiles: '*.csv'\nrecord_set: b\n")
    assert coral_json("build", path / "d.yaml", "--home", home)["num_rows"] == 1


def test_plain_files_of_no_known_ending_are_refused(tmp_path, home):
    path = folder(tmp_path / "d", data__a_csv=_rows(0, 5), data__b_txt="x")
    (path / "d.yaml").write_text("name: d\nfiles: data/*\n")
    code, _, err = coral("plan", path / "d.yaml", "--home", home)
    assert code == 1
    assert "data/b.txt" in err
    assert "files: 'data/*.csv'" in err


def pictures(path: Path, *names: str) -> Path:
    """Grey pictures of 4 x 3 pixels, each of its own shade."""
    for shade, name in enumerate(names):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 3), shade * 10).save(path / name)
    return path


def test_a_folder_of_pictures_by_class_is_described_and_builds(tmp_path, home):
    path = pictures(tmp_path / "d", "cats/1.png", "cats/2.png", "dogs/1.png", "owls/1.jpg")
    _described(path, home)
    asked = {
        "name": "d",
        "croissant": "croissant.json",
        "fields": {"image": {"decode": "image", "shape": [3, 4], "dtype": "uint8"}, "label": {}, "filename": {}},
    }
    table = load(asked, base_dir=path, home=home).table("train")
    assert table["label"].to_pylist() == ["cats", "cats", "dogs", "owls"]
    assert table["filename"].to_pylist() == ["1.png", "2.png", "1.png", "1.jpg"]
    assert table["image"].to_pylist()[:3] == [[[shade * 10] * 4] * 3 for shade in range(3)]


def test_the_bytes_of_pictures_are_their_files(tmp_path, home):
    path = pictures(tmp_path / "d", "cats/1.png", "dogs/1.png")
    _described(path, home)
    table = load({"name": "d", "croissant": "croissant.json", "fields": ["image"]}, base_dir=path, home=home).table(
        "train"
    )
    assert table["image"].to_pylist() == [(path / name).read_bytes() for name in ("cats/1.png", "dogs/1.png")]


def test_pictures_have_the_splits_of_their_folders(tmp_path, home):
    path = pictures(tmp_path / "d", "train/cats/1.png", "train/dogs/1.png", "train/dogs/2.png", "test/cats/1.png")
    _described(path, home)
    (path / "d.yaml").write_text(
        "name: d\ncroissant: croissant.json\nfields: [label]\nsplits: {train: {source: train}, test: {source: test}}\n"
    )
    built = coral_json("build", path / "d.yaml", "--home", home)
    assert built["splits"] == {"test": 1, "train": 3}
    (path / "d.yaml").write_text(
        "name: d\nfiles: '*/*/*.png'\nfields: [label]\nsplits: {train: {source: train}, test: {source: test}}\n"
    )
    again = coral_json("build", path / "d.yaml", "--home", home)
    assert (again["content_digest"], again["splits"]) == (built["content_digest"], built["splits"])


def test_tables_have_the_splits_of_their_names(tmp_path, home):
    path = folder(tmp_path / "d", train_csv=_rows(0, 5), test_csv=_rows(5, 7))
    _described(path, home)
    asked = {"name": "d", "croissant": "croissant.json", "splits": {"held": {"source": "test"}}}
    data = load(asked, base_dir=path, home=home)
    assert data.table("held")["split"].to_pylist() == ["test", "test"]
    assert data.table("held")["id"].to_pylist() == [5, 6]


def test_every_parquet_type_that_is_described_builds(tmp_path, home):
    path = folder(tmp_path / "d", a_parquet=parquet_columns())
    _described(path, home)
    names = ["u", "f", "money", "t", "word", "day", "at", "fixed", "ragged", "both"]
    asked = {"name": "d", "croissant": "croissant.json", "fields": names}
    table = load(asked, base_dir=path, home=home).table("train")
    assert table["both"].to_pylist() == [{"a": 1, "b": "x"}] * 2
    assert table["fixed"].to_pylist() == [[[1, 2]], [[3, 4]]]
    assert table["word"].to_pylist() == ["a", "b"]
    assert table["money"].to_pylist() == [1.0, 2.0]
    assert table["ragged"].to_pylist() == [[1.5], []]
    assert table.schema.field("u").type == pa.uint64()


def test_a_picture_in_a_struct_is_its_bytes(tmp_path, home):
    path = folder(tmp_path / "d", a_parquet=parquet_columns())
    _described(path, home)
    asked = {"name": "d", "croissant": "croissant.json", "fields": ["picture", "bare"], "where": "i IS NULL"}
    (row,) = load(asked, base_dir=path, home=home).table("train").to_pylist()
    assert row == {"picture": b"\x89PNG\r\n\x1a\n" + b"\0" * 8, "bare": None}


def test_objects_in_json_lines_are_structs(tmp_path, home):
    path = folder(tmp_path / "d", a_jsonl='{"a": {"b": 1, "c": ["x", "y"]}}\n{"a": {"c": []}}\n{}\n')
    _described(path, home)
    table = load({"name": "d", "croissant": "croissant.json"}, base_dir=path, home=home).table("train")
    assert table["a"].to_pylist()[0] == {"b": 1, "c": ["x", "y"]}
    assert table["a"].to_pylist()[1] == {"b": None, "c": []}


def test_a_hit_on_plain_files_opens_none_of_them(tmp_path, home):
    path = folder(tmp_path / "d", a_csv=_rows(0, 5), b_csv=_rows(5, 9))
    (path / "d.yaml").write_text("name: d\nfiles: '*.csv'\n")
    os.utime(path / "a.csv", (1_700_000_000, 1_700_000_000))
    coral_json("build", path / "d.yaml", "--home", home)
    code = (
        "import sys, json\n"
        "from coralord_lightning.cli import main\n"
        f"code = main(['build', {str(path / 'd.yaml')!r}, '--home', {str(home)!r}, '--json'])\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["built"] is False
    assert not {"duckdb", "pyarrow", "torch", "pandas", "mlcroissant"} & set(json.loads(done.stderr.splitlines()[-1]))


def test_the_splits_of_the_hub_s_layout_are_those_of_its_files(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for split, rows in (("train", 3), ("validation", 2)):
        pq.write_table(pa.table({"x": list(range(rows))}), data / f"{split}-00000-of-00001.parquet")
    asked = {
        "name": "hub",
        "files": "data/*.parquet",
        "fields": ["x"],
        "splits": {"train": {"source": "train"}, "val": {"source": "validation"}},
    }
    assert load(asked, base_dir=tmp_path, home=tmp_path / "home").version.splits == {"train": 3, "val": 2}

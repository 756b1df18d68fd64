"""What the official reader gets wrong is right here, and the same when it is read again."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from coralord_lightning import load
from coralord_lightning.errors import ForbiddenSourceError, UnknownFieldError
from coralord_lightning.spec.infer import CONTEXT
from records import column, field, file, files, path, prop, record_set, rows

Json = dict[str, Any]


def test_texts_that_look_like_numbers_or_nothing_stay_texts(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("zip,name,n\n00707,NA,1\n1,null,\n1.0,nan,3\n")
    kinds = {"zip": "sc:Text", "name": "sc:Text", "n": "sc:Integer"}
    fields = [field(f"rows/{name}", kind, ("t", column(name))) for name, kind in kinds.items()]
    found = rows(tmp_path, [file("t", "t.csv", "text/csv")], record_set("rows", *fields))
    assert found == [
        {"zip": "00707", "name": "NA", "n": 1},
        {"zip": "1", "name": "null", "n": None},
        {"zip": "1.0", "name": "nan", "n": 3},
    ]


def test_json_records_with_missing_keys_stay_aligned(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text(json.dumps([{"a": 1, "b": "x"}, {"b": "y"}, {"a": 3}, {"a": None, "b": "z"}]))
    kinds = {"a": "sc:Integer", "b": "sc:Text"}
    for said in ("$[*].{}", "$..{}"):
        fields = [field(f"rows/{name}", kind, ("d", path(said.format(name)))) for name, kind in kinds.items()]
        found = rows(tmp_path, [file("d", "d.json", "application/json")], record_set("rows", *fields))
        assert found == [{"a": 1, "b": "x"}, {"a": None, "b": "y"}, {"a": 3, "b": None}, {"a": None, "b": "z"}]


def test_excludes_leave_files_out_and_a_star_stays_in_its_folder(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "x.txt", "deep/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    found = rows(
        tmp_path,
        [files("texts", ["*.txt", "deep/*.txt"], "text/plain", excludes=["x*", "b.txt"])],
        record_set("rows", field("rows/name", "sc:Text", ("texts", prop("fullpath")))),
    )
    assert found == [{"name": "a.txt"}, {"name": "deep/c.txt"}]
    found = rows(
        tmp_path,
        [files("texts", "*.txt", "text/plain")],
        record_set("rows", field("rows/name", "sc:Text", ("texts", prop("fullpath")))),
    )
    assert [item["name"] for item in found] == ["a.txt", "b.txt", "x.txt"]


def test_replace_and_separator_are_applied_in_order(tmp_path: Path) -> None:
    (tmp_path / "w.tokens").write_text("a b\nc")
    steps = [{"replace": "\\n/ <eos> "}, {"separator": " "}]
    words = field("rows/words", "sc:Text", ("t", prop("content")), transform=steps, repeated=True)
    found = rows(tmp_path, [files("t", "*.tokens", "text/plain")], record_set("rows", words))
    assert found == [{"words": ["a", "b", "<eos>", "c"]}]


def test_contexts_of_http_and_lists_of_contexts_are_the_same_dataset(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("n\n1\n")
    plain = dict(CONTEXT)
    http = json.loads(json.dumps(plain).replace("https://schema.org/", "http://schema.org/"))
    for context in (plain, http, [http, {"mine": "https://example.org/"}], "http://mlcommons.org/croissant/1.1"):
        found = rows(
            tmp_path,
            [file("t", "t.csv", "text/csv")],
            record_set("rows", field("rows/n", "sc:Integer", ("t", column("n")))),
            context=context,
        )
        assert found == [{"n": 1}]


def test_two_datasets_that_name_their_archive_alike_never_share_content(tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        with zipfile.ZipFile(folder / "data.zip", "w") as archive:
            archive.writestr("t.csv", f"who\n{name}\n")
        data = load(
            {"name": name, "croissant": "c.json"} | {"croissant": _zipped(folder)},
            base_dir=folder,
            home=tmp_path / "home",
        )
        found.append(data.table("train").to_pylist())
    assert found == [[{"who": "one"}], [{"who": "two"}]]


def _zipped(folder: Path) -> str:
    distribution = [
        file("data.zip", "data.zip", "application/zip"),
        file("t", "t.csv", "text/csv", containedIn={"@id": "data.zip"}),
    ]
    body = {
        "@context": dict(CONTEXT),
        "@type": "sc:Dataset",
        "distribution": distribution,
        "recordSet": [record_set("rows", field("rows/who", "sc:Text", ("t", column("who"))))],
    }
    (folder / "c.json").write_text(json.dumps(body))
    return "c.json"


def test_dates_boxes_constants_and_annotations_are_values_of_their_types(tmp_path: Path) -> None:
    notes = [{"box": [1.5, 2, 3, 4], "day": "31/12/2024", "who": "ann"}, {"box": None, "day": None, "who": "bob"}]
    (tmp_path / "d.json").write_text(json.dumps({"notes": notes}))
    who = {
        "@id": "rows/box/who",
        "dataType": "sc:Text",
        "source": {"fileObject": {"@id": "d"}, "extract": path("$.notes[*].who")},
    }
    found = rows(
        tmp_path,
        [file("d", "d.json", "application/json")],
        record_set(
            "rows",
            field("rows/box", "cr:BoundingBox", ("d", path("$.notes[*].box")), annotation=who),
            field("rows/day", "sc:Date", ("d", path("$.notes[*].day")), transform={"format": "dd/MM/yyyy"}),
            field("rows/scale", "sc:Text", None, value="1-5 stars"),
        ),
    )
    assert [item["box"] for item in found] == [[1.5, 2.0, 3.0, 4.0], None]
    assert [str(item["day"]) for item in found] == ["2024-12-31", "None"]
    assert [item["scale"] for item in found] == ["1-5 stars", "1-5 stars"]
    assert [item["who"] for item in found] == ["ann", "bob"]


def test_a_remote_looking_or_outer_path_in_a_container_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ForbiddenSourceError):
        rows(
            tmp_path,
            [file("t", "../t.csv", "text/csv")],
            record_set("rows", field("rows/n", "sc:Integer", ("t", column("n")))),
        )
    (tmp_path / "t.csv").write_text("n\n1\n")
    with pytest.raises(UnknownFieldError):
        rows(
            tmp_path,
            [file("t", "t.csv", "text/csv")],
            record_set("rows", field("rows/n", "sc:Integer", ("t", column("n")))),
            fields=["m"],
        )

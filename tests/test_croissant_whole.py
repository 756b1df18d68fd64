"""Whole datasets in the spellings that are found in the wild, and in the official reader where that is right."""

from __future__ import annotations

import json
import logging
import warnings
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from records import Json, column, field, file, files, prop, record_set, rows


def test_a_set_of_files_and_one_file_lie_in_one_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("labels/index.csv", "file,label\na.txt,one\nb.txt,two\n")
        archive.writestr("texts/b.txt", "second")
        archive.writestr("texts/a.txt", "first")
        archive.writestr("texts/draft.txt", "none")
    inside = {"containedIn": {"@id": "zip"}}
    distribution = [
        file("zip", "all.zip", "application/zip"),
        file("index", "labels/index.csv", "text/csv", **inside),
        files("texts", "texts/*.txt", "text/plain", excludes="texts/draft*", **inside),
    ]
    labels = record_set(
        "labels",
        field("labels/file", "sc:Text", ("index", column("file"))),
        field("labels/label", "sc:Text", ("index", column("label"))),
        key={"@id": "labels/file"},
    )
    texts = record_set(
        "texts",
        field("t/name", "sc:Text", ("texts", prop("filename")), references={"field": {"@id": "labels/file"}}),
        field("t/text", "sc:Text", ("texts", prop("content"))),
        field("t/label", "sc:Text", "labels/label"),
    )

    assert rows(tmp_path, distribution, labels, texts) == [
        {"name": "a.txt", "text": "first", "label": "one"},
        {"name": "b.txt", "text": "second", "label": "two"},
    ]


OLD_CONTEXT = {
    "@language": "en", "@vocab": "https://schema.org/", "cr": "http://mlcommons.org/croissant/",
    "sc": "https://schema.org/", "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"}, "repeated": "cr:repeated", "separator": "cr:separator",
    "transform": "cr:transform", **{term: f"cr:{term}" for term in (
        "column", "extract", "field", "fileObject", "key", "recordSet", "references", "source", "subField",
    )},
}  # fmt: skip


@pytest.mark.parametrize("word", ["separator", "delimiter"])
def test_repeated_and_delimiter_of_version_one_are_a_list(tmp_path: Path, word: str) -> None:
    (tmp_path / "a.csv").write_text("tags\na|b\nc\n\n" + '""\n')
    tags = field("r/tags", "sc:Text", ("a", column("tags")), transform={word: "|"}, repeated=True)

    found = rows(tmp_path, [file("a", "a.csv", "text/csv")], record_set("r", tags), context=OLD_CONTEXT)

    assert [row["tags"] for row in found][:2] == [["a", "b"], ["c"]]


@pytest.mark.parametrize("names", [("TrainingSplit", "TestSplit"), ("TrainSplit", "TestSplit")])
def test_split_records_with_urls_in_either_spelling_are_splits(tmp_path: Path, names: tuple[str, str]) -> None:
    (tmp_path / "a.csv").write_text("x,part\n1,train\n2,test\n3,train\n")
    splits = record_set(
        "splits",
        field("splits/name", "sc:Text"),
        field("splits/url", ["sc:URL", "wd:Q7257"]),
        dataType="cr:Split",
        key={"@id": "splits/name"},
        data=[
            {"splits/name": name, "splits/url": f"cr:{url}"} for name, url in zip(("train", "test"), names, strict=True)
        ],
    )
    main = record_set(
        "main",
        field("main/x", "sc:Integer", ("a", column("x"))),
        field("main/part", "sc:Text", ("a", column("part")), references={"field": {"@id": "splits/name"}}),
        field("main/url", "sc:URL", "splits/url"),
    )

    found = rows(
        tmp_path,
        [file("a", "a.csv", "text/csv")],
        splits,
        main,
        splits={"train": {"source": "train"}},
        fields=["x", "url"],
    )

    assert found == [{"x": 1, "url": f"cr:{names[0]}"}, {"x": 3, "url": f"cr:{names[0]}"}]


def test_boxes_of_a_coco_document_are_four_numbers_each(tmp_path: Path) -> None:
    boxes = [{"id": 1, "bbox": [1, 2.5, 3, 4]}, {"id": 2}, {"id": 3, "bbox": [0, 0, 1, 1]}]
    (tmp_path / "c.json").write_text(json.dumps({"annotations": boxes}))
    extract = {"jsonPath": "$.annotations[*].bbox"}
    main = record_set(
        "boxes",
        field("boxes/id", "sc:Integer", ("c", {"jsonPath": "$.annotations[*].id"})),
        {
            "@type": "cr:Field", "@id": "boxes/box", "dataType": "cr:BoundingBox",
            "source": {"fileObject": {"@id": "c"}, "extract": extract, "format": "XYWH"},
        },
    )  # fmt: skip

    assert rows(tmp_path, [file("c", "c.json", "application/json")], main) == [
        {"id": 1, "box": [1.0, 2.5, 3.0, 4.0]},
        {"id": 2, "box": None},
        {"id": 3, "box": [0.0, 0.0, 1.0, 1.0]},
    ]


def test_tasks_and_geography_load_as_far_as_they_are_croissant(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,shape\n1,POINT (1 2)\n")
    context = OLD_CONTEXT | {
        "geocr": "http://mlcommons.org/croissant/geo/", "crt": "http://mlcommons.org/croissant/tasks/",
    }  # fmt: skip
    main = record_set(
        "r",
        field("r/x", "sc:Integer", ("a", column("x")), **{"geocr:unit": "m"}),
        field("r/shape", ["sc:GeoShape", "sc:Text"], ("a", column("shape"))),
        **{"crt:input": {"@type": "crt:TaskInput"}, "geocr:coordinateReferenceSystem": "EPSG:4326"},
    )

    found = rows(tmp_path, [file("a", "a.csv", "text/csv")], main, context=context)

    assert found == [{"x": 1, "shape": "POINT (1 2)"}]


def official(folder: Path, name: str) -> list[Json]:
    """What the official reader gives, under our names."""
    body = json.loads((folder / "croissant.json").read_text())
    body |= {"name": "whole", "conformsTo": "http://mlcommons.org/croissant/1.1"}
    (folder / "official.json").write_text(json.dumps(body))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlcroissant

        logging.disable(logging.CRITICAL)
        try:
            dataset = mlcroissant.Dataset(jsonld=str(folder / "official.json"))
            found = [dict(record) for record in dataset.records(name)]
        finally:
            logging.disable(logging.NOTSET)
    return [{key.rpartition("/")[2]: _plain(value) for key, value in record.items()} for record in found]


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return value.item() if hasattr(value, "item") else value


def test_where_the_official_reader_is_right_we_give_what_it_gives(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,name,kind\n3,ann-x,b\n1,bob-y,a\n2,eve,b\n")
    (tmp_path / "k.csv").write_text("kind,title\na,first\nb,second\n")
    named = {"transform": {"regex": "(.*)-(?:x|y)"}}
    kinds = record_set(
        "kinds",
        field("kinds/kind", "sc:Text", ("k", column("kind"))),
        field("kinds/title", "sc:Text", ("k", column("title"))),
        key={"@id": "kinds/kind"},
    )
    main = record_set(
        "main",
        field("main/id", "sc:Integer", ("a", column("id"))),
        field("main/name", "sc:Text", ("a", column("name")), **named),
        field("main/kind", "sc:Text", ("a", column("kind")), references={"field": {"@id": "kinds/kind"}}),
        field("main/title", "sc:Text", "kinds/title"),
    )
    distribution = [
        file(name, f"{name}.csv", "text/csv", sha256=sha256((tmp_path / f"{name}.csv").read_bytes()).hexdigest())
        for name in "ak"
    ]

    ours = rows(tmp_path, distribution, kinds, main)

    assert ours == official(tmp_path, "main")
    assert [row["name"] for row in ours] == ["ann", "bob", "eve"]

"""Observed files to a Croissant document: which make one record set, what it is called, which globs name them."""

from __future__ import annotations

import itertools
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coralord_lightning.sources.globs import matches
from coralord_lightning.spec.infer import ObservedColumn, ObservedFile, infer, joined
from coralord_lightning.spec.infer_globs import includes_for
from coralord_lightning.spec.infer_names import image_split, table_split


def column(name: str, kind: str = "sc:Integer", **more) -> ObservedColumn:
    return ObservedColumn(name=name, kind=kind, **more)


def file(name: str, *columns: ObservedColumn | str, **more) -> ObservedFile:
    held = tuple(column(item) if isinstance(item, str) else item for item in columns)
    kind = {"png": "image", "jpg": "image"}.get(name.rpartition(".")[2], name.rpartition(".")[2])
    return ObservedFile(name=name, format=kind, columns=held, **more)


def described(*files: ObservedFile, **how) -> dict:
    how = {"name": "data", "universe": [item.name for item in files]} | how
    return dict(infer(files, **how).document)


def sets(document: dict) -> dict[str, list[str]]:
    return {
        item["@id"]: [field["name"].rpartition("/")[2] for field in item["field"]] for item in document["recordSet"]
    }


def fields(document: dict, record_set: str) -> dict[str, dict]:
    (found,) = [item for item in document["recordSet"] if item["@id"] == record_set]
    return {field["name"].rpartition("/")[2]: field for field in found["field"]}


def test_files_of_one_schema_are_one_record_set_and_others_stand_apart():
    document = described(file("a.csv", "x", "y"), file("b.csv", "x", "y"), file("c.csv", "z"), file("d.parquet", "x"))
    assert sets(document) == {"data": ["x", "y"], "c": ["z"], "d": ["x"]}
    assert [node["@type"] for node in document["distribution"]] == ["cr:FileSet", "cr:FileObject", "cr:FileObject"]
    assert document["distribution"][0]["includes"] == ["a.csv", "b.csv"]


def test_the_order_of_columns_does_not_part_files_of_one_schema():
    assert sets(described(file("a.csv", "x", "y"), file("b.csv", "y", "x"))) == {"data": ["x", "y"]}


def test_a_lone_file_is_an_object_with_its_hash():
    (node,) = described(file("in/my file.csv", "x", sha256="ab" * 32, size_bytes=12))["distribution"]
    assert (node["@id"], node["contentUrl"]) == ("my_file.csv", "in/my file.csv")
    assert (node["sha256"], node["contentSize"]) == ("ab" * 32, "12 B")


def test_json_lines_may_lack_keys_of_one_another():
    document = described(file("a.jsonl", "x"), file("b.jsonl", "x", column("t", "sc:Text")), file("c.jsonl", "q"))
    assert sets(document) == {"data": ["x", "t"], "c": ["q"]}


@pytest.mark.parametrize(
    ("one", "other", "in_csv", "elsewhere"),
    [
        ("sc:Integer", "sc:Float", "sc:Float", "sc:Float"),
        ("cr:Int16", "cr:Int64", "sc:Integer", "sc:Integer"),
        ("cr:Float32", "cr:Float64", "sc:Float", "sc:Float"),
        ("sc:Integer", "sc:Text", "sc:Text", None),
        ("sc:Boolean", "sc:Integer", "sc:Text", None),
        ("sc:Date", "sc:DateTime", "sc:Text", None),
        ("cr:UInt64", "sc:Integer", "sc:Text", None),
        ("nothing", "sc:Date", "sc:Date", "sc:Date"),
    ],
)
def test_what_two_files_hold_is_held_by_the_type_of_both(one, other, in_csv, elsewhere):
    for first, second in itertools.permutations((one, other)):
        for text, expected in ((True, in_csv), (False, elsewhere)):
            found = joined(column("x", first), column("x", second), text=text)
            assert (found.kind if found else None) == expected


def test_lists_and_structs_are_joined_inside():
    one = column("s", "struct", children=(column("a", "cr:Int8"), column("b", "sc:Float", shape=(3,))))
    other = column("s", "struct", children=(column("b", "sc:Float", shape=(4,)), column("a", "cr:Int64")))
    found = joined(one, other, text=False)
    assert [(item.name, item.kind, item.shape) for item in found.children] == [
        ("a", "sc:Integer", ()),
        ("b", "sc:Float", (-1,)),
    ]
    assert joined(one, column("s", "sc:Text"), text=False) is None
    assert joined(column("l", shape=(2,)), column("l"), text=False) is None


def test_parquet_whose_types_do_not_meet_stands_apart():
    document = described(file("a.parquet", column("x", "sc:Text")), file("b.parquet", column("x", "cr:Int8")))
    assert list(sets(document)) == ["a", "b"]


def test_structs_and_lists_are_written_as_croissant_says_them():
    held = column("s", "struct", children=(column("a b", "sc:Text"), column("l", "cr:Int8", shape=(-1, 3))))
    outer = fields(described(file("a.parquet", held)), "a")["s"]
    first, second = outer["subField"]
    assert "dataType" not in outer
    assert first["source"]["transform"] == {"jsonPath": "a b"}
    assert (second["isArray"], second["arrayShape"]) == (True, "-1,3")


def test_a_picture_in_a_struct_is_found_by_a_path():
    image = fields(described(file("a.parquet", column("p", "sc:ImageObject", path="bytes"))), "a")["p"]
    assert image["source"]["extract"] == {"column": "p"}
    assert image["source"]["transform"] == {"jsonPath": "bytes"}


def test_ids_are_unique_and_have_no_blanks():
    document = described(
        file("a/x y.csv", column("p q"), column("p_q"), column("ü")),
        file("b/x y.csv", "other"),
        file("x_y.parquet", "z"),
    )
    found = re.findall(r'"@id": "([^"]+)", "name"', json.dumps(document))
    assert len(found) == len(set(found)) == 11
    assert not [item for item in found if " " in item]
    assert list(fields(document, "x_y")) == ["p q", "p_q", "ü"]


@pytest.mark.parametrize(
    ("paths", "values"),
    [
        (["train.csv", "test.csv"], ("train", "test")),
        (["data/train-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet"], ("train", "validation")),
        (["Test/0.csv", "Train/0.csv"], ("Train", "Test")),
        (["x_train.csv", "x_val.csv"], ("train", "val")),
        (["train.csv", "other.csv"], None),
        (["training-data.csv", "trainset.csv"], None),
        (["train.csv"], None),
    ],
)
def test_splits_are_read_off_names_that_say_them(paths, values):
    rule = table_split(sorted(paths))
    assert (rule.values if rule else None) == values
    if rule is not None:
        assert {re.match(rule.regex, path)[1] for path in paths} == set(values)


def test_a_split_of_tables_is_a_field_that_refers_to_its_enumeration():
    document = described(file("train/0.csv", "x"), file("test/0.csv", "x"))
    splits, rows = document["recordSet"]
    assert (splits["dataType"], splits["data"]) == (
        "cr:Split",
        [{"data_splits/name": "train"}, {"data_splits/name": "test"}],
    )
    assert rows["field"][0]["references"] == {"field": {"@id": "data_splits/name"}}
    assert rows["field"][0]["source"]["extract"] == {"fileProperty": "fullpath"}
    assert document["distribution"][0]["includes"] == ["test/*.csv", "train/*.csv"]


def test_a_column_named_split_keeps_its_name():
    document = described(file("train.csv", "split"), file("test.csv", "split"))
    assert sets(document)["data"] == ["file_split", "split"]


@pytest.mark.parametrize(
    ("paths", "found", "includes"),
    [
        (["cats/1.jpg", "dogs/1.jpg"], ["image", "filename", "label"], ["cats/*.jpg", "dogs/*.jpg"]),
        (["a/1.jpg", "b/1.jpg", "c/1.jpg", "c/2.png"], ["image", "filename", "label"], ["*/*.jpg", "c/*.png"]),
        (["train/a/1.png", "train/b/1.png", "test/a/1.png"], ["split", "image", "filename", "label"], "*/*/*.png"),
        (["train/1.png", "test/1.png"], ["split", "image", "filename"], ["test/*.png", "train/*.png"]),
        (["1.png", "2.png"], ["image", "filename"], "*.png"),
        (["pictures/1.png", "pictures/2.png"], ["image", "filename"], "pictures/*.png"),
    ],
)
def test_pictures_have_the_class_and_split_that_their_folders_say(paths, found, includes):
    document = described(*map(file, paths))
    assert sets(document)["images"] == found
    assert document["distribution"][0]["includes"] == includes


def test_the_split_of_pictures_stands_in_one_level_of_folders():
    rule = image_split(["in/train/test/1.png", "in/val/cats/1.png"])
    assert rule.values == ("train", "val")
    assert [re.match(rule.regex, path)[1] for path in ("in/train/test/1.png", "in/val/cats/1.png")] == ["train", "val"]
    assert image_split(["train/1.png", "cats/1.png"]) is None


def test_named_patterns_stay_where_all_files_are_one_record_set():
    files = [file("d/a.csv", "x"), file("d/b[1].csv", "x")]
    (node,) = described(*files, universe=None, patterns=("d/*.csv",))["distribution"]
    assert node["includes"] == "d/*.csv"
    one, other = described(*files, file("d/c.csv", "q"), universe=None, patterns=("d/*.csv",), sets_only=True)[
        "distribution"
    ]
    assert (one["includes"], other["includes"]) == (["d/a.csv", "d/b[[]1].csv"], "d/c.csv")
    assert other["@type"] == "cr:FileSet"


_NAMES = st.lists(
    st.builds(
        lambda folders, stem, end: "/".join([*folders, stem + end]),
        st.lists(st.sampled_from(["a", "b", "[c]", "d e"]), max_size=2),
        st.sampled_from(["1", "2", "x*", "q?"]),
        st.sampled_from([".csv", ".png", ""]),
    ),
    unique=True,
    min_size=1,
)


@given(_NAMES, st.data())
def test_globs_match_the_files_they_are_made_for_and_no_others(universe, data):
    chosen = sorted(data.draw(st.lists(st.sampled_from(universe), unique=True, min_size=1)))
    patterns = includes_for(chosen, universe)
    assert sorted(name for name in universe if any(matches(name, pattern) for pattern in patterns)) == chosen


def test_the_same_files_in_any_order_give_the_same_text():
    files = [file("b.csv", "x"), file("a.csv", "x"), file("c.jsonl", "y")]
    texts = {
        json.dumps(described(*some, universe=["a.csv", "b.csv", "c.jsonl"])) for some in itertools.permutations(files)
    }
    assert len(texts) == 1

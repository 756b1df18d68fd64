"""Fields: sources, transforms, references, subfields, constants, annotations; what is not read keeps its reason."""

from __future__ import annotations

import pytest

from coralord_lightning.errors import CroissantSyntaxError
from coralord_lightning.spec.croissant import Reference, Source, parse_croissant
from coralord_lightning.spec.croissant.formats import DateFormatError, strptime_format
from coralord_lightning.spec.croissant.sources import split_replace
from coralord_lightning.spec.selection import Transform
from croissants import SPLITS, column, document, field, record_set

FILE = {"fileObject": {"@id": "table"}}


def of(**source: object) -> dict[str, object]:
    return column("x", "sc:Text", source=FILE | source)


@pytest.mark.parametrize(
    ("said", "source"),
    [
        ({"extract": {"column": "a"}}, Source(file="table", column="a")),
        ({"extract": {"jsonPath": "$.a[*]"}}, Source(file="table", kind="json_path", column="$.a[*]")),
        ({"extract": {"fileProperty": "filename"}}, Source(file="table", kind="file_property", column="filename")),
        ({"extract": {"fileProperty": "cr:content"}}, Source(file="table", kind="file_property", column="content")),
        ({}, Source(file="table", kind="file_property", column="content")),
        ({"transform": {"readLines": True}}, Source(file="table", kind="file_property", column="lines")),
    ],
)
def test_a_source_says_what_is_extracted(said, source):
    assert field(of(**said)).source == source


def test_a_file_may_be_named_in_every_spelling():
    for said in ({"fileObject": "table"}, {"fileSet": {"@id": "table"}}, {"distribution": "table"}, {"@id": "table"}):
        assert field(column("x", source=said | {"extract": {"column": "a"}})).source == Source(file="table", column="a")


def test_transforms_keep_their_order():
    steps = [{"regex": "(.*)"}, {"replace": "a/b"}, {"separator": " "}, {"jsonPath": "$.x"}, {"delimiter": "|"}]
    found = field(of(extract={"column": "a"}, transform=steps, format="yyyy-MM-dd"))
    assert found.source is not None
    assert found.source.transforms == (
        Transform(op="regex", argument="(.*)"),
        Transform(op="replace", argument="a/b"),
        Transform(op="separator", argument=" "),
        Transform(op="json_path", argument="$.x"),
        Transform(op="separator", argument="|"),
        Transform(op="format", argument="%Y-%m-%d"),
    )


@pytest.mark.parametrize(
    ("step", "needs"),
    [
        ({"regex": "(?<=a)b"}, "RE2"),
        ({"regex": "(a"}, "RE2"),
        ({"regex": r"(a)\1"}, "RE2"),
        ({"replace": "(?=a)/b"}, "RE2"),
        ({"regex": 3}, "no text"),
        ({"separator": ""}, "no text"),
        ({"jsonPath": "$.a["}, "jsonPath"),
        ({"format": "QQ"}, "format"),
        ("regex", "transform that is no object"),
    ],
)
def test_a_transform_that_cannot_be_applied_is_refused_naming_the_field(step, needs):
    with pytest.raises(CroissantSyntaxError, match=needs) as caught:
        field(of(extract={"column": "a"}, transform=step))
    assert caught.value.subject == "field digits/x"


@pytest.mark.parametrize(
    ("said", "pattern"),
    [
        ("%d/%m/%Y", "%d/%m/%Y"), ("yyyy-MM-dd", "%Y-%m-%d"), ("MM/dd/yy", "%m/%d/%y"), ("d MMM y", "%-d %b %Y"),
        ("yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX", "%Y-%m-%dT%H:%M:%S.%f%z"), ("hh:mm a", "%I:%M %p"),
        ("#,##0.00", "#,##0.00"), ("CENTER_XYWH", "CENTER_XYWH"),
    ],
)  # fmt: skip
def test_cldr_patterns_are_those_of_strptime(said, pattern):
    assert strptime_format(said) == pattern


def test_a_letter_that_is_no_date_field_is_named():
    with pytest.raises(DateFormatError, match="'G'"):
        strptime_format("G yyyy")


@pytest.mark.parametrize(
    ("said", "parts"),
    [
        ("a/b", ("a", "b")),
        (r"a\/b/c", ("a/b", "c")),
        ("a", ("a", "")),
        (r"\n/<eos>", (r"\n", "<eos>")),
        ("a/b/c", ("a", "b/c")),
    ],
)
def test_replace_is_a_pattern_and_what_stands_for_it(said, parts):
    assert split_replace(said) == parts


@pytest.mark.parametrize(
    ("said", "dtype", "media", "shape"),
    [
        ("sc:ImageObject", "bytes", "image", ()),
        (["cr:SegmentationMask", "sc:ImageObject"], "bytes", "image", ()),
        (["cr:SegmentationMask", "sc:GeoShape"], "text", "image", ()),
        ("sc:AudioObject", "bytes", "audio", ()),
        ("sc:VideoObject", "bytes", "video", ()),
        ("cr:BoundingBox", "float", None, (4,)),
        (["sc:Float", "sc:Integer"], "float", None, ()),
        ("cr:Split", "text", None, ()),
    ],
)
def test_media_and_boxes_have_a_type(said, dtype, media, shape):
    found = field(column("x", said))
    assert (found.dtype, found.shape) == (dtype, shape)
    assert found.media == (media if dtype == "bytes" else None)


def test_many_boxes_are_a_list_of_four_numbers_each():
    assert field(column("x", "cr:BoundingBox", isArray=True, arrayShape="-1")).shape == (-1, 4)


@pytest.mark.parametrize(
    ("more", "needs"),
    [
        ({"dataType": None}, "a field without dataType"),
        ({"dataType": ["sc:Text", "sc:Integer"]}, "several data types"),
        ({"dataType": "sc:Person"}, "data type sc:Person"),
        ({"source": [FILE, FILE]}, "several sources"),
        ({"source": {"extract": {"column": "x"}}}, "a source that is no file"),
        ({"source": FILE | {"extract": {"somehow": "x"}}}, "extract by somehow"),
        ({"source": FILE | {"extract": {"column": "x"}, "transform": {"jsonQuery": "."}}}, "transform by jsonQuery"),
        ({"source": None, "references": {"field": {"@id": "digits/y"}}}, "references without a source"),
    ],
)
def test_an_unread_field_is_kept_with_its_reason(more, needs):
    value = {key: item for key, item in (column("x") | more).items() if item is not None}
    found = record_set(document(value, column("y"))).fields[0]
    assert any(reason.startswith(needs) for reason in found.unsupported)


@pytest.mark.parametrize(
    "more",
    [
        {"source": {"field": {"@id": "digits/nowhere"}}},
        {"source": "digits/nowhere"},
        {"source": {"fileObject": {"@id": "nowhere"}, "extract": {"column": "x"}}},
        {"source": FILE | {"extract": "x"}},
        {"source": FILE | {"extract": {"fileProperty": "size"}}},
        {"source": FILE | {"extract": {"jsonPath": "$.a[[["}}},
        {"references": {"field": {"@id": "digits/nowhere"}}},
    ],
)
def test_what_names_nothing_is_refused_naming_the_field(more):
    with pytest.raises(CroissantSyntaxError) as caught:
        field(column("x", **more))
    assert caught.value.subject == "field digits/x"


def test_a_source_may_be_another_field_in_both_spellings():
    other = column("y", "sc:Text")
    for said in ({"field": {"@id": "digits/y"}}, {"@id": "digits/y"}, "digits/y"):
        found = record_set(document(column("x", None, source=said), other)).fields[0]
        assert (found.source, found.unsupported) == (Source(field="digits/y"), ())


def test_references_are_fields_in_both_spellings_or_columns_of_files():
    for said in ({"field": {"@id": "digits/y"}}, {"@id": "digits/y"}, "digits/y", [{"@id": "digits/y"}]):
        found = record_set(document(column("x", references=said), column("y"))).fields[0]
        assert found.references == (Reference(field="digits/y"),)
    found = field(column("x", source=None, references=FILE | {"extract": {"column": "c"}}))
    assert found.source == Source(file="table", column="c")


def test_subfields_are_children_at_any_depth():
    deep = {
        "@type": "cr:Field",
        "@id": "digits/a",
        "subField": [column("a/b", None, source=None, subField=[column("a/b/c")])],
    }
    found = field(deep)
    assert (found.name, found.dtype, found.children[0].name, found.children[0].children[0].name) == (
        "a",
        "struct",
        "b",
        "c",
    )
    assert found.children[0].children[0].source == Source(file="table", column="a/b/c")


def test_a_constant_has_a_value_and_no_source():
    found = field(column("x", "sc:Text", source=None, value="1-5 stars"))
    assert (found.value, found.source, found.unsupported) == (("1-5 stars",), None, ())


def test_annotations_with_a_source_are_fields_and_others_are_not():
    label = {
        "@id": "digits/x/label",
        "dataType": ["sc:Text", "cr:Label"],
        "source": FILE | {"extract": {"column": "l"}},
    }
    mean = {"@id": "digits/x/mean", "value": 42.5, "dataType": "ddi-stats:7975ed0"}
    found = record_set(document(column("x", annotation=[label, mean]), column("label")))
    assert [item.name for item in found.fields] == ["x", "label", "x_label"]


def test_a_nested_record_set_knows_how_its_rows_find_their_parent():
    said = {"source": {"field": {"@id": "digits/y"}}, "references": {"field": {"@id": "digits/z"}}}
    nested = {"@type": "cr:Field", "@id": "digits/n", "parentField": said, "subField": [column("n/a")]}
    found = record_set(document(nested, column("y"), column("z"))).fields[0]
    assert found.parent is not None
    assert (found.parent.source, found.parent.references) == (Source(field="digits/y"), (Reference(field="digits/z"),))


def test_a_field_knows_that_it_is_a_split():
    typed = column("part", ["sc:Text", "cr:Split"])
    wiki = column("part", ["sc:Text", "wd:Q3985153"])
    referring = column("part", "sc:Text", references={"field": {"@id": "splits/name"}})
    short = column("part", "sc:Text", references={"@id": "splits/name"})
    plain = column("part", "sc:Text", references={"@id": "digits/part"})
    alone = column("part", "cr:Split")
    found = [
        record_set(document(recordSet=[SPLITS, document(item)["recordSet"][0]]), 1).fields[0]  # type: ignore[index]
        for item in (typed, wiki, referring, short, plain, alone)
    ]
    assert [item.is_split for item in found] == [True, True, True, True, False, True]
    assert {item.dtype for item in found} == {"text"}


def test_inline_rows_are_keyed_by_field_names_at_any_depth():
    found = record_set(document(recordSet=[SPLITS]))
    assert found.data is not None
    assert found.data.rows == ({"name": "train"}, {"name": "test"})
    assert (found.fields[0].source, found.fields[0].name) == (None, "name")
    place = {
        "@type": "cr:Field",
        "@id": "s/at",
        "subField": [{"@type": "cr:Field", "@id": "s/at/x", "dataType": "sc:Float"}],
    }
    nested = {"@type": "cr:RecordSet", "@id": "s", "field": [place], "data": [{"s/at": {"s/at/x": 1.5}}, {"at": None}]}
    inline = record_set(document(recordSet=[nested])).data
    assert inline is not None
    assert inline.rows == ({"at": {"x": 1.5}}, {"at": None})


def test_enumerations_and_live_datasets_are_known_and_the_rest_is_carried():
    body = document(recordSet=[SPLITS | {"dataType": "sc:Enumeration"}]) | {
        "isLiveDataset": True,
        "license": "CC0-1.0",
        "rai:dataBiases": "some",
    }
    found = parse_croissant(body, origin="c")
    assert (found.is_live, found.record_sets[0].is_enumeration) == (True, True)
    assert found.metadata == {"sc:name": "digits", "sc:license": "CC0-1.0", "rai:dataBiases": "some"}

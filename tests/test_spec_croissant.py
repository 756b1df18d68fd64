"""Croissant: every spelling of one dataset gives one model; what we do not read is kept as a reason, never guessed."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coralord_lightning.errors import CroissantSyntaxError
from coralord_lightning.spec.croissant import CroissantDataset, Field, RecordSet, parse_croissant
from coralord_lightning.spec.selection import FileSet

SHA = "0123456789abcdef" * 4
SPLITS = {
    "@type": "cr:RecordSet",
    "@id": "splits",
    "dataType": "cr:Split",
    "key": {"@id": "splits/name"},
    "field": [{"@type": "cr:Field", "@id": "splits/name", "dataType": "sc:Text"}],
    "data": [{"splits/name": "train"}, {"splits/name": "test"}],
}


def column(name: str, /, data_type: object = "sc:Integer", **more: object) -> dict[str, object]:
    return {
        "@type": "cr:Field",
        "@id": f"digits/{name}",
        "name": name,
        "dataType": data_type,
        "source": {"fileObject": {"@id": "table"}, "extract": {"column": name}},
    } | more


def document(*fields: dict[str, object], **changes: object) -> dict[str, object]:
    """A dataset of one Parquet file; without a context, so that standard terms hold."""
    return {
        "@type": "sc:Dataset",
        "name": "digits",
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": "table",
                "contentUrl": "digits.parquet",
                "encodingFormat": "application/x-parquet",
                "sha256": SHA,
            }
        ],
        "recordSet": [{"@type": "cr:RecordSet", "@id": "digits", "field": list(fields) or [column("label")]}],
    } | changes


def outcome(value: object) -> CroissantDataset | CroissantSyntaxError:
    """A dataset or the error that a user meets; any other exception passes."""
    try:
        return parse_croissant(value, origin="c")
    except CroissantSyntaxError as error:
        return error


def record_set(value: dict[str, object], index: int = 0) -> RecordSet:
    return parse_croissant(value, origin="croissant.json").record_sets[index]


def field(value: dict[str, object]) -> Field:
    return record_set(document(value)).fields[0]


def file_of(**changes: object):
    base = document()
    base["distribution"][0] |= changes  # type: ignore[index]
    base["distribution"][0] = {key: item for key, item in base["distribution"][0].items() if item is not None}  # type: ignore[index]
    return parse_croissant(base, origin="croissant.json").files["table"]


def _respelt(value: object, terms: dict[str, str]) -> object:
    if isinstance(value, dict):
        return {terms.get(key, key): _respelt(item, terms) for key, item in value.items()}
    if isinstance(value, list):
        return [_respelt(item, terms) for item in value]
    return value


_CR = ["recordSet", "field", "dataType", "source", "fileObject", "extract", "column", "isArray", "arrayShape"]
_SC = ["name", "distribution", "contentUrl", "encodingFormat", "sha256"]
_BASE = document(column("image", "cr:UInt8", isArray=True, arrayShape="8,8"), column("label"))
_INLINE = {"sc": "https://schema.org/", "cr": "http://mlcommons.org/croissant/", "@vocab": "https://schema.org/"}


@pytest.mark.parametrize(
    ("context", "terms"),
    [
        ("http://mlcommons.org/croissant/1.1", {}),
        (["http://mlcommons.org/croissant/1.0", {"@language": "en"}], {}),
        (_INLINE | {term: f"cr:{term}" for term in _CR}, {}),
        (
            _INLINE
            | {"sc": "http://schema.org/", "@vocab": "http://schema.org/"}
            | {term: f"cr:{term}" for term in _CR},
            {},
        ),
        (_INLINE | {term: {"@id": f"cr:{term}", "@type": "@vocab"} for term in _CR}, {}),
        (_INLINE, {term: f"cr:{term}" for term in _CR} | {term: f"sc:{term}" for term in _SC}),
        ({}, {term: f"http://mlcommons.org/croissant/{term}" for term in _CR} | {"name": "https://schema.org/name"}),
        (_INLINE | {f"my{term}": f"cr:{term}" for term in _CR}, {term: f"my{term}" for term in _CR}),
        (_INLINE | {"ml": "http://mlcommons.org/croissant/"}, {term: f"ml:{term}" for term in _CR}),
    ],
)
def test_every_spelling_of_terms_gives_one_model(context, terms):
    spelt = _respelt(_BASE, terms) | {"@context": context}
    assert parse_croissant(spelt, origin="c") == parse_croissant(_BASE, origin="c")


def test_a_term_that_the_context_does_not_define_is_refused():
    context = _INLINE | {term: f"cr:{term}" for term in _CR if term != "source"}
    with pytest.raises(CroissantSyntaxError) as caught:
        parse_croissant(_BASE | {"@context": context}, origin="c")
    assert caught.value.remedy == '"@context": {"source": "cr:source"}'


def test_what_the_first_contexts_forgot_is_read_all_the_same():
    context = _INLINE | {term: f"cr:{term}" for term in _CR if term not in ("isArray", "arrayShape")}
    assert parse_croissant(_BASE | {"@context": context}, origin="c") == parse_croissant(_BASE, origin="c")


def test_one_value_and_a_list_of_one_are_the_same():
    listed = document(column("label", ["sc:Integer"]))
    single = document(column("label"))
    single["distribution"] = single["distribution"][0]  # type: ignore[index]
    single["recordSet"] = single["recordSet"][0] | {"field": column("label")}  # type: ignore[index]
    assert parse_croissant(single, origin="c") == parse_croissant(listed, origin="c")


@pytest.mark.parametrize(
    ("said", "dtype"),
    [
        ("sc:Text", "text"), ("sc:URL", "text"), ("Text", "text"), ("https://schema.org/Text", "text"),
        ("http://schema.org/Boolean", "bool"), ("sc:Integer", "integer"), ("sc:Float", "float"), ("sc:Date", "date"),
        ("sc:DateTime", "timestamp"), ("sc:Time", "time"), ("cr:Int8", "int8"), ("cr:UInt64", "uint64"),
        ("cr:Float16", "float16"), ("http://mlcommons.org/croissant/Float32", "float32"),
        (["sc:Text", "sc:name"], "text"), (["sc:URL", "wd:Q48277"], "text"), (["sc:URL", "sc:Text"], "text"),
    ],
)  # fmt: skip
def test_data_types_have_one_name_each(said, dtype):
    found = field(column("x", said))
    assert (found.dtype, found.unsupported) == (dtype, ())


@pytest.mark.parametrize(
    ("more", "shape"),
    [
        ({}, ()), ({"isArray": True, "arrayShape": "8,8"}, (8, 8)), ({"isArray": True, "arrayShape": "[8, 8]"}, (8, 8)),
        ({"isArray": True, "arrayShape": "(8,)"}, (8,)), ({"isArray": True, "arrayShape": [2, 3]}, (2, 3)),
        ({"isArray": True, "arrayShape": 5}, (5,)), ({"isArray": True, "arrayShape": "-1,3"}, (-1, 3)),
        ({"repeated": True}, (-1,)), ({"isArray": True}, (-1,)), ({"isArray": False, "repeated": True}, ()),
        ({"repeated": "true"}, (-1,)), ({"isArray": "false"}, ()),
    ],
)  # fmt: skip
def test_arrays_have_shapes_in_every_spelling(more, shape):
    assert field(column("x", **more)).shape == shape


@pytest.mark.parametrize("said", ["a,b,c", "", "8,,8", "0", "-2", "8x8", [], {}])
def test_a_shape_that_is_none_is_refused(said):
    with pytest.raises(CroissantSyntaxError, match="arrayShape"):
        field(column("x", isArray=True, arrayShape=said))


@pytest.mark.parametrize(
    ("said", "format_"),
    [
        ("application/x-parquet", "parquet"), ("application/vnd.apache.parquet", "parquet"), ("text/csv", "csv"),
        ("text/csv; charset=utf-8", "csv"), ("text/tab-separated-values", "tsv"), ("text/tsv", "tsv"),
        ("application/jsonlines", "jsonl"), ("application/x-ndjson", "jsonl"), (["text/csv", "text/x-odd"], "csv"),
    ],
)  # fmt: skip
def test_formats_are_read_under_all_their_names(said, format_):
    assert file_of(encodingFormat=said).value.format == format_


@pytest.mark.parametrize(
    ("changes", "needs"),
    [
        ({"encodingFormat": "application/zip"}, "encodingFormat application/zip"),
        ({"encodingFormat": None}, "encodingFormat left out"),
        ({"encodingFormat": ["text/csv", "text/tsv"]}, "encodingFormat text/csv, text/tsv"),
        ({"contentUrl": "data.csv.gz"}, "compressed files"),
        ({"contentUrl": "s3://bucket/data.parquet"}, "addresses of the kind s3:"),
        ({"sha256": None, "md5": "9a475053fed0c26ee95cd4525e50074c"}, "md5 without sha256"),
        ({"containedIn": {"@id": "table"}}, "containedIn"),
    ],
)
def test_an_unread_file_is_kept_with_its_reason(changes, needs):
    found = file_of(**changes)
    assert found.value is None
    assert any(reason.startswith(needs) for reason in found.unsupported)


@pytest.mark.parametrize(
    ("said", "sha256"),
    [
        (SHA, SHA),
        (SHA.upper(), SHA),
        ("ASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4mrze8=", SHA),
        ("https://github.com/mlcommons/croissant/issues/80", None),
        (None, None),
    ],
)
def test_hashes_are_hex_and_placeholders_are_none(said, sha256):
    assert file_of(sha256=said).value.sha256 == sha256


def test_a_file_set_has_patterns():
    items = {
        "@type": "cr:FileSet",
        "@id": "table",
        "encodingFormat": "text/csv",
        "includes": "a/*.csv",
        "excludes": ["a/x*"],
    }
    found = parse_croissant(document(distribution=[items]), origin="c").files["table"]
    assert found.value == FileSet(id="table", format="csv", includes=("a/*.csv",), excludes=("a/x*",))
    packed = items | {"includes": ["a.csv.gz"], "encodingFormat": "text/plain"}
    assert len(parse_croissant(document(distribution=[packed]), origin="c").files["table"].unsupported) == 2


@pytest.mark.parametrize(
    ("more", "needs"),
    [
        ({"dataType": "sc:ImageObject"}, "images"),
        ({"dataType": "cr:BoundingBox"}, "data type cr:BoundingBox"),
        ({"dataType": None}, "a field without dataType"),
        ({"dataType": ["sc:Text", "sc:Integer"]}, "several data types"),
        ({"subField": []}, "subField"),
        ({"value": 3}, "value"),
        ({"source": [{"fileObject": {"@id": "table"}}]}, "several sources"),
        ({"source": "digits/other"}, "a source that is another field"),
        ({"source": {"field": {"@id": "digits/other"}}}, "a source that is no file"),
        ({"source": {"fileObject": {"@id": "table"}}}, "a source without extract"),
        ({"source": {"fileObject": {"@id": "table"}, "extract": {"jsonPath": "$.a"}}}, "extract.jsonPath"),
        ({"source": {"fileObject": "table", "extract": {"fileProperty": "content"}}}, "extract.fileProperty"),
        (
            {"source": {"fileObject": "table", "extract": {"column": "x"}, "transform": {"regex": "."}}},
            "source.transform",
        ),
        ({"source": None, "references": {"field": {"@id": "o/x"}}}, "references without a source (a join with o/x)"),
    ],
)
def test_an_unread_field_is_kept_with_its_reason(more, needs):
    value = {key: item for key, item in (column("x") | more).items() if item is not None}
    assert any(reason.startswith(needs) for reason in field(value).unsupported)


def test_a_field_knows_that_it_is_a_split():
    typed = column("part", ["sc:Text", "cr:Split"])
    referring = column("part", "sc:Text", references={"field": {"@id": "splits/name"}})
    plain = column("part", "sc:Text", references={"@id": "other/name"})
    alone = column("part", "cr:Split")
    found = [
        record_set(document(recordSet=[SPLITS, document(item)["recordSet"][0]]), 1).fields[0]  # type: ignore[index]
        for item in (typed, referring, plain, alone)
    ]
    assert [(item.is_split, item.dtype) for item in found] == [(True, "text")] * 2 + [(False, "text"), (True, "text")]


def test_inline_rows_are_keyed_by_field_names():
    found = record_set(document(recordSet=[SPLITS]))
    assert found.data is not None
    assert found.data.rows == ({"name": "train"}, {"name": "test"})
    assert (found.fields[0].file, found.fields[0].column) == (None, "name")


@pytest.mark.parametrize(
    ("said", "key"),
    [
        ({"@id": "digits/label"}, ("label",)),
        ({"@id": "label"}, ("label",)),
        ("digits/label", ("label",)),
        ([{"@id": "digits/label"}], ("label",)),
        (None, ()),
        ({"@id": "nowhere"}, None),
        ({"@id": 3}, None),
    ],
)
def test_keys_are_resolved_to_names(said, key):
    base = document()
    base["recordSet"][0]["key"] = said  # type: ignore[index]
    assert record_set(base).key == key


def test_names_in_several_languages_are_one_name():
    for said in ({"de": "Alter", "en": "age"}, [{"@value": "age", "@language": "en"}], {"@value": "age"}, "digits/age"):
        assert field(column("x", name=said)).name == "age"
    context = {"@context": {"@language": "de"}}
    assert record_set(document(column("x", name={"de": "Alter", "en": "age"})) | context).fields[0].name == "Alter"


@pytest.mark.parametrize(
    "broken",
    [
        [],
        "text",
        {},
        {"@type": "sc:Person"},
        {"@graph": []},
        document(distribution=[{"@type": "cr:FileObject", "contentUrl": "x"}]),
        document(distribution=[3]),
        document(distribution=[{"@type": "cr:FileSet", "@id": "table"}]),
        document(distribution=[{"@type": "cr:FileSet", "@id": "table", "includes": [3]}]),
        document(distribution=document()["distribution"] * 2),  # type: ignore[operator]
        document(column("a\0b")),
        document(column("\ud800")),
        document() | {"\udc00": 1},
        document(recordSet=[{"@type": "cr:RecordSet"}]),
        document(recordSet=[{"@type": "sc:Thing", "@id": "x"}]),
        document(recordSet=[SPLITS | {"data": [3]}]),
        document(recordSet=[SPLITS | {"data": [{"splits/nmae": "x"}]}]),
        document({"@type": "cr:Field", "@id": "digits/x", "dataType": "sc:Text"}),
        document({"@type": "cr:Field", "dataType": "sc:Text"}),
        document(column("x", source={"fileObject": {"@id": "nowhere"}, "extract": {"column": "x"}})),
        document(distribution=[document()["distribution"][0] | {"sha256": "abc"}]),  # type: ignore[index]
    ],
)
def test_what_is_no_croissant_is_refused_with_a_remedy(broken):
    if "@graph" in broken:
        broken = document() | broken
    with pytest.raises(CroissantSyntaxError) as caught:
        parse_croissant(broken, origin="croissant.json")
    assert caught.value.remedy


def test_absurd_nesting_is_refused():
    deep: object = "x"
    for _ in range(5_000):
        deep = [deep]
    with pytest.raises(CroissantSyntaxError, match="nested deeper"):
        parse_croissant(document() | {"keywords": deep}, origin="c")


_JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-2, 9), st.text(max_size=5), st.sampled_from(["table", "cr:Field"])
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["@id", "@type", "@value", "x", "cr:key"]), inner)
    ),
    max_leaves=6,
)


def _paths(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, item in items for found in _paths(item, (*path, key)))]


_WHOLE = _BASE | {"recordSet": [*_BASE["recordSet"], SPLITS], "@context": {"@vocab": "x", "a": {"@id": "b"}, "b": "a"}}  # type: ignore[misc]
_WHOLE = _respelt(_WHOLE, {term: f"cr:{term}" for term in [*_CR, "key", "data"]})


@settings(deadline=None, max_examples=400)
@given(st.data(), _JSON)
def test_any_change_to_a_dataset_is_read_or_refused_with_a_remedy(data, junk):
    changed = copy.deepcopy(_WHOLE)
    path = data.draw(st.sampled_from(_paths(_WHOLE)[1:]))
    at = changed
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = junk
    found = outcome(changed)
    assert found.remedy if isinstance(found, CroissantSyntaxError) else found.origin == "c"

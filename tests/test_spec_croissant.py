"""Croissant: every spelling of one dataset gives one model; what we do not read is kept as a reason, never guessed."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coralord_lightning.errors import CroissantSyntaxError
from coralord_lightning.spec.croissant import CroissantDataset, parse_croissant
from croissants import SPLITS, column, document, field, record_set


def outcome(value: object) -> CroissantDataset | CroissantSyntaxError:
    """A dataset or the error that a user meets; any other exception passes."""
    try:
        return parse_croissant(value, origin="c")
    except CroissantSyntaxError as error:
        return error


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

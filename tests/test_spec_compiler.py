"""The compiler: names resolved, splits checked, and every refusal with the line to change."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coralord_lightning.errors import (
    CoralError,
    CroissantSyntaxError,
    DescriptorValueError,
    PredicateError,
    SplitError,
    UnknownFieldError,
    UnknownRecordSetError,
    UnsupportedCroissantError,
)
from coralord_lightning.spec.compiler import compile_selection
from coralord_lightning.spec.croissant import parse_croissant
from coralord_lightning.spec.descriptor import descriptor_from_mapping, parse_descriptor
from coralord_lightning.spec.predicate import equals, parse_predicate
from coralord_lightning.spec.selection import FileObject, InlineData, OrderKey, SelectedField, Selection, SplitRule

GOLDEN = Path(__file__).parent / "golden" / "spec"
TYPES = {"id": "cr:Int64", "image": "cr:UInt8", "label": "sc:Integer", "part": "sc:Text", "score": "sc:Float"}


def field(name: str, data_type: object, file: str = "table", **more: object) -> dict[str, object]:
    source = {"fileObject": {"@id": file}, "extract": {"column": f"c_{name}"}}
    return {"@type": "cr:Field", "@id": f"digits/{name}", "dataType": data_type, "source": source} | more


def dataset(*more: dict[str, object], key: object = None, others: list[object] | None = None, split: bool = False):
    fields = [field(name, said) for name, said in TYPES.items()]
    fields[1] |= {"isArray": True, "arrayShape": "8,8"}
    if split:
        fields[3] |= {"dataType": ["sc:Text", "cr:Split"], "references": {"field": {"@id": "splits/name"}}}
    file = {"@type": "cr:FileObject", "encodingFormat": "text/csv", "contentUrl": "x.csv"}
    digits = {"@type": "cr:RecordSet", "@id": "digits", "name": "The digits", "field": [*fields, *more], "key": key}
    files = [
        file | {"@id": "table"},
        file | {"@id": "other"},
        file | {"@id": "zip", "encodingFormat": "application/zip"},
    ]
    body = {"@type": "sc:Dataset", "distribution": files, "recordSet": [digits, *(others or [])]}
    return parse_croissant(body, origin="croissant.json")


SPLITS = {
    "@type": "cr:RecordSet",
    "@id": "splits",
    "dataType": "cr:Split",
    "field": [{"@type": "cr:Field", "@id": "splits/name", "dataType": "sc:Text"}],
    "data": [{"name": "train"}, {"name": "test"}],
}


def compiled(croissant=None, **keys: object) -> Selection:
    keys = {"name": "a", "croissant": "c.json", **keys}
    descriptor = descriptor_from_mapping(keys, origin="descriptor", base_dir=Path())
    return compile_selection(descriptor, croissant or dataset())


def refused(error: type[CoralError], croissant=None, **keys: object) -> CoralError:
    with pytest.raises(error) as caught:
        compiled(croissant, **keys)
    assert caught.value.remedy
    return caught.value


def test_nothing_asked_is_everything_in_one_split():
    selection = compiled()
    assert [item.name for item in selection.fields] == list(TYPES)
    assert selection.fields[1] == SelectedField(name="image", column="c_image", dtype="uint8", shape=(8, 8))
    assert selection.distribution == FileObject(id="table", content_url="x.csv", format="csv")
    assert selection.splits == (SplitRule(name="train"),)
    assert (selection.helpers, selection.where, selection.order_by, selection.split_key) == ((), None, (), ())


def test_a_list_of_fields_keeps_its_order_and_a_mapping_takes_the_files_order():
    assert [item.name for item in compiled(fields=["part", "id"]).fields] == ["part", "id"]
    assert [item.name for item in compiled(fields={"part": {}, "id": None}).fields] == ["id", "part"]
    assert compiled(fields=["digits/label"]).fields[0].name == "label"


def test_fields_that_only_rules_need_are_helpers():
    selection = compiled(
        fields=["label"],
        where="score > 0.5",
        order_by=["id desc", "label"],
        splits={"test": {"where": "part = 'test'"}, "train": {"from": "rest", "fraction": 0.5}},
        split_key="id",
        limit=10,
    )
    assert [item.name for item in selection.fields] == ["label"]
    assert [item.name for item in selection.helpers] == ["id", "part", "score"]
    assert selection.order_by == (OrderKey(field="id", descending=True), OrderKey(field="label"))
    assert (selection.split_key, selection.limit) == (("id",), 10)
    assert selection.where == parse_predicate("score > 0.5", subject="where", fields={"score": "float"})


def test_record_sets_are_found_by_id_by_name_or_alone():
    both = dataset(others=[SPLITS])
    for name in ("digits", "The digits"):
        assert compiled(both, record_set=name).record_set == "digits"
    assert compiled(record_set=None).record_set == "digits"
    assert compiled(both, record_set="splits").distribution == InlineData(rows=({"name": "train"}, {"name": "test"}))
    assert compiled(both).record_set == "digits"  # rows in the description itself are a list of splits or classes
    again = {"@type": "cr:RecordSet", "@id": "again", "field": [field("label", "sc:Integer")]}
    error = refused(UnknownRecordSetError, dataset(others=[again]))
    assert error.remedy == "record_set: digits"
    assert refused(UnknownRecordSetError, both, record_set="digit").remedy == "record_set: digits"
    empty = parse_croissant({"@type": "sc:Dataset"}, origin="c")
    refused(CroissantSyntaxError, empty)


def test_inline_rows_keep_the_used_columns_only():
    rows = {"@type": "cr:RecordSet", "@id": "rows", "data": [{"a": 1, "b": 2}, {"b": 3}]}
    rows["field"] = [{"@type": "cr:Field", "@id": f"rows/{name}", "dataType": "sc:Integer"} for name in "ab"]
    found = compiled(dataset(others=[rows]), record_set="rows", fields=["a"])
    assert found.distribution == InlineData(rows=({"a": 1}, {}))


def test_unknown_fields_come_back_corrected():
    assert refused(UnknownFieldError, fields=["image", "lable"]).remedy == "fields: [image, label]"
    assert refused(UnknownFieldError, fields={"image": {}, "lable": {}}).remedy == "fields: {image: {}, label: {}}"
    assert refused(UnknownFieldError, order_by=["lable desc"]).remedy == "order_by: [label desc]"
    assert refused(UnknownFieldError, split_key=["idd"]).remedy == "split_key: [id]"
    assert refused(UnknownFieldError, where="lable = 3").remedy == 'where: "label = 3"'
    assert "id, image, label" in refused(UnknownFieldError, fields=["nothing"]).remedy


def test_two_fields_of_one_name_are_ambiguous_only_when_asked_for():
    twice = dataset(field("other/label", "sc:Text"))
    assert compiled(twice, fields=["id"]).fields[0].name == "id"
    for keys in ({"fields": ["label"]}, {"order_by": ["label"]}, {"where": "label = 3"}, {"fields": ["digits/label"]}):
        refused(DescriptorValueError, twice, **keys)


def test_unread_parts_of_croissant_are_refused_only_when_reached():
    path = {"source": {"fileObject": {"@id": "table"}, "extract": {"jsonPath": "$.a"}}}
    odd = dataset(field("photo", "sc:Thing"), field("packed", "sc:Integer", **path))
    assert compiled(odd, fields=["label"], where="label = 3")
    error = refused(UnsupportedCroissantError, odd)
    assert (error.subject, error.facts["needs"]) == ("field digits/photo", "data type sc:Thing")
    assert error.remedy == "fields: [id, image, label, part, score]"
    assert "encodingFormat text/csv" in refused(UnsupportedCroissantError, odd, fields=["packed"]).facts["needs"]
    refused(UnsupportedCroissantError, odd, fields=["label"], where="packed = 3")
    only = {"@type": "cr:RecordSet", "@id": "only", "field": [field("photo", "sc:Thing")]}
    assert "Parquet" in refused(UnsupportedCroissantError, dataset(others=[only]), record_set="only").remedy
    packed = {"@type": "cr:RecordSet", "@id": "only", "field": [field("x", "sc:Text", "zip")]}
    error = refused(UnsupportedCroissantError, dataset(others=[packed]), record_set="only")
    assert "encodingFormat application/zip" in error.facts["needs"]


def test_fields_of_two_files_that_are_not_joined_are_refused_naming_the_record_set():
    apart = dataset(field("city", "sc:Text", "other"))
    error = refused(CroissantSyntaxError, apart)
    assert (error.subject, error.facts["files"]) == ("record set digits", "table, other")
    refused(CroissantSyntaxError, apart, fields=["label"])


def test_arrays_have_no_order_and_are_no_keys():
    refused(DescriptorValueError, order_by=["image"])
    half = {"train": {"from": "rest", "fraction": 0.5}}
    assert refused(SplitError, splits=half, split_key=["image"]).remedy == "split_key: [id]"
    refused(SplitError, splits=half, split_key=["score"])


def test_fractions_are_exact_and_sorted_by_name():
    splits = {
        name: {"from": "rest", "fraction": share} for name, share in (("val", 0.1), ("train", 0.7), ("test", 0.2))
    }
    rules = compiled(splits=splits).splits
    assert [rule.name for rule in rules] == ["test", "train", "val"]
    edges = [0, int(Fraction(2, 10) * 2**64), int(Fraction(9, 10) * 2**64), 2**64]
    assert [rule.bounds for rule in rules] == list(itertools.pairwise(edges))
    assert all(rule.claims is None and rule.of is None for rule in rules)


def test_fractions_above_everything_are_refused():
    splits = {"train": {"from": "rest", "fraction": 0.9}, "val": {"from": "rest", "fraction": 0.2}}
    error = refused(SplitError, splits=splits)
    assert "add up to 1.1" in error.message
    refused(SplitError, splits={"train": {"from": "rest"}, "val": {"from": "rest", "fraction": 0.2}})
    assert compiled(splits={"train": {"from": "rest"}}).splits == (SplitRule(name="train", bounds=(0, 2**64)),)


def test_croissant_splits_claim_rows_and_can_be_divided():
    croissant = dataset(others=[SPLITS], split=True)
    splits = {
        "test": {"source": "test"},
        "train": {"from": "train", "fraction": 0.5},
        "val": {"from": "train", "fraction": 0.5},
    }
    rules = compiled(croissant, record_set="digits", splits=splits).splits
    train = equals("part", "train")
    assert rules == (
        SplitRule(name="test", claims=equals("part", "test")),
        SplitRule(name="train", of=train, bounds=(0, 2**63)),
        SplitRule(name="val", of=train, bounds=(2**63, 2**64)),
    )
    error = refused(SplitError, croissant, record_set="digits", splits={"a": {"source": "tset"}})
    assert (error.remedy, error.facts["splits"]) == ("source: test", "test, train")
    error = refused(SplitError, croissant, record_set="digits", splits={"a": {"from": "tran", "fraction": 0.5}})
    assert error.remedy == "from: train"


def test_croissant_splits_need_one_split_field():
    error = refused(SplitError, splits={"test": {"source": "test"}})
    assert error.remedy == "test: {where: \"part = 'test'\"}"
    two = dataset(field("fold", "cr:Split"), split=True, others=[SPLITS])
    refused(SplitError, two, splits={"test": {"source": "test"}})
    unlisted = dataset(field("fold", "cr:Split"))
    assert compiled(unlisted, splits={"test": {"source": "any"}}).splits[0].claims == equals("fold", "any")


@pytest.mark.parametrize(
    "splits",
    [
        {"a": {"where": "label = 3"}, "b": {"where": "(label=3)"}},
        {"a": {"source": "test"}, "b": {"source": "test"}},
        {"a": {"source": "test"}, "b": {"where": "part = 'test'"}},
        {"a": {"source": "test"}, "b": {"from": "test", "fraction": 0.5}},
        {"a": {}, "b": {"where": "label = 3"}},
        {"a": None, "b": {}},
        {"a": {}, "b": {"from": "rest", "fraction": 0.5}},
    ],
)
def test_splits_that_are_bound_to_overlap_are_refused(splits):
    error = refused(SplitError, dataset(others=[SPLITS], split=True), record_set="digits", splits=splits)
    assert "split" in error.message


def test_one_split_may_take_everything():
    assert compiled(splits={"all": {}}).splits == (SplitRule(name="all"),)


def test_the_key_of_the_record_set_keys_fractions_only():
    half = {"train": {"from": "rest", "fraction": 0.5}}
    keyed = dataset(key={"@id": "digits/id"})
    assert compiled(keyed).split_key == ()
    assert compiled(keyed, split_key=["part"]).split_key == ()
    assert compiled(keyed, splits={"train": {"from": "rest", "fraction": 1}}).split_key == ()
    assert compiled(keyed, splits=half).split_key == ("id",)
    assert compiled(keyed, splits=half, split_key=["part", "id"]).split_key == ("part", "id")
    assert compiled(splits=half).split_key == ()
    lost = dataset(key={"@id": "digits/nothing"})
    assert refused(SplitError, lost, splits=half).remedy == "split_key: [id]"
    assert compiled(lost, splits=half, split_key=["label"]).split_key == ("label",)


def test_predicates_see_kinds():
    refused(PredicateError, where="label = '3'")
    refused(PredicateError, where="image = 3")
    assert compiled(where="image IS NOT NULL").helpers == ()


_MISTAKES = {
    "fields": "fields: [image, lable]",
    "where": "where: lable = 3",
    "where in a split": "splits:\n  test: {where: \"parts = 'test'\"}\n  train: {from: rest, fraction: 0.9}",
    "kinds": "where: part = 3",
    "record set": "record_set: digit",
    "order": "order_by: [image]",
    "sum": "splits:\n  train: {from: rest, fraction: 0.9}\n  val: {from: rest, fraction: 0.2}",
    "same rows": "splits:\n  a: {where: label = 3}\n  b: {where: (label=3)}",
    "everything": "splits:\n  a: {}\n  b: {where: label = 3}",
    "no split field": "splits:\n  a: {source: test}",
    "type": "fields: [photo]",
    "join": "record_set: digits\nfields: [label, city]",
    "key": "split_key: [score]\nsplits:\n  train: {from: rest, fraction: 0.9}",
}


def test_every_mistake_names_its_line():
    plain = dataset(field("photo", "sc:Thing"))
    apart = dataset(field("city", "sc:Text", "other"))
    shown = []
    for name, mistake in _MISTAKES.items():
        fields = "" if "fields" in mistake else "fields: [label]\n"
        text = f"name: a\ncroissant: c.json\n{fields}{mistake}\n"
        descriptor = parse_descriptor(text, origin="digits.yaml", base_dir=Path())
        with pytest.raises(CoralError) as caught:
            compile_selection(descriptor, apart if name == "join" else plain)
        assert caught.value.facts["at"].startswith("digits.yaml:"), name
        shown.append(f"# {name}\n{caught.value}")
    assert "\n\n".join(shown) + "\n" == (GOLDEN / "compiler_errors.txt").read_text(encoding="utf-8")


@settings(deadline=None, max_examples=100)
@given(
    st.dictionaries(st.sampled_from("abcdefg"), st.integers(1, 100), min_size=1, max_size=6),
    st.randoms(use_true_random=False),
)
def test_fractions_never_overlap_and_never_depend_on_their_order(shares, random):
    total = sum(shares.values())
    splits = {
        name: {"from": "rest", "fraction": round(share / (total + 1), 3) or 0.001} for name, share in shares.items()
    }
    shuffled = random.sample(sorted(splits), len(splits))
    try:
        rules = compiled(splits=splits).splits
    except SplitError:
        assert sum(Fraction(str(item["fraction"])) for item in splits.values()) > 1
        return
    assert rules == compiled(splits={name: splits[name] for name in shuffled}).splits
    bounds = [rule.bounds for rule in rules if rule.bounds is not None]
    assert [low for low, _ in bounds] == [0, *[high for _, high in bounds[:-1]]]
    assert all(0 <= low < high <= 2**64 for low, high in bounds)

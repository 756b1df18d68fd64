"""Tables of a record set: which one its rows are, how others are joined, and what of a spelling never matters."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coralord_lightning.errors import CroissantSyntaxError
from coralord_lightning.spec.compiler import compile_selection
from coralord_lightning.spec.croissant import parse_croissant
from coralord_lightning.spec.descriptor import descriptor_from_mapping
from coralord_lightning.spec.selection import FileObject, InlineData, Reading, Selection, Transform
from records import Json, column, field, file, path, prop, record_set, refers


def body(*record_sets: Json, files: str = "abc", format_: str = "text/csv") -> Json:
    ending = {"text/csv": "csv", "application/json": "json"}.get(format_, "bin")
    distribution = [file(name, f"{name}.{ending}", format_) for name in files]
    return {"@type": "sc:Dataset", "name": "x", "distribution": distribution, "recordSet": list(record_sets)}


def compiled(document: Json, **keys: Any) -> Selection:
    asked = {"name": "x", "croissant": "c.json", "record_set": document["recordSet"][-1]["@id"], **keys}
    descriptor = descriptor_from_mapping(asked, origin="descriptor", base_dir=Path())
    return compile_selection(descriptor, parse_croissant(document, origin="c.json"))


def table(name: str, *more: Json) -> Json:
    """A record set of the file of that name, with a key `k` and a value `v`."""
    key = field(f"r{name}/k", "sc:Text", (name, column("k")))
    return record_set(f"r{name}", key, field(f"r{name}/v", "sc:Text", (name, column("v"))), *more)


def ways(selection: Selection) -> list[tuple[str, str, str, str, str]]:
    """Alias, file, and both keys of each join."""
    return [
        (join.alias, join.distribution.id, join.on[0].table, join.on[0].column, join.on[1].column)  # type: ignore[union-attr]
        for join in selection.joins
    ]


MAIN = record_set(
    "main",
    field("main/b", "sc:Text", ("a", column("b")), **refers("rb/k")),
    field("main/c", "sc:Text", ("a", column("c")), **refers("rc/k")),
    field("main/vb", "sc:Text", "rb/v"),
    field("main/vc", "sc:Text", "rc/v"),
)


def test_the_rows_are_those_of_the_table_that_nothing_references():
    found = compiled(body(table("b"), table("c"), MAIN))

    assert isinstance(found.distribution, FileObject)
    assert found.distribution.id == "a"
    assert ways(found) == [("t1", "b", "", "b", "k"), ("t2", "c", "", "c", "k")]
    assert [(item.name, item.table) for item in found.fields] == [("b", ""), ("c", ""), ("vb", "t1"), ("vc", "t2")]


def test_a_table_may_be_reached_over_another():
    over = table("b", field("rb/c", "sc:Text", ("b", column("c")), **refers("rc/k")))
    main = record_set(
        "main", field("main/b", "sc:Text", ("a", column("b")), **refers("rb/k")), field("main/v", "sc:Text", "rc/v")
    )

    found = compiled(body(over, table("c"), main))

    assert ways(found) == [("t1", "b", "", "b", "k"), ("t2", "c", "t1", "c", "k")]
    assert found.fields[1].table == "t2"


def test_a_declared_key_is_joined_only_where_something_of_it_is_asked_for():
    keyed = [table(name) | {"key": {"@id": f"r{name}/k"}} for name in "bc"]

    assert [join.alias for join in compiled(body(*keyed, MAIN), fields=["b", "vc"]).joins] == ["t2"]
    assert compiled(body(*keyed, MAIN), fields=["b"]).joins == ()
    assert len(compiled(body(table("b"), table("c"), MAIN), fields=["b"]).joins) == 2  # its rows may be several


def test_references_to_inline_rows_are_joined():
    names = record_set(
        "names", field("names/k", "sc:Integer"), field("names/v", "sc:Text"), data=[{"k": 1, "v": "one"}]
    )
    main = record_set(
        "main",
        field("main/n", "sc:Integer", ("a", column("n")), **refers("names/k")),
        field("main/v", "sc:Text", "names/v"),
    )

    join = compiled(body(names, main)).joins[0]

    assert join.distribution == InlineData(rows=({"k": 1, "v": "one"},))
    assert (join.on[0].column, join.on[1].column) == ("n", "k")


def test_types_transforms_and_shapes_come_along_a_chain_of_fields():
    step = {"source": {"fileObject": {"@id": "a"}, "extract": column("x"), "transform": {"separator": ","}}}
    first = record_set("first", field("first/x", "sc:Text", **step, isArray=True))
    second = record_set("second", field("second/x", None, "first/x"))
    again = {"source": {"field": {"@id": "second/x"}, "transform": {"regex": "(.)"}}}
    third = record_set("third", field("third/x", None, **again))

    item = compiled(body(first, second, third)).fields[0]

    assert (item.dtype, item.shape, item.column) == ("text", (-1,), "x")
    assert item.transforms == (Transform(op="separator", argument=","), Transform(op="regex", argument="(.)"))


@pytest.mark.parametrize(
    ("fields", "reading"),
    [
        ([path("$.i[*].x"), path("$.i[*].y.z")], Reading(mode="rows", row_path="$['i'][*]")),
        ([column("x")], Reading(mode="rows", row_path="$[*]")),
        ([prop("lines"), prop("filename")], Reading(mode="lines")),
        ([prop("content"), prop("filename")], Reading(mode="files")),
        ([column("x"), prop("filename")], Reading(mode="rows", row_path="$[*]")),
    ],
)
def test_all_fields_decide_what_a_row_is_and_a_selection_of_them_does_not(fields, reading):
    every = [field(f"r/{at}", "sc:Text", ("a", said)) for at, said in enumerate(fields)]
    document = body(record_set("r", *every), format_="application/json")

    assert compiled(document).reading == reading
    assert compiled(document, fields=[str(len(fields) - 1)]).reading == reading


def test_fields_in_a_circle_are_refused_naming_one():
    circle = record_set("r", field("r/a", "sc:Text", "r/b"), field("r/b", "sc:Text", "r/a"))
    with pytest.raises(CroissantSyntaxError, match="comes from itself"):
        compiled(body(circle))


def test_tables_that_nothing_joins_are_refused_naming_the_record_set():
    apart = record_set("r", field("r/a", "sc:Text", ("a", column("x"))), field("r/b", "sc:Text", ("b", column("x"))))
    with pytest.raises(CroissantSyntaxError) as caught:
        compiled(body(apart))
    assert caught.value.subject == "record set r"
    assert caught.value.facts["files"] == "a, b"


def _shuffled(value: Any, how: random.Random) -> Any:
    if isinstance(value, dict):
        keys = list(value)
        how.shuffle(keys)
        return {key: _shuffled(value[key], how) for key in keys}
    return [_shuffled(item, how) for item in value] if isinstance(value, list) else value


WHOLE = body(
    table("b") | {"key": {"@id": "rb/k"}},
    record_set("parts", field("parts/name", "sc:Text"), data=[{"parts/name": "train"}], dataType="cr:Split"),
    record_set(
        "main",
        field("main/b", "sc:Text", ("a", column("b")), **refers("rb/k")),
        field("main/v", "sc:Text", "rb/v"),
        field("main/part", "sc:Text", ("a", column("part")), **refers("parts/name")),
        field("main/box", "cr:BoundingBox", ("a", column("box")), transform={"separator": " "}),
        {
            "@type": "cr:Field",
            "@id": "main/place",
            "subField": [field(f"main/place/{name}", "sc:Float", ("a", column(name))) for name in "xy"],
        },
    ),
)


@settings(deadline=None, max_examples=40)
@given(st.randoms(use_true_random=False))
def test_the_order_of_keys_never_changes_a_selection(how: random.Random):
    keys = {"where": "v <> 'x'", "order_by": ["part"], "splits": {"train": {"source": "train"}}}
    assert compiled(_shuffled(WHOLE, how), **keys) == compiled(WHOLE, **keys)


def _respelt(value: Any) -> Any:
    """`{"field": {"@id": x}}` as `{"@id": x}`, wherever a source or a reference says so."""
    if isinstance(value, list):
        return [_respelt(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: item["field"] if key in ("source", "references") and list(item) == ["field"] else _respelt(item)
        for key, item in value.items()
    }


def test_both_spellings_of_sources_and_references_are_one_selection():
    respelt = _respelt(WHOLE)
    assert respelt != WHOLE
    assert compiled(respelt) == compiled(WHOLE)

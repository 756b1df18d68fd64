"""Attacks by the Croissant document itself: its JSON, its JSON-LD, and circles within it."""

from __future__ import annotations

import json
from typing import Any

from hostile.cases import Ask, Place, add, case, document, file_object, file_set, record_set, source

from coralord_lightning.errors import (
    CroissantError,
    CroissantNotFoundError,
    CroissantSyntaxError,
    DescriptorValueError,
    ForbiddenSourceError,
    SourceError,
    UnknownRecordSetError,
    UnsupportedCroissantError,
)

TWO = [{"a": 1}, {"a": 2}]


def _with(**terms: Any) -> Any:
    """A fine dataset of one Parquet file, with more terms."""

    def lay(place: Place) -> Any:
        return document(file_object(place.parquet()), **{key: _filled(item, place) for key, item in terms.items()})

    return lay


def _filled(value: Any, place: Place) -> Any:
    text = json.dumps(value).replace("FORBIDDEN", place.forbidden).replace("OUTSIDE", str(place.outside))
    return json.loads(text)


def _nested(depth: int, key: str = "x") -> Any:
    return json.loads(f'{{"{key}": ' * depth + "1" + "}" * depth)


SAME = document()["@context"]

add("context-url", "@context is an address", _with(**{"@context": ["FORBIDDEN/context.jsonld", SAME]}), rows=TWO)
add("context-file", "@context is a local file", _with(**{"@context": ["file://OUTSIDE/canary.json", SAME]}), rows=TWO)
add("context-import", "@context imports", _with(**{"@context": {**SAME, "@import": "FORBIDDEN/c"}}), rows=TWO)
add("context-nested", "a @context further in", _with(creator={"@context": "FORBIDDEN/c", "name": "x"}), rows=TWO)
add(
    "context-scoped", "a context within a term",
    _with(**{"@context": {**SAME, "creator": {"@id": "sc:creator", "@context": "FORBIDDEN/c"}}}), rows=TWO,
)  # fmt: skip
add(
    "context-circle", "terms that mean each other",
    _with(**{"@context": {**SAME, "x": "y:z", "y": "x:z", "z": "z"}, "x:a": 1, "y:b": 2, "z": 3}), rows=TWO,
)  # fmt: skip
add(
    "context-growing", "a term that grows with each expansion",
    _with(**{"@context": {**SAME, "b": "b:" + "b" * 100_000}, "b:b": 1}), rows=TWO,
)  # fmt: skip
add(
    "context-takes-type", "@context makes @type mean something else",
    _with(**{"@context": {**SAME, "@type": "sc:contentUrl", "@id": "sc:name"}}), rows=TWO,
)  # fmt: skip
add(
    "context-only-address", "@context is only an address, and no standard one",
    _with(**{"@context": "FORBIDDEN/context.jsonld"}), rows=TWO,
)  # fmt: skip
add(
    "base",
    "@base points elsewhere",
    _with(**{"@base": "FORBIDDEN/", "@context": {**SAME, "@base": "FORBIDDEN/"}}),
    rows=TWO,
)
add(
    "same-as",
    "addresses in metadata",
    _with(url="FORBIDDEN/", sameAs="FORBIDDEN/", license="file://OUTSIDE/canary.txt"),
    rows=TWO,
)
add("graph", "@graph", _with(**{"@graph": []}), refused=CroissantSyntaxError)
add("metadata-deep", "metadata nested beyond sense", _with(creator=_nested(900)), refused=CroissantSyntaxError)
add("metadata-wide", "two million values", _with(keywords=list(range(2_100_000))), refused=CroissantSyntaxError)
add(
    "proto",
    "keys that mean something in other languages",
    _with(__proto__={"x": 1}, constructor=1, __class__="x"),
    rows=TWO,
)
add("nul", "a NUL in a name", _with(name="a\0b"), refused=CroissantSyntaxError)

TEXTS = {
    "deep": "[" * 100_000 + "]" * 100_000,
    "deep-objects": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "unclosed": "[" * 1_000_000,
    "number": '{"@type": ' + "9" * 100_000 + "}",
    "float": '{"@type": "sc:Dataset", "x": 1e999999}',
    "nan": '{"@type": "sc:Dataset", "x": NaN}',
    "surrogate": '{"@type": "sc:Dataset", "name": "\\ud800"}',
    "empty": "",
    "bom-only": "\ufeff",
    "html": "<html><script>alert(1)</script></html>",
    "yaml": "!!python/object/apply:os.system ['true']",
    "list": "[1, 2, 3]",
    "null": "null",
    "text": '"sc:Dataset"',
    "two": '{"@type": "sc:Dataset"}{"@type": "sc:Dataset"}',
    "comment": '{"@type": "sc:Dataset"} // x',
    "long-text": '{"@type": "' + "x" * 20_000_000 + '"}',
    "too-large": " " * (65 * 1024 * 1024) + "{}",
    "no-type": "{}",
    "other-type": '{"@type": "sc:Person"}',
    "type-of-numbers": '{"@type": [1, {}, null, [[]]]}',
    "latin": "\udce9",
}
for _name, _text in TEXTS.items():
    add(
        f"document-{_name}",
        f"the Croissant file is {_text[:40]!r}",
        lambda place, text=_text: text,
        refused=CroissantError,
    )

WRONG = {
    "distribution-number": {"distribution": 5},
    "distribution-text": {"distribution": ["x"]},
    "distribution-null": {"distribution": [None]},
    "distribution-itself": {"distribution": [{"@type": "sc:Dataset", "@id": "f"}]},
    "record-set-number": {"recordSet": 5},
    "record-set-empty": {"recordSet": []},
    "record-set-texts": {"recordSet": ["x"]},
    "field-text": {"recordSet": [{"@type": "cr:RecordSet", "@id": "r", "field": ["x"]}]},
    "field-number": {"recordSet": [{"@type": "cr:RecordSet", "@id": "r", "field": 7}]},
    "id-number": {"recordSet": [{"@type": "cr:RecordSet", "@id": 7}]},
    "id-object": {"recordSet": [{"@type": "cr:RecordSet", "@id": {"@id": "x"}}]},
    "name-objects": {"recordSet": [{"@type": "cr:RecordSet", "name": [{"@value": {}}]}]},
}
for _name, _terms in WRONG.items():
    add(f"wrong-{_name}", "a node of the wrong kind", _with(**_terms), refused=CroissantError)


def _object(**terms: Any) -> Any:
    return lambda place: document({**file_object(place.parquet()), **terms})


OBJECTS = {
    "url-number": {"contentUrl": 7},
    "url-object": {"contentUrl": {"@id": "../x"}},
    "url-list": {"contentUrl": ["../outside/canary.parquet", "a.parquet"]},
    "sha256-number": {"sha256": 7},
    "sha256-short": {"sha256": "abc"},
    "sha256-object": {"sha256": {"@value": 1}},
    "sha256-other-digits": {"sha256": "\u0661" * 64},
    "md5-list": {"md5": ["x"]},
    "format-unknown": {"encodingFormat": "application/x-python-pickle"},
    "format-sql": {"encodingFormat": "parquet'; COPY x TO 'y'; --"},
    "contained-in-itself": {"containedIn": {"@id": "f"}},
    "contained-in-nothing": {"containedIn": {"@id": "nothing"}},
    "contained-in-number": {"containedIn": 5},
    "type-dataset": {"@type": "sc:Dataset"},
}
for _name, _terms in OBJECTS.items():
    kinds = (CroissantError, SourceError)
    add(f"object-{_name}", f"a FileObject with {_terms}", _object(**_terms), refused=kinds)


@case("archives contained in each other", refused=CroissantSyntaxError)
def contained_in_a_circle(place: Place) -> Any:
    holders = [
        {"@type": "cr:FileObject", "@id": name, "contentUrl": f"{name}.zip", "encodingFormat": "application/zip",
         "containedIn": {"@id": other}}
        for name, other in (("f", "g"), ("g", "h"), ("h", "f"))
    ]  # fmt: skip
    return document(holders)


@case("a hundred archives within each other", refused=CroissantSyntaxError)
def contained_in_a_hundred(place: Place) -> Any:
    holders = [
        {"@type": "cr:FileObject", "@id": name, "contentUrl": "x.zip", "encodingFormat": "application/zip",
         **({"containedIn": {"@id": f"z{number - 1}"}} if number else {})}
        for number, name in enumerate([*(f"z{number}" for number in range(100)), "f"])
    ]  # fmt: skip
    return document(holders)


@case("two files of one @id", refused=CroissantSyntaxError)
def files_of_one_id(place: Place) -> Any:
    return document([file_object(place.parquet()), file_object("/etc/passwd")])


@case("two record sets of one @id", refused=(CroissantError, UnknownRecordSetError))
def record_sets_of_one_id(place: Place) -> Any:
    return Ask(croissant=document(file_object(place.parquet()), record_set("a"), record_set("a")))


@case("two fields of one @id", refused=(CroissantError, DescriptorValueError))
def fields_of_one_id(place: Place) -> Any:
    return document(file_object(place.parquet(a=[1], b=[2])), record_set("a", ("a", "sc:Integer", source("b"))))


@case("fields that come from each other", refused=CroissantSyntaxError)
def sources_in_a_circle(place: Place) -> Any:
    fields = [(name, "sc:Integer", {"field": {"@id": f"r/{other}"}}) for name, other in ("ab", "bc", "ca")]
    return document(file_object(place.parquet()), record_set(*fields))


@case("a field that comes from itself", refused=CroissantSyntaxError)
def source_is_itself(place: Place) -> Any:
    return document(file_object(place.parquet()), record_set(("a", "sc:Integer", {"field": {"@id": "r/a"}})))


@case("a thousand fields, each from the one before", refused=CroissantSyntaxError)
def sources_in_a_chain(place: Place) -> Any:
    chain = [(f"x{n}", "sc:Integer", {"field": {"@id": f"r/x{n - 1}"}}) for n in range(1, 1000)]
    return document(file_object(place.parquet()), record_set(("x0", "sc:Integer", source("a")), *chain))


def _referring(name: str, other: str, **terms: Any) -> dict[str, Any]:
    field = {
        "@type": "cr:Field", "@id": f"{name}/a", "dataType": "sc:Integer", "source": source(),
        "references": {"field": {"@id": f"{other}/a"}},
    }  # fmt: skip
    return {"@type": "cr:RecordSet", "@id": name, "field": [field], **terms}


@case("record sets that reference each other", rows=TWO)
def references_in_a_circle(place: Place) -> Any:
    sets = [_referring("r", "s"), _referring("s", "t"), _referring("t", "r")]
    return Ask(croissant=document(file_object(place.parquet()), *sets), keys={"record_set": "r"})


@case("a field that references itself", rows=TWO)
def reference_to_itself(place: Place) -> Any:
    return document(file_object(place.parquet()), _referring("r", "r"))


@case("a field that is its own parent", refused=CroissantError)
def parent_is_itself(place: Place) -> Any:
    inner = {
        "@type": "cr:Field", "@id": "r/n", "dataType": "sc:Text",
        "parentField": {"references": {"field": {"@id": "r/n"}}, "source": {"field": {"@id": "r/n"}}},
        "subField": [{"@type": "cr:Field", "@id": "r/n/x", "dataType": "sc:Text", "source": {"field": {"@id": "r/n"}}}],
    }  # fmt: skip
    return document(file_object(place.parquet()), record_set("a", inner))


@case("subfields to a depth of twenty", refused=CroissantSyntaxError)
def subfields_deep(place: Place) -> Any:
    node: Any = {"@type": "cr:Field", "@id": "r/x", "dataType": "sc:Integer", "source": source()}
    for depth in range(20):
        node = {"@type": "cr:Field", "@id": f"r/{depth}", "subField": [node]}
    return document(file_object(place.parquet()), record_set(node))


@case("twenty thousand fields of which one is asked for", rows=TWO)
def many_fields(place: Place) -> Any:
    fields = [(f"x{number}", "sc:Integer", source("a")) for number in range(20_000)]
    return Ask(croissant=document(file_object(place.parquet()), record_set("a", *fields)), keys={"fields": ["a"]})


@case("a hundred and fifty record sets that all reference one another", rows=TWO)
def many_references(place: Place) -> Any:
    names = [f"s{number}" for number in range(150)]
    sets = [
        {"@type": "cr:RecordSet", "@id": name, "field": [
            {"@type": "cr:Field", "@id": f"{name}/a", "dataType": "sc:Integer", "source": source(),
             "references": [{"field": {"@id": f"{other}/a"}} for other in names]}
        ]}
        for name in names
    ]  # fmt: skip
    return Ask(croissant=document(file_object(place.parquet()), *sets), keys={"record_set": "s0"})


@case("five thousand files of which a field is asked of one", rows=TWO)
def many_distributions(place: Place) -> Any:
    others = [{**file_object(f"/etc/{number}"), "@id": f"x{number}"} for number in range(5_000)]
    return document([file_object(place.parquet()), *others])


@case("a Croissant file on the web names a local file", refused=(ForbiddenSourceError, UnsupportedCroissantError))
def remote_names_local(place: Place) -> Any:
    place.parquet()
    place.site.files["/c.json"] = json.dumps(
        document(file_object("file://" + str(place.folder / "a.parquet")))
    ).encode()
    return Ask(croissant=f"{place.site.url}/c.json")


@case("a Croissant file on the web names a local file by its path", refused=SourceError)
def remote_names_path(place: Place) -> Any:
    place.parquet()
    place.site.files["/c.json"] = json.dumps(document(file_object(str(place.folder / "a.parquet")))).encode()
    return Ask(croissant=f"{place.site.url}/c.json")


@case("a Croissant file on the web has a FileSet, which would be local files", refused=UnsupportedCroissantError)
def remote_names_set(place: Place) -> Any:
    place.parquet()
    place.site.files["/c.json"] = json.dumps(document(file_set("*.parquet"))).encode()
    return Ask(croissant=f"{place.site.url}/c.json")


@case("a Croissant file on the web names another origin by //", refused=ForbiddenSourceError)
def remote_names_other_origin(place: Place) -> Any:
    there = place.forbidden.removeprefix("http:")
    place.site.files["/c.json"] = json.dumps(document(file_object(f"{there}/a.parquet"))).encode()
    return Ask(croissant=f"{place.site.url}/c.json")


@case("the descriptor names a Croissant file that is a folder", refused=CroissantNotFoundError)
def croissant_is_a_folder(place: Place) -> Any:
    (place.folder / "x.json").mkdir()
    return Ask(croissant={}, keys={"croissant": "x.json"})

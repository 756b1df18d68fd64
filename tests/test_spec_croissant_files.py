"""FileObject and FileSet: formats under all their names, hashes, addresses, and what holds what."""

from __future__ import annotations

import pytest

from coralord_lightning.errors import CroissantSyntaxError
from coralord_lightning.spec.croissant import parse_croissant
from coralord_lightning.spec.selection import FileObject, FileSet
from croissants import SHA, document, file_of


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
    ("changes", "format_"),
    [
        ({"encodingFormat": "application/json"}, "json"),
        ({"encodingFormat": "application/zip"}, "zip"),
        ({"encodingFormat": "application/x-tar"}, "tar"),
        ({"encodingFormat": "application/gzip", "contentUrl": "a.tar.gz"}, "tar"),
        ({"encodingFormat": "application/x-gzip", "contentUrl": "a.csv.gz"}, "gzip"),
        ({"encodingFormat": "git+https", "contentUrl": "https://example.org/repo"}, "git"),
        ({"encodingFormat": None, "contentUrl": "hf://datasets/team/name"}, "git"),
        ({"encodingFormat": ["text/plain", "https://ml.cms.waikato.ac.nz/weka/arff.html"]}, "arff"),
        ({"encodingFormat": None, "contentUrl": "a.csv.gz"}, "csv"),
        ({"encodingFormat": None, "contentUrl": "https://example.org/a.jsonl?x=1"}, "jsonl"),
        ({"encodingFormat": None, "contentUrl": "unknown"}, "any"),
        ({"encodingFormat": "image/jpeg"}, "any"),
        ({"encodingFormat": ["text/csv", "text/tsv"]}, "any"),
        ({"encodingFormat": ["text/csv", "application/gzip"], "contentUrl": "a.csv.gz"}, "csv"),
    ],
)
def test_a_file_is_of_the_format_that_it_says_and_else_of_the_one_its_name_says(changes, format_):
    assert file_of(**changes).value.format == format_


def test_an_address_of_a_kind_that_is_not_read_is_kept_with_its_reason():
    found = file_of(contentUrl="ftp://example.org/data.csv")
    assert found.value is None
    assert "addresses of the kind ftp:" in found.unsupported[0]
    for url in ("s3://bucket/data.parquet", "gs://bucket/x", "hf://datasets/a/b/c.parquet", "https://example.org/x"):
        assert file_of(contentUrl=url).value.content_url == url


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


@pytest.mark.parametrize(
    ("said", "md5"),
    [
        ("9A475053FED0C26EE95CD4525E50074C", "9a475053fed0c26ee95cd4525e50074c"),
        ("mkdQU/7Qwm7pXNRSXlAHTA==", "9a475053fed0c26ee95cd4525e50074c"),
        ("https://example.org/no-hash", None),
        (None, None),
    ],
)
def test_md5_is_kept_beside_sha256(said, md5):
    assert file_of(md5=said).value.md5 == md5


def test_an_md5_that_is_none_is_refused():
    with pytest.raises(CroissantSyntaxError, match="md5"):
        file_of(md5="abc")


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


def held(*nodes: dict[str, object]):
    return parse_croissant(document(distribution=list(nodes), recordSet=[]), origin="c").files


def node(name: str, /, within: object = None, kind: str = "cr:FileObject", **more: object) -> dict[str, object]:
    held_in = {} if within is None else {"containedIn": within}
    url = {"contentUrl": f"{name}.csv"} if kind == "cr:FileObject" else {}
    return {"@type": kind, "@id": name, "encodingFormat": "text/csv", **url, **held_in, **more}


ZIP = {"@type": "cr:FileObject", "@id": "zip", "contentUrl": "data.zip", "encodingFormat": "application/zip"}
ZIPPED = FileObject(id="zip", content_url="data.zip", format="zip")


def test_what_holds_a_file_is_known_whatever_the_order():
    files = held(node("in", {"@id": "zip"}), ZIP)
    assert files["in"].value == FileObject(id="in", content_url="in.csv", format="csv", within=ZIPPED)


def test_containers_lie_in_containers_and_sets_in_several():
    inner = ZIP | {"@id": "inner", "containedIn": {"@id": "zip"}}
    every = node("all", [{"@id": "zip"}, {"@id": "inner"}], "cr:FileSet", includes="*.csv")
    files = held(every, inner, ZIP)
    assert files["inner"].value.within == ZIPPED
    assert files["all"].value.within == (ZIPPED, files["inner"].value)


def test_a_data_source_that_unpacks_is_its_archive_and_one_that_reads_lines_is_kept_with_the_reason():
    source = {"@type": "cr:DataSource", "fileObject": {"@id": "zip"}, "transform": {"unArchive": True}}
    assert held(node("all", source, "cr:FileSet", includes="*"), ZIP)["all"].value.within == (ZIPPED,)
    manifest = source | {"transform": {"unArchive": True, "readLines": True}}
    found = held(node("all", manifest, "cr:FileSet"), ZIP)["all"]
    assert (found.value, found.unsupported) == (None, ("containedIn with readLines",))


@pytest.mark.parametrize(
    "nodes",
    [
        [node("a", {"@id": "a"})],
        [node("a", {"@id": "b"}), node("b", {"@id": "a"})],
        [node("a", {"@id": "nowhere"})],
        [node("a", 3)],
        [node(f"f{at}", {"@id": f"f{at + 1}"}) for at in range(20)] + [node("f20")],
    ],
)
def test_circles_and_chains_without_end_are_refused(nodes):
    with pytest.raises(CroissantSyntaxError, match="contained"):
        held(*nodes)

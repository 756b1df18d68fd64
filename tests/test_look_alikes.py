"""Look-alikes of official examples that are not here: joins, archives, repositories, sound, enumerations, nesting."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from records import column, field, file, files, path, prop, record_set, refers, rows

Json = dict[str, Any]


def test_two_json_documents_are_joined(tmp_path: Path) -> None:
    images = {"images": [{"id": 1, "name": "a.jpg"}, {"id": 2, "name": "b.jpg"}]}
    notes = {
        "notes": [{"image": 2, "text": "two"}, {"image": 1, "text": "one"}, {"image": 2, "text": "more"}, {"image": 9}]
    }
    (tmp_path / "images.json").write_text(json.dumps(images))
    (tmp_path / "notes.json").write_text(json.dumps(notes))

    found = rows(
        tmp_path,
        [file("i", "images.json", "application/json"), file("n", "notes.json", "application/json")],
        record_set(
            "images",
            field("images/id", "sc:Integer", ("i", path("$.images[*].id"))),
            field("images/name", "sc:Text", ("i", path("$.images[*].name"))),
            key={"@id": "images/id"},
        ),
        record_set(
            "notes",
            field("notes/image", "sc:Integer", ("n", path("$.notes[*].image")), **refers("images/id")),
            field("notes/text", "sc:Text", ("n", path("$.notes[*].text"))),
            field("notes/name", "sc:Text", "images/name"),
        ),
    )

    assert found == [
        {"image": 2, "text": "two", "name": "b.jpg"},
        {"image": 1, "text": "one", "name": "a.jpg"},
        {"image": 2, "text": "more", "name": "b.jpg"},
        {"image": 9, "text": None, "name": None},
    ]


@pytest.mark.parametrize("packed", ["tar", "tar.gz"])
def test_files_in_a_tar_are_joined_with_a_table_by_their_names(tmp_path: Path, packed: str) -> None:
    with tarfile.open(tmp_path / f"texts.{packed}", "w:gz" if packed.endswith("gz") else "w") as archive:
        for name in ("b", "a", "c"):
            content = f"text {name}".encode()
            member = tarfile.TarInfo(f"texts/{name}.txt")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    (tmp_path / "labels.csv").write_text("key,label\na,1\nb,2\n")

    found = rows(
        tmp_path,
        [
            file("tar", f"texts.{packed}", "application/x-tar"),
            files("texts", "texts/*.txt", "text/plain", containedIn={"@id": "tar"}),
            file("labels", "labels.csv", "text/csv"),
        ],
        record_set(
            "labels",
            field("labels/key", "sc:Text", ("labels", column("key"))),
            field("labels/label", "sc:Integer", ("labels", column("label"))),
        ),
        record_set(
            "texts",
            field("texts/text", "sc:Text", ("texts", prop("content"))),
            field(
                "texts/key",
                "sc:Text",
                ("texts", prop("filename")),
                transform={"regex": r"(.*)\.txt"},
                **refers("labels/key"),
            ),
            field("texts/label", "sc:Integer", "labels/label"),
        ),
    )

    assert found == [
        {"text": "text a", "key": "a", "label": 1},
        {"text": "text b", "key": "b", "label": 2},
        {"text": "text c", "key": "c", "label": None},
    ]


def test_a_repository_is_mapped_to_a_folder(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    (checkout / "data").mkdir(parents=True)
    (checkout / ".git").mkdir()
    (checkout / "data" / "x.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "here").mkdir()
    repository = file("repo", "https://github.com/example/nowhere", "git+https", sha256="https://example.org/no-hash")

    found = rows(
        tmp_path / "here",
        [repository, files("lines", "data/*.jsonl", "application/jsonlines", containedIn={"@id": "repo"})],
        record_set(
            "rows",
            field("rows/a", "sc:Integer", ("lines", column("a"))),
            field("rows/task", "sc:Text", ("lines", prop("filename")), transform={"regex": r"^(.*)\.jsonl$"}),
        ),
        mapping={"repo": "../checkout"},
    )

    assert found == [{"a": 1, "task": "x"}]


def test_sound_is_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF....")
    found = rows(
        tmp_path,
        [files("sounds", "*.wav", "audio/x-wav")],
        record_set("rows", field("rows/sound", "sc:AudioObject", ("sounds", prop("content")))),
    )
    assert found == [{"sound": b"RIFF...."}]


@pytest.mark.parametrize("said", ["application/gzip", ["text/csv", "application/gzip"], "text/csv"])
def test_a_compressed_table_is_read_as_what_it_is(tmp_path: Path, said: Any) -> None:
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"n\n1\n2\n"))
    table = file("t", "t.csv.gz", "") | {"encodingFormat": said}
    found = rows(tmp_path, [table], record_set("rows", field("rows/n", "sc:Integer", ("t", column("n")))))
    assert found == [{"n": 1}, {"n": 2}]


def test_enumerations_are_joined_whether_inline_or_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("who,where\nm,C\nf,Q\nm,?\n")
    (tmp_path / "ports.csv").write_text("key,label\nC,Cherbourg\nQ,Queenstown\n")
    genders = record_set(
        "genders",
        field("genders/key", "sc:Text"),
        field("genders/label", "sc:Text"),
        dataType="sc:Enumeration",
        key={"@id": "genders/key"},
        data=[{"genders/key": "m", "genders/label": "male"}, {"genders/key": "f", "genders/label": "female"}],
    )
    ports = record_set(
        "ports",
        field("ports/key", "sc:Text", ("ports", column("key"))),
        field("ports/label", "sc:Text", ("ports", column("label"))),
        dataType="sc:Enumeration",
        key={"@id": "ports/key"},
    )

    found = rows(
        tmp_path,
        [file("t", "t.csv", "text/csv"), file("ports", "ports.csv", "text/csv")],
        genders,
        ports,
        record_set(
            "rows",
            field("rows/who", "sc:Text", ("t", column("who")), references={"@id": "genders/key"}),
            field("rows/where", "sc:Text", ("t", column("where")), references={"@id": "ports/key"}),
            field("rows/gender", "sc:Text", None, source={"@id": "genders/label"}),
            field("rows/port", "sc:Text", "ports/label"),
        ),
    )

    assert found == [
        {"who": "m", "where": "C", "gender": "male", "port": "Cherbourg"},
        {"who": "f", "where": "Q", "gender": "female", "port": "Queenstown"},
        {"who": "m", "where": "?", "gender": "male", "port": None},
    ]


def movies(tmp_path: Path) -> tuple[list[Json], list[Json]]:
    (tmp_path / "movies.csv").write_text("id,title,genres\n1,Alien,Horror|SciFi\n2,Babe,\n")
    (tmp_path / "ratings.csv").write_text("user,movie,rating\n7,1,4.5\n8,2,3\n9,1,5\n7,3,1\n")
    distribution = [file("movies", "movies.csv", "text/csv"), file("ratings", "ratings.csv", "text/csv")]
    sets = [
        record_set(
            "movies",
            field("movies/id", "sc:Integer", ("movies", column("id"))),
            field("movies/title", "sc:Text", ("movies", column("title"))),
            field(
                "movies/genres", "sc:Text", ("movies", column("genres")), transform={"separator": "|"}, repeated=True
            ),
            key={"@id": "movies/id"},
        ),
        record_set(
            "ratings",
            field("ratings/user", "sc:Integer", ("ratings", column("user"))),
            field("ratings/movie", "sc:Integer", ("ratings", column("movie")), **refers("movies/id")),
            field("ratings/rating", "sc:Float", ("ratings", column("rating"))),
        ),
    ]
    return distribution, sets


def test_the_rows_of_a_nested_record_set_are_a_list_of_structs(tmp_path: Path) -> None:
    distribution, sets = movies(tmp_path)
    parent = {"source": {"field": {"@id": "ratings/movie"}}, **refers("movies/id")}
    nested = field(
        "all/ratings",
        "cr:RecordSet",
        parentField=parent,
        subField=[
            {"@type": "cr:Field", "@id": "all/ratings/user", "source": {"field": {"@id": "ratings/user"}}},
            {"@type": "cr:Field", "@id": "all/ratings/rating", "source": {"field": {"@id": "ratings/rating"}}},
        ],
    )

    found = rows(
        tmp_path, distribution, *sets, record_set("all", field("all/title", "sc:Text", "movies/title"), nested)
    )

    assert found == [
        {"title": "Alien", "ratings": [{"user": 7, "rating": 4.5}, {"user": 9, "rating": 5.0}]},
        {"title": "Babe", "ratings": [{"user": 8, "rating": 3.0}]},
    ]


def test_a_one_to_many_join_keeps_its_rows_whatever_is_selected_of_it(tmp_path: Path) -> None:
    distribution, sets = movies(tmp_path)
    both = record_set(
        "both",
        field("both/id", "sc:Integer", ("movies", column("id")), **refers("ratings/movie")),
        field("both/title", "sc:Text", ("movies", column("title"))),
        field("both/user", "sc:Integer", "ratings/user"),
    )

    found = rows(tmp_path, distribution, *sets, both)
    titles = rows(tmp_path, distribution, *sets, both, fields=["title"])

    assert found == [
        {"id": 1, "title": "Alien", "user": 7},
        {"id": 1, "title": "Alien", "user": 9},
        {"id": 2, "title": "Babe", "user": 8},
    ]
    assert titles == [{"title": item["title"]} for item in found]


def test_joins_to_two_tables_come_in_the_order_of_files_and_rows(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n" + "".join(f"{n % 3},{n % 2}\n" for n in range(500)))
    (tmp_path / "a.csv").write_text("k,v\n2,two\n0,zero\n1,one\n")
    (tmp_path / "b.csv").write_text("k,v\n1,odd\n0,even\n")

    def table(name: str) -> Json:
        return record_set(
            name,
            field(f"{name}/k", "sc:Integer", (name, column("k"))),
            field(f"{name}/v", "sc:Text", (name, column("v"))),
        )

    found = rows(
        tmp_path,
        [file(name, f"{name}.csv", "text/csv") for name in "tab"],
        table("a"),
        table("b"),
        record_set(
            "t",
            field("t/a", "sc:Integer", ("t", column("a")), **refers("a/k")),
            field("t/b", "sc:Integer", ("t", column("b")), **refers("b/k")),
            field("t/x", "sc:Text", "a/v"),
            field("t/y", "sc:Text", "b/v"),
        ),
    )

    words = ("zero", "one", "two")
    assert found == [{"a": n % 3, "b": n % 2, "x": words[n % 3], "y": ("even", "odd")[n % 2]} for n in range(500)]


def test_a_table_is_reached_by_way_of_one_that_no_field_comes_from(tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_text("id,who\n1,a\n2,b\n3,c\n")
    (tmp_path / "people.csv").write_text("who,city\na,x\nb,y\n")
    (tmp_path / "cities.csv").write_text("city,name\ny,York\nx,Exeter\n")

    def table(name: str, key: str, other: str, **more: Json) -> Json:
        fields = [
            field(f"{name}/{item}", "sc:Text", (name, column(item)), **more.get(item, {})) for item in (key, other)
        ]
        return record_set(name, *fields, key={"@id": f"{name}/{key}"})

    found = rows(
        tmp_path,
        [file(name, f"{name}.csv", "text/csv") for name in ("orders", "people", "cities")],
        table("cities", "city", "name"),
        table("people", "who", "city", city=refers("cities/city")),
        record_set(
            "orders",
            field("orders/id", "sc:Integer", ("orders", column("id"))),
            field("orders/who", "sc:Text", ("orders", column("who")), **refers("people/who")),
            field("orders/name", "sc:Text", "cities/name"),
        ),
    )

    assert found == [
        {"id": 1, "who": "a", "name": "Exeter"},
        {"id": 2, "who": "b", "name": "York"},
        {"id": 3, "who": "c", "name": None},
    ]

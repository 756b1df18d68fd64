"""Attacks by path: contentUrl, includes, links, and files that are none."""

from __future__ import annotations

import os
import socket
from typing import Any

from hostile.cases import Place, add, case, document, file_object, file_set, record_set, source

from coralord_lightning.errors import (
    CroissantSyntaxError,
    ForbiddenSourceError,
    SourceError,
    SourceFormatError,
    SourceMissingError,
    UnsupportedCroissantError,
)

REFUSED = (ForbiddenSourceError, SourceMissingError, UnsupportedCroissantError)

PATHS = {
    "absolute": "{outside}/canary.parquet",
    "absolute-passwd": "/etc/passwd",
    "double-slash": "//etc/passwd",
    "up": "../outside/canary.parquet",
    "up-inside": "sub/../../outside/canary.parquet",
    "up-many": "../" * 40 + "etc/passwd",
    "dot-up": "./../outside/canary.parquet",
    "backslash": "..\\outside\\canary.parquet",
    "backslash-mixed": "..\\/outside/canary.parquet",
    "drive": "C:/Windows/win.ini",
    "drive-relative": "C:win.ini",
    "unc": "\\\\127.0.0.2\\share\\a.parquet",
    "unc-slashes": "//127.0.0.2/share/a.parquet",
    "home": "~/.bashrc",
    "home-of-another": "~root/.bashrc",
    "file-url": "file://{outside}/canary.parquet",
    "file-url-short": "file:{outside}/canary.parquet",
    "file-url-host": "file://127.0.0.2/etc/passwd",
    "file-url-case": "FiLe:///etc/passwd",
    "encoded-up": "%2e%2e/outside/canary.parquet",
    "encoded-slash": "..%2foutside%2fcanary.parquet",
    "encoded-twice": "%252e%252e%252foutside%252fcanary.parquet",
    "fullwidth-dots": "\uff0e\uff0e/outside/canary.parquet",
    "two-dot-leader": "\u2025/outside/canary.parquet",
    "division-slash": "..\u2215outside\u2215canary.parquet",
    "overlong": "a/" * 5000 + "x.parquet",
    "overlong-name": "x" * 5000,
    "newline": "a.parquet\n../outside/canary.parquet",
    "only-dots": "..",
    "only-dot": ".",
    "trailing-slash": "sub/",
    "space-up": " ../outside/canary.parquet",
    "environment": "$HOME/.bashrc",
    "brace-glob": "{{..}}/outside/canary.parquet",
    "proc-self": "/proc/self/environ",
    "dev-fd": "/dev/fd/0",
    "data-url": "data:text/csv,a%0A1",
    "ftp": "ftp://127.0.0.2/a.parquet",
    "gopher": "gopher://127.0.0.2/_GET",
    "git": "git://127.0.0.2/a",
    "ssh": "ssh://127.0.0.2/a",
    "ext": "ext::sh -c touch% /tmp/pwned",
    "jar": "jar:file:///etc/passwd!/x",
    "smb": "smb://127.0.0.2/a",
    "duckdb-glob": "*.parquet",
    "duckdb-hive": "hive/*/a.parquet",
    "coral-scheme": "coral://f",
    "javascript": "javascript:alert(1)",
    "http-backslash": "http:\\\\127.0.0.2\\a.parquet",
    "http-one-slash": "http:/127.0.0.2/a.parquet",
    "http-none": "http:a.parquet",
    "empty": "",
}


def _path(url: str) -> Any:
    def lay(place: Place) -> Any:
        (place.folder / "sub").mkdir()
        (place.folder / "hive" / "x=1").mkdir(parents=True)
        place.parquet("hive/x=1/a.parquet")
        place.parquet("real.parquet")
        return document(file_object(url.format(outside=place.outside)))

    return lay


for _name, _url in PATHS.items():
    errors = (*REFUSED, CroissantSyntaxError) if _name == "empty" else REFUSED
    add(f"path-{_name}", f"contentUrl {_url[:60]!r}", _path(_url), refused=errors)

INCLUDES = {
    "absolute": "{outside}/*.parquet",
    "up": "../outside/*.parquet",
    "up-inside": "sub/../../outside/*",
    "star-up": "*/../../outside/*.parquet",
    "file-url": "file://{outside}/*",
    "home": "~/*",
    "backslash": "..\\outside\\*",
    "unclosed-class": "[*.parquet",
    "unclosed-brace": "{{a,b*.parquet",
    "empty-class": "[]*.parquet",
    "many-stars": "**/" * 400 + "*.nothing",
    "catastrophic": "*a" * 60 + "b",
    "overlong": "x" * 100_000,
    "class-bomb": "[a-z]" * 5000,
    "regex": "(a+)+$",
    "nothing": "none-*.parquet",
}


def _includes(pattern: str) -> Any:
    def lay(place: Place) -> Any:
        place.folder.joinpath("sub").mkdir()
        place.parquet("a" * 60 + ".parquet")
        return document(file_set(pattern.format(outside=place.outside)))

    return lay


for _name, _pattern in INCLUDES.items():
    add(f"includes-{_name}", f"includes {_pattern[:60]!r}", _includes(_pattern), refused=REFUSED)


@case("excludes leave the folder", refused=REFUSED)
def excludes_up(place: Place) -> Any:
    place.parquet("a.parquet")
    return document(file_set("*.parquet", excludes="../outside/*"))


@case("excludes of catastrophic length take nothing away and no time", rows=[{"a": 1}, {"a": 2}])
def excludes_catastrophic(place: Place) -> Any:
    place.parquet("a" * 60 + ".parquet")
    return document(file_set("*.parquet", excludes=["*a" * 60 + "b", "**/" * 400 + "x"]))


def _linked(target: str, *, name: str = "a.parquet", by_set: bool = False) -> Any:
    def lay(place: Place) -> Any:
        (place.folder / name).symlink_to(target.format(outside=place.outside))
        return document(file_set("**/*.parquet") if by_set else file_object("a.parquet"))

    return lay


LINKS = {
    "file": ("{outside}/canary.parquet", "a.parquet"),
    "relative": ("../outside/canary.parquet", "a.parquet"),
    "passwd": ("/etc/passwd", "a.parquet"),
    "loop": ("a.parquet", "a.parquet"),
    "dangling": ("nothing", "a.parquet"),
    "dev-zero": ("/dev/zero", "a.parquet"),
    "dev-stdin": ("/dev/stdin", "a.parquet"),
    "proc-fd": ("/proc/self/fd/0", "a.parquet"),
    "root": ("/", "a.parquet"),
}
for _name, (_target, _at) in LINKS.items():
    add(f"link-{_name}", f"the file is a link to {_target}", _linked(_target, name=_at), refused=REFUSED)
    add(f"link-set-{_name}", f"a matching file links to {_target}", _linked(_target, by_set=True), refused=SourceError)


@case("a folder of the dataset is a link to one outside", refused=REFUSED)
def link_folder(place: Place) -> Any:
    (place.folder / "sub").symlink_to(place.outside)
    return document(file_object("sub/canary.parquet"))


@case("a glob goes into a folder that links outside", refused=REFUSED)
def link_folder_set(place: Place) -> Any:
    (place.folder / "sub").symlink_to(place.outside)
    return document(file_set("sub/*.parquet"))


@case("a glob with ** goes into folders that link outside, and round in circles", rows=[{"a": 1}, {"a": 2}])
def link_folder_stars(place: Place) -> Any:
    (place.folder / "sub").symlink_to(place.outside)
    (place.folder / "round").symlink_to(".")
    place.parquet("real.parquet")
    return document(file_set("**/real.parquet"))


@case("a link to a link to outside", refused=REFUSED)
def link_chain(place: Place) -> Any:
    (place.folder / "b.parquet").symlink_to(place.outside / "canary.parquet")
    (place.folder / "a.parquet").symlink_to("b.parquet")
    return document(file_object("a.parquet"))


@case("a link that stays inside is a file like any", rows=[{"a": 1}, {"a": 2}])
def link_inside(place: Place) -> Any:
    place.parquet("b.parquet")
    (place.folder / "a.parquet").symlink_to("b.parquet")
    return document(file_object("a.parquet"))


@case("the file is a pipe that nobody writes to", refused=REFUSED)
def pipe(place: Place) -> Any:
    os.mkfifo(place.folder / "a.parquet")
    return document(file_object("a.parquet"))


@case("a glob matches a pipe", refused=REFUSED)
def pipe_set(place: Place) -> Any:
    os.mkfifo(place.folder / "a.parquet")
    return document(file_set("*.parquet"))


@case("the file is a socket", refused=REFUSED)
def unix_socket(place: Place) -> Any:
    with socket.socket(socket.AF_UNIX) as there:
        there.bind(str(place.folder / "a.parquet"))
    return document(file_object("a.parquet"))


@case("the file is a folder", refused=REFUSED)
def folder_as_file(place: Place) -> Any:
    (place.folder / "a.csv").mkdir()
    return document(file_object("a.csv", "text/csv"))


@case("a glob matches a folder with the name of a file", rows=[{"a": 1}])
def folder_in_set(place: Place) -> Any:
    (place.folder / "a.csv").mkdir()
    place.write("b.csv", "a\n1\n")
    return document(file_set("*.csv", "text/csv"))


@case("file names that are globs, quotes and SQL to DuckDB are read as what they are", rows=[{"a": 1}])
def names_for_duckdb(place: Place) -> Any:
    name = "[a]*'; DROP TABLE x; --\".csv"
    place.write(name, "a\n1\n")
    place.write("a'; DROP TABLE x; --\".csv", "a\n2\n")
    return document(file_object(name, "text/csv"))


@case("a glob whose file names are SQL to DuckDB", rows=[{"n": "'); COPY (SELECT 1) TO 'x'; --.csv"}])
def names_in_rows(place: Place) -> Any:
    place.write("'); COPY (SELECT 1) TO 'x'; --.csv", "a\n1\n")
    return document(file_set("*.csv", "text/csv"), record_set(("n", "sc:Text", source("filename", "fileProperty"))))


@case("a glob that matches a hundred files", rows=[{"a": 1}])
def many_files(place: Place) -> Any:
    for number in range(100):
        place.write(f"{number}.csv", "a\n1\n" if number == 0 else "a\n")
    return document(file_set("*.csv", "text/csv"))


@case("a name in the Croissant file that only differs in how its letters are composed", refused=SourceMissingError)
def composed_name(place: Place) -> Any:
    place.write("\u00e9.csv", "a\n1\n")
    return document(file_object("e\u0301.csv", "text/csv"))


@case("an empty file", refused=SourceFormatError)
def empty_file(place: Place) -> Any:
    place.write("a.parquet", b"")
    return document(file_object("a.parquet"))

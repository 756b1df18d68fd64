"""Attacks by servers: redirects, addresses that are written so that they pass, bodies without end, and lies."""

# ruff: noqa: E501  # attacks are long

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from typing import Any

from hostile.cases import Ask, Place, add, case, document, file_object, record_set
from hostile.corpus_data import whole_parquet

from coralord_lightning.errors import (
    BuildError,
    CroissantError,
    ForbiddenSourceError,
    SourceError,
    SourceIntegrityError,
)
from web import answer

REFUSED = (SourceError, CroissantError)
DATA = whole_parquet(a=[1, 2])
CSV = b"a\n1\n2\n"
TWO = [{"a": 1}, {"a": 2}]

ADDRESSES = {
    "userinfo": "http://127.0.0.1@127.0.0.2:{port}/a.parquet",
    "userinfo-colon": "http://127.0.0.1:80@127.0.0.2:{port}/a.parquet",
    "decimal": "http://2130706434:{port}/a.parquet",
    "octal": "http://0177.0.0.02:{port}/a.parquet",
    "hex": "http://0x7f000002:{port}/a.parquet",
    "short": "http://127.2:{port}/a.parquet",
    "mapped": "http://[::ffff:127.0.0.2]:{port}/a.parquet",
    "mapped-hex": "http://[::ffff:7f00:2]:{port}/a.parquet",
    "nat64": "http://[64:ff9b::7f00:2]:{port}/a.parquet",
    "6to4": "http://[2002:7f00:2::]:{port}/a.parquet",
    "loopback-6": "http://[::1]:{port}/a.parquet",
    "zone": "http://[fe80::1%25lo]:{port}/a.parquet",
    "localhost-dot": "http://localhost.:{port}/a.parquet",
    "dot": "http://127.0.0.2.:{port}/a.parquet",
    "zero": "http://0.0.0.0:{port}/a.parquet",
    "metadata": "http://169.254.169.254/latest/meta-data/a.parquet",
    "private": "http://10.0.0.1/a.parquet",
    "fullwidth": "http://\uff11\uff12\uff17.0.0.2:{port}/a.parquet",
    "circled": "http://\u2460\u2461\u2466.0.0.2:{port}/a.parquet",
    "by-name": "http://inner.test:{port}/a.parquet",
    "crlf": "http://127.0.0.2:{port}/a\r\nHost: x\r\n\r\nGET /b.parquet",
    "crlf-encoded": "http://127.0.0.2:{port}/a%0d%0aHost:%20x.parquet",
    "space": "http://127.0.0.2:{port} /a.parquet",
    "tab": "http://127.0.0\t.2:{port}/a.parquet",
    "fragment": "http://127.0.0.2:{port}#@127.0.0.1/a.parquet",
    "no-host": "http:///a.parquet",
    "bracket": "http://[/a.parquet",
    "port": "http://127.0.0.2:99999/a.parquet",
    "long-host": "http://" + "a" * 300 + ".test/a.parquet",
    "upper": "HTTP://127.0.0.2:{port}/a.parquet",
    "hub": "hf://datasets/../../127.0.0.2",
    "bucket": "s3://127.0.0.2/a.parquet",
}


def _address(url: str) -> Callable[[Place], Any]:
    def lay(place: Place) -> Any:
        place.hosts["inner.test"] = ["127.0.0.2"]
        return document(file_object(url.replace("{port}", place.forbidden.rpartition(":")[2])))

    return lay


for _name, _url in ADDRESSES.items():
    add(f"address-{_name}", f"contentUrl {_url[:60]!r}", _address(_url), refused=REFUSED)


@case("a name that is public when it is checked, and private when it is connected to", refused=REFUSED)
def address_rebinding(place: Place) -> Any:
    place.hosts["twice.test"] = ["127.0.0.2", "127.0.0.1"]
    return document(file_object(f"http://twice.test:{place.forbidden.rpartition(':')[2]}/a.parquet"))


REDIRECTS = {
    "file": "file:///etc/passwd",
    "forbidden": "{forbidden}/a.csv",
    "metadata": "http://169.254.169.254/latest/meta-data",
    "mapped": "http://[::ffff:127.0.0.2]/a.csv",
    "no-scheme": "//127.0.0.2/a.csv",
    "ftp": "ftp://127.0.0.2/a.csv",
    "gopher": "gopher://127.0.0.2/a.csv",
    "data": "data:text/csv,a%0A1",
    "bracket": "http://[",
    "loop": "/a.csv",
    "userinfo": "http://127.0.0.1@127.0.0.2/a.csv",
    "empty": "",
    "hub": "hf://datasets/x",
}


def _redirect(to: str, status: int = 302) -> Callable[[Place], Any]:
    def lay(place: Place) -> Any:
        reply = answer(status, headers={"Location": to.format(forbidden=place.forbidden)})
        place.site.scripts["/a.csv"] = [reply] * 60
        return document(file_object(f"{place.site.url}/a.csv", "text/csv"))

    return lay


for _name, _to in REDIRECTS.items():
    add(f"redirect-{_name}", f"a redirect to {_to!r}", _redirect(_to), refused=REFUSED)
add("redirect-of-croissant", "the Croissant file redirects to a forbidden address", lambda place: (
    place.site.scripts.update({"/c.json": [answer(307, headers={"Location": place.forbidden + "/c.json"})] * 9})
    or Ask(croissant=f"{place.site.url}/c.json")
), refused=ForbiddenSourceError)  # fmt: skip


def raw(data: bytes) -> Callable[[Any], None]:
    """An answer as it stands on the wire."""

    def reply(handler: Any) -> None:
        handler.close_connection = True
        handler.wfile.write(data)

    return reply


def endless(head: bytes, chunk: bytes, most: int = 3_000_000_000) -> Callable[[Any], None]:
    """An answer that goes on until the other side has enough."""

    def reply(handler: Any) -> None:
        handler.close_connection = True
        try:
            handler.wfile.write(head)
            for _ in range(most // len(chunk)):
                handler.wfile.write(chunk)
        except OSError:
            return

    return reply


def _served(script: Callable[[Any], None], name: str = "a.csv", format_: str = "text/csv", **config: Any) -> Any:
    def lay(place: Place) -> Any:
        place.site.scripts[f"/{name}"] = [script] * 60
        return Ask(croissant=document(file_object(f"{place.site.url}/{name}", format_)), config=config)

    return lay


OK = b"HTTP/1.1 200 OK\r\n"
ANSWERS = {
    "http-0.9": b"a\n1\n",
    "no-status": b"HTTP/1.1\r\n\r\n",
    "status-text": b"HTTP/1.1 abc OK\r\n\r\n",
    "status-huge": b"HTTP/1.1 99999999999 OK\r\n\r\n",
    "other-protocol": b"SSH-2.0-OpenSSH_9.0\r\n",
    "nothing": b"",
    "header-nul": OK + b"X: a\x00b\r\nContent-Length: 4\r\n\r\na\n1\n",
    "header-endless": OK + b"X: " + b"x" * 2_000_000,
    "headers-many": OK + b"X: y\r\n" * 100_000 + b"\r\n",
    "length-text": OK + b"Content-Length: abc\r\n\r\na\n1\n",
    "length-negative": OK + b"Content-Length: -1\r\n\r\na\n1\n",
    "length-two": OK + b"Content-Length: 4\r\nContent-Length: 9\r\n\r\na\n1\n",
    "length-short": OK + b"Content-Length: 4000\r\n\r\na\n1\n",
    "length-huge": OK + b"Content-Length: 99999999999999999999\r\n\r\na\n1\n",
    "chunk-wrong": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\na\n1\n",
    "chunk-huge": OK + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\na\n1\n",
    "chunk-cut": OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\na\n",
    "gzip": OK + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\na\n1\n",
    "no-location": b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
    "sign-in": b"HTTP/1.1 401 No\r\nWWW-Authenticate: Negotiate\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n",
    "upgrade": b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    "multipart": b"HTTP/1.1 206 Partial\r\nContent-Type: multipart/byteranges; boundary=x\r\nContent-Length: 4\r\n\r\na\n1\n",
}
for _name, _data in ANSWERS.items():
    add(f"server-{_name}", f"a server that answers {_data[:40]!r}", _served(raw(_data)), refused=SourceError)

_LIMIT = {"max_fetch": 64 * 1024 * 1024}
add(
    "server-endless",
    "a body without end, where 64 MiB may be fetched",
    _served(endless(OK + b"\r\n", b"a\n1\n" * 16_384), **_LIMIT),
    refused=SourceError,
)
add("server-endless-croissant", "a Croissant file without end", lambda place: (
    place.site.scripts.update({"/c.json": [endless(OK + b"\r\n", b" " * 65_536)] * 60})
    or Ask(croissant=f"{place.site.url}/c.json")
), refused=REFUSED)  # fmt: skip


def _ranged(change: Callable[[dict[str, str | None], bytes], tuple[int, dict[str, str | None], bytes]]) -> Any:
    """A Parquet file whose ranges are answered otherwise than they should be."""

    def reply(handler: Any) -> None:
        asked = handler.headers.get("Range", "")
        headers: dict[str, str | None] = {"ETag": '"x"', "Accept-Ranges": "bytes"}
        if not asked:
            handler.answer(200, DATA, headers)
            return
        start, _, last = asked.removeprefix("bytes=").partition("-")
        stop = min(int(last) + 1, len(DATA))
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(DATA)}"
        status, sent, body = change(headers, DATA[int(start) : stop])
        handler.answer(status, body, sent)

    return _served(reply, "a.parquet", "application/x-parquet")


RANGES: dict[str, Any] = {
    "other": lambda h, b: (206, h | {"Content-Range": "bytes 0-3/4"}, b),
    "shifted": lambda h, b: (206, h | {"Content-Range": f"bytes 1-{len(b)}/{len(DATA)}"}, b),
    "none": lambda h, b: (206, h | {"Content-Range": None}, b),
    "text": lambda h, b: (206, h | {"Content-Range": "bytes x-y/z"}, b),
    "larger-file": lambda h, b: (206, h | {"Content-Range": str(h["Content-Range"]).rpartition("/")[0] + "/999999"}, b),
    "short": lambda h, b: (206, h, b[:-1]),
    "long": lambda h, b: (206, h, b + b"x"),
    "zeros": lambda h, b: (206, h, b"\0" * len(b)),
    "whole": lambda h, b: (200, h, DATA + b"x"),
    "other-etag": lambda h, b: (206, h | {"ETag": '"y"'}, b),
    "multipart": lambda h, b: (206, h | {"Content-Range": None, "Content-Type": "multipart/byteranges; boundary=x"}, b),
    "refused": lambda h, b: (416, h, b""),
}
for _name, _change in RANGES.items():
    add(f"range-{_name}", f"a range answered with {_name}", _ranged(_change), refused=(SourceError, BuildError))


@case("a file that is not the declared one", refused=SourceIntegrityError)
def server_wrong_hash(place: Place) -> Any:
    place.site.files["/a.csv"] = CSV
    return document(file_object(f"{place.site.url}/a.csv", "text/csv", sha256="0" * 64))


@case("an ETag of control characters and SQL is only compared", rows=TWO)
def server_etag(place: Place) -> Any:
    place.site.files["/a.parquet"] = DATA
    place.site.etag = lambda content: '"\'; DROP TABLE x; --\t\\"'
    return document(file_object(f"{place.site.url}/a.parquet"))


@case("the hub's list of files goes on at another origin", refused=SourceError)
def hub_next_elsewhere(place: Place) -> Any:
    commit = "a" * 40
    there = {"id": "o/n", "sha": commit, "siblings": []}
    link = {"Link": f'<{place.forbidden}/next>; rel="next"', "Content-Type": "application/json"}
    tree = [{"type": "file", "path": "a.parquet", "oid": "0" * 40, "size": len(DATA)}]
    for path, value in (
        ("", there),
        (f"/revision/{commit}", there),
        ("/revision/main", there),
        (f"/tree/{commit}", tree),
    ):
        body = json.dumps(value).encode()
        place.site.scripts[f"/api/datasets/o/n{path}"] = [answer(200, body, link)] * 9
    holder = {
        "@type": "cr:FileObject", "@id": "h", "contentUrl": "https://huggingface.co/datasets/o/n",
        "encodingFormat": "git+https",
    }  # fmt: skip
    files = {
        "@type": "cr:FileSet", "@id": "f", "containedIn": {"@id": "h"}, "includes": "*.parquet",
        "encodingFormat": "application/x-parquet",
    }  # fmt: skip
    return Ask(croissant=document([holder, files]), config={"hf_endpoint": place.site.url})


@case("git is given an address that is an option, and one that runs a command", refused=REFUSED)
def git_options(place: Place) -> Any:
    holder = {
        "@type": "cr:FileObject", "@id": "h", "contentUrl": "--upload-pack=touch /tmp/pwned", "encodingFormat": "git+https",
    }  # fmt: skip
    files = {"@type": "cr:FileSet", "@id": "f", "containedIn": {"@id": "h"}, "includes": "*.parquet"}
    return document([holder, {**files, "encodingFormat": "application/x-parquet"}])


@case("git is sent to a forbidden address", refused=REFUSED)
def git_forbidden(place: Place) -> Any:
    holder = {
        "@type": "cr:FileObject", "@id": "h", "contentUrl": f"{place.forbidden}/x.git", "encodingFormat": "git+https",
    }  # fmt: skip
    files = {"@type": "cr:FileSet", "@id": "f", "containedIn": {"@id": "h"}, "includes": "*.parquet"}
    return document([holder, {**files, "encodingFormat": "application/x-parquet"}])


@case("a CSV bomb that a server unpacks nothing of", refused=(SourceError, BuildError))
def server_bomb(place: Place) -> Any:
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as file:
        for _ in range(100):
            file.write(b"1" * 1_000_000)
    place.site.files["/a.csv.gz"] = out.getvalue()
    return document(file_object(f"{place.site.url}/a.csv.gz", "text/csv"), record_set("a"))

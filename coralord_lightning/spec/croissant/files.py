"""Croissant FileObject and FileSet to the files we read: formats, hashes, patterns. Opens none of them."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping

from coralord_lightning.spec.croissant.model import File
from coralord_lightning.spec.croissant.terms import Node, as_list, id_of
from coralord_lightning.spec.selection import FileFormat, FileObject, FileSet

__all__ = ["parse_files"]

_FORMATS: Mapping[str, FileFormat] = {
    "application/x-parquet": "parquet",
    "application/vnd.apache.parquet": "parquet",
    "application/parquet": "parquet",
    "text/csv": "csv",
    "application/csv": "csv",
    "text/tsv": "tsv",
    "text/tab-separated-values": "tsv",
    "application/jsonlines": "jsonl",
    "application/x-jsonlines": "jsonl",
    "application/json-lines": "jsonl",
    "application/jsonl": "jsonl",
    "text/jsonl": "jsonl",
    "application/ndjson": "jsonl",
    "application/x-ndjson": "jsonl",
}
_COMPRESSED = re.compile(r"\.(gz|bz2|zst|xz|zip|tar|tgz|7z)$", re.IGNORECASE)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_HEX = re.compile(r"[0-9a-fA-F]{64}")


def parse_files(dataset: Node) -> dict[str, File]:
    """Every FileObject and FileSet, by @id.

    Raises:
        CroissantSyntaxError: one has no @id, another @type, no contentUrl, or is contained in what is not there.
    """
    nodes = dataset.nodes("sc:distribution", "distribution")
    files: dict[str, File] = {}
    for node in nodes:
        file = _parse_file(node)
        if file.id in files:
            raise node.error("has the @id of another distribution", got=file.id)
        files[file.id] = file
    for node in nodes:
        for item in as_list(node.get("cr:containedIn")):
            holder = id_of(item)
            if holder not in files:
                raise node.error("is contained in what is not there", got=holder, expected=", ".join(files))
    return files


def _parse_file(node: Node) -> File:
    name = node.reference("@id") or node.text("sc:name")
    if name is None:
        raise node.error("has no @id", remedy='"@id": "data.parquet"')
    types = node.types()
    if "cr:FileObject" in types:
        return _parse_object(node, name)
    if "cr:FileSet" in types:
        return _parse_set(node, name)
    raise node.error("is neither a cr:FileObject nor a cr:FileSet", got=", ".join(types) or "no @type")


def _parse_object(node: Node, name: str) -> File:
    url = node.text("sc:contentUrl")
    contained = node.get("cr:containedIn") is not None
    if url is None and not contained:
        raise node.error("has no contentUrl", remedy='"contentUrl": "data.parquet"')
    format_, problems = _format(node)
    if contained:
        problems.append("containedIn (archives and repositories)")
    elif url is not None:
        problems += _address_problems(url)
    sha256 = _sha256(node)
    if sha256 is None and node.get("cr:md5") is not None:
        problems.append("md5 without sha256")
    if problems or format_ is None or url is None:
        return File(id=name, value=None, unsupported=tuple(problems))
    return File(id=name, value=FileObject(id=name, content_url=url, format=format_, sha256=sha256))


def _parse_set(node: Node, name: str) -> File:
    format_, problems = _format(node)
    if node.get("cr:containedIn") is not None:
        problems.append("containedIn (archives and repositories)")
    includes, excludes = (_patterns(node, term) for term in ("cr:includes", "cr:excludes"))
    if not includes:
        raise node.error("has no includes", remedy='"includes": "data/*.parquet"')
    problems += [f"compressed files ({pattern})" for pattern in includes if _COMPRESSED.search(pattern)]
    if problems or format_ is None:
        return File(id=name, value=None, unsupported=tuple(problems))
    return File(id=name, value=FileSet(id=name, format=format_, includes=includes, excludes=excludes))


def _patterns(node: Node, term: str) -> tuple[str, ...]:
    found = as_list(node.get(term))
    if not all(isinstance(pattern, str) and pattern for pattern in found):
        raise node.error(f"has {term.partition(':')[2]} that are no texts", expected='"data/*.parquet"')
    return tuple(found)


def _format(node: Node) -> tuple[FileFormat | None, list[str]]:
    said = [item for item in as_list(node.get("sc:encodingFormat")) if isinstance(item, str)]
    known = {_FORMATS[plain] for item in said if (plain := item.partition(";")[0].strip().lower()) in _FORMATS}
    if len(known) == 1:
        return known.pop(), []
    return None, [f"encodingFormat {', '.join(said) or 'left out'} (Parquet, CSV, TSV and JSON lines are read)"]


def _address_problems(url: str) -> list[str]:
    scheme = _SCHEME.match(url)
    problems = []
    if scheme is not None and scheme[1].lower() not in ("http", "https"):
        problems.append(f"addresses of the kind {scheme[1]}:")
    if _COMPRESSED.search(url.partition("?")[0]):
        problems.append("compressed files")
    return problems


def _sha256(node: Node) -> str | None:
    """The declared hash; None for none, and for the URL that some exporters write in its place."""
    said = node.get("sc:sha256")
    if said is None or (isinstance(said, str) and "://" in said):
        return None
    if isinstance(said, str) and _HEX.fullmatch(said):
        return said.lower()
    try:
        raw = base64.b64decode(said, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raw = b""
    if len(raw) != 32:
        raise node.error(
            "has a sha256 that is none", got=said, expected="64 hexadecimal digits", remedy="sha256sum FILE"
        )
    return raw.hex()

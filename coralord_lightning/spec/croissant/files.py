"""Croissant FileObject and FileSet to the files we read: formats, hashes, patterns, containers. Opens none of them."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from coralord_lightning.errors import CroissantSyntaxError
from coralord_lightning.spec.croissant.model import File
from coralord_lightning.spec.croissant.terms import Node, as_list, id_of
from coralord_lightning.spec.selection import ContainerFormat, FileFormat, FileObject, FileSet

__all__ = ["CONTAINERS", "format_of_name", "parse_files"]

_FORMATS: Mapping[str, FileFormat] = {
    "application/x-parquet": "parquet",
    "application/vnd.apache.parquet": "parquet",
    "application/parquet": "parquet",
    "parquet": "parquet",
    "text/csv": "csv",
    "application/csv": "csv",
    "text/x-csv": "csv",
    "text/tsv": "tsv",
    "text/tab-separated-values": "tsv",
    "application/jsonlines": "jsonl",
    "application/x-jsonlines": "jsonl",
    "application/json-lines": "jsonl",
    "application/jsonlines+json": "jsonl",
    "application/jsonl": "jsonl",
    "text/jsonl": "jsonl",
    "application/ndjson": "jsonl",
    "application/x-ndjson": "jsonl",
    "application/json": "json",
    "text/json": "json",
    "application/ld+json": "json",
    "application/geo+json": "json",
    "https://ml.cms.waikato.ac.nz/weka/arff.html": "arff",
    "application/x-arff": "arff",
}
_CONTAINERS: Mapping[str, ContainerFormat] = {
    "application/zip": "zip",
    "application/x-zip": "zip",
    "application/x-zip-compressed": "zip",
    "application/x-tar": "tar",
    "application/tar": "tar",
    "application/x-gtar": "tar",
    "application/x-compressed-tar": "tar",
    "application/gzip": "gzip",
    "application/x-gzip": "gzip",
    "application/x-bzip2": "gzip",
    "application/x-xz": "gzip",
    "application/zstd": "gzip",
    "git+https": "git",
    "git+http": "git",
}
CONTAINERS = frozenset({"zip", "tar", "gzip", "git"})
_TAR_NAME = re.compile(r"\.(tar|tgz|tbz2?|txz)(\.(gz|bz2|xz|zst))?$", re.IGNORECASE)
_ENDINGS: tuple[tuple[str, FileFormat | ContainerFormat], ...] = (
    (r"\.zip$", "zip"),
    (_TAR_NAME.pattern, "tar"),
    (r"\.parquet$", "parquet"),
    (r"\.csv(\.gz)?$", "csv"),
    (r"\.tsv(\.gz)?$", "tsv"),
    (r"\.(jsonl|ndjson)(\.gz)?$", "jsonl"),
    (r"\.json(\.gz)?$", "json"),
    (r"\.gz$", "gzip"),
)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_READ_SCHEMES = frozenset({"http", "https", "s3", "gs", "hf"})
_HEX = re.compile(r"[0-9a-fA-F]{64}")
_MD5 = re.compile(r"[0-9a-fA-F]{32}")
_MAX_CONTAINERS = 8


def parse_files(dataset: Node) -> dict[str, File]:
    """Every FileObject and FileSet, by @id.

    Raises:
        CroissantSyntaxError: one has no @id, another @type, no contentUrl, or is contained in what is not there.
    """
    nodes: dict[str, Node] = {}
    for node in dataset.nodes("sc:distribution", "distribution"):
        name = node.reference("@id") or node.text("sc:name")
        if name is None:
            raise node.error("has no @id", remedy='"@id": "data.parquet"')
        if name in nodes:
            raise node.error("has the @id of another distribution", got=name)
        nodes[name] = node
    parser = _Parser(nodes)
    return {name: parser.file(name) for name in nodes}


@dataclass(slots=True)
class _Parser:
    """Files by @id, each parsed once, its containers before it."""

    nodes: Mapping[str, Node]
    done: dict[str, File] = field(default_factory=dict)
    open: list[str] = field(default_factory=list)
    depths: dict[str, int] = field(default_factory=dict)

    def file(self, name: str) -> File:
        if name in self.done:
            return self.done[name]
        node = self.nodes[name]
        if name in self.open:
            raise node.error("is contained in itself", got=" in ".join([*self.open, name]))
        if len(self.open) >= _MAX_CONTAINERS:
            raise self._too_deep(node)
        self.open.append(name)
        self.done[name] = self._parse(node, name)
        self.open.pop()
        self.depths[name] = 1 + max((self.depths.get(holder, 0) for holder in _holders(node)), default=0)
        if self.depths[name] > _MAX_CONTAINERS + 1:
            raise self._too_deep(node)
        return self.done[name]

    def _too_deep(self, node: Node) -> CroissantSyntaxError:
        return node.error("is contained too deeply", expected=f"at most {_MAX_CONTAINERS} containers around a file")

    def _parse(self, node: Node, name: str) -> File:
        types = node.types()
        if "cr:FileObject" in types:
            return self._object(node, name)
        if "cr:FileSet" in types:
            return self._set(node, name)
        raise node.error("is neither a cr:FileObject nor a cr:FileSet", got=", ".join(types) or "no @type")

    def _object(self, node: Node, name: str) -> File:
        url = node.text("sc:contentUrl")
        within, problems = self._within(node)
        if url is None and not within:
            raise node.error("has no contentUrl", remedy='"contentUrl": "data.parquet"')
        if len(within) > 1:
            problems.append("a FileObject contained in several containers")
        if url is not None and not within:
            problems += _address_problems(url)
        said = _said(node)
        value = FileObject(
            id=name,
            content_url=url or "",
            format=_format(said, url or name, name),
            sha256=_sha256(node),
            md5=_md5(node),
            within=within[0] if within else None,
        )
        return File(id=name, value=None if problems else value, unsupported=tuple(problems), said=", ".join(said))

    def _set(self, node: Node, name: str) -> File:
        within, problems = self._within(node)
        includes, excludes = (_patterns(node, term) for term in ("cr:includes", "cr:excludes"))
        if not includes and not within and not problems:
            raise node.error("has no includes", remedy='"includes": "data/*.parquet"')
        said = _said(node)
        value = FileSet(
            id=name,
            format=_format(said, includes[0] if includes else "", name),
            includes=includes,
            excludes=excludes,
            within=within,
        )
        return File(id=name, value=None if problems else value, unsupported=tuple(problems), said=", ".join(said))

    def _within(self, node: Node) -> tuple[tuple[FileObject | FileSet, ...], list[str]]:
        found: list[FileObject | FileSet] = []
        problems: list[str] = []
        for item in as_list(node.get("cr:containedIn")):
            holder, more = _holder(node, item)
            problems += more
            if holder is None or holder not in self.nodes:
                raise node.error("is contained in what is not there", got=holder, expected=", ".join(self.nodes))
            file = self.file(holder)
            problems += file.unsupported
            if file.value is not None:
                found.append(file.value)
        return tuple(found), problems


def _holders(node: Node) -> list[str]:
    return [holder for item in as_list(node.get("cr:containedIn")) if (holder := _holder(node, item)[0]) is not None]


def _holder(node: Node, item: Any) -> tuple[str | None, list[str]]:
    """The @id in a containedIn, which may be a DataSource; what that needs which we do not read."""
    if not isinstance(item, Mapping) or "@id" in item:
        return id_of(item), []
    source = Node.of(item, node.context, node.where)
    problems = []
    for step in as_list(source.get("cr:transform")):
        terms = (
            Node.of(step, node.context, node.where).own_terms() if isinstance(step, Mapping) else {"a transform": True}
        )
        problems += [f"containedIn with {term.partition(':')[2] or term}" for term in terms if term != "cr:unArchive"]
    return source.reference("cr:fileObject") or source.reference("cr:fileSet"), problems


def _patterns(node: Node, term: str) -> tuple[str, ...]:
    found = as_list(node.get(term))
    if not all(isinstance(pattern, str) and pattern for pattern in found):
        raise node.error(f"has {term.partition(':')[2]} that are no texts", expected='"data/*.parquet"')
    return tuple(found)


def _said(node: Node) -> list[str]:
    return [item for item in as_list(node.get("sc:encodingFormat")) if isinstance(item, str)]


def _format(said: list[str], url: str, name: str) -> FileFormat | ContainerFormat:
    """How a file is read: by its encodingFormat; by its name where that says nothing or only that it is compressed."""
    plain = [item.partition(";")[0].strip().lower() for item in said]
    formats = {_FORMATS[item] for item in plain if item in _FORMATS}
    if len(formats) == 1:
        return formats.pop()
    containers = {_CONTAINERS[item] for item in plain if item in _CONTAINERS}
    path = url.partition("?")[0]
    if "gzip" in containers and (_TAR_NAME.search(path) or _TAR_NAME.search(name)):
        return "tar"
    if len(containers) == 1:
        return containers.pop()
    if path.lower().startswith("hf://") and path.count("/") <= 4 and "." not in path.rpartition("/")[2]:
        return "git"
    if said and "application/octet-stream" not in plain:
        return "any"
    return format_of_name(path)


def format_of_name(path: str) -> FileFormat | ContainerFormat:
    """The format that a file's name says; "any" where it says none."""
    return next((format_ for ending, format_ in _ENDINGS if re.search(ending, path, re.IGNORECASE)), "any")


def _address_problems(url: str) -> list[str]:
    scheme = _SCHEME.match(url)
    if scheme is not None and scheme[1].lower() not in _READ_SCHEMES:
        return [f"addresses of the kind {scheme[1]}: (http, https, s3, gs and hf are read)"]
    return []


def _sha256(node: Node) -> str | None:
    """The declared hash; None for none, and for the URL that some exporters write in its place."""
    said = node.get("sc:sha256")
    if said is None or (isinstance(said, str) and "://" in said):
        return None
    if isinstance(said, str) and _HEX.fullmatch(said):
        return said.lower()
    raw = _base64(said)
    if len(raw) != 32:
        raise node.error(
            "has a sha256 that is none", got=said, expected="64 hexadecimal digits", remedy="sha256sum FILE"
        )
    return raw.hex()


def _md5(node: Node) -> str | None:
    said = node.get("cr:md5") or node.terms.get("sc:md5")
    if said is None or (isinstance(said, str) and "://" in said):
        return None
    if isinstance(said, str) and _MD5.fullmatch(said):
        return said.lower()
    raw = _base64(said)
    if len(raw) != 16:
        raise node.error("has an md5 that is none", got=said, expected="32 hexadecimal digits", remedy="md5sum FILE")
    return raw.hex()


def _base64(said: object) -> bytes:
    try:
        return base64.b64decode(said, validate=True)  # type: ignore[arg-type]  # what is no text raises TypeError
    except (binascii.Error, TypeError, ValueError):
        return b""

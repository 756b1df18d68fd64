"""From what plain files hold to the Croissant file that describes them. Pure: sees columns and names, opens no file.

What it writes is the user's to change: nothing in it is a date, a random name, or depends on the order of a listing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from coralord_lightning.spec.infer_globs import includes_for
from coralord_lightning.spec.infer_names import Names, SplitRule, image_split, slug, table_split

__all__ = [
    "CONTEXT",
    "Inferred",
    "ObservedColumn",
    "ObservedFile",
    "ObservedFormat",
    "infer",
    "joined",
    "split_record_set",
]

Json = Any
ObservedFormat = Literal["parquet", "csv", "tsv", "jsonl", "image", "audio"]

_TERMS = (
    "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "excludes", "extract", "field", "fileObject",
    "fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5",
    "parentField", "path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate", "separator",
    "source", "subField", "transform",
)  # fmt: skip
CONTEXT: Mapping[str, Json] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{term: f"cr:{term}" for term in _TERMS},
}
_MEDIA_TYPES: Mapping[str, str] = {
    "parquet": "application/x-parquet", "csv": "text/csv", "tsv": "text/tab-separated-values",
    "jsonl": "application/jsonlines",
    "jpg": "image/jpeg", "jpeg": "image/jpeg", "png": "image/png", "gif": "image/gif", "bmp": "image/bmp",
    "webp": "image/webp", "tif": "image/tiff", "tiff": "image/tiff",
    "wav": "audio/wav", "flac": "audio/flac", "ogg": "audio/ogg", "mp3": "audio/mpeg",
}  # fmt: skip
_INTEGERS = frozenset({"sc:Integer", *(f"cr:{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))})
_FLOATS = frozenset({"sc:Float", "cr:Float16", "cr:Float32", "cr:Float64"})
NOTHING, STRUCT = "nothing", "struct"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedColumn:
    """One column as a file holds it.

    Args:
        kind: a Croissant data type; "struct" for one with children; "nothing" where no row has a value.
        shape: () for a scalar; one number per dimension otherwise, -1 where lengths differ or may.
        path: where in a struct the value is, as a JSON path; "" for all of the column.
    """

    name: str
    kind: str
    shape: tuple[int, ...] = ()
    path: str = ""
    children: tuple[ObservedColumn, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedFile:
    """What one file holds.

    Args:
        name: relative path with `/`.
        num_rows: None where nobody counted them.
        left_out: column -> why Croissant cannot describe it.
    """

    name: str
    format: ObservedFormat
    columns: tuple[ObservedColumn, ...] = ()
    num_rows: int | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    sha256: str | None = None
    size_bytes: int | None = None

    @property
    def suffix(self) -> str:
        """The ending of its name, in lower case, without the dot."""
        return self.name.rpartition(".")[2].lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inferred:
    """A Croissant document, and what it leaves out, in words."""

    document: Mapping[str, Json]
    notes: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class _Group:
    """Files that make one record set."""

    files: list[ObservedFile]
    columns: tuple[ObservedColumn, ...]

    @property
    def format(self) -> ObservedFormat:
        return self.files[0].format


def infer(
    files: Sequence[ObservedFile],
    *,
    name: str,
    universe: Sequence[str] | None = None,
    patterns: tuple[str, ...] = (),
    sets_only: bool = False,
) -> Inferred:
    """Describe files: those of one schema as one record set, others apart.

    Args:
        name: the dataset's.
        universe: every file that a glob would see; None where the files were named by `patterns`.
        sets_only: a lone file is a FileSet too, so that what it is called stays when others come.
    """
    ordered = sorted(files, key=lambda item: item.name)
    names = Names()
    distribution, record_sets = [], []
    groups = _groups(ordered)
    for group in groups:
        if universe is None:
            includes = patterns if len(groups) == 1 else includes_for([file.name for file in group.files], None)
        else:
            includes = includes_for([file.name for file in group.files], universe)
        identity = names.unique(slug(_title(group, name)))
        node = _file_node(group, identity, includes, names, sets_only=sets_only)
        distribution.append(node)
        record_sets += _record_sets(group, identity, node, names)
    document = {
        "@context": dict(CONTEXT),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": slug(name),
        "distribution": distribution,
        "recordSet": record_sets,
    }
    return Inferred(document=document, notes=tuple(_notes(ordered)))


def joined(one: ObservedColumn, other: ObservedColumn, *, text: bool) -> ObservedColumn | None:
    """The column that holds what either holds; None where there is none.

    Args:
        text: whether everything may be text, as in CSV, where it is.
    """
    if one == other or other.kind == NOTHING:
        return one
    if one.kind == NOTHING:
        return other
    if (one.path, len(one.shape)) != (other.path, len(other.shape)):
        return None
    shape = tuple(a if a == b else -1 for a, b in zip(one.shape, other.shape, strict=True))
    if STRUCT in (one.kind, other.kind):
        children = _joined_columns(one.children, other.children, text=text) if one.kind == other.kind else None
        return None if children is None else replace(one, children=children)
    kind = _joined_kind(one.kind, other.kind) or ("sc:Text" if text else None)
    return None if kind is None else replace(one, kind=kind, shape=shape)


def _joined_kind(one: str, other: str) -> str | None:
    kinds = {one, other}
    if len(kinds) == 1:
        return one
    if "cr:UInt64" in kinds and kinds & {"sc:Integer", "cr:Int8", "cr:Int16", "cr:Int32", "cr:Int64"}:
        return None  # no integer type holds both
    if kinds <= _INTEGERS:
        return "sc:Integer"
    return "sc:Float" if kinds <= _INTEGERS | _FLOATS else None


def _joined_columns(
    one: Sequence[ObservedColumn], other: Sequence[ObservedColumn], *, text: bool
) -> tuple[ObservedColumn, ...] | None:
    """Columns of the same names, joined one by one, in the order of the first."""
    theirs = {column.name: column for column in other}
    if {column.name for column in one} != theirs.keys():
        return None
    both = [joined(column, theirs[column.name], text=text) for column in one]
    return None if None in both else tuple(column for column in both if column is not None)


def _groups(files: Sequence[ObservedFile]) -> list[_Group]:
    groups: list[_Group] = []
    for file in files:
        group = next((group for group in groups if _take(group, file)), None)
        if group is None:
            groups.append(_Group(files=[file], columns=file.columns))
    return groups


def _take(group: _Group, file: ObservedFile) -> bool:
    """Put a file into a group, if it has its schema."""
    if file.format != group.format:
        return False
    if file.format in ("image", "audio"):
        same = file.name.count("/") == group.files[0].name.count("/")
    else:
        columns = _common(group, file)
        same = columns is not None
        group.columns = columns or group.columns
    if same:
        group.files.append(file)
    return same


def _common(group: _Group, file: ObservedFile) -> tuple[ObservedColumn, ...] | None:
    """The columns of a group with one more file; in JSON lines a file may lack keys of the others."""
    ours, theirs = ({column.name for column in columns} for columns in (group.columns, file.columns))
    if ours == theirs or file.format != "jsonl":
        return _joined_columns(group.columns, file.columns, text=file.format in ("csv", "tsv"))
    if not ours & theirs or not (ours <= theirs or theirs <= ours):
        return None
    known = {column.name: column for column in (*file.columns, *group.columns)}
    absent = [ObservedColumn(name=name, kind=NOTHING) for name in known]
    full = {column.name: column for column in (*absent, *group.columns)}
    other = {column.name: column for column in (*absent, *file.columns)}
    return _joined_columns(tuple(full.values()), tuple(other.values()), text=False)


def _title(group: _Group, dataset: str) -> str:
    """What to call a record set: its one file's name, its folder's, or the dataset's."""
    if group.format in ("image", "audio"):
        return "images" if group.format == "image" else "audio"
    first = group.files[0].name
    if len(group.files) == 1:
        return first.rpartition("/")[2].rpartition(".")[0]
    folders = {file.name.rpartition("/")[0] for file in group.files}
    return (folders.pop().rpartition("/")[2] if len(folders) == 1 else "") or dataset


def _file_node(
    group: _Group, identity: str, includes: tuple[str, ...], names: Names, *, sets_only: bool
) -> dict[str, Json]:
    media = list(
        dict.fromkeys(_MEDIA_TYPES.get(file.suffix, _MEDIA_TYPES.get(group.format, "")) for file in group.files)
    )
    encoding: Json = media[0] if len(media) == 1 else media
    if len(group.files) > 1 or group.format in ("image", "audio") or sets_only:
        node = names.unique(f"{identity}-files")
        return {
            "@type": "cr:FileSet",
            "@id": node,
            "name": node,
            "encodingFormat": encoding,
            "includes": includes[0] if len(includes) == 1 else list(includes),
        }
    file = group.files[0]
    node = names.unique(slug(file.name.rpartition("/")[2]))
    out = {"@type": "cr:FileObject", "@id": node, "name": node, "contentUrl": file.name, "encodingFormat": encoding}
    if file.size_bytes is not None:
        out["contentSize"] = f"{file.size_bytes} B"
    if file.sha256 is not None:
        out["sha256"] = file.sha256
    return out


def _record_sets(group: _Group, identity: str, node: Mapping[str, Json], names: Names) -> list[Json]:
    """The group's record set, after the enumeration of its splits where it has some."""
    source = {("fileSet" if node["@type"] == "cr:FileSet" else "fileObject"): {"@id": node["@id"]}}
    paths = [file.name for file in group.files]
    taken = {slug(column.name, spaces=True) for column in group.columns}
    fields = _Fields(identity=identity, source=source, names=names)
    media = group.format in ("image", "audio")
    split = image_split(paths) if media else table_split(paths)
    out: list[Json] = []
    if split is not None:
        called = next(word for word in ("split", "file_split", "split_of_file") if word not in taken)
        listed = names.unique(f"{identity}_splits")
        out.append(split_record_set(listed, f"{listed}/name", split.values))
        fields.add_split(called, split, out[0]["key"]["@id"])
    if media:
        fields.add_media(group.format, paths, split)
    for column in group.columns:
        fields.add(column)
    out.append({"@type": "cr:RecordSet", "@id": identity, "name": identity, "field": fields.nodes})
    return out


def split_record_set(identity: str, key: str, splits: Iterable[str]) -> dict[str, Json]:
    """The record set of the splits there are (cr:Split); `key` is the @id of the field of their names."""
    return {
        "@type": "cr:RecordSet",
        "@id": identity,
        "name": identity,
        "dataType": "cr:Split",
        "key": {"@id": key},
        "field": [{"@type": "cr:Field", "@id": key, "name": key, "dataType": "sc:Text"}],
        "data": [{key: split} for split in splits],
    }


@dataclass(slots=True, kw_only=True)
class _Fields:
    """The fields of one record set, as they are added."""

    identity: str
    source: Mapping[str, Json]
    names: Names
    nodes: list[Json] = field(default_factory=list)

    def add_split(self, name: str, split: SplitRule, key: str) -> None:
        node = self._file_property(name, "fullpath", split.regex)
        self.nodes.append(node | {"references": {"field": {"@id": key}}})

    def add_media(self, kind: ObservedFormat, paths: Sequence[str], split: SplitRule | None) -> None:
        """What a file of its own kind is: its content, its name, and the folder that is its class."""
        dtype = "sc:ImageObject" if kind == "image" else "sc:AudioObject"
        self.nodes.append(self._file_property(kind, "content", None, dtype))
        self.nodes.append(self._file_property("filename", "filename", None))
        parents = {path.split("/")[-2] for path in paths if "/" in path}
        if len(parents) > 1 and not (split is not None and split.is_parent):
            self.nodes.append(self._file_property("label", "fullpath", "([^/]+)/[^/]+$"))

    def add(self, column: ObservedColumn) -> None:
        self.nodes.append(self._column(column, self.identity, column.name, ()))

    def _column(self, column: ObservedColumn, parent: str, name: str, steps: tuple[str, ...]) -> dict[str, Json]:
        identity = self.names.unique(f"{parent}/{slug(column.name)}")
        out: dict[str, Json] = {"@type": "cr:Field", "@id": identity, "name": f"{parent}/{_leaf(column.name)}"}
        if column.kind == STRUCT:
            children = [self._column(item, identity, name, (*steps, item.name)) for item in column.children]
            return out | {"subField": children}
        out["dataType"] = "sc:Text" if column.kind == NOTHING else column.kind
        if column.shape:
            out |= {"isArray": True, "arrayShape": ",".join(map(str, column.shape))}
        steps = (*steps, column.path) if column.path else steps
        source: dict[str, Json] = {**self.source, "extract": {"column": name}}
        if steps:
            transforms = [{"jsonPath": step} for step in steps]
            source["transform"] = transforms[0] if len(transforms) == 1 else transforms
        return out | {"source": source}

    def _file_property(self, name: str, what: str, regex: str | None, dtype: str = "sc:Text") -> dict[str, Json]:
        identity = self.names.unique(f"{self.identity}/{name}")
        source: dict[str, Json] = {**self.source, "extract": {"fileProperty": what}}
        if regex is not None:
            source["transform"] = {"regex": regex}
        return {"@type": "cr:Field", "@id": identity, "name": identity, "dataType": dtype, "source": source}


def _leaf(name: str) -> str:
    """A column's name as the last part of a field's: without the `/` that would cut it."""
    return re.sub(r"[/\s]+", "_", name) if re.search(r"[/\n\r\t]", name) else name


def _notes(files: Sequence[ObservedFile]) -> list[str]:
    return [
        f"{file.name}: column '{column}' is left out: {why}" for file in files for column, why in file.left_out.items()
    ]

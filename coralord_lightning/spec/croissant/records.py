"""Croissant RecordSet and Field to typed records: data types, shapes, sources, keys, inline rows. Reads no file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from coralord_lightning.spec.croissant.model import Field, File, RecordSet
from coralord_lightning.spec.croissant.terms import Node, as_list, id_of
from coralord_lightning.spec.selection import DType, InlineData

__all__ = ["parse_record_sets"]

_DTYPES: Mapping[str, DType] = {
    "sc:Text": "text", "sc:URL": "text", "sc:Boolean": "bool", "sc:Integer": "integer", "sc:Float": "float",
    "sc:Number": "float", "sc:Date": "date", "sc:DateTime": "timestamp", "sc:Time": "time",
    "cr:Int8": "int8", "cr:Int16": "int16", "cr:Int32": "int32", "cr:Int64": "int64",
    "cr:UInt8": "uint8", "cr:UInt16": "uint16", "cr:UInt32": "uint32", "cr:UInt64": "uint64",
    "cr:Float16": "float16", "cr:Float32": "float32", "cr:Float64": "float64",
}  # fmt: skip
_SPLIT_TYPES = frozenset({"cr:Split", "https://www.wikidata.org/wiki/Q3985153", "wd:Q3985153"})
_OTHER_TYPES = {"sc:ImageObject": "images", "sc:AudioObject": "audio", "sc:VideoObject": "video"}
_SHAPE = re.compile(r"[\[(]?\s*(-?\d+(?:\s*,\s*-?\d+)*)\s*,?\s*[\])]?")
_UNREAD = {
    "cr:subField": "subField (nested records)",
    "cr:parentField": "parentField",
    "cr:value": "value (a constant)",
}
_SOURCES = ("cr:fileObject", "cr:fileSet", "sc:distribution", "cr:distribution")


def parse_record_sets(dataset: Node, files: Mapping[str, File]) -> tuple[RecordSet, ...]:
    """Every record set.

    Raises:
        CroissantSyntaxError: one of them, or of their fields, is no valid Croissant; names it.
    """
    nodes = dataset.nodes("cr:recordSet", "record set")
    splits = {_identity(node) for node in nodes if _SPLIT_TYPES & set(node.types("cr:dataType"))}
    return tuple(_parse_record_set(node, files, splits) for node in nodes)


def _identity(node: Node) -> str:
    found = node.reference("@id") or node.text("sc:name")
    if found is None:
        raise node.error("has neither @id nor name", remedy='"@id": "digits"')
    return found


def _parse_record_set(node: Node, files: Mapping[str, File], splits: set[str]) -> RecordSet:
    identity = _identity(node)
    if "cr:RecordSet" not in node.types():
        raise node.error("is no cr:RecordSet", got=", ".join(node.types()) or "no @type")
    data = as_list(node.get("cr:data"))
    nodes = node.nodes("cr:field", "field")
    fields = tuple(_parse_field(child, files, splits, inline=bool(data)) for child in nodes)
    return RecordSet(
        id=identity,
        name=node.text("sc:name") or identity,
        fields=fields,
        key=_key(node, identity, fields),
        data=_rows(node, data, fields) if data else None,
    )


def _parse_field(node: Node, files: Mapping[str, File], splits: set[str], *, inline: bool) -> Field:
    identity = _identity(node)
    if "cr:Field" not in node.types():
        raise node.error("is no cr:Field", got=", ".join(node.types()) or "no @type")
    name = (node.text("sc:name") or identity).rpartition("/")[2]
    references = _references(node)
    problems = [reason for term, reason in _UNREAD.items() if node.get(term) is not None]
    dtype, is_split = _data_type(node, problems)
    file, column = (None, name) if inline else _source(node, files, problems, references)
    return Field(
        id=identity,
        name=name or identity,
        file=file,
        column=column,
        dtype=dtype,
        shape=_shape(node),
        is_split=is_split or (references or "").rpartition("/")[0] in splits,
        references=references,
        unsupported=tuple(problems),
    )


def _data_type(node: Node, problems: list[str]) -> tuple[DType | None, bool]:
    types = node.types("cr:dataType")
    is_split = bool(_SPLIT_TYPES & set(types))
    known = sorted({_DTYPES[item] for item in types if item in _DTYPES})
    if len(known) == 1:
        return known[0], is_split
    if is_split and not types[1:]:
        return "text", True  # cr:Split alone: the name of a split
    if known:
        problems.append(f"several data types ({', '.join(types)})")
    else:
        named = [_OTHER_TYPES.get(item, f"data type {item}") for item in types]
        problems.append(", ".join(named) or "a field without dataType")
    return None, is_split


def _shape(node: Node) -> tuple[int, ...]:
    said = node.get("cr:arrayShape")
    is_array = node.get("cr:isArray") if node.get("cr:isArray") is not None else node.get("cr:repeated")
    if is_array is False or is_array == "false" or (said is None and not is_array):
        return ()
    if said is None:
        return (-1,)
    text = ",".join(map(str, said)) if isinstance(said, list) else str(said)
    found = _SHAPE.fullmatch(text.strip())
    shape = tuple(int(size) for size in found[1].split(",")) if found is not None else ()
    if not shape or any(size == 0 or size < -1 for size in shape):
        raise node.error("has an arrayShape that is no shape", got=said, expected='numbers with commas, e.g. "8,8"')
    return shape


def _references(node: Node) -> str | None:
    said = node.get("cr:references")
    if isinstance(said, Mapping):
        inner = Node.of(said, node.context, node.where)
        return inner.reference("cr:field") or inner.reference("@id")
    return said if isinstance(said, str) else None


def _source(
    node: Node, files: Mapping[str, File], problems: list[str], references: str | None
) -> tuple[str | None, str]:
    """The file a field comes from and its column there."""
    said = node.get("cr:source")
    if said is None:
        if node.get("cr:references") is not None:
            problems.append(f"references without a source (a join with {references or 'a file'})")
        elif not problems:
            raise node.error(
                "has no source", remedy='"source": {"fileObject": {"@id": "data"}, "extract": {"column": "x"}}'
            )
        return None, ""
    if not isinstance(said, Mapping):
        problems.append("several sources" if isinstance(said, list) else "a source that is another field")
        return None, ""
    source = Node.of(said, node.context, node.where)
    file = next((found for term in _SOURCES if (found := source.reference(term))), None)
    if file is None:
        problems.append("a source that is no file")
        return None, ""
    if file not in files:
        raise node.error("comes from a file that is not there", got=file, expected=", ".join(files))
    problems += [f"source.{term.partition(':')[2]}" for term in ("cr:transform", "cr:format") if source.get(term)]
    return file, _column(node, source, problems)


def _column(node: Node, source: Node, problems: list[str]) -> str:
    said = source.get("cr:extract")
    extract = Node.of(said, node.context, node.where) if isinstance(said, Mapping) else None
    column = extract.get("cr:column") if extract is not None else None
    if isinstance(column, str) and column:
        return column
    names = [key.partition(":")[2] for key in extract.terms] if extract is not None else ["left out"]
    problems.append(f"extract.{', '.join(names)}" if extract is not None else "a source without extract")
    return ""


def _key(node: Node, record_set: str, fields: Iterable[Field]) -> tuple[str, ...] | None:
    """Names of the key fields: `{"@id": "images/id"}`, and the short form `{"@id": "id"}` of older files."""
    names = {
        spelling: field.name for field in fields for spelling in (field.id, f"{record_set}/{field.name}", field.name)
    }
    found = []
    for item in as_list(node.get("cr:key")):
        said = id_of(item)
        if said is None or said not in names:
            return None
        found.append(names[said])
    return tuple(found)


def _rows(node: Node, data: list[Any], fields: tuple[Field, ...]) -> InlineData:
    """Inline rows with their keys folded to field names."""
    names = {spelling: field.name for field in fields for spelling in (field.name, field.id)}
    rows = []
    for number, row in enumerate(data):
        if not isinstance(row, Mapping):
            raise node.error(f"has a row in data that is no object: row {number}", got=str(row)[:80])
        unknown = [key for key in row if key not in names]
        if unknown:
            raise node.error(
                f"has a row in data with a key that is no field: row {number}",
                got=unknown[0],
                expected=", ".join(names),
            )
        rows.append({names[key]: value for key, value in row.items()})
    return InlineData(rows=tuple(rows))

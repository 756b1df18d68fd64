"""Croissant data types and array shapes to ours. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from coralord_lightning.spec.croissant.model import Media
from coralord_lightning.spec.croissant.terms import Node
from coralord_lightning.spec.selection import DType

__all__ = ["SPLIT_TYPES", "Types", "read_shape", "read_types"]

SPLIT_TYPES = frozenset({"cr:Split", "https://www.wikidata.org/wiki/Q3985153", "wd:Q3985153"})
_DTYPES: Mapping[str, DType] = {
    "sc:Text": "text", "sc:String": "text", "sc:URL": "text", "sc:Boolean": "bool", "sc:Integer": "integer",
    "sc:Float": "float", "sc:Number": "float", "sc:Date": "date", "sc:DateTime": "timestamp", "sc:Time": "time",
    "cr:Int8": "int8", "cr:Int16": "int16", "cr:Int32": "int32", "cr:Int64": "int64",
    "cr:UInt8": "uint8", "cr:UInt16": "uint16", "cr:UInt32": "uint32", "cr:UInt64": "uint64",
    "cr:Float16": "float16", "cr:Float32": "float32", "cr:Float64": "float64",
}  # fmt: skip
_MEDIA: Mapping[str, Media] = {
    "sc:ImageObject": "image", "cr:SegmentationMask": "image", "sc:AudioObject": "audio", "sc:VideoObject": "video",
}  # fmt: skip
_BOX = "cr:BoundingBox"
_BYTES = "https://w3id.org/coralord-lightning/ns#Bytes"
"""What our own exports say of bytes, beside sc:Text, for Croissant has no word for them."""
_SHAPE = re.compile(r"[\[(]?\s*(-?\d{1,18}(?:\s*,\s*-?\d{1,18})*)\s*,?\s*[\])]?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Types:
    """What a field's data types come to.

    Args:
        inner_shape: (4,) for a bounding box.
    """

    dtype: DType | None
    media: Media | None = None
    is_split: bool = False
    inner_shape: tuple[int, ...] = ()


def read_types(node: Node, problems: list[str], *, is_known: bool) -> Types:
    """The one type to read a field as, of all that it is said to be.

    Args:
        problems: gets a reason where there is no such type.
        is_known: where no data type is said, another field says it.
    """
    types = node.types("cr:dataType")
    is_split = bool(SPLIT_TYPES & set(types))
    media = next((_MEDIA[item] for item in types if item in _MEDIA), None)
    known = sorted({_DTYPES[item] for item in types if item in _DTYPES})
    if _BOX in types:
        return Types(dtype="float", inner_shape=(4,))
    if media is not None and "sc:GeoShape" not in types:
        return Types(dtype="bytes", media=media, is_split=is_split)
    if _BYTES in types or len(known) == 1:
        return Types(dtype="bytes" if _BYTES in types else known[0], is_split=is_split)
    if known == ["float", "integer"]:
        return Types(dtype="float", is_split=is_split)  # every whole number is a float, and not the other way round
    if (is_split and not types[1:]) or (media is not None and not known):
        return Types(dtype="text", is_split=is_split)  # cr:Split alone: a split's name; a GeoShape is written as text
    if known:
        problems.append(f"several data types ({', '.join(types)})")
    elif not is_known:
        problems.append(", ".join(f"data type {item}" for item in types) or "a field without dataType")
    return Types(dtype=None, is_split=is_split)


def read_shape(node: Node) -> tuple[int, ...]:
    """The shape of a field that is an array, (-1,) where none is said; () otherwise.

    Raises:
        CroissantSyntaxError: what is said is no shape.
    """
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

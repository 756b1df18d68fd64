"""The options of one field to a refinement: decode, encode, nulls, each checked against the field. Pure; sees no value.

What is left out is filled in, so that one meaning has one fingerprint: pictures are uint8 and HWC, sound is mono.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from coralord_lightning.errors import DescriptorValueError
from coralord_lightning.spec.selection import Refinement, SelectedField

if TYPE_CHECKING:
    from coralord_lightning.spec.descriptor import FieldOptions, SubsetDescriptor

__all__ = ["refined", "refinement_of"]

_INTEGERS = {f"{sign}int{bits}": bits for sign in ("", "u") for bits in (8, 16, 32, 64)} | {"integer": 64}
_FLOATS = frozenset({"float16", "float32", "float64", "float"})
_MAX_FLOAT = {"float16": 65504.0, "float32": 3.4028234663852886e38}
_CHANNELS = (1, 3, 4)


def refined(descriptor: SubsetDescriptor, item: SelectedField, *names: str) -> SelectedField:
    """A selected field with what the descriptor's options make of it; without options, as it is.

    Args:
        names: what the descriptor may call it: its name, its @id.
    Raises:
        DescriptorValueError: an option cannot be used with this field; it names key and line.
    """
    choice = descriptor.fields
    asked = {} if choice is None else choice.options
    name = next((name for name in (item.name, *names) if name in asked), None)
    if choice is None or name is None:
        return item
    try:
        refinement = refinement_of(asked[name], item)
        if refinement is not None and refinement.nulls == "mask":
            _require_free(f"{item.name}_is_null", choice.names, item)
    except DescriptorValueError as error:
        key = f"fields.{name}.{error.subject.rpartition('.')[2]}"
        error.subject = key
        error.facts = {"at": descriptor.key_line(key), **error.facts}
        raise
    return replace(item, refine=refinement)


def refinement_of(options: FieldOptions, field: SelectedField) -> Refinement | None:
    """What these options make of a field; None where they ask for nothing.

    Raises:
        DescriptorValueError: an option cannot be used with this field.
    """
    asked = Refinement(
        decode=options.decode,
        shape=options.shape,
        dtype=options.dtype,
        layout=options.layout,
        sample_rate=options.sample_rate,
        encode=options.encode,
        classes=options.classes,
        nulls=options.nulls,
        fill=options.fill,
    )
    if asked == Refinement():
        return None
    _check_owners(asked, field)
    if asked.decode == "image":
        asked = _image(asked, field)
    elif asked.decode == "audio":
        asked = _audio(asked, field)
    elif asked.encode is not None:
        _check_category(field)
    return _nulls(asked, field)


def _check_owners(asked: Refinement, field: SelectedField) -> None:
    """Refuse an option whose other half is not there."""
    owners = {
        "shape": ("decode", asked.decode is not None, "decode: image"),
        "dtype": ("decode", asked.decode is not None, "decode: image"),
        "layout": ("decode: image", asked.decode == "image", "decode: image"),
        "sample_rate": ("decode: audio", asked.decode == "audio", "decode: audio"),
        "classes": ("encode", asked.encode is not None, "encode: category"),
        "fill": ("nulls: fill", asked.nulls == "fill", "nulls: fill"),
    }
    for option, (owner, there, remedy) in owners.items():
        if getattr(asked, option) is not None and not there:
            _refuse(field, option, f"goes with {owner}, which is not said", remedy=remedy)
    if asked.decode is not None and asked.encode is not None:
        _refuse(field, "encode", "and decode cannot both be made of one field", remedy=f"decode: {asked.decode}")


def _image(asked: Refinement, field: SelectedField) -> Refinement:
    _require_encoded(field, "image")
    layout = asked.layout or "HWC"
    shape = asked.shape
    if shape is not None:
        _check_sizes(shape, field)
        if len(shape) not in (2, 3):
            _refuse(
                field,
                "shape",
                "has too many or too few sizes",
                got=list(shape),
                expected="[height, width], or [height, width, channels]",
                remedy="shape: [28, 28]",
            )
        if len(shape) == 3 and shape[2 if layout == "HWC" else 0] not in _CHANNELS:
            other = "CHW" if layout == "HWC" else "HWC"
            fits = shape[0 if layout == "HWC" else 2] in _CHANNELS
            _refuse(
                field,
                "shape",
                f"has no number of channels where layout {layout} has it",
                got=list(shape),
                expected="1, 3 or 4 channels",
                remedy=f"layout: {other}" if fits else "shape: [28, 28, 3]",
            )
    return replace(
        asked, dtype=asked.dtype or "uint8", layout=None if shape is not None and len(shape) == 2 else layout
    )


def _audio(asked: Refinement, field: SelectedField) -> Refinement:
    _require_encoded(field, "audio")
    if asked.dtype not in (None, "float32"):
        _refuse(
            field,
            "dtype",
            "is not what sound is decoded to",
            got=asked.dtype,
            expected="float32",
            remedy="dtype: float32",
        )
    shape = asked.shape or (-1,)
    _check_sizes(shape, field)
    if len(shape) > 2 or (len(shape) == 2 and shape[0] == -1):
        _refuse(
            field,
            "shape",
            "is none of sound",
            got=list(shape),
            expected="[samples] or [channels, samples]",
            remedy="shape: [-1]",
        )
    return replace(asked, shape=shape, dtype=None)


def _require_encoded(field: SelectedField, what: str) -> None:
    if field.dtype != "bytes" or field.shape:
        _refuse(
            field,
            "decode",
            f"needs the bytes of one encoded {what} a row",
            got=_kind(field),
            expected="bytes",
            remedy=f"leave decode out, or give '{field.name}' the dataType sc:{what.capitalize()}Object "
            "in the Croissant file",
        )


def _check_sizes(shape: tuple[int, ...], field: SelectedField) -> None:
    fixed = [size for size in shape if size != -1]
    if any(size < 1 for size in fixed) or math.prod(fixed) >= 2**31:
        _refuse(
            field,
            "shape",
            "has a size that no tensor can have",
            got=list(shape),
            expected="sizes above 0, or -1 where they differ from row to row",
            remedy="shape: [28, 28]",
        )


def _check_category(field: SelectedField) -> None:
    if field.dtype != "text" or field.shape:
        _refuse(
            field,
            "encode",
            "gives numbers to texts, one a row",
            got=_kind(field),
            expected="text",
            remedy=f"fields: {{{field.name}: {{}}}}",
        )


def _nulls(asked: Refinement, field: SelectedField) -> Refinement:
    """Check what is to become of nulls, and give the fill the type of the field."""
    if asked.nulls in (None, "error"):
        return asked
    shape = asked.shape or () if asked.decode is not None else field.shape
    number = asked.decode is not None or asked.encode is not None or _is_number(field)
    if not number or -1 in shape:
        what = "a list that differs in length from row to row" if -1 in shape else _kind(field)
        _refuse(
            field,
            "nulls",
            f"can be {asked.nulls} in fields of numbers and fixed shapes only",
            got=what,
            remedy="nulls: error",
        )
    if asked.nulls == "mask":
        return asked
    if asked.fill is None:
        _refuse(
            field, "fill", "is missing", expected="what stands for a null", remedy=f"fill: {_example(asked, field)}"
        )
    return replace(asked, fill=_typed_fill(asked, field))


def _is_number(field: SelectedField) -> bool:
    return field.dtype in _INTEGERS or field.dtype in _FLOATS or field.dtype == "bool"


def _typed_fill(asked: Refinement, field: SelectedField) -> bool | int | float | str:
    fill = asked.fill
    if asked.encode is not None:
        if isinstance(fill, str) and (asked.classes is None or fill in asked.classes):
            return fill
        expected = "one of the classes" if asked.classes is not None else "a text: the class of nulls"
        _bad_fill(asked, field, expected)
    dtype = field.dtype if asked.decode is None else asked.dtype or "float32"
    if dtype == "bool":
        return fill if isinstance(fill, bool) else _bad_fill(asked, field, "true or false")
    if isinstance(fill, bool) or not isinstance(fill, int | float):
        _bad_fill(asked, field, f"a number of type {dtype}")
    if dtype in _FLOATS:
        value = float(fill) if abs(fill) < 2**1023 else math.inf
        return value if abs(value) <= _MAX_FLOAT.get(dtype, 2.0**1023) else _bad_fill(asked, field, f"a {dtype}")
    low, high = _range(dtype)
    return fill if isinstance(fill, int) and low <= fill <= high else _bad_fill(asked, field, f"{low} to {high}")


def _range(dtype: str) -> tuple[int, int]:
    bits = _INTEGERS[dtype]
    return (0, 2**bits - 1) if dtype.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _bad_fill(asked: Refinement, field: SelectedField, expected: str) -> NoReturn:
    _refuse(
        field,
        "fill",
        "is no value that the field can have",
        got=asked.fill,
        expected=expected,
        remedy=f"fill: {_example(asked, field)}",
    )


def _example(asked: Refinement, field: SelectedField) -> str:
    if asked.encode is not None:
        return asked.classes[0] if asked.classes else "unknown"
    return "false" if field.dtype == "bool" else "0"


def _require_free(name: str, names: tuple[str, ...], field: SelectedField) -> None:
    """Refuse a mask whose column another field has the name of."""
    if any(other.rpartition("/")[2] == name for other in names):
        _refuse(field, "nulls", f"would add a field {name!r}, and there is one of that name", remedy="nulls: fill")


def _kind(field: SelectedField) -> str:
    return f"{field.dtype}{list(field.shape) if field.shape else ''}"


def _refuse(field: SelectedField, option: str, message: str, *, remedy: str, **facts: object) -> NoReturn:
    raise DescriptorValueError(f"fields.{field.name}.{option}", message, facts={**facts}, remedy=remedy)

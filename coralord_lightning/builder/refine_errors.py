"""What is wrong with values that are refined, said so that their owner can act. Finds nothing by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from coralord_lightning.errors import BuildError, CoralError, DescriptorValueError, SourceFormatError, nearest
from coralord_lightning.spec.selection import SelectedField

__all__ = [
    "MAX_CLASSES",
    "cannot_decode",
    "fill_too_large",
    "foreign_class",
    "null_found",
    "other_form",
    "too_many_classes",
    "unlike_forms",
]

MAX_CLASSES = 65_536
_SHOWN = 100


def cannot_decode(item: SelectedField, answer: Mapping[str, Any], place: str, form: Mapping[str, Any]) -> CoralError:
    """Why a value is not what was asked for.

    Args:
        answer: of the process that decodes.
        form: what values before were, where it was not declared.
    """
    sound = item.refine is not None and item.refine.decode == "audio"
    what = "sound" if sound else "picture"
    message, remedy = _WHY[answer["kind"]]
    before = " of the rows before" if form and answer["kind"] in ("shape", "sample_rate") else ""
    facts = {"got": answer.get("message", answer.get("got", "")), "expected": _expected(answer, before)}
    return SourceFormatError(
        item.name,
        f"the {what} in {place} {message.format(what=what)}",
        facts={key: value for key, value in facts.items() if value != ""},
        remedy=remedy.format(name=item.name, decode="audio" if sound else "image", **_blanks(item, answer)),
    )


_WHY: Mapping[str, tuple[str, str]] = {
    "broken": ("cannot be decoded", "repair the file, or leave that row out with `where`"),
    "too_large": ("is larger than is decoded", "make it smaller in the file, or leave that row out with `where`"),
    "memory": ("takes more memory or time to decode than it may", "leave that row out with `where`"),
    "crash": ("crashed the process that decodes it", "leave that row out with `where`, and report the file"),
    "depth": ("has more bits than can be decoded without loss", "magick FILE -depth 8 OUT     # 8 bits a channel"),
    "grey": (
        "is grey, of more than 8 bits, and has no colours",
        "{name}: {{decode: image, shape: [-1, -1], dtype: uint16}}",
    ),
    "dtype": ("has values that the dtype cannot hold", "{name}: {{decode: image, dtype: {got}}}"),
    "shape": (
        "has another shape than is asked for, and none is resized here",
        "{name}: {{decode: {decode}, shape: {ragged}}}     # rows of any size; resize them in the pipeline",
    ),
    "sample_rate": (
        "has another sample rate, and none is resampled here",
        "ffmpeg -i FILE -ar {expected} OUT     # or leave that row out with `where`",
    ),
    "channels": ("has another number of channels", "{name}: {{decode: audio, shape: {channels}}}"),
}


def _blanks(item: SelectedField, answer: Mapping[str, Any]) -> dict[str, str]:
    got = answer.get("got", "")
    layout = item.refine.layout if item.refine is not None else None
    ragged = [-1] * len(got) if isinstance(got, list) else [-1]
    if isinstance(got, list) and len(got) == 3:
        ragged[0 if layout == "CHW" else 2] = got[0 if layout == "CHW" else 2]
    if isinstance(got, list) and len(got) == 2 and item.refine is not None and item.refine.decode == "audio":
        ragged[0] = got[0]
    return {
        "got": str(got),
        "expected": str(answer.get("expected", "")),
        "ragged": str(ragged),
        "channels": "[-1]" if got == 1 else f"[{got}, -1]",
    }


def _expected(answer: Mapping[str, Any], before: str) -> str:
    expected = answer.get("expected")
    return "" if expected is None else f"{expected}{before}"


def other_form(item: SelectedField, place: str) -> CoralError:
    """The first rows have no value to take a shape from."""
    return DescriptorValueError(
        f"fields.{item.name}.shape",
        f"is not said, and the first rows, from {place} on, have no picture to take it from",
        remedy=f"{item.name}: {{decode: image, shape: [28, 28, 3]}}     # height, width, channels",
    )


def unlike_forms(name: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> CoralError:
    """Partitions that were built apart hold values of different kinds."""
    key = next(key for key in one if one[key] != other.get(key))
    pairs = zip(one[key], other.get(key, ()), strict=False) if key == "shape" else ()
    ragged = [a if a == b else -1 for a, b in pairs]
    return SourceFormatError(
        name,
        f"has not one {key.replace('_', ' ')} in all files",
        facts={"got": f"{one[key]} and {other.get(key)}"},
        remedy=f"{name}: {{decode: image, shape: {ragged}}}     # rows of any size; resize them in the pipeline"
        if ragged
        else f"ffmpeg -i FILE -ar {one[key]} OUT     # in all files",
    )


def foreign_class(item: SelectedField, value: str, known: Sequence[str], place: str) -> CoralError:
    """A text that is none of the classes."""
    shown = value if len(value) <= _SHOWN else value[:_SHOWN] + "…"
    facts = {"got": repr(shown), "in": place, "classes": _listed(known)}
    near = nearest(value, known)
    if near is not None:
        facts["nearest"] = repr(near)
    if item.refine is not None and item.refine.classes is None:
        return BuildError(
            item.name, "the data changed while it was being read", facts=facts, remedy="run the same command again"
        )
    return DescriptorValueError(
        f"fields.{item.name}.classes",
        "lacks a value that the data has",
        facts=facts,
        remedy=f"where: \"{item.name} <> '{shown.replace(chr(39), chr(39) * 2)}'\"     # or add it to classes",
    )


def too_many_classes(item: SelectedField, *, at_least: int) -> CoralError:
    """A field of more values than can be classes."""
    return DescriptorValueError(
        f"fields.{item.name}.encode",
        "has too many values to number them as classes",
        facts={"got": f"{at_least:,} or more", "expected": f"at most {MAX_CLASSES:,}"},
        remedy=f"fields: {{{item.name}: {{}}}}     # the text as it is",
    )


def fill_too_large(item: SelectedField, fill: object, dtype: str) -> CoralError:
    """A fill that numbers of the file's own width cannot be."""
    return DescriptorValueError(
        f"fields.{item.name}.fill",
        "is no value that the field can have",
        facts={"got": repr(fill), "expected": f"a number of type {dtype}, which the data has"},
        remedy="fill: 0",
    )


def null_found(item: SelectedField, place: str, *, inside: bool) -> CoralError:
    """A null where there must be none."""
    refine = item.refine
    masked = refine is not None and refine.nulls == "mask"
    fill = "'unknown'" if refine is not None and refine.encode is not None else "0"
    numeric = item.dtype not in ("text", "bytes", "date", "time", "timestamp", "struct") or (
        refine is not None and (refine.decode or refine.encode) is not None
    )
    remedies = [f"{item.name}: {{nulls: fill, fill: {fill}}}"] if numeric and -1 not in item.shape else []
    return BuildError(
        item.name,
        f"has a null {'inside its list ' if inside else ''}in {place}"
        + (", and a mask knows whole rows only" if masked else ", and `nulls: error` was said"),
        remedy="     # or ".join([*remedies, f'where: "{item.name} IS NOT NULL"']),
    )


def _listed(known: Sequence[str]) -> str:
    shown = ", ".join(known[:20])
    return shown if len(known) <= 20 else f"{shown}, … ({len(known)} in all)"

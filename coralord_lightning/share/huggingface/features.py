"""Owns which feature of `datasets` a column is; decided from the manifest and what is said of it, reads no row.

A feature says what values are, and how `datasets` keeps them: classes as 64-bit numbers, pictures and sounds as a
struct of bytes and path, maps as lists of a struct. Where that differs from how we keep them, `tables` writes it so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import pyarrow as pa

from coralord_lightning.errors import UsageError
from coralord_lightning.spec.columns import INTERVAL, arrow_schema
from coralord_lightning.spec.description import Description
from coralord_lightning.spec.manifest import Column, Manifest

__all__ = ["features_of", "require_split_names", "split_name"]

_LANGUAGES = frozenset(
    """
    aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el
    en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu
    ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na
    nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so
    sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
    """.split()  # noqa: SIM905  # 183 quotes less
)
_MEDIA = {"image": "Image", "audio": "Audio", "video": "Video"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Meaning:
    """What the innermost values of a field are.

    Args:
        classes: their names, where they are numbers of classes.
        media: what their bytes are.
    """

    classes: Sequence[str] | None = None
    media: str | None = None


def features_of(manifest: Manifest, description: Description | None) -> datasets.Features:
    """The features of every split of a version.

    Args:
        description: what is said of it; without one, columns are what their types are.
    Raises:
        UsageError: a column has no feature in this release of `datasets`.
    """
    schema = arrow_schema(manifest.columns)
    features = {}
    for column, item in zip(manifest.columns, schema, strict=True):
        meaning = _meaning_of(column, manifest, description)
        features[column.name] = _feature_of(item.type, meaning, column.name)
    found = datasets.Features(features)
    if any(hasattr(feature, "decode_example") for feature in _leaves(found)):
        # save_to_disk of datasets 5.2 looks into every column of such a version, and takes a Translation for a dict
        return datasets.Features({name: _without_translations(feature) for name, feature in found.items()})
    return found


def _leaves(feature: Any) -> Iterator[Any]:
    inside = feature.values() if isinstance(feature, dict) else [getattr(feature, "feature", None)]
    if isinstance(feature, dict | datasets.List):
        for item in inside:
            yield from _leaves(item)
    else:
        yield feature


def _without_translations(feature: Any) -> Any:
    if isinstance(feature, datasets.List):
        return datasets.List(_without_translations(feature.feature), length=feature.length)
    if isinstance(feature, datasets.Translation):
        return feature.flatten()
    if isinstance(feature, dict):
        return {name: _without_translations(item) for name, item in feature.items()}
    return feature


def split_name(split: str) -> str:
    """A split's name as `datasets` takes it: what is no letter, digit, `_` or single `.` between such becomes `_`."""
    return re.sub(r"\.(?=\.|$)", "_", re.sub(r"[^\w.]", "_", split, flags=re.ASCII))


def require_split_names(splits: Iterable[str]) -> None:
    """Refuse splits that `datasets` cannot tell apart.

    Raises:
        UsageError: two names become one.
    """
    taken: dict[str, str] = {}
    for split in splits:
        other = taken.setdefault(split_name(split), split)
        if other != split:
            raise UsageError(
                split,
                f"and '{other}' are both '{split_name(split)}' for datasets",
                remedy="rename one of them under `splits:`",
            )


def _meaning_of(column: Column, manifest: Manifest, description: Description | None) -> _Meaning:
    if column.name in manifest.classes:
        return _Meaning(classes=manifest.classes[column.name])
    said = None if description is None else description.fields.get(column.name)
    if said is None:
        return _Meaning()
    names = _enumerated(*said.enumeration) if said.enumeration is not None else None
    if names is not None and not _are_numbers_of(column, len(names), manifest):
        names = None
    return _Meaning(classes=names, media=said.media)


def _enumerated(key: str, rows: Sequence[Mapping[str, Any]]) -> list[str] | None:
    """The names of an Enumeration in the order of their numbers; None where its values are no numbers from 0 on."""
    by_number = {row.get(key): row for row in rows}
    if not rows or len(by_number) != len(rows) or set(by_number) != set(range(len(rows))):
        return None
    ordered = [by_number[number] for number in range(len(rows))]
    for name in sorted({name for row in rows for name in row} - {key}, key=lambda name: (name != "name", name)):
        found = [row.get(name) for row in ordered]
        if all(isinstance(text, str) for text in found) and len(set(found)) == len(found):
            return [str(text) for text in found]
    return None


def _are_numbers_of(column: Column, num_classes: int, manifest: Manifest) -> bool:
    """Whether every value is the number of a class, or -1, as unlabelled rows have it; by what was counted."""
    for split in manifest.splits:
        counted = manifest.statistics.get(split, {}).get(column.name)
        if counted is None and manifest.rows_of(split):
            return False
        if counted is None or counted.min is None or counted.max is None:
            continue
        if counted.kind != "int" or counted.min < -1 or counted.max >= num_classes:
            return False
    return True


def _feature_of(kind: pa.DataType, meaning: _Meaning, where: str) -> Any:  # noqa: PLR0911  # one return a kind of type
    types = pa.types
    if types.is_fixed_size_list(kind):
        return datasets.List(_feature_of(kind.value_type, meaning, where), length=kind.list_size)
    if types.is_list(kind):
        return datasets.List(_feature_of(kind.value_type, meaning, where))
    if types.is_map(kind):
        pair = {"key": kind.key_type, "value": kind.item_type}
        return datasets.List({name: _feature_of(part, _Meaning(), f"{where}.{name}") for name, part in pair.items()})
    if types.is_struct(kind):
        return _struct_of(kind, where)
    if types.is_binary(kind) and meaning.media in _MEDIA and hasattr(datasets, _MEDIA[meaning.media]):
        return getattr(datasets, _MEDIA[meaning.media])()
    if types.is_integer(kind) and meaning.classes is not None:
        return datasets.ClassLabel(names=list(meaning.classes))
    return _value_of(kind, where)


def _struct_of(kind: pa.StructType, where: str) -> Any:
    names = [item.name for item in kind]
    if len(names) > 1 and set(names) <= _LANGUAGES and all(pa.types.is_string(item.type) for item in kind):
        return datasets.Translation(languages=sorted(names))
    if len(set(names)) < len(names) or "_type" in names:
        raise UsageError(
            where,
            "is a struct that datasets cannot have: a name stands twice, or is '_type'",
            facts={"got": ", ".join(names)},
            remedy=f"leave '{where}' out of `fields:`, or rename it in a pipeline",
        )
    return {item.name: _feature_of(item.type, _Meaning(), f"{where}.{item.name}") for item in kind}


def _value_of(kind: pa.DataType, where: str) -> Any:
    if str(kind).startswith(("decimal32", "decimal64")):
        kind = pa.decimal128(kind.precision, kind.scale)
    if kind == pa.month_day_nano_interval():
        kind = INTERVAL
    try:
        return datasets.Features.from_arrow_schema(pa.schema([pa.field("x", kind)]))["x"]
    except ValueError as error:
        if pa.types.is_fixed_size_binary(kind):  # before datasets 5.1
            return datasets.Value("binary")
        raise UsageError(
            where,
            "has a type that this release of datasets does not know",
            facts={"got": kind, "datasets": datasets.__version__},
            remedy="pip install -U datasets",
        ) from error

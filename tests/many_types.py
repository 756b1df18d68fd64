"""Versions with every type, and with pictures, sounds and classes, as `datasets` is to see them."""

from __future__ import annotations

import hashlib
import io
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from coralord_lightning import Dataset
from coralord_lightning.spec.description import Description, FieldDescription
from coralord_lightning.spec.statistics import FieldStatistics
from coralord_lightning.store import open_store
from coralord_lightning.workspace import Version
from damaged_shards import every_type
from hand_built import write_manifest

SCALARS = [
    pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(), pa.float16(),
    pa.float32(), pa.float64(), pa.bool_(), pa.date32(), pa.time32("s"), pa.time32("ms"), pa.time64("us"),
    pa.time64("ns"), pa.timestamp("s"), pa.timestamp("ms", "UTC"), pa.timestamp("us", "+02:00"), pa.timestamp("ns"),
    pa.duration("s"), pa.duration("ns"),
]  # fmt: skip


def all_types() -> pa.Table:
    """Every type of docs/batches.md, each with a null where it can have one."""
    table = every_type()
    rows = table.num_rows
    for kind in SCALARS:
        table = table.append_column(f"of {kind}", _cast([i % 2 if i % 5 else None for i in range(rows)], kind))
    more = {
        "date64": pa.array([i * 86_400_000 if i % 5 else None for i in range(rows)], pa.date64()),
        "decimal32": pa.array([Decimal(i) if i % 5 else None for i in range(rows)], pa.decimal32(5, 1)),
        "decimal64": pa.array([Decimal(i) if i % 5 else None for i in range(rows)], pa.decimal64(12, 0)),
        "texts": pa.array([{"a": "x", "b": None} if i % 5 else None for i in range(rows)]),
        "spans": pa.array([[pa.MonthDayNano([i, 0, 1]), None] for i in range(rows)],
                          pa.list_(pa.month_day_nano_interval())),
        "maps": pa.array([{"m": [("a", [i])]} if i % 5 else None for i in range(rows)],
                         pa.struct([("m", pa.map_(pa.string(), pa.list_(pa.int8())))])),
    }  # fmt: skip
    for name, column in more.items():
        table = table.append_column(name, column)
    return table


def _cast(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_date32(kind) or pa.types.is_time32(kind):
        return pa.array(values, pa.int32()).cast(kind)
    if pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return pa.array(values, pa.int64()).cast(pa.float32()).cast(kind)
    return pa.array(values, pa.int64()).cast(kind)


def built(home: Path, *, fields: dict[str, FieldDescription] | None = None, rows: int = 7, **splits: Any) -> Dataset:
    changes = {name: splits.pop(name) for name in ("classes", "statistics", "fingerprint") if name in splits}
    manifest = write_manifest(home, splits, rows_per_shard=rows, **changes)
    if fields is not None:
        said = Description(name="toy", descriptor={}, croissant_name="toy", croissant_sha256="0" * 64, record_set="r",
                           fields=fields)  # fmt: skip
        open_store(home).describe(manifest.fingerprint, said)
    return Dataset(Version(manifest=manifest, home=home))


def in_their_words(value: Any, kind: pa.DataType) -> Any:
    """A value of ours as `datasets` has it: maps are lists of pairs by name, intervals are structs."""
    if value is None:
        return None
    if pa.types.is_map(kind):
        parts = [(in_their_words(key, kind.key_type), in_their_words(item, kind.item_type)) for key, item in value]
        return [{"key": key, "value": item} for key, item in parts]
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return [in_their_words(item, kind.value_type) for item in value]
    if pa.types.is_struct(kind):
        return {item.name: in_their_words(value[item.name], item.type) for item in kind}
    if kind == pa.month_day_nano_interval():
        return {"months": value.months, "days": value.days, "nanoseconds": value.nanoseconds}
    return value


def expected(data: Dataset, split: str = "train") -> dict[str, list[Any]]:
    table = data.table(split)
    return {item.name: [in_their_words(value, item.type) for value in table[item.name].to_pylist()]
            for item in table.schema}  # fmt: skip


def picture(color: int) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (4, 3), (color, 0, 0)).save(file, "PNG")
    return file.getvalue()


def sights(home: Path, names: list[str] | None = None) -> Dataset:
    """Pictures, sounds, classes, an Enumeration and translations."""
    table = pa.table(
        {
            "picture": pa.array([None if i == 3 else picture(i) for i in range(20)]),
            "views": pa.array([[picture(i)] * (i % 3) for i in range(20)], pa.list_(pa.binary())),
            "sound": pa.array([b"RIFF" + bytes([i]) for i in range(20)]),
            "species": pa.array([i % 3 for i in range(20)], pa.int64()),
            "color": pa.array([i % 2 for i in range(20)], pa.uint8()),
            "said": pa.array([{"en": f"row {i}", "de": f"Zeile {i}"} for i in range(20)],
                             pa.struct([("en", pa.string()), ("de", pa.string())])),
        }
    )  # fmt: skip
    colors = ("id", ({"id": 1, "name": "blue"}, {"id": 0, "name": "red"}))
    fields = {
        "picture": FieldDescription(id="picture", media="image"),
        "views": FieldDescription(id="views", media="image"),
        "sound": FieldDescription(id="sound", media="audio"),
        "color": FieldDescription(id="color", enumeration=colors),
    }
    counted = {"train": {"color": FieldStatistics(kind="int", count=20, min=0, max=1)}}
    chosen = table.select(names or table.column_names)
    classes = {"species": ("ant", "bee", "cat")} if "species" in chosen.column_names else {}
    return built(home, fields=fields, classes=classes, statistics=counted, train=chosen)


def undecoded(view: datasets.Dataset) -> datasets.Dataset:
    for name, feature in view.features.items():
        if isinstance(feature, (datasets.Image, datasets.Audio)):
            view = view.cast_column(name, type(feature)(decode=False))
    return view


def published(home: Path, *, rows: int = 20) -> Dataset:
    """A version in a store of its own, as a build leaves it: two splits of numbers and texts."""
    store = open_store(home)
    table = pa.table({"row": pa.array(range(rows)), "text": [f"row {number}" for number in range(rows)]})
    splits = {"train": table, "test": table.slice(0, 3)}
    home.mkdir(parents=True, exist_ok=True)
    manifest = write_manifest(home, splits, fingerprint=hashlib.sha256(str(rows).encode()).hexdigest())
    store.publish_manifest(manifest)
    metadata = {"sc:license": "https://creativecommons.org/licenses/by/4.0/", "sc:description": "Rows and texts."}
    said = Description(name="toy", descriptor={"name": "toy", "croissant": "toy.json"}, croissant_name="Toy",
                       croissant_sha256="ab" * 32, record_set="rows", metadata=metadata,
                       fields={"row": FieldDescription(id="rows/row", text="Its number | from 0.")})  # fmt: skip
    store.describe(manifest.fingerprint, said)
    return Dataset(Version(manifest=manifest, home=home))

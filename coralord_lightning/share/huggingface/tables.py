"""Owns shards as `datasets` reads them: memory-mapped by path; it never copies what `datasets` keeps as we do.

`datasets` writes what `map` computes beside the file that a table was read from. Our store is no place for that, so a
table is read by a link in the cache of `datasets`, in a folder of its own for every version and split.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from datasets.table import ConcatenationTable, InMemoryTable, MemoryMappedTable

from coralord_lightning.errors import StoreError
from coralord_lightning.share.huggingface.features import split_name
from coralord_lightning.spec.columns import INTERVAL
from coralord_lightning.spec.description import Description
from coralord_lightning.spec.manifest import Manifest

__all__ = ["hugging_face_dataset", "iterable", "tables_of"]

_MOST_PIECES = 1024


def hugging_face_dataset(
    paths: Sequence[Path],
    *,
    features: datasets.Features,
    manifest: Manifest,
    split: str,
    description: Description | None = None,
) -> datasets.Dataset:
    """Some shards as one dataset.

    Args:
        paths: of shards that are known to be whole, in row order.
        features: of every shard, by `features_of`.
    Raises:
        StoreError: the cache of `datasets` cannot be written.
    """
    if paths:
        folder = _cache_folder(paths[0].parent, manifest, split)
        table = ConcatenationTable.from_tables(list(tables_of((_linked(path, folder) for path in paths), features)))
    else:
        table = InMemoryTable(features.arrow_schema.empty_table())
    info = datasets.DatasetInfo(features=features, dataset_name=None if description is None else description.name)
    for name, term in (("description", "sc:description"), ("citation", "sc:citeAs"), ("homepage", "sc:url")):
        said = None if description is None else description.metadata.get(term)
        if isinstance(said, str):
            setattr(info, name, said)
    fingerprint = _fingerprint_of(manifest, split, features)
    return datasets.Dataset(table, info=info, split=datasets.NamedSplit(split_name(split)), fingerprint=fingerprint)


def iterable(dataset: datasets.Dataset) -> datasets.IterableDataset:
    """A dataset as one that is read from front to back, in as many pieces as it has files, for workers to share."""
    pieces = max(1, min(len(dataset.cache_files), len(dataset), _MOST_PIECES))
    return dataset.to_iterable_dataset(num_shards=pieces)


def _fingerprint_of(manifest: Manifest, split: str, features: datasets.Features) -> str:
    """What `datasets` names its caches by: another version, split or meaning of a column is another one."""
    parts = [manifest.fingerprint, manifest.content_digest, split, features.to_dict()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def tables_of(paths: Iterable[Path], features: datasets.Features) -> Iterator[MemoryMappedTable]:
    """Shards of one schema by their paths, in the types of their features."""
    schema: pa.Schema | None = None
    for path in paths:
        mapped: MemoryMappedTable = MemoryMappedTable.from_file(str(path))
        if any(_has_no_word(kind) for kind in mapped.schema.types):
            mapped = _PlainTable(_plain_table(mapped.table), str(path))
        schema = schema or _cast_schema(mapped.schema, features)
        yield mapped if mapped.schema.types == schema.types else mapped.cast(schema)


def _cast_schema(schema: pa.Schema, features: datasets.Features) -> pa.Schema:
    """What shards are cast to: plain values where they are kept as we do: a cast to a ClassLabel reads its numbers."""
    wanted = features.arrow_schema
    alike = pa.schema([item for item in wanted if item.type == schema.field(item.name).type])
    plain = datasets.Features.from_arrow_schema(alike)
    return datasets.Features({name: plain.get(name, feature) for name, feature in features.items()}).arrow_schema


def _cache_folder(home: Path, manifest: Manifest, split: str) -> Path:
    parts = [manifest.fingerprint, manifest.content_digest, split, str(home)]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return Path(datasets.config.HF_DATASETS_CACHE) / "coralord_lightning" / f"{split}-{key[:32]}"


def _linked(path: Path, folder: Path) -> Path:
    """A link to a shard; made anew where it leads elsewhere."""
    link = folder / path.name
    with contextlib.suppress(OSError):
        if link.readlink() == path:
            return link
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            link.symlink_to(path)
            return link
        with tempfile.TemporaryDirectory(dir=folder) as temp:
            made = Path(temp) / path.name
            made.symlink_to(path)
            made.replace(link)
    except OSError as error:
        raise StoreError(
            str(folder),
            "cannot be written, and datasets keeps there what `map` computes",
            facts={"got": error},
            remedy="export HF_DATASETS_CACHE=DIR     # one that you may write to",
        ) from error
    return link


class _PlainTable(MemoryMappedTable):  # type: ignore[misc]  # datasets says no types
    """A memory-mapped table whose maps and intervals are written in types that `datasets` has."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        plain = _plain_table(MemoryMappedTable.from_file(state["path"]).table)
        self.__init__(self._apply_replays(plain, state["replays"]), **state)  # type: ignore[misc]


def _kept(name: str) -> Any:
    """A change of the table whose result is of the same class; MemoryMappedTable itself gives its own."""
    change = getattr(MemoryMappedTable, name)

    def changed(self: _PlainTable, *args: Any, **kwargs: Any) -> _PlainTable:
        made = change(self, *args, **kwargs)
        return _PlainTable(made.table, made.path, made.replays)

    return changed


for _name in (
    "slice", "filter", "flatten", "combine_chunks", "cast", "replace_schema_metadata", "add_column", "append_column",
    "remove_column", "set_column", "rename_columns", "drop", "select",
):  # fmt: skip
    setattr(_PlainTable, _name, _kept(_name))


def _has_no_word(kind: pa.DataType) -> bool:
    if pa.types.is_map(kind) or kind == pa.month_day_nano_interval():
        return True
    return any(_has_no_word(kind.field(number).type) for number in range(kind.num_fields))


def _plain_table(table: pa.Table) -> pa.Table:
    columns = [pa.chunked_array([_plain(chunk) for chunk in column.chunks]) for column in table.columns]
    return pa.Table.from_arrays(columns, names=table.column_names)


def _plain(array: pa.Array) -> pa.Array:
    """The same values; only intervals are copied."""
    kind = array.type
    if not _has_no_word(kind):
        return array
    mask = array.is_null() if array.null_count else None
    if pa.types.is_map(kind):
        pairs = [("key", _plain(array.keys)), ("value", _plain(array.items))]
        items = pa.StructArray.from_arrays([part for _, part in pairs], [name for name, _ in pairs])
        return pa.ListArray.from_arrays(array.offsets, items, mask=mask)
    if pa.types.is_list(kind):
        return pa.ListArray.from_arrays(array.offsets, _plain(array.values), mask=mask)
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(_plain(array.values), kind.list_size, mask=mask)
    if pa.types.is_struct(kind):
        parts = [_plain(array.field(number)) for number in range(kind.num_fields)]
        return pa.StructArray.from_arrays(parts, [item.name for item in kind], mask=mask)
    raw = np.frombuffer(array.buffers()[1], dtype=[("months", "<i4"), ("days", "<i4"), ("nanoseconds", "<i8")])
    raw = raw[array.offset : array.offset + len(array)]
    parts = [pa.array(raw[item.name]) for item in INTERVAL]
    return pa.StructArray.from_arrays(parts, fields=list(INTERVAL), mask=mask)

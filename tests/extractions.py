"""What the tests of extraction share: one table in every format, and an extractor over files of a folder."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from coralord_lightning.builder.extract import Extractor
from coralord_lightning.spec.plan import BatchBounds, LocalFile, Partition, SourceFile
from coralord_lightning.spec.predicate import Predicate, parse_predicate
from coralord_lightning.spec.selection import FileSet, InlineData, SelectedField, Selection, SplitRule

EVERYTHING = (SplitRule(name="train"),)


def no_remote(locations: Mapping[str, Any]) -> Any:
    raise AssertionError(f"nothing is remote here: {locations}")


def field(name: str, dtype: Any = "integer", shape: tuple[int, ...] = (), column: str | None = None) -> SelectedField:
    return SelectedField(name=name, column=column or name, dtype=dtype, shape=shape)


def predicate(text: str, **kinds: str) -> Predicate:
    return parse_predicate(text, subject="test", fields=kinds)


def selection(*fields: SelectedField, **changes: Any) -> Selection:
    files = FileSet(id="files", format="parquet", includes=("*",))
    values = {"record_set": "rows", "distribution": files, "fields": fields, "splits": EVERYTHING} | changes
    return Selection(**values)


def write(path: Path, table: pa.Table) -> Path:
    """The table in the format that the path's ending names; nulls are left out of JSON lines and empty in CSV."""
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=3)
    elif path.suffix == ".jsonl":
        lines = [{key: value for key, value in row.items() if value is not None} for row in table.to_pylist()]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, delimiter="," if path.suffix == ".csv" else "\t")
            rows.writerow(table.column_names)
            rows.writerows(table.to_pylist() and [list(row.values()) for row in table.to_pylist()])
    return path


@contextmanager
def opened(
    selected: Selection, *paths: Path, batch: BatchBounds | None = None, threads: int = 1
) -> Iterator[tuple[Extractor, Partition]]:
    """An extractor over files, and the partition of them all."""
    sources = [SourceFile(name=path.name, format=path.suffix[1:], identity={}, size_bytes=0) for path in paths]
    if isinstance(selected.distribution, InlineData):
        sources = [SourceFile(name="inline", format="inline", identity={}, size_bytes=0)]
    locations = {path.name: LocalFile(path=path) for path in paths}
    extractor = Extractor(
        selected, sources, locations, batch or BatchBounds(), filesystem_factory=no_remote, threads=threads
    )
    with extractor:
        yield extractor, Partition(sources=tuple(range(len(sources))))


def rows_of(selected: Selection, *paths: Path, split: str = "train", **how: Any) -> pa.Table:
    with opened(selected, *paths, **how) as (extractor, partition):
        return extractor.read(partition, split).read_all()

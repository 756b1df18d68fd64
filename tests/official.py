"""The official Croissant examples, and their expected records as the official reader prints them."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

__all__ = ["FILTERS", "WITH_DATA", "Example", "differences", "examples", "expected", "folder", "printed"]


@dataclass(frozen=True, kw_only=True)
class Example:
    """One record set of one example."""

    file: str
    record_set: str
    output: str

    def __str__(self) -> str:
        return f"{self.file}#{self.record_set}"


WITH_DATA = [
    Example(file=file, record_set=name, output=f"{Path(file).parent}/output/{name}.jsonl")
    for file, names in {
        "1.0/coco2014-mini/metadata.json": ("split_enums", "images", "captions", "bounding_boxes"),
        "1.0/recipes/file_object_in_zip.json": ("csv1", "csv2"),
        "1.0/recipes/read_binary_file_by_line.json": ("translations_from_directory", "translations_from_zip"),
        "1.0/recipes/read_from_directory.json": ("read_from_directory_example",),
        "1.0/simple-join/metadata.json": ("users", "publications_by_user"),
        "1.0/simple-parquet/metadata.json": ("persons",),
        "1.0/simple-split/metadata.json": ("data",),
        "1.0/titanic/metadata.json": ("genders", "embarkation_ports", "passengers"),
        "1.1/recipes/minimal_multilingual.json": ("examples",),
    }.items()
    for name in names
]
FILTERS = {"1.0/simple-split/metadata.json": "split = 'train'"}
"""The official test of this one asks for one split."""


def folder() -> Path:
    """Where the examples lie; the test is skipped where they do not, and fails in CI."""
    found = Path(__file__).parents[2] / "shared" / "croissant"
    if not found.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"the official examples are not at {found}")
        pytest.skip(f"the official Croissant examples are not at {found}")
    return found


def examples() -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every valid example: its file and its body."""
    for version in ("1.0", "1.1"):
        for path in sorted(
            [*(folder() / version).glob("*/metadata.json"), *(folder() / version).glob("recipes/*.json")]
        ):
            yield path, json.loads(path.read_text(encoding="utf-8"))


def expected(example: Example) -> list[dict[str, Any]]:
    """The records that the official reader prints."""
    text = (folder() / example.output).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def printed(table: pa.Table, names: Mapping[str, str], images: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Our rows as the official reader would print them.

    Args:
        names: our column -> the field's @id.
        images: columns whose bytes are pictures.
    """
    return [
        {names[key]: _printed(value, is_image=key in images) for key, value in row.items()} for row in table.to_pylist()
    ]


def _printed(value: Any, *, is_image: bool) -> Any:
    if is_image:
        from PIL import Image

        return re.sub(r"0x[0-9A-Fa-f]+", "<MEMORY_ADDRESS>", repr(Image.open(io.BytesIO(value))))
    if isinstance(value, bytes):
        return value.decode()
    return str(value) if isinstance(value, list) else value


def differences(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is not the same in two lists of records: every record counts, and their order; nothing where all is."""
    found = []
    for number, (mine, other) in enumerate(zip_longest(ours, theirs)):
        if mine is None or other is None:
            found.append(f"record {number} is only {'there' if mine is None else 'here'}: {other or mine}")
        elif {key: _kind(value) for key, value in mine.items()} != {key: _kind(value) for key, value in other.items()}:
            found.append(f"record {number} is {mine}, not {other}")
    return found


def _kind(value: Any) -> tuple[str, Any]:
    """A value with its type: 1 is neither 1.0 nor True."""
    return type(value).__name__, value

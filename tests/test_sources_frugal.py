"""How little of a remote file is fetched: needed column chunks and the footer; of a CSV file, what `limit` needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coralord_lightning.builder.extract import Extractor
from coralord_lightning.config import Config
from coralord_lightning.sources import Sources, open_sources
from coralord_lightning.spec.plan import BatchBounds, Partition, RemoteFile
from coralord_lightning.spec.selection import FileObject, Reading, SelectedField, Selection
from extractions import field, predicate, selection
from web import Site, serve

COLUMNS, GROUPS, GROUP_ROWS = 50, 25, 2500


def sorted_parquet(path: Path) -> bytes:
    """`n` ascending and 49 random columns, 25 MB in 25 row groups."""
    rng = np.random.default_rng(0)
    rows = GROUPS * GROUP_ROWS
    columns = {"n": np.arange(rows)} | {f"c{number}": rng.random(rows) for number in range(1, COLUMNS)}
    pq.write_table(pa.table(columns), path, row_group_size=GROUP_ROWS, use_dictionary=False)
    return path.read_bytes()


def needed_bytes(path: Path, columns: list[str], groups: list[int]) -> int:
    found = pq.read_metadata(path)
    chunks = [found.row_group(group).column(found.schema.names.index(name)) for group in groups for name in columns]
    return sum(chunk.total_compressed_size for chunk in chunks) + found.serialized_size + 8


@contextmanager
def extracting(site: Site, home: Path, chosen: Selection, name: str) -> Iterator[tuple[Any, Sources]]:
    config = Config(home=home, allow_private_hosts=frozenset({"127.0.0.1"}))
    with open_sources(config, cache_dir=home / "cache") as door:
        node = FileObject(id="a", content_url=f"{site.url}/{name}", format=name.rpartition(".")[2])
        ((source, place),) = door.resolve(node, base=Path())
        assert isinstance(place, RemoteFile)
        with Extractor(chosen, [source], {"a": place}, BatchBounds(), filesystem_factory=door.filesystem) as extractor:
            yield extractor.read(Partition(sources=(0,)), "train"), door


def test_one_column_of_fifty_with_a_selective_filter(tmp_path: Path) -> None:
    content = sorted_parquet(tmp_path / "made.parquet")
    low = 10 * GROUP_ROWS + 100
    where = predicate(f"n >= {low} AND n < {low + 50}", n="integer")
    chosen = selection(field("c7", "float"), where=where, helpers=(field("n"),))

    with serve(a_parquet=content) as site, extracting(site, tmp_path, chosen, "a.parquet") as (reader, door):
        rows = reader.read_all()
        fetched = door.bytes_fetched
        assert fetched == site.body_bytes

    expected = pq.read_table(tmp_path / "made.parquet", columns=["c7"])["c7"][low : low + 50]
    assert rows["c7"].to_pylist() == expected.to_pylist()
    assert fetched < 0.02 * len(content)
    assert fetched <= 1.1 * needed_bytes(tmp_path / "made.parquet", ["n", "c7"], [10])


@pytest.mark.parametrize("rows", [10, 1000, 40_000])
def test_rows_that_lie_beside_the_footer_are_read_right(tmp_path: Path, rows: int) -> None:
    noise = np.random.default_rng(0).random(rows)
    path = tmp_path / "made.parquet"
    pq.write_table(pa.table({f"c{number}": noise + number for number in range(4)}), path, row_group_size=rows // 10)
    chosen = selection(*(field(f"c{number}", "float") for number in range(4)))

    with serve(a_parquet=path.read_bytes()) as site, extracting(site, tmp_path, chosen, "a.parquet") as (reader, door):
        found = reader.read_all()
        assert door.bytes_fetched <= len(site.files["/a.parquet"])
    for number in range(4):
        assert (found[f"c{number}"].to_numpy() == noise + number).all()


def test_neighbouring_columns_are_fetched_in_one_piece(tmp_path: Path) -> None:
    content = sorted_parquet(tmp_path / "made.parquet")
    where = predicate(f"n < {GROUP_ROWS}", n="integer")
    chosen = selection(*(field(f"c{number}", "float") for number in range(1, 40)), where=where, helpers=(field("n"),))

    with serve(a_parquet=content) as site, extracting(site, tmp_path, chosen, "a.parquet") as (reader, _):
        reader.read_all()
        assert len(site.asked()) <= 6


def test_the_lines_of_a_remote_file_are_read_as_of_a_local_one(tmp_path: Path) -> None:
    line = SelectedField(name="line", column="lines", dtype="text", kind="file_property")

    with (
        serve(a_csv=b"n\n1\n\n2\n") as site,
        extracting(site, tmp_path, selection(line, reading=Reading(mode="lines")), "a.csv") as (reader, _),
    ):
        assert reader.read_all()["line"].to_pylist() == ["n", "1", "", "2"]


def test_limit_stops_reading_a_csv_file(tmp_path: Path) -> None:
    content = b"n\n" + b"".join(b"%015d\n" % number for number in range(1_500_000))

    with serve(a_csv=content) as site:
        with extracting(site, tmp_path, selection(field("n"), limit=10), "a.csv") as (reader, door):
            assert reader.read_all()["n"].to_pylist() == list(range(10))
            assert door.bytes_fetched < 0.5 * len(content)
        with extracting(site, tmp_path, selection(field("n")), "a.csv") as (reader, door):
            assert reader.read_all().num_rows == 1_500_000
            assert door.bytes_fetched == len(content)  # each byte once

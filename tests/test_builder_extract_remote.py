"""DuckDB reads remote files through `coral://` only: the needed bytes, exactly the pinned ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coralord_lightning.builder.extract import Extractor
from coralord_lightning.config import Config
from coralord_lightning.errors import SourceFormatError, SourceIntegrityError, UpstreamError
from coralord_lightning.sources import Sources, open_sources
from coralord_lightning.spec.plan import BatchBounds, Partition
from coralord_lightning.spec.selection import FileObject, Selection, SplitRule
from extractions import field, predicate, selection
from web import Site, answer, serve

ROWS = 40_000


def parquet(tmp_path: Path) -> bytes:
    """Ten row groups of 4,000 rows: `n` ascending, `wide` random and so incompressible."""
    noise = np.random.default_rng(0).integers(0, 2**62, ROWS)
    path = tmp_path / "made.parquet"
    pq.write_table(pa.table({"n": range(ROWS), "wide": noise}), path, row_group_size=ROWS // 10)
    return path.read_bytes()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with serve(a_parquet=parquet(tmp_path), a_csv=b"n,wide\n1,2\n") as found:
        yield found


@contextmanager
def extracting(
    site: Site, tmp_path: Path, chosen: Selection, *names: str
) -> Iterator[tuple[Extractor, Partition, Sources]]:
    config = Config(home=tmp_path, allow_private_hosts=frozenset({"127.0.0.1"}))
    with open_sources(config, cache_dir=tmp_path / "cache", sleep=lambda seconds: None) as door:
        resolved = []
        for name in names or ("a.parquet",):
            kind = name.rpartition(".")[2]
            resolved += door.resolve(FileObject(id=name, content_url=name, format=kind), base=f"{site.url}/c.json")
        sources = [source for source, _ in resolved]
        locations = {source.name: location for source, location in resolved}
        with Extractor(chosen, sources, locations, BatchBounds(), filesystem_factory=door.filesystem) as extractor:
            yield extractor, Partition(sources=tuple(range(len(sources)))), door


def test_only_the_needed_bytes_are_fetched_and_each_once(site: Site, tmp_path: Path) -> None:
    splits = (
        SplitRule(name="even", claims=predicate("n % 2 = 0", n="integer")),
        SplitRule(name="odd", claims=predicate("n % 2 = 1", n="integer")),
    )
    chosen = selection(field("n"), field("wide"), where=predicate("n < 4000", n="integer"), splits=splits)
    size = len(site.files["/a.parquet"])

    with extracting(site, tmp_path, chosen) as (extractor, partition, door):
        even = extractor.read(partition, "even").read_all()
        after_one = door.bytes_fetched
        odd = extractor.read(partition, "odd").read_all()
        extractor.require_disjoint(partition)
        assert extractor.count_unassigned(partition) == 0

        assert sorted(even["n"].to_pylist() + odd["n"].to_pylist()) == list(range(4000))
        assert 0.1 * size < after_one < 0.3 * size
        assert door.bytes_fetched == after_one == site.body_bytes


def test_a_column_that_is_not_selected_is_not_fetched(site: Site, tmp_path: Path) -> None:
    with extracting(site, tmp_path, selection(field("n"))) as (extractor, partition, door):
        assert extractor.read(partition, "train").read_all()["n"].to_pylist() == list(range(ROWS))
        assert door.bytes_fetched < 0.6 * len(site.files["/a.parquet"])


def test_remote_files_of_several_formats_make_one_partition(site: Site, tmp_path: Path) -> None:
    chosen = selection(field("wide"), where=predicate("n < 2", n="integer"), helpers=(field("n"),))

    with extracting(site, tmp_path, chosen, "a.csv", "a.parquet") as (extractor, partition, _):
        found = extractor.read(partition, "train").read_all()["wide"].to_pylist()

    assert found[0] == 2
    assert len(found) == 3


def test_a_file_that_changes_between_plan_and_reading_is_noticed(site: Site, tmp_path: Path) -> None:
    with extracting(site, tmp_path, selection(field("n"))) as (extractor, partition, _):
        site.files["/a.parquet"] = site.files["/a.parquet"][:-1] + b"!"
        with pytest.raises(SourceIntegrityError, match="pinned"):
            extractor.read(partition, "train")


def test_a_file_that_changes_while_it_is_read_is_noticed(site: Site, tmp_path: Path) -> None:
    def answer_and_change(handler: Any) -> None:
        asked = site.requests[-1]
        handler.serve_file(site.files[asked.path], asked.headers)
        site.files[asked.path] = b"other"

    with extracting(site, tmp_path, selection(field("n"), field("wide"))) as (extractor, partition, _):
        site.scripts["/a.parquet"] = [answer_and_change]
        with pytest.raises(SourceIntegrityError, match=r"a\.parquet"):
            extractor.read(partition, "train").read_all()


def test_a_server_that_breaks_down_is_an_upstream_error(site: Site, tmp_path: Path) -> None:
    with extracting(site, tmp_path, selection(field("n"))) as (extractor, partition, _):
        site.scripts["/a.parquet"] = [answer(500)] * 100
        with pytest.raises(UpstreamError, match="status 500"):
            extractor.read(partition, "train")


def test_a_remote_file_that_is_no_parquet_is_named(site: Site, tmp_path: Path) -> None:
    site.files["/a.parquet"] = b"this is no parquet file" * 10

    with (
        extracting(site, tmp_path, selection(field("n"))) as (extractor, partition, _),
        pytest.raises(SourceFormatError) as caught,
    ):
        extractor.read(partition, "train")
    assert caught.value.subject == "a.parquet"


def test_no_other_remote_or_local_file_can_be_read(site: Site, tmp_path: Path) -> None:
    with extracting(site, tmp_path, selection(field("n"))) as (extractor, _, _door):
        cursor = extractor._connection.cursor()
        for attack in (
            "SELECT * FROM read_parquet('coral://1/b.parquet')",
            "SELECT * FROM read_parquet('coral://0/../../../etc/passwd')",
            f"SELECT * FROM read_parquet('{site.url}/a.parquet')",
            f"SELECT * FROM read_parquet('{tmp_path}/made.parquet')",
            "COPY (SELECT 1) TO 'coral://0/a.parquet'",
        ):
            with pytest.raises(duckdb.Error):
                cursor.execute(attack).fetchall()
    assert {item.path for item in site.requests} == {"/a.parquet"}

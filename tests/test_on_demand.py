"""Only what a subset needs is fetched, from the descriptor to the version: files, columns, row groups; counted by the
server.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coralord_lightning.config import Config
from coralord_lightning.spec.infer import CONTEXT
from coralord_lightning.workspace import Outcome, open_workspace
from web import Site, serve

FILES = 20
ROWS = 2_000


def content(number: int) -> bytes:
    sink = io.BytesIO()
    noise = np.random.default_rng(number).integers(0, 2**62, ROWS)
    first = number * ROWS
    pq.write_table(pa.table({"n": range(first, first + ROWS), "noise": noise}), sink, row_group_size=500)
    return sink.getvalue()


def name_of(number: int) -> str:
    return f"{'test' if number % 10 == 9 else 'train'}-{number:02}.parquet"


def croissant(url: str) -> dict[str, Any]:
    """Twenty files, in one set; two of them are the test split, by their names."""
    files = [
        {
            "@type": "cr:FileObject",
            "@id": f"f{number:02}",
            "contentUrl": f"{url}/{name_of(number)}",
            "encodingFormat": "application/x-parquet",
        }
        for number in range(FILES)
    ]
    every = {
        "@type": "cr:FileSet",
        "@id": "files",
        "encodingFormat": "application/x-parquet",
        "includes": "*.parquet",
        "containedIn": [{"@id": file["@id"]} for file in files],
    }
    splits = {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [{"@type": "cr:Field", "@id": "splits/name", "dataType": "sc:Text"}],
        "data": [{"splits/name": "train"}, {"splits/name": "test"}],
    }
    source = {"fileSet": {"@id": "files"}}
    named = source | {"extract": {"fileProperty": "filename"}, "transform": {"regex": "^(train|test)-"}}
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"rows/{name}",
            "dataType": "sc:Integer",
            "source": source | {"extract": {"column": name}},
        }
        for name in ("n", "noise")
    ]
    fields.append(
        {
            "@type": "cr:Field",
            "@id": "rows/split",
            "dataType": "sc:Text",
            "source": named,
            "references": {"field": {"@id": "splits/name"}},
        }
    )
    rows = {"@type": "cr:RecordSet", "@id": "rows", "field": fields}
    return {
        "@context": dict(CONTEXT),
        "@type": "sc:Dataset",
        "name": "many",
        "distribution": [*files, every],
        "recordSet": [splits, rows],
    }


@pytest.fixture
def site() -> Iterator[Site]:
    with serve() as found:
        found.files |= {f"/{name_of(number)}": content(number) for number in range(FILES)}
        found.files["/croissant.json"] = json.dumps(croissant(found.url)).encode()
        yield found


def ensure(site: Site, home: Path, **descriptor: Any) -> Outcome:
    config = Config(home=home, allow_private_hosts=frozenset({"127.0.0.1"}))
    asked = {"name": "many", "croissant": f"{site.url}/croissant.json", "record_set": "rows", **descriptor}
    return open_workspace(config).ensure(asked)


def opened(site: Site) -> set[str]:
    """The data files of which a byte was asked for."""
    return {item.path[1:] for item in site.requests if item.method == "GET" and item.path.endswith(".parquet")}


def test_a_limit_opens_one_file_of_twenty(site: Site, tmp_path: Path) -> None:
    outcome = ensure(site, tmp_path, fields=["n"], limit=100)

    assert outcome.version.splits == {"train": 100}
    assert opened(site) == {"train-00.parquet"} or opened(site) == {"test-09.parquet"}
    assert outcome.bytes_fetched <= len(content(0)) + len(site.files["/croissant.json"])


def test_a_limit_that_one_file_does_not_fill_goes_on_in_the_next(site: Site, tmp_path: Path) -> None:
    outcome = ensure(site, tmp_path, fields=["n"], limit=ROWS + 1)

    assert outcome.version.splits == {"train": ROWS + 1}
    assert len(opened(site)) == 2


def test_a_split_opens_its_own_files_only(site: Site, tmp_path: Path) -> None:
    outcome = ensure(site, tmp_path, fields=["n"], splits={"test": {"source": "test"}})

    assert outcome.version.splits == {"test": 2 * ROWS}
    assert opened(site) == {"test-09.parquet", "test-19.parquet"}
    assert not [item for item in site.requests if item.path.endswith("train-00.parquet")]


def test_a_condition_on_a_files_name_opens_the_files_it_can_hold_for(site: Site, tmp_path: Path) -> None:
    outcome = ensure(site, tmp_path, fields=["n"], where="split = 'test' AND n < 20000")

    assert outcome.version.splits == {"train": ROWS}
    assert opened(site) == {"test-09.parquet", "test-19.parquet"}


def test_the_other_files_of_a_split_do_not_count_for_its_fingerprint(site: Site, tmp_path: Path) -> None:
    first = ensure(site, tmp_path, fields=["n"], splits={"test": {"source": "test"}})
    site.files["/train-00.parquet"] = content(77)
    again = ensure(site, tmp_path, fields=["n"], splits={"test": {"source": "test"}})

    assert not again.built
    assert again.version.fingerprint == first.version.fingerprint


def test_a_selection_of_everything_opens_every_file_and_the_splits_are_those_of_the_names(
    site: Site, tmp_path: Path
) -> None:
    outcome = ensure(
        site, tmp_path, fields=["n", "split"], splits={"test": {"source": "test"}, "train": {"source": "train"}}
    )

    assert outcome.version.splits == {"test": 2 * ROWS, "train": 18 * ROWS}
    assert len(opened(site)) == FILES


def test_rows_that_duckdb_reads_to_the_end_of_a_small_file_are_the_files_own(tmp_path: Path) -> None:
    digits = Path(__file__).resolve().parent.parent / "examples" / "digits"
    splits = {
        "test": {"where": "part = 'test'"},
        "train": {"from": "rest", "fraction": 0.9},
        "val": {"from": "rest", "fraction": 0.1},
    }
    asked = {"name": "digits", "fields": ["image", "label"], "splits": splits}
    local = open_workspace(Config(home=tmp_path / "one")).ensure(
        asked | {"croissant": str(digits / "croissant.json")}, base_dir=tmp_path
    )

    with serve() as site:
        site.files["/croissant.json"] = (digits / "croissant.json").read_bytes()
        site.files["/digits.parquet"] = (digits / "digits.parquet").read_bytes()
        config = Config(home=tmp_path / "two", allow_private_hosts=frozenset({"127.0.0.1"}))
        remote = open_workspace(config).ensure(asked | {"croissant": f"{site.url}/croissant.json"})

    assert remote.version.content_digest == local.version.content_digest
    assert remote.version.splits == local.version.splits

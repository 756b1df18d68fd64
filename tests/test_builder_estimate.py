"""What is foretold and what is then fetched, over real HTTP: rows, bytes, partitions; and the limit on it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from command_line import coral, coral_json
from coralord_lightning.spec.infer import CONTEXT
from web import Site, serve

ROWS, GROUP = 200_000, 20_000
EXACT_LIMIT = pytest.mark.skipif(
    duckdb.__version__.startswith("1."), reason="DuckDB 1.5 opens one file more than a limit needs"
)
KINDS = {
    "n": "sc:Integer", "d": "cr:Float64", "s": "sc:Text", "day": "sc:Date", "b": "sc:Boolean", "w": "cr:Int64",
    "v": "cr:Float32", "part": "sc:Text", "narrow": "cr:Int16",
}  # fmt: skip
LOOPBACK = ("--allow-private",)


def table(start: int, rows: int = ROWS) -> pa.Table:
    """Rows sorted by `n`; `w` and `v` are noise, which does not compress."""
    n, noise = np.arange(start, start + rows), np.random.default_rng(start)
    return pa.table(
        {
            "n": pa.array(n, pa.int32()),
            "d": n / 7.0,
            "s": [f"k{i:07d}" for i in n],
            "day": pa.array((n // 100).astype("int32"), pa.date32()),
            "b": n % ROWS >= ROWS // 2,
            "w": noise.integers(0, 2**62, rows),
            "v": noise.random(rows).astype("float32"),
            "part": ["test" if i % ROWS < ROWS // 5 else "train" for i in n],
            "narrow": n % 1000,
        }
    )


def parquet(folder: Path, start: int, rows: int = ROWS) -> bytes:
    folder.mkdir(exist_ok=True)
    pq.write_table(table(start, rows), folder / "made.parquet", row_group_size=GROUP)
    return (folder / "made.parquet").read_bytes()


def document(kinds: dict[str, str], encoding: str, name: str) -> bytes:
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"rows/{column}",
            "dataType": kind,
            "source": {"fileObject": {"@id": name}, "extract": {"column": column}},
        }
        for column, kind in kinds.items()
    ]
    found = {
        "@context": dict(CONTEXT),
        "@type": "sc:Dataset",
        "name": "rows",
        "distribution": [{"@type": "cr:FileObject", "@id": name, "contentUrl": name, "encodingFormat": encoding}],
        "recordSet": [{"@type": "cr:RecordSet", "@id": "rows", "field": fields}],
    }
    return json.dumps(found).encode()


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return parquet(tmp_path_factory.mktemp("made"), 0)


@pytest.fixture
def site(content: bytes) -> Iterator[Site]:
    with serve() as found:
        found.files["/a.parquet"] = content
        found.files["/c.json"] = document(KINDS, "application/x-parquet", "a.parquet")
        yield found


def descriptor(folder: Path, site: Site, **asked: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "d.yaml"
    path.write_text(json.dumps({"name": "d", "croissant": f"{site.url}/c.json", **asked}))
    return path


def foretold_and_fetched(site: Site, tmp_path: Path, asked: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `coral plan` says, then what `coral build` does, each in a home and with connections of its own."""
    path = descriptor(tmp_path / "d", site, **asked)
    plan = coral_json("plan", path, "--home", tmp_path / "home", *LOOPBACK)
    before = site.body_bytes
    built = coral_json("build", path, "--home", tmp_path / "home", *LOOPBACK)
    assert built["bytes_fetched"] == site.body_bytes - before
    return plan, built


HALVES = {"train": {"from": "rest", "fraction": 0.5}, "val": {"from": "rest", "fraction": 0.5}}


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({}, id="everything"),
        pytest.param({"fields": ["n"]}, id="one column"),
        pytest.param({"fields": ["w", "v"]}, id="two columns side by side"),
        pytest.param({"fields": ["n", "v"], "splits": HALVES}, id="fractions"),
        pytest.param({"fields": ["w"], "where": "n < 30000"}, id="a comparison"),
        pytest.param({"fields": ["w"], "where": "n >= 195000 OR n = 5"}, id="either of two"),
        pytest.param({"fields": ["w"], "where": "NOT (n < 150000) AND v > 0.5"}, id="not, and noise"),
        pytest.param({"fields": ["w"], "where": "n IN (3, 100003)"}, id="a list"),
        pytest.param({"fields": ["v"], "where": "d BETWEEN 1000 AND 2000"}, id="between"),
        pytest.param({"fields": ["w"], "where": "starts_with(s, 'k01')"}, id="a prefix"),
        pytest.param({"fields": ["w"], "where": "day < '1970-02-01'"}, id="a date"),
        pytest.param({"fields": ["v"], "where": "b"}, id="a flag"),
        pytest.param({"fields": ["w"], "where": "n % 2 = 0"}, id="arithmetic leaves nothing out"),
        pytest.param({"fields": ["w"], "where": "n IS NOT NULL"}, id="no nulls"),
        pytest.param({"fields": ["w"], "where": "narrow < 500"}, id="a checked cast leaves nothing out"),
        pytest.param({"fields": ["w"], "splits": {"test": {"where": "part = 'test'"}}}, id="a split by a condition"),
        pytest.param(
            {"fields": ["w"], "splits": {"test": {"where": "part = 'test'"}, "train": {"from": "rest"}}}, id="the rest"
        ),
        pytest.param({"fields": ["w"], "limit": 100}, id="a limit"),
        pytest.param({"fields": ["w", "s"], "limit": 30_000}, id="a limit over row groups"),
        pytest.param({"fields": ["w"], "where": "n >= 0 AND n < 40000"}, id="a condition that always holds, and one"),
        pytest.param({"fields": ["w"], "where": "v > 0.5", "order_by": ["n desc"]}, id="an order"),
    ],
)
def test_what_is_foretold_is_what_is_fetched(site, tmp_path, asked):
    plan, built = foretold_and_fetched(site, tmp_path, asked)
    assert 0.9 * built["bytes_fetched"] <= plan["bytes_to_fetch"] <= 1.1 * built["bytes_fetched"]
    assert plan["num_rows"] in (None, built["num_rows"])
    assert plan["num_partitions"] == 1


def test_the_last_of_all_take_what_is_foretold_at_most(site, tmp_path):
    plan, built = foretold_and_fetched(site, tmp_path, {"fields": ["w"], "order_by": ["n desc"], "limit": 10})
    assert built["bytes_fetched"] <= 1.01 * plan["bytes_to_fetch"]


@pytest.mark.parametrize(
    ("asked", "rows"),
    [
        ({"fields": ["n"]}, ROWS),
        ({"fields": ["n"], "splits": HALVES}, ROWS),
        ({"fields": ["n"], "limit": 7}, 7),
        ({"fields": ["n"], "where": "n < 7"}, None),
        ({"fields": ["n"], "splits": {"test": {"where": "part = 'test'"}}}, None),
        ({"fields": ["n"], "splits": {"test": {"where": "b"}, "train": {"from": "rest"}}}, ROWS),
        ({"fields": ["n"], "splits": {"test": {"where": "b"}, "train": {"from": "rest", "fraction": 0.5}}}, None),
    ],
)
def test_rows_are_foretold_where_footers_know_them(site, tmp_path, asked, rows):
    plan = coral_json("plan", descriptor(tmp_path, site, **asked), "--home", tmp_path / "home", *LOOPBACK)
    assert plan["num_rows"] == rows


def test_planning_fetches_footers_and_nothing_else(site, tmp_path):
    path = descriptor(tmp_path, site, fields=["w"])
    coral_json("plan", path, "--home", tmp_path / "home", *LOOPBACK)
    assert site.body_bytes == len(site.files["/c.json"]) + 64 * 1024
    assert not (tmp_path / "home" / "manifests").exists()


def test_a_build_fetches_footers_once(site, tmp_path):
    path = descriptor(tmp_path, site, fields=["n"])
    coral_json("build", path, "--home", tmp_path / "home", "--max-fetch", "1GB", *LOOPBACK)
    ranges = [item for item in site.asked() if item.startswith("bytes=")]
    assert len(ranges) == len(set(ranges))
    last = len(site.files["/a.parquet"]) - 1
    assert len([item for item in ranges if item.endswith(f"-{last}")]) == 1


def test_what_is_built_takes_the_croissant_file_alone(site, tmp_path):
    path = descriptor(tmp_path, site, fields=["n"])
    coral_json("build", path, "--home", tmp_path / "home", *LOOPBACK)
    (tmp_path / "coral.lock").unlink()
    plan = coral_json("plan", path, "--home", tmp_path / "home", *LOOPBACK)
    assert (plan["built"], plan["num_partitions"], plan["num_rows"]) == (True, 0, ROWS)
    assert plan["bytes_to_fetch"] == len(site.files["/c.json"])
    before = site.body_bytes
    again = coral_json("build", path, "--home", tmp_path / "home", *LOOPBACK)
    assert (again["built"], site.body_bytes - before) == (False, plan["bytes_to_fetch"])


def test_a_csv_is_foretold_whole(site, tmp_path):
    site.files["/a.csv"] = b"x,y\n" + b"".join(b"%d,%d\n" % (i, i * 7) for i in range(20_000))
    site.files["/c.json"] = document({"x": "sc:Integer"}, "text/csv", "a.csv")
    plan, built = foretold_and_fetched(site, tmp_path, {"where": "x < 10"})
    assert built["num_rows"] == 10
    assert 0.9 * built["bytes_fetched"] <= plan["bytes_to_fetch"] <= 1.1 * built["bytes_fetched"]


@pytest.mark.parametrize("where", ["descriptor", "argument"])
def test_more_than_is_allowed_is_refused_before_it_is_fetched(site, tmp_path, where):
    asked = {"fields": ["w"]} | ({"max_fetch": "1MB"} if where == "descriptor" else {})
    path = descriptor(tmp_path, site, **asked)
    words = ("--home", tmp_path / "home", *LOOPBACK, *(("--max-fetch", "1MB") if where == "argument" else ()))
    for command in ("plan", "build"):
        code, _, err = coral(command, path, *words)
        assert code == 1
        assert "CORAL-E0407" in err
        assert "1 MB (1000000 bytes)" in err
    assert site.body_bytes < 200_000
    found = coral_json("build", path, "--home", tmp_path / "home", *LOOPBACK, "--max-fetch", "3MB")
    assert found["num_rows"] == ROWS


def test_a_limit_that_is_no_size_is_a_usage_error(site, tmp_path):
    code, _, err = coral("build", descriptor(tmp_path, site), "--max-fetch", "lots", "--home", tmp_path / "home")
    assert code == 2
    assert "--max-fetch 50GB" in err


def test_a_plan_for_people_says_what_it_takes(site, tmp_path):
    path = descriptor(tmp_path, site, fields=["n"])
    code, out, _ = coral("plan", path, "--home", tmp_path / "home", *LOOPBACK)
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines()[1:]}
    assert "200,000" in lines["rows"]
    assert "about 1.2" in lines["to"]
    assert "1 of 1 to build" in lines["partitions"]


def test_local_files_take_disk_and_no_network(tmp_path, content):
    (tmp_path / "a.parquet").write_bytes(content)
    (tmp_path / "d.yaml").write_text("name: d\nfiles: '*.parquet'\nfields: [n, w]\n")
    plan = coral_json("plan", tmp_path / "d.yaml", "--home", tmp_path / "home")
    coral_json("build", tmp_path / "d.yaml", "--home", tmp_path / "home")
    kept = sum(path.stat().st_size for path in (tmp_path / "home" / "objects").rglob("*") if path.is_file())
    assert plan["bytes_to_fetch"] == 0
    assert 0.5 * kept <= plan["disk_bytes"] <= 2 * kept
    assert plan["num_rows"] == ROWS


def several(site: Site, tmp_path: Path, count: int) -> None:
    """`count` files of one record set: a FileObject each, and a FileSet over them."""
    names = [f"part{index}.parquet" for index in range(count)]
    for index, name in enumerate(names):
        site.files[f"/{name}"] = parquet(tmp_path / "made", index * GROUP, GROUP)
    found = json.loads(document(KINDS, "application/x-parquet", names[0]))
    found["distribution"] = [
        {"@type": "cr:FileObject", "@id": name, "contentUrl": name, "encodingFormat": "application/x-parquet"}
        for name in names
    ]
    found["distribution"].append(
        {
            "@type": "cr:FileSet",
            "@id": "parts",
            "containedIn": [{"@id": name} for name in names],
            "encodingFormat": "application/x-parquet",
            "includes": "*.parquet",
        }
    )
    for field in found["recordSet"][0]["field"]:
        field["source"] = {"fileSet": {"@id": "parts"}, "extract": field["source"]["extract"]}
    site.files["/c.json"] = json.dumps(found).encode()


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({"fields": ["n", "v"]}, id="all of them"),
        pytest.param({"fields": ["w"], "where": "n >= 60000"}, id="the last two"),
        pytest.param({"fields": ["w"], "limit": 100}, id="a limit"),
        pytest.param({"fields": ["w"], "limit": 30_000}, id="a limit over files", marks=EXACT_LIMIT),
        pytest.param({"fields": ["v"], "splits": HALVES, "limit": 100}, id="a limit of fractions"),
    ],
)
def test_several_files_are_foretold(site, tmp_path, asked):
    several(site, tmp_path, 5)
    plan, built = foretold_and_fetched(site, tmp_path, asked)
    assert 0.9 * built["bytes_fetched"] <= plan["bytes_to_fetch"] <= 1.1 * built["bytes_fetched"]


def test_a_limit_looks_into_no_more_files_than_it_needs(site, tmp_path):
    several(site, tmp_path, 5)
    coral_json("plan", descriptor(tmp_path, site, fields=["w"], limit=100), "--home", tmp_path / "home", *LOOPBACK)
    asked = {item.path for item in site.requests if item.method == "GET"}
    assert asked == {"/c.json", "/part0.parquet"}


def test_finished_partitions_are_not_foretold_again(site, tmp_path):
    several(site, tmp_path, 3)
    path = descriptor(tmp_path / "d", site, fields=["n"])
    words = ("--home", tmp_path / "home", *LOOPBACK)
    coral_json("build", path, *words)
    (tmp_path / "d" / "coral.lock").unlink()
    site.files["/part1.parquet"] = parquet(tmp_path / "made", 900_000, GROUP)
    plan = coral_json("plan", path, *words)
    built = coral_json("build", path, *words)
    assert (plan["num_partitions"], built["partitions_built"]) == (1, 1)
    assert 0.9 * built["bytes_fetched"] <= plan["bytes_to_fetch"] <= 1.1 * built["bytes_fetched"]


def test_a_joined_table_is_foretold_too(site, tmp_path):
    folder = tmp_path / "made"
    folder.mkdir()
    noise = np.random.default_rng(1).integers(0, 2**62, ROWS)
    pq.write_table(pa.table({"n": np.arange(ROWS), "label": noise, "other": noise[::-1]}), folder / "b.parquet")
    site.files["/b.parquet"] = (folder / "b.parquet").read_bytes()
    found = json.loads(site.files["/c.json"])
    found["distribution"].append(found["distribution"][0] | {"@id": "b.parquet", "contentUrl": "b.parquet"})

    def of_b(name: str) -> dict[str, Any]:
        source = {"fileObject": {"@id": "b.parquet"}, "extract": {"column": name}}
        return {"@type": "cr:Field", "@id": f"names/{name}", "dataType": "sc:Integer", "source": source}

    rows = found["recordSet"][0]["field"]
    next(item for item in rows if item["@id"] == "rows/n")["references"] = {"field": {"@id": "names/n"}}
    joined = {"@type": "cr:Field", "@id": "rows/label", "dataType": "sc:Integer"}
    rows.append(joined | {"source": {"field": {"@id": "names/label"}}})
    found["recordSet"].append(
        {"@type": "cr:RecordSet", "@id": "names", "key": {"@id": "names/n"}, "field": [of_b("n"), of_b("label")]}
    )
    site.files["/c.json"] = json.dumps(found).encode()
    plan, built = foretold_and_fetched(site, tmp_path, {"record_set": "rows", "fields": ["v", "label"]})
    assert 0.9 * built["bytes_fetched"] <= plan["bytes_to_fetch"] <= 1.1 * built["bytes_fetched"]
    assert plan["num_rows"] is None

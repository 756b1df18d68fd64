"""Windows of Parquet files and slices of JSON lines and inline rows: the rows of the whole, and no others read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coralord_lightning.builder.estimate import forecast
from coralord_lightning.builder.extract import Extractor
from coralord_lightning.config import Config
from coralord_lightning.errors import SourceFormatError, SourceIntegrityError, SplitError
from coralord_lightning.sources import open_sources
from coralord_lightning.spec.cuts import LineSlicer, Slice
from coralord_lightning.spec.plan import BatchBounds, Job, LocalFile, Partition, Plan, SourceFile
from coralord_lightning.spec.selection import FileObject, FileSet, InlineData, Join, Selection, SplitRule
from extractions import field, no_remote, predicate, selection
from web import serve

ROWS = 40_000
HALVES = (SplitRule(name="train", bounds=(0, 2**63)), SplitRule(name="val", bounds=(2**63, 2**64)))


def parquet(path: Path, *, groups: int = 10, **more: Any) -> Path:
    """`n` counts, `wide` is random and so incompressible."""
    noise = np.random.default_rng(0).integers(0, 2**62, ROWS)
    table = pa.table({"n": range(ROWS), "wide": noise} | more)
    pq.write_table(table, path, row_group_size=ROWS // groups)
    return path


def windowed(size: int, count: int) -> list[Partition]:
    bounds = [size * at // count for at in range(count + 1)]
    return [Partition(sources=(0,), window=window) for window in pairwise(bounds)]


@contextmanager
def over(
    selected: Selection, *paths: Path, sources: Sequence[SourceFile] = (), threads: int = 2
) -> Iterator[Extractor]:
    named = [
        SourceFile(
            name=p.name, format=p.suffix[1:], identity={}, size_bytes=p.stat().st_size, table="" if not at else "j"
        )
        for at, p in enumerate(paths)
    ]
    places = {path.name: LocalFile(path=path) for path in paths}
    how: dict[str, Any] = {"filesystem_factory": no_remote, "threads": threads}
    with Extractor(selected, [*named, *sources], places, BatchBounds(), **how) as extractor:
        yield extractor


def rows(extractor: Extractor, parts: Sequence[Partition], split: str) -> pa.Table:
    return pa.concat_tables([extractor.read(part, split).read_all() for part in parts])


def test_windows_give_the_rows_of_the_whole_file_in_order_in_the_same_splits(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet")
    with over(selection(field("n"), splits=HALVES), path) as extractor:
        whole = [Partition(sources=(0,))]
        for count in (1, 2, 3, 30):
            parts = windowed(path.stat().st_size, count)
            for split in ("train", "val"):
                assert rows(extractor, parts, split) == rows(extractor, whole, split)


def test_a_window_without_a_row_group_is_empty_and_has_the_same_columns(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", groups=1)
    with over(selection(field("n")), path) as extractor:
        read = [extractor.read(part, "train").read_all() for part in windowed(path.stat().st_size, 4)]

    assert sorted(table.num_rows for table in read) == [0, 0, 0, ROWS]
    assert len({table.schema for table in read}) == 1


def test_a_column_that_is_called_like_the_row_number_is_read_as_a_column(tmp_path: Path) -> None:
    more = {"File_Row_Number": [7] * ROWS, "row": range(ROWS, 0, -1)}
    path = parquet(tmp_path / "a.parquet", **more)
    fields = [field("n"), field("f", column="File_Row_Number"), field("row")]
    with over(selection(*fields, splits=HALVES), path, threads=1) as extractor:
        parts = windowed(path.stat().st_size, 3)
        assert rows(extractor, parts, "val") == rows(extractor, [Partition(sources=(0,))], "val")
        assert extractor.place_of(parts[1], "val", 0)[1] > 10_000


def test_counts_and_checks_look_at_the_window_alone(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet")
    splits = (
        SplitRule(name="a", claims=predicate("n < 10", n="integer")),
        SplitRule(name="b", claims=predicate("n < 20 OR n >= 39990", n="integer")),
    )
    with over(selection(field("n"), splits=splits), path) as extractor:
        first, middle, last = windowed(path.stat().st_size, 3)
        assert [extractor.overlaps(part) for part in (first, middle, last)] == [[("a", "b", 10)], [], []]
        with pytest.raises(SplitError, match="two splits"):
            extractor.require_disjoint(first)
        unassigned = [extractor.count_unassigned(part) for part in (first, middle, last)]
        assert sum(unassigned) == ROWS - 30
        assert all(count < ROWS // 2 for count in unassigned)


def test_classes_are_those_of_the_window(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", kind=[f"k{n // 20_000}" for n in range(ROWS)])
    with over(selection(field("kind", "text")), path) as extractor:
        found = [extractor.distinct(part, "kind", at_most=10) for part in windowed(path.stat().st_size, 10)]

    assert found[0] == ["k0"]
    assert found[-1] == ["k1"]


def test_every_window_is_joined_to_all_of_the_other_table(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", key=[n % 3 for n in range(ROWS)])
    names = tmp_path / "names.parquet"
    pq.write_table(pa.table({"id": [0, 1, 2], "name": ["zero", "one", "two"]}), names)
    there = FileSet(id="t", format="parquet", includes=("*",))
    key = replace(field("id"), table="j")
    join = Join(alias="j", distribution=there, on=(field("key"), key))
    fields = [field("n"), replace(field("name", "text"), table="j")]
    with over(selection(*fields, joins=(join,)), path, names) as extractor:
        parts = [replace(part, sources=(0, 1)) for part in windowed(path.stat().st_size, 4)]
        assert rows(extractor, parts, "train") == rows(extractor, [Partition(sources=(0, 1))], "train")


def test_a_row_of_a_window_is_told_by_its_number_in_the_file(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet")
    with over(selection(field("n")), path) as extractor:
        part = windowed(path.stat().st_size, 4)[2]
        row = extractor.read(part, "train").read_all()["n"][5].as_py()
        assert extractor.place_of(part, "train", 5) == ("a.parquet", row)


def test_a_window_of_a_remote_file_fetches_its_row_groups_and_as_much_as_foretold(tmp_path: Path) -> None:
    content = parquet(tmp_path / "made.parquet").read_bytes()
    selected = selection(field("wide"), splits=HALVES)
    config = Config(home=tmp_path, allow_private_hosts=frozenset({"127.0.0.1"}))
    with serve(a_parquet=content) as site, open_sources(config, cache_dir=tmp_path / "cache") as door:
        node = FileObject(id="a", content_url="a.parquet", format="parquet")
        ((source, place),) = door.resolve(node, base=f"{site.url}/c.json")
        parts = windowed(len(content), 5)
        plan = Plan(selection=selected, sources=(source,), partitions=tuple(parts))
        job = Job(name="a", plan=plan, fingerprint="", locations={source.name: place})
        files = [door.filesystem(job.locations) for _ in range(2)]
        told = forecast(job, partitions=[2], remote=files[0]).bytes_to_fetch
        before = site.body_bytes
        with Extractor(
            selected, [source], job.locations, BatchBounds(), filesystem_factory=lambda _: files[1]
        ) as extractor:
            read = [extractor.read(parts[2], split).read_all().num_rows for split in ("train", "val")]
        fetched = site.body_bytes - before

    assert sum(read) == ROWS // 5
    assert len(content) / 6 < fetched < len(content) / 2.5
    assert abs(told - fetched) <= 16 * 1024
    assert forecast_rows(job, tmp_path / "made.parquet") == ROWS


def forecast_rows(job: Job, path: Path) -> int | None:
    """All windows of the file, foretold from its copy here."""
    local = replace(job, locations={name: LocalFile(path=path) for name in job.locations})
    return forecast(local, partitions=range(len(job.plan.partitions)), remote=None).num_rows


def json_lines(path: Path) -> tuple[SourceFile, list[Partition]]:
    """2,000 rows with some blank lines between them, cut into a few slices."""
    blank = {17: "\n", 600: "  \r\n", 601: "\n\t\n", 1200: "\n"}
    path.write_text("".join(f'{blank.get(n, "")}{{"n": {n}, "text": "row {n}"}}\n' for n in range(2000)))
    slicer = LineSlicer(slice_bytes=8000, spacing_bytes=1000, slack_bytes=4000)
    slicer.update(path.read_bytes())
    slices = slicer.finish()
    size = path.stat().st_size
    source = SourceFile(name=path.name, format="jsonl", identity={}, size_bytes=size, slices=slices)
    return source, [Partition(sources=(0,), slice=cut) for cut in slices]


@contextmanager
def over_lines(selected: Selection, path: Path, source: SourceFile) -> Iterator[Extractor]:
    places = {path.name: LocalFile(path=path)}
    with Extractor(selected, [source], places, BatchBounds(), filesystem_factory=no_remote) as extractor:
        yield extractor


@pytest.mark.parametrize("fields", [("n", "text"), ()])
def test_slices_give_the_rows_of_the_whole_file_in_order_in_the_same_splits(
    tmp_path: Path, fields: tuple[str, ...]
) -> None:
    path = tmp_path / "a.jsonl"
    source, parts = json_lines(path)
    chosen = [field("n"), field("text", "text")]
    if not fields:  # the whole line as one JSON value
        chosen = [replace(field("n", column="$.n"), kind="json_path")]
    with over_lines(selection(*chosen, splits=HALVES), path, source) as extractor:
        assert len(parts) > 4
        for split in ("train", "val"):
            assert rows(extractor, parts, split) == rows(extractor, [Partition(sources=(0,))], split)
        for at in (parts[0], parts[-1]):
            row = extractor.read(at, "val").read_all()["n"][3].as_py()
            assert extractor.place_of(at, "val", 3) == ("a.jsonl", row)


def test_a_bad_line_of_a_slice_is_told_by_the_file_and_the_line_in_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"n": {n}}}\n' for n in range(1999)) + "[7]\n")
    slicer = LineSlicer(slice_bytes=8000, spacing_bytes=1000, slack_bytes=4000)
    slicer.update(path.read_bytes())
    (*_, cut) = slicer.finish()
    source = SourceFile(name="a.jsonl", format="jsonl", identity={}, size_bytes=1)
    with over_lines(selection(field("n")), path, source) as extractor, pytest.raises(SourceFormatError) as caught:
        extractor.read(Partition(sources=(0,), slice=cut), "train").read_all()

    assert cut.start > 8000
    assert "in line 2000" in str(caught.value)
    assert "a.jsonl" in caught.value.subject
    assert str(tmp_path) not in str(caught.value)


def test_a_slice_that_changed_since_it_was_planned_is_never_read_as_the_planned_one(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    source, parts = json_lines(path)
    text = path.read_text()
    path.write_text(text.replace('"n": 1999,', '"n": 9991,'))
    with over_lines(selection(field("n")), path, source) as extractor:
        assert extractor.read(parts[0], "train").read_all().num_rows > 0
        with pytest.raises(SourceIntegrityError, match="while it was in use"):
            extractor.read(parts[-1], "train")


def test_slices_of_inline_rows_are_read_on_their_own_with_their_numbers() -> None:
    data = InlineData(rows=tuple({"n": n, "text": f"row {n}"} for n in range(1000)))
    source = SourceFile(name="inline", format="inline", identity={}, size_bytes=0)
    cuts = [Slice(start=at, stop=at + 250, first_row=at, sha256="") for at in range(0, 1000, 250)]
    parts = [Partition(sources=(0,), slice=cut) for cut in cuts]
    selected = selection(field("n"), field("text", "text"), splits=HALVES, distribution=data)
    with over(selected, sources=[source]) as extractor:
        whole = rows(extractor, [Partition(sources=(0,))], "val")
        assert rows(extractor, parts, "val") == whole
        last = extractor.read(parts[-1], "val").read_all()["n"][0].as_py()
        assert extractor.place_of(parts[-1], "val", 0) == ("inline", last)


def test_an_inline_number_that_json_has_not_is_told_by_its_row(tmp_path: Path) -> None:
    data = InlineData(rows=tuple({"n": float("nan") if n == 700 else 1} for n in range(1000)))
    source = SourceFile(name="inline", format="inline", identity={}, size_bytes=0)
    part = Partition(sources=(0,), slice=Slice(start=500, stop=1000, first_row=500, sha256=""))
    chosen = selection(field("n"), distribution=data)
    with over(chosen, sources=[source]) as extractor, pytest.raises(SourceFormatError, match="row 700"):
        extractor.read(part, "train")


def test_only_the_slice_that_is_read_is_laid_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    source, parts = json_lines(path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temp"))
    (tmp_path / "temp").mkdir()
    with over_lines(selection(field("n")), path, source) as extractor:
        sizes = []
        for part in [*parts, *reversed(parts)]:
            extractor.read(part, "train").read_all()
            laid = list((tmp_path / "temp").glob("*/staged/*.jsonl"))
            sizes.append(sum(item.stat().st_size for item in laid))
    longest = max(part.slice.stop - part.slice.start for part in parts if part.slice)
    assert sizes[0] == parts[0].slice.stop if parts[0].slice else False
    assert max(sizes) <= 4 * longest
    assert json.loads(path.read_text().splitlines()[0]) == {"n": 0, "text": "row 0"}

"""Only what is stale is built: a partition depends on its own inputs, on all of them, and on nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coralord_lightning.config import Config
from coralord_lightning.errors import SourceIntegrityError
from coralord_lightning.spec.cuts import SLICE_ROWS, SLICED_BYTES, WINDOWED_BYTES
from coralord_lightning.workspace import Outcome, Workspace, open_workspace
from coralord_lightning.workspace.progress import Silence
from opens import opened_files
from projects import croissant, edit

FILES = 12
ROWS = 20
PIPELINE = "def same(batch, factor=1):\n    return batch\n"
PIPED = {"pipeline": {"entrypoint": "pipeline.py:same"}, "environment": "local"}
FRACTIONS = {"train": {"from": "rest", "fraction": 0.75}, "val": {"from": "rest", "fraction": 0.25}}
Build = Callable[..., tuple[int, int]]


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    return open_workspace(Config(home=tmp_path / "home"))


def write(folder: Path, number: int, first: int | None = None) -> Path:
    path = folder / "data" / f"{number:03}.csv"
    start = number * ROWS if first is None else first
    path.write_text("x,y,part\n" + "".join(f"{x},{x}.5,train\n" for x in range(start, start + ROWS)))
    return path


def project(folder: Path, kind: str = "csv", **fields: Any) -> Path:
    """A folder with many files, its Croissant and a pipeline."""
    types = {"csv": "text/csv", "jsonl": "application/jsonlines", "parquet": "application/x-parquet"}
    (folder / "data").mkdir(parents=True)
    body = croissant()
    body["distribution"][0] |= {"includes": f"data/*.{kind}", "encodingFormat": types[kind]}
    body["recordSet"][0] |= fields
    (folder / "croissant.json").write_text(json.dumps(body))
    (folder / "pipeline.py").write_text(PIPELINE)
    if kind == "csv":
        for number in range(FILES):
            write(folder, number)
    return folder


def built(space: Workspace, folder: Path, *, progress: Silence | None = None, **more: Any) -> Outcome:
    asked = {"name": "a", "croissant": "croissant.json", "fields": ["x", "y"], "splits": FRACTIONS}
    return space.ensure(asked | more, base_dir=folder, progress=progress)


def counts(outcome: Outcome) -> tuple[int, int]:
    return outcome.partitions_built, outcome.partitions_reused


def xs(outcome: Outcome, space: Workspace, split: str = "train") -> list[int]:
    """The values of `x` in a split."""
    out: list[int] = []
    for shard in outcome.version.manifest.shards(split):
        with pa.memory_map(str(space.config.home / shard.path)) as file:
            out += pa.ipc.open_stream(file).read_all()["x"].to_pylist()
    return out


@pytest.fixture(params=[{}, PIPED], ids=["plain", "piped"])
def build(request: pytest.FixtureRequest, tmp_path: Path, space: Workspace) -> Build:
    """Builds the project in `tmp_path / "a"`; gives how many partitions were built and reused."""
    folder = project(tmp_path / "a")
    assert counts(built(space, folder, **request.param)) == (FILES, 0)

    def again(place: Path = folder, **more: Any) -> tuple[int, int]:
        return counts(built(space, place, **(request.param | more)))

    return again


def test_one_edited_file_rebuilds_its_partition_and_no_other(tmp_path: Path, build: Build) -> None:
    write(tmp_path / "a", 5, first=9000)
    assert build() == (1, FILES - 1)


def test_a_new_file_adds_one_partition_wherever_it_sorts(tmp_path: Path, build: Build) -> None:
    shutil.copyfile(write(tmp_path / "a", 0), tmp_path / "a" / "data" / "000b.csv")
    assert build() == (1, FILES)


def test_a_removed_file_drops_its_partition_and_builds_none(tmp_path: Path, build: Build) -> None:
    (tmp_path / "a" / "data" / "003.csv").unlink()
    assert build() == (0, FILES - 1)
    write(tmp_path / "a", 3)
    assert build() == (0, FILES)


def test_a_renamed_file_is_another_for_rows_are_keyed_by_its_name(tmp_path: Path, build: Build) -> None:
    data = tmp_path / "a" / "data"
    (data / "003.csv").rename(data / "003b.csv")
    assert build() == (1, FILES - 1)


def test_a_changed_pipeline_rebuilds_all_and_a_comment_in_it_none(tmp_path: Path, space: Workspace) -> None:
    folder = project(tmp_path / "a")
    built(space, folder, **PIPED)
    edit(folder / "pipeline.py", "return batch", "return batch  # as it is")
    assert not built(space, folder, **PIPED).built
    edit(folder / "pipeline.py", "return batch", "return batch.slice(1)")
    assert counts(built(space, folder, **PIPED)) == (FILES, 0)
    params = {"pipeline": {**PIPED["pipeline"], "params": {"factor": 2}}}  # type: ignore[dict-item]
    assert counts(built(space, folder, **(PIPED | params))) == (FILES, 0)


def test_a_changed_selection_rebuilds_all(build: Build) -> None:
    assert build(where="x >= 0") == (FILES, 0)
    assert build(fields=["x"]) == (FILES, 0)


def test_descriptors_of_other_names_and_in_other_places_share_partitions(tmp_path: Path, build: Build) -> None:
    shutil.copytree(tmp_path / "a", tmp_path / "elsewhere")
    for path in (tmp_path / "elsewhere" / "data").iterdir():
        os.utime(path, (1, 1))
    write(tmp_path / "elsewhere", 99)

    assert build(tmp_path / "elsewhere", name="b") == (1, FILES)
    edit(tmp_path / "a" / "croissant.json", '"name": "points"', '"description": "new", "name": "points"')
    assert build(name="c") == (0, FILES)


def test_jobs_and_limits_are_in_no_key(tmp_path: Path, space: Workspace) -> None:
    folder = project(tmp_path / "a")
    keys = []
    for jobs, more in ((1, {}), (3, {"max_fetch": "1GB"})):
        other = open_workspace(Config(home=tmp_path / f"home{jobs}", jobs=jobs))
        keys.append(built(other, folder, **(PIPED | more)).version.manifest.partitions)
    assert keys[0] == keys[1]


def test_a_pipeline_over_the_dataset_depends_on_every_file(tmp_path: Path, space: Workspace) -> None:
    folder = project(tmp_path / "a")
    (folder / "pipeline.py").write_text("def all(reader):\n    yield from reader\n")
    whole = PIPED | {"pipeline": {"entrypoint": "pipeline.py:all", "per": "dataset"}}
    assert counts(built(space, folder, **whole)) == (1, 0)
    write(folder, 5, first=9000)
    assert counts(built(space, folder, **whole)) == (1, 0)


def test_nothing_but_the_edited_file_is_opened(tmp_path: Path, space: Workspace) -> None:
    folder = project(tmp_path / "a")
    time.sleep(2.1)  # a file that changed just now could change again unseen: its hash is not remembered
    for more in ({}, PIPED):
        built(space, folder, **more)
        write(folder, 5, first=9000 + len(more))
        with opened_files(folder / "data") as opened:
            assert counts(built(space, folder, **more)) == (1, FILES - 1)
        assert opened == {"005.csv"}


def test_a_hit_opens_no_source(tmp_path: Path, space: Workspace) -> None:
    folder = project(tmp_path / "a")
    time.sleep(2.1)
    built(space, folder)
    with opened_files(folder / "data") as opened:
        assert not built(space, folder).built
    assert opened == set()


def lines(folder: Path, count: int) -> Path:
    """JSON lines of 400 bytes."""
    pad = "p" * 340
    path = folder / "data" / "a.jsonl"
    with path.open("w") as file:
        for n in range(count):
            file.write(json.dumps({"x": n, "y": n * 0.5, "part": "train", "pad": pad}) + "\n")
    return path


def test_a_row_that_is_appended_to_large_json_lines_rebuilds_the_last_slice(tmp_path: Path, space: Workspace) -> None:
    folder = project(tmp_path / "a", "jsonl")
    count = SLICED_BYTES // 350
    path = lines(folder, count)
    assert path.stat().st_size > SLICED_BYTES
    first = built(space, folder)
    slices = first.partitions_built
    with path.open("a") as file:
        file.write('{"x": 5, "y": 1, "part": "train"}\n')
    asked = {"name": "a", "croissant": "croissant.json", "fields": ["x", "y"], "splits": FRACTIONS}
    foreseen = space.foresee(asked, base_dir=folder)
    second = built(space, folder)

    assert 2 <= slices <= 4
    assert counts(second) == (1, slices - 1)
    assert (foreseen.forecast.num_partitions, len(foreseen.planned.job.plan.partitions)) == (1, slices)
    rows = [xs(first, space, split) for split in FRACTIONS]
    assert sorted(rows[0] + rows[1]) == list(range(count))
    assert all(part == sorted(part) for part in rows)
    assert [xs(second, space, split)[: len(part)] for split, part in zip(FRACTIONS, rows, strict=True)] == rows


def test_growing_into_slices_moves_no_row_between_splits(tmp_path: Path, space: Workspace) -> None:
    folder = project(tmp_path / "a", "jsonl")
    path = lines(folder, SLICED_BYTES // 400 - 10_000)
    assert path.stat().st_size < SLICED_BYTES
    whole = built(space, folder)
    lines(folder, SLICED_BYTES // 350)
    cut = built(space, folder)

    assert (whole.partitions_built, cut.partitions_built > 1) == (1, True)
    for split in FRACTIONS:
        part = xs(whole, space, split)
        assert xs(cut, space, split)[: len(part)] == part


def test_a_large_parquet_file_is_built_in_windows_that_no_footer_is_read_to_plan(
    tmp_path: Path, space: Workspace
) -> None:
    folder = project(tmp_path / "a", "parquet")
    count = 300
    pad = np.random.default_rng(0).bytes(1024 * 1024)
    table = pa.table({"x": range(count), "y": [0.5] * count, "part": ["train"] * count, "pad": [pad] * count})
    path = folder / "data" / "a.parquet"
    pq.write_table(table, path, row_group_size=10, compression=None, use_dictionary=False)
    assert path.stat().st_size > WINDOWED_BYTES
    outcome = built(space, folder)

    assert counts(outcome) == (2, 0)
    assert sorted(xs(outcome, space) + xs(outcome, space, "val")) == list(range(count))
    assert all(len(parts) == 2 and parts[0].num_rows for parts in outcome.version.manifest.splits.values())
    (folder / "a.yaml").write_text("name: b\ncroissant: croissant.json\nfields: [x, y]\n")
    code = (
        "import sys; from pathlib import Path; from coralord_lightning.config import Config\n"
        "from coralord_lightning.workspace import open_workspace\n"
        "plan = open_workspace(Config(home=Path(sys.argv[1]))).plan(sys.argv[2]).plan\n"
        "print(len(plan.partitions), sorted({'pyarrow', 'duckdb', 'numpy'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(space.config.home), str(folder / "a.yaml")]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.split() == ["2", "[]"]


def inline(folder: Path, values: Iterable[int]) -> None:
    """A project whose rows stand in its Croissant file."""
    shutil.rmtree(folder, ignore_errors=True)
    project(folder, "csv")
    body = croissant()
    fields = [{"@type": "cr:Field", "@id": f"points/{n}", "dataType": "sc:Integer"} for n in ("x", "y")]
    rows = [{"points/x": n, "points/y": n * 2} for n in values]
    body["recordSet"][0] |= {"field": fields, "cr:data": rows}
    (folder / "croissant.json").write_text(json.dumps(body))


def test_a_row_that_is_appended_to_many_inline_rows_rebuilds_the_last_slice(tmp_path: Path, space: Workspace) -> None:
    folder = tmp_path / "a"
    inline(folder, range(SLICE_ROWS + 10))
    first = built(space, folder)
    inline(folder, range(SLICE_ROWS + 11))
    second = built(space, folder)

    assert counts(first) == (2, 0)
    assert counts(second) == (1, 1)
    assert sorted(xs(second, space) + xs(second, space, "val")) == list(range(SLICE_ROWS + 11))


def test_slices_of_the_same_rows_are_built_once(tmp_path: Path, space: Workspace) -> None:
    folder = tmp_path / "a"
    inline(folder, [7] * 2 * SLICE_ROWS)
    outcome = built(space, folder, splits={"train": {}})

    assert counts(outcome) == (1, 1)
    assert xs(outcome, space) == [7] * 2 * SLICE_ROWS


def test_what_changed_between_plan_and_build_is_kept_under_no_key(tmp_path: Path, space: Workspace) -> None:
    folder = project(tmp_path / "a")
    before = (folder / "data" / "000.csv").read_text()

    class Meddler(Silence):
        def start(self, partitions_total: int) -> None:
            write(folder, 0, first=9000)

    with pytest.raises(SourceIntegrityError, match="changed while it was in use"):
        built(space, folder, progress=Meddler())
    (folder / "data" / "000.csv").write_text(before)
    again = built(space, folder)

    assert sorted(xs(again, space) + xs(again, space, "val")) == list(range(FILES * ROWS))

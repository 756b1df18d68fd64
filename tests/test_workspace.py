"""The flow, whole: descriptor to version, in a store of its own."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from coralord_lightning.config import Config
from coralord_lightning.errors import (
    CroissantSyntaxError,
    DescriptorNotFoundError,
    EmptySelectionError,
    PipelineOutputError,
    SourceIntegrityError,
    SplitError,
    StaleError,
    UsageError,
    VersionNotFoundError,
)
from coralord_lightning.versions.status import status
from coralord_lightning.workspace import Workspace, open_workspace
from coralord_lightning.workspace.progress import Silence
from projects import edit, example_project, write_rows


def workspace_in(folder: Path) -> Workspace:
    return open_workspace(Config(home=folder))


@pytest.fixture
def project(tmp_path):
    return example_project(tmp_path / "project")


@pytest.fixture
def space(tmp_path):
    return workspace_in(tmp_path / "home")


def rows_of(space: Workspace, version, split: str) -> list[int]:
    shards = [version.home / shard.path for shard in version.manifest.shards(split)]
    return [x for path in shards for x in pa.ipc.open_stream(path.read_bytes()).read_all()["x"].to_pylist()]


def test_a_build_gives_the_rows_and_a_second_one_is_a_hit(space, project):
    first, second = space.ensure(project), space.ensure(project)
    assert (first.built, second.built) == (True, False)
    assert (first.partitions_built, second.partitions_built, second.partitions_reused) == (2, 0, 2)
    assert first.version.manifest == second.version.manifest
    assert rows_of(space, first.version, "test") == [3 * x for x in range(0, 100, 5)]
    rest = rows_of(space, first.version, "train") + rows_of(space, first.version, "val")
    assert sorted(rest) == [3 * x for x in range(100) if x % 5]


def test_another_folder_and_another_home_give_the_same_version(space, project, tmp_path):
    here = space.ensure(project).version
    moved = tmp_path / "elsewhere" / "renamed"
    shutil.copytree(project.parent, moved)
    there = workspace_in(tmp_path / "other-home").ensure(moved / "points.yaml").version
    assert (there.fingerprint, there.content_digest) == (here.fingerprint, here.content_digest)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("points.yaml", "name: points\n", "# a comment\nname: points\n"),
        ("points.yaml", '"x >= 0"', '"(x)   >= 0"'),
        ("pipeline.py", "import shapes\n", "import shapes  # forms\n"),
        ("croissant.json", '"name": "points"', '"description": "new", "name": "points"'),
        ("croissant.json", "https://schema.org/", "http://schema.org/"),
    ],
)
def test_an_edit_that_cannot_matter_is_fresh(space, project, file, old, new):
    space.ensure(project)
    edit(project.parent / file, old, new)
    assert status(space, project).state == "fresh"


@pytest.mark.parametrize(
    ("file", "old", "new", "what"),
    [
        ("pipeline.py", "shapes.ONE *", "2 * shapes.ONE *", "pipeline.code.pipeline.py"),
        ("shapes.py", "ONE = 1", "ONE = 2", "pipeline.code.shapes.py"),
        ("points.yaml", "factor: 3", "factor: 4", "pipeline.params.factor"),
        ("points.yaml", "x >= 0", "x >= 1", "selection.where"),
        ("croissant.json", "cr:Float32", "cr:Float64", "selection.fields.y.dtype"),
    ],
)
def test_an_edit_that_matters_is_stale_and_named(space, project, file, old, new, what):
    before = space.ensure(project).version
    edit(project.parent / file, old, new)
    found = status(space, project)
    assert (found.state, [change.what for change in found.changed]) == ("stale", [what])
    after = space.ensure(project).version
    assert after.fingerprint != before.fingerprint
    assert status(space, project).state == "fresh"


def test_one_byte_of_the_data_is_stale_and_named(space, project):
    space.ensure(project)
    path = project.parent / "data" / "a.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert [change.what for change in status(space, project).changed] == ["sources.data/a.parquet.sha256"]


def test_one_changed_file_rebuilds_one_partition_and_a_new_one_adds_one(space, project):
    space.ensure(project)
    write_rows(project.parent, "b.parquet", 40, 90)
    changed = space.ensure(project)
    assert (changed.partitions_built, changed.partitions_reused) == (1, 1)
    write_rows(project.parent, "c.parquet", 100, 120)
    added = space.ensure(project)
    assert (added.partitions_built, added.partitions_reused) == (1, 2)


def test_appended_rows_and_files_move_no_row_between_splits(space, project):
    before = space.ensure(project).version
    write_rows(project.parent, "b.parquet", 40, 130)
    write_rows(project.parent, "c.parquet", 130, 150)
    after = space.ensure(project).version
    for split in before.splits:
        assert set(rows_of(space, before, split)) <= set(rows_of(space, after, split))


def test_status_says_missing_then_fresh(space, project):
    assert status(space, project).state == "missing"
    space.ensure(project)
    assert status(space, project).state == "fresh"


def test_build_false_raises_and_names_the_command(space, project):
    with pytest.raises(StaleError) as caught:
        space.ensure(project, build=False)
    assert caught.value.remedy == f"coral build {project}"
    assert not (space.config.home / "manifests").exists()


def test_a_dict_with_a_base_dir_is_the_same_version(space, project):
    described = {
        "name": "points",
        "croissant": "croissant.json",
        "fields": ["x", "y"],
        "where": "x >= 0",
        "splits": {
            "val": {"from": "rest", "fraction": 0.25},
            "train": {"from": "rest", "fraction": 0.75},
            "test": {"where": "part = 'test'"},
        },
        "pipeline": {"entrypoint": "pipeline.py:scale", "params": {"factor": 3}},
        "environment": "local",
    }
    found = space.ensure(described, base_dir=project.parent)
    assert found.version.fingerprint == space.ensure(project).version.fingerprint


def test_extra_files_are_readable_by_the_pipeline_and_hashed(space, project):
    (project.parent / "extra.json").write_text("5")
    edit(project, "  params: {factor: 3}", "  params: {factor: 3}\n  files: [extra.json]")
    edit(project.parent / "pipeline.py", "shapes.ONE *", "int(open('extra.json').read()) *")
    edit(project.parent / "pipeline.py", "import shapes\n", "")
    version = space.ensure(project).version
    assert rows_of(space, version, "test")[1] == 5 * 5 * 3
    (project.parent / "extra.json").write_text("6")
    assert [change.what for change in status(space, project).changed] == ["pipeline.files.extra.json"]


def test_without_a_pipeline_the_selection_is_the_version(space, project):
    text = project.read_text()
    project.write_text(text[: text.index("pipeline:")])
    version = space.ensure(project).version
    assert rows_of(space, version, "test") == list(range(0, 100, 5))
    assert "environment" not in version.plan


def test_limit_and_order_look_at_the_whole(space, project):
    edit(project, 'where: "x >= 0"', 'where: "x >= 0"\norder_by: [x desc]\nlimit: 3')
    found = space.ensure(project)
    assert found.partitions_built == 1
    assert rows_of(space, found.version, "test") == [3 * 95, 3 * 90, 3 * 85]


def test_a_pipeline_over_the_dataset_sees_each_split_once(space, project):
    edit(project, "entrypoint: pipeline.py:scale", "entrypoint: pipeline.py:count\n  per: dataset")
    (project.parent / "pipeline.py").write_text(
        "import pyarrow as pa\n"
        "def count(reader, factor):\n    return pa.table({'x': [sum(b.num_rows for b in reader)]})\n"
    )
    version = space.ensure(project).version
    assert rows_of(space, version, "test") == [20]
    assert version.splits == {"test": 1, "train": 1, "val": 1}


def test_overlapping_predicates_are_refused_with_counts_and_nothing_is_kept(space, project):
    edit(project, "train: {from: rest, fraction: 0.75}", 'train: {where: "x < 10"}')
    edit(project, "  val: {from: rest, fraction: 0.25}\n", "")
    with pytest.raises(SplitError, match="2"):
        space.ensure(project)
    assert space.store.names() == []


def test_rows_in_no_split_are_counted(space, project):
    edit(project, "  val: {from: rest, fraction: 0.25}\n", "")
    found = space.ensure(project)
    kept = sum(found.version.splits.values())
    assert found.to_json()["unassigned_rows"] == 100 - kept > 0


def test_an_empty_selection_is_an_error(space, project):
    edit(project, "x >= 0", "x < 0")
    with pytest.raises(EmptySelectionError):
        space.ensure(project)


def test_partitions_with_different_columns_are_refused(space, project):
    (project.parent / "pipeline.py").write_text(
        "import pyarrow as pa\n"
        "def scale(batch, factor):\n"
        "    kind = pa.int32() if batch['x'][0].as_py() < 40 else pa.int64()\n"
        "    return pa.table({'x': batch['x'].cast(kind)})\n"
    )
    with pytest.raises(PipelineOutputError, match="x"):
        space.ensure(project)


def test_a_file_that_changes_while_it_is_built_from_makes_no_version(space, project):
    class Meddler(Silence):
        def advance(self, **_):
            write_rows(project.parent, "b.parquet", 40, 90)

    with pytest.raises(SourceIntegrityError, match="changed while it was in use"):
        space.ensure(project, progress=Meddler())
    assert space.store.fingerprints() == []
    assert space.ensure(project).version.num_rows == 90


def test_a_missing_shard_is_rebuilt(space, project):
    version = space.ensure(project).version
    shard = next(version.manifest.shards())
    (version.home / shard.path).unlink()
    assert status(space, project).state == "stale"
    again = space.ensure(project)
    assert again.built
    assert again.version.content_digest == version.content_digest
    assert (version.home / shard.path).is_file()


def test_a_flipped_byte_is_found_when_read_and_rebuilt(space, project):
    version = space.ensure(project).version
    shard = version.home / next(version.manifest.shards()).path
    whole = shard.read_bytes()
    shard.chmod(0o644)
    shard.write_bytes(whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:])
    assert not space.ensure(project).built
    assert space.ensure(project, verify="read").built
    assert shard.read_bytes() == whole


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def test_every_flipped_byte_is_found_when_read(space, project):
    version = space.ensure(project).version
    shards = [version.home / shard.path for shard in version.manifest.shards()]
    whole = [path.read_bytes() for path in shards]
    for path in shards:
        flip_a_byte(path)
    assert space.ensure(project, verify="read").partitions_built == 2
    assert [path.read_bytes() for path in shards] == whole


def test_a_flipped_byte_in_a_partition_that_is_reused_is_found_when_read(space, project):
    first = space.ensure(project).version
    shard = first.home / next(first.manifest.shards("val")).path
    whole = shard.read_bytes()
    flip_a_byte(shard)
    write_rows(project.parent, "c.parquet", 100, 120)
    found = space.ensure(project, verify="read")
    assert found.built
    assert shard.read_bytes() == whole


def test_a_manifest_that_is_a_dangling_link_is_no_version(space, project):
    space.ensure(project)
    (space.config.home / "manifests" / f"{'ab' * 32}.json").symlink_to("nowhere")
    with pytest.raises(VersionNotFoundError):
        space.version("abab")


def test_a_name_moves_with_its_version_and_back(space, project):
    first = space.ensure(project).version
    edit(project, "factor: 3", "factor: 4")
    second = space.ensure(project).version
    assert space.store.latest_pin("points") == second.fingerprint
    edit(project, "factor: 4", "factor: 3")
    back = space.ensure(project)
    assert not back.built
    assert space.store.latest_pin("points") == first.fingerprint


def test_a_version_is_found_by_a_unique_prefix(space, project):
    version = space.ensure(project).version
    assert space.version(version.fingerprint[:8]).fingerprint == version.fingerprint
    with pytest.raises(VersionNotFoundError):
        space.version("0" * 64)


def test_a_home_that_cannot_be_written_still_hits(space, project):
    space.ensure(project)
    home = str(space.config.home)
    code = (
        "from pathlib import Path; from coralord_lightning.config import Config\n"
        "from coralord_lightning.workspace import open_workspace\n"
        f"home = Path({home!r})\n"
        "try: (home / 'probe').touch()\nexcept OSError: print('read-only')\n"
        f"print(open_workspace(Config(home=home)).ensure({str(project)!r}).built)"
    )
    command = [sys.executable, "-c", code]
    if os.geteuid() == 0:  # modes do not bind root: a read-only mount of its own does
        script = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", script, home, *command]
    folders = [space.config.home, *(path for path in space.config.home.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert done.stdout.split() == ["read-only", "False"], done.stderr


@pytest.mark.parametrize(
    ("name", "error"),
    [("pionts.yaml", DescriptorNotFoundError), ("", DescriptorNotFoundError), ("nul\0", DescriptorNotFoundError)],
)
def test_a_wrong_path_is_named_with_what_is_there(space, project, name, error):
    with pytest.raises(error) as caught:
        space.plan(project.parent / name if name else project.parent)
    assert "points.yaml" in str(caught.value)


def test_a_descriptor_of_another_kind_is_refused(space):
    with pytest.raises(UsageError, match="int"):
        space.plan(3)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000])
def test_a_croissant_that_is_not_json_is_named(space, project, text):
    (project.parent / "croissant.json").write_text(text)
    with pytest.raises(CroissantSyntaxError, match=r"croissant\.json"):
        space.plan(project)


def test_the_manifest_holds_no_path_of_this_machine(space, project):
    version = space.ensure(project).version
    text = (space.config.home / "manifests" / f"{version.fingerprint}.json").read_text()
    assert str(project.parent) not in text
    assert str(space.config.home) not in text
    assert hashlib.sha256(b"").hexdigest() not in text

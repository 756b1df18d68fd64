"""`load()` without Lightning: the version, its tables, loaders, row numbers and a Hugging Face view."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from coralord_lightning import Dataset, load
from coralord_lightning.errors import (
    ShardMissingError,
    SplitNotFoundError,
    StaleError,
    UnknownFieldError,
    UsageError,
)
from coralord_lightning.workspace import Version
from hand_built import write_manifest


def example_table(num_rows: int = 40) -> pa.Table:
    image = pa.FixedSizeListArray.from_arrays(
        pa.FixedSizeListArray.from_arrays(pa.array(np.arange(num_rows * 6, dtype=np.uint8)), 3), 2
    )
    return pa.table({"row": np.arange(num_rows), "image": image, "text": [str(row) for row in range(num_rows)]})


def example_dataset(home: Path, **splits: pa.Table) -> Dataset:
    return Dataset(Version(manifest=write_manifest(home, splits or {"train": example_table()}), home=home))


def test_load_builds_once_and_says_what_it_is(project: Path, tmp_path: Path) -> None:
    with pytest.raises(StaleError):
        load(project, home=tmp_path, build=False)

    built = load(project, home=tmp_path)
    hit = load(project, home=tmp_path, build=False)

    assert repr(hit) == f"Dataset(toy {built.version.fingerprint[:12]}, test: 5, train: 20, val: 6)"
    assert hit.version.content_digest == built.version.content_digest
    assert load(project, home=tmp_path, pin=built.version.fingerprint[:10]).version.name is None


def test_a_mapping_is_loaded_from_its_base_dir(project: Path, home: Path) -> None:
    data = load({"name": "toy", "croissant": "croissant.json", "fields": ["row"]}, base_dir=project.parent, home=home)

    assert data.version.splits == {"train": 31}


def test_a_table_is_mapped_without_a_copy(tmp_path: Path) -> None:
    table = example_table()
    data = example_dataset(tmp_path, train=table)
    before = pa.total_allocated_bytes()

    mapped = data.table("train")

    assert mapped.equals(table)
    assert mapped.schema.field("image").type == pa.list_(pa.list_(pa.uint8(), 3), 2)
    assert pa.total_allocated_bytes() == before


def test_an_empty_split_is_an_empty_table_of_the_schema(tmp_path: Path) -> None:
    data = example_dataset(tmp_path, train=example_table(), val=example_table(0))

    assert data.table("val").schema.names == ["row", "image", "text"]
    assert data.table("val").num_rows == data.to_hf("val").num_rows == 0
    assert list(data.loader("val", batch_size=2)) == []


@pytest.mark.parametrize("world_size", [1, 3])
@pytest.mark.parametrize("shuffle", [True, False])
def test_rows_names_what_the_loaders_of_a_step_read(tmp_path: Path, shuffle: bool, world_size: int) -> None:
    data = example_dataset(tmp_path)
    options: dict[str, Any] = {"batch_size": 4, "shuffle": shuffle, "seed": 5, "world_size": world_size}
    loaders = [data.loader("train", rank=rank, batch_as=["row", "is_padding"], **options) for rank in range(world_size)]

    step = 0
    for _ in range(2):
        for batches in zip(*loaders, strict=True):
            read = [row for rows, padding in batches for row in rows[~padding].tolist()]
            assert data.rows("train", step=step, **options).tolist() == read
            step += 1
    assert data.rows("train", step=1, epoch=1, **options).tolist() == (
        data.rows("train", step=len(loaders[0]) + 1, **options).tolist()
    )


def test_rows_of_impossible_steps_are_refused(tmp_path: Path) -> None:
    data = example_dataset(tmp_path)

    with pytest.raises(UsageError, match="step=0 or more"):
        data.rows("train", step=-1, batch_size=4)
    with pytest.raises(UsageError, match="epoch=0 or more"):
        data.rows("train", step=0, epoch=-1, batch_size=4)
    with pytest.raises(UsageError, match="an epoch has no batch of 64 rows"):
        data.rows("train", step=0, batch_size=64, drop_last=True)


@pytest.mark.parametrize("method", ["table", "to_hf", "loader", "rows"])
def test_an_unknown_split_is_refused_with_the_nearest(tmp_path: Path, method: str) -> None:
    data = example_dataset(tmp_path)
    arguments: dict[str, Any] = {"loader": {"batch_size": 1}, "rows": {"batch_size": 1, "step": 0}}.get(method, {})

    with pytest.raises(SplitNotFoundError, match="write 'train'"):
        getattr(data, method)("trian", **arguments)


def test_a_loader_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    data = example_dataset(tmp_path)

    with pytest.raises(UnknownFieldError, match="write 'image'"):
        data.loader("train", batch_size=1, batch_as=["imgae"])
    with pytest.raises(UsageError, match="shuffle='block'"):
        data.loader("train", batch_size=1, shuffle="blocks")  # type: ignore[arg-type]


def test_a_hugging_face_dataset_reads_the_same_files(tmp_path: Path) -> None:
    data = example_dataset(tmp_path)

    view = data.to_hf("train")

    assert view.data.table.cast(data.table("train").schema).equals(data.table("train"))
    files = {Path(entry["filename"]).resolve() for entry in view.cache_files}
    assert files == {path.resolve() for path in tmp_path.glob("train-*.arrow")}


def test_without_hugging_face_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)

    with pytest.raises(UsageError, match=r"pip install 'coralord-lightning\[hf\]'"):
        example_dataset(tmp_path).to_hf("train")


@pytest.mark.parametrize("method", ["table", "to_hf"])
def test_a_missing_shard_is_named(tmp_path: Path, method: str) -> None:
    data = example_dataset(tmp_path)
    (tmp_path / "train-2.arrow").unlink()

    with pytest.raises(ShardMissingError, match=r"train-2\.arrow"):
        getattr(data, method)("train")


def test_load_and_table_import_neither_torch_nor_lightning_nor_pandas(project: Path, home: Path) -> None:
    code = (
        "import sys; from coralord_lightning import load; load(sys.argv[1], home=sys.argv[2]).table('train');"
        "print([name for name in ('torch', 'lightning', 'pytorch_lightning', 'pandas', 'mlcroissant')"
        " if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code, project, home], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"

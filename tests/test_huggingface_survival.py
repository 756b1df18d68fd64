"""What people do with a `datasets.Dataset` works with ours: pickles, copies on disk, map, formats, streams."""

from __future__ import annotations

import pickle  # noqa: TID251  # what datasets itself does
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
import torch

from coralord_lightning import Dataset
from damaged_shards import every_type
from many_types import all_types, built, expected, sights, undecoded

NUM_ROWS = 12


@pytest.fixture(params=["types", "sights", "translation"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Dataset:
    (tmp_path / "home").mkdir()
    home = tmp_path / "home"
    if request.param == "types":
        return built(home, train=all_types())
    return sights(home, ["said", "color"] if request.param == "translation" else None)


def values(view: datasets.Dataset) -> dict[str, list[Any]]:
    plain = undecoded(view).with_format("arrow")
    return {name: plain[:][name].to_pylist() for name in plain.column_names} if len(plain) else {}


def test_a_pickle_holds_paths_and_no_values(data: Dataset) -> None:
    view = data.to_hf("train")

    text = pickle.dumps(view)
    again = pickle.loads(text)

    assert again.features == view.features
    assert again._fingerprint == view._fingerprint
    assert values(again) == values(view)
    assert b"Zeile 7" not in text
    assert "röw 7".encode() not in text


def test_a_pickle_is_read_by_another_process(data: Dataset, tmp_path: Path) -> None:
    view = data.to_hf("train").select(range(2, 9))
    (tmp_path / "pickle").write_bytes(pickle.dumps(view))
    code = (
        "import pickle, sys; view = pickle.load(open(sys.argv[1], 'rb'))\n"
        "pickle.dump((len(view), view.with_format('arrow')[:].to_pylist()), open(sys.argv[1] + '.out', 'wb'))"
    )

    subprocess.run([sys.executable, "-c", code, str(tmp_path / "pickle")], check=True)

    count, rows = pickle.loads((tmp_path / "pickle.out").read_bytes())
    assert count == 7
    assert rows == view.with_format("arrow")[:].to_pylist()


def test_saved_to_disk_and_loaded(data: Dataset, tmp_path: Path) -> None:
    view = data.to_hf("train")

    view.save_to_disk(tmp_path / "saved")
    again = datasets.load_from_disk(tmp_path / "saved")

    assert again.features == view.features
    assert values(again) == values(view)


def test_concatenated_selected_filtered_split(data: Dataset) -> None:
    view = data.to_hf("train")
    all_values = values(view)
    name = view.column_names[0]

    both = datasets.concatenate_datasets([view, view])
    parts = view.train_test_split(test_size=4, seed=0)
    kept = undecoded(view).filter(lambda _, number: number % 2 == 0, with_indices=True)

    assert values(both)[name] == all_values[name] * 2
    assert values(view.select([5, 1, 9]))[name] == [all_values[name][row] for row in (5, 1, 9)]
    assert values(view.select(range(3, 8)))[name] == all_values[name][3:8]
    assert values(kept)[name] == all_values[name][::2]
    assert len(parts["train"]) + len(parts["test"]) == len(view)
    renamed = view.rename_column(name, "other").remove_columns(view.column_names[-1])
    assert values(pickle.loads(pickle.dumps(renamed)))["other"] == all_values[name]


def test_mapped_by_two_processes(tmp_path: Path) -> None:
    view = built(tmp_path, train=every_type()).to_hf("train")

    mapped = view.map(_with_sum, num_proc=2)

    assert mapped["sum"][:] == [row + 5 + row for row in range(NUM_ROWS)]
    assert mapped.features["image"] == view.features["image"]


def _with_sum(row: dict[str, Any]) -> dict[str, Any]:
    return {"sum": row["image"][0][0] + 5 + row["long"]}


def test_formatted_for_torch(tmp_path: Path) -> None:
    data = built(tmp_path, train=every_type())
    view = data.to_hf("train").select_columns(["image", "float", "long", "text", "flags"]).with_format("torch")

    batch = view[3:7]

    assert batch["image"].shape == (4, 2, 2)
    assert batch["image"].tolist() == data.table("train")["image"].to_pylist()[3:7]
    assert batch["float"].dtype == torch.float32
    assert batch["text"] == data.table("train")["text"].to_pylist()[3:7]
    loader = torch.utils.data.DataLoader(view.select_columns(["long"]), batch_size=5)
    assert [rows["long"].tolist() for rows in loader] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]


@pytest.mark.parametrize("stopped", [0, 1, 5, 7, 11])
def test_a_stream_goes_on_where_its_state_says(tmp_path: Path, stopped: int) -> None:
    data = built(tmp_path, rows=3, train=every_type())
    names = ["long", "text", "image", "map"]
    stream = data.to_hf("train", streaming=True)
    assert stream.num_shards == 4
    assert isinstance(data.to_hf(streaming=True)["train"], datasets.IterableDataset)
    rows = iter(stream)
    seen = [next(rows) for _ in range(stopped)]
    state = stream.state_dict()

    again = data.to_hf("train", streaming=True)
    again.load_state_dict(state)
    rest = list(again)

    got, want = seen + rest, expected(data)
    assert {name: [row[name] for row in got] for name in names} == {name: want[name] for name in names}


def test_a_stream_is_shared_by_workers(tmp_path: Path) -> None:
    stream = built(tmp_path, rows=3, train=pa.table({"x": range(12)})).to_hf("train", streaming=True)

    loader = torch.utils.data.DataLoader(stream.with_format("torch"), batch_size=3, num_workers=2)

    assert sorted(value for batch in loader for value in batch["x"].tolist()) == list(range(12))

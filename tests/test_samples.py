"""`coral samples`: the rows that it names are those that the run was given."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from command_line import coral, coral_json
from coralord_lightning import load
from coralord_lightning.dataset import Dataset
from coralord_lightning.stream.feed import mixed_feed, split_feed
from coralord_lightning.stream.loader import CoralLoader
from coralord_lightning.stream.options import LoaderOptions
from projects import parquet_project
from toy_runs import THIRD_PARTY_WARNINGS, example_module, fit, lightning, toy_project

IDENTITY = "def run(batch):\n    return batch\n"

_MORE = """\
splits:
  val: {where: "x % 4 = 0"}
  train: {from: rest}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def data(tmp_path_factory, home) -> Dataset:
    """18 training rows in three files, whose one field says what they are."""
    descriptor = parquet_project(tmp_path_factory.mktemp("rows") / "p", IDENTITY, files=3, rows=8, more=_MORE)
    return load(descriptor, home=home)


def save(loader: CoralLoader, path: Path) -> Path:
    torch.save({"model": {}, "data": loader.state_dict()}, path)
    return path


def values_of(dataset: Dataset, rows: list[dict]) -> list[int]:
    known = dataset.table("train")["x"].to_pylist()
    return [known[row["row"]] for row in rows]


@pytest.mark.parametrize(
    "options",
    [
        {"shuffle": True, "seed": 7},
        {"shuffle": False},
        {"shuffle": "block", "seed": 3},
        {"shuffle": True, "drop_last": True},
        {"shuffle": True, "skip": [(1, 2)]},
        {"shuffle": True, "world_size": 2, "batch_size": 2},
    ],
    ids=str,
)
def test_every_step_names_the_rows_that_were_handed_out(data, home, tmp_path, options):
    asked = {"batch_size": 4} | options
    ranks = [data.loader("train", **asked, rank=rank) for rank in range(asked.get("world_size", 1))]
    seen = []
    for _ in range(3):
        seen += [sorted(_values(parts)) for parts in zip(*ranks, strict=True)]
    checkpoint = save(ranks[0], tmp_path / "run.pt")
    found = coral_json("samples", checkpoint, "--step", 0, "--count", len(seen), "--home", home)
    assert len(seen) >= 12
    for step, values in enumerate(seen):
        named = [row for row in found["rows"] if row["step"] == step]
        assert sorted(values_of(data, named)) == values, step
        assert coral_json("samples", checkpoint, "--step", step, "--home", home)["rows"] == named


def _values(parts: tuple[dict, ...]) -> list[int]:
    found = []
    for part in parts:
        kept = ~part["is_padding"] if "is_padding" in part else torch.ones_like(part["x"], dtype=torch.bool)
        found += part["x"][kept].tolist()
    return found


def test_a_resumed_run_with_another_batch_size_is_followed_through_both(data, home, tmp_path):
    first = data.loader("train", batch_size=4, shuffle=True, seed=1)
    batches = iter(first)
    seen = [next(batches)["x"].tolist() for _ in range(3)]
    second = data.loader("train", batch_size=3, shuffle=True, seed=1, resume_batch="rebatch")
    second.load_state_dict(first.state_dict())
    seen += [_values((batch,)) for batch in second]
    checkpoint = save(second, tmp_path / "run.pt")
    found = coral_json("samples", checkpoint, "--step", 0, "--count", len(seen), "--home", home)["rows"]
    assert [values_of(data, [row for row in found if row["step"] == step]) for step in range(len(seen))] == seen


def test_rows_are_found_in_their_file_and_shard(data, home, tmp_path):
    loader = data.loader("train", batch_size=5, shuffle=True)
    checkpoint = save(loader, tmp_path / "run.pt")
    found = coral_json("samples", checkpoint, "--step", 2, "--home", home)
    assert (found["fingerprint"], found["split"]) == (data.version.fingerprint, "train")
    assert (found["epoch"], found["step"], len(found["rows"])) == (0, 2, 5)
    for row, value in zip(found["rows"], values_of(data, found["rows"]), strict=True):
        assert row["files"] == [f"data/{value // 8:03}.parquet"]
        with pa.memory_map(str(home / row["shard"])) as source:
            assert pa.ipc.open_stream(source).read_all()["x"][row["row_in_shard"]].as_py() == value
        assert (home / "partitions" / f"{row['partition']}.json").is_file()


def test_people_get_one_line_a_row(data, home, tmp_path):
    checkpoint = save(data.loader("train", batch_size=4, shuffle=True), tmp_path / "run.pt")
    rows = coral_json("samples", checkpoint, "--step", 1, "--home", home)["rows"]
    code, out, err = coral("samples", checkpoint, "--step", "1", "--home", home)
    head, *lines = out.splitlines()
    assert (code, head.split()) == (0, ["step", "epoch", "row", "partition", "file", "row", "in", "shard"])
    assert [line.split() for line in lines] == [
        ["1", "0", str(row["row"]), row["partition"][:12], row["files"][0], str(row["row_in_shard"])] for row in rows
    ]
    assert "the checkpoint stands before step 0" in err


def test_a_mixture_names_the_source_of_each_row(data, home, tmp_path):
    other = load(parquet_project(tmp_path / "other", IDENTITY, files=1, rows=9), home=home)
    of = {"small": other, "large": data}
    feeds = {name: split_feed(dataset.version.manifest, home, "train") for name, dataset in of.items()}
    options = LoaderOptions(batch_size=4, shuffle=True, epoch_size=20)
    loader = CoralLoader(mixed_feed(feeds, {"small": 1, "large": 3}), options)
    checkpoint = save(loader, tmp_path / "run.pt")
    seen = [value for batch in loader for value in batch["x"].tolist()]
    found = coral_json("samples", checkpoint, "--step", 0, "--count", 5, "--home", home)
    assert [source["name"] for source in found["sources"]] == ["small", "large"]
    assert found["fingerprint"] == f"{other.version.fingerprint} + {data.version.fingerprint}"
    assert [values_of(of[row["source"]], [row])[0] for row in found["rows"]] == seen
    assert {row["source"] for row in found["rows"]} == {"small", "large"}
    assert "source" in coral("samples", checkpoint, "--step", 0, "--home", home)[1].splitlines()[0]


def test_rows_drawn_by_weight_need_the_version_and_are_named(data, home, tmp_path):
    loader = data.loader("train", batch_size=4, weights="x", epoch_size=8, shuffle=True)
    seen = [batch["x"].tolist() for batch in loader]
    checkpoint = save(loader, tmp_path / "run.pt")
    found = coral_json("samples", checkpoint, "--step", 0, "--count", 2, "--home", home)["rows"]
    assert values_of(data, found) == [value for batch in seen for value in batch]
    code, _, err = coral("samples", checkpoint, "--step", 0, "--home", tmp_path / "elsewhere")
    assert code == 1
    assert err.startswith("CORAL-E0605")


def test_without_the_version_rows_are_told_by_number(data, home, tmp_path):
    checkpoint = save(data.loader("train", batch_size=4, shuffle=True), tmp_path / "run.pt")
    known = coral_json("samples", checkpoint, "--step", 1, "--home", home)["rows"]
    found = coral_json("samples", checkpoint, "--step", 1, "--home", tmp_path / "elsewhere")["rows"]
    assert found == [{key: row[key] for key in ("step", "epoch", "row")} for row in known]
    assert "is not in" in coral("samples", checkpoint, "--step", 1, "--home", tmp_path / "elsewhere")[2]


@pytest.mark.parametrize(
    ("words", "exit_code", "told"),
    [
        (["--step", "-1"], 2, "counts from 0"),
        (["--step", "x"], 2, "takes a whole number"),
        (["--step", "1.5"], 2, "takes a whole number"),
        (["--step", "9" * 5000], 2, "takes a whole number"),
        (["--step", str(2**63)], 2, "is out of range"),
        (["--step", "0", "--count", "0"], 2, "counts from 1"),
        (["--step", "0", "--count", "100001"], 2, "is out of range"),
        ([], 2, "--step"),
    ],
)
def test_numbers_that_no_run_counts_are_refused(data, home, tmp_path, words, exit_code, told):
    checkpoint = save(data.loader("train", batch_size=4), tmp_path / "run.pt")
    code, out, err = coral("samples", checkpoint, *words, "--home", home)
    assert (code, out) == (exit_code, "")
    assert err.startswith("CORAL-E0102")
    assert told in err


def test_the_last_step_that_a_run_could_count_is_answered(data, home, tmp_path):
    checkpoint = save(data.loader("train", batch_size=4, shuffle=True), tmp_path / "run.pt")
    found = coral_json("samples", checkpoint, "--step", 2**63 - 1, "--home", home)
    assert found["epoch"] == (2**63 - 1) // 5


def test_what_is_no_checkpoint_of_ours_is_named(data, home, tmp_path):
    save(data.loader("train", batch_size=4), tmp_path / "last.ckpt")
    torch.save({"model": {"weight": torch.zeros(2)}}, tmp_path / "foreign.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    (tmp_path / "text.pt").write_text("no checkpoint")
    told = {
        "lost.ckpt": "there is no such checkpoint",
        "foreign.pt": "says nothing of data",
        "list.pt": "says nothing of data",
        "text.pt": "cannot be read as a checkpoint",
        ".": "is a folder, not a checkpoint",
    }
    for name, message in told.items():
        code, out, err = coral("samples", tmp_path / name, "--step", 0, "--home", home)
        assert (code, out) == (2, ""), name
        assert message in err
    assert (
        f"try:      coral samples {tmp_path}/last.ckpt --step 0"
        in coral("samples", tmp_path / "lost.ckpt", "--step", 0, "--home", home)[2]
    )


def test_a_state_of_another_format_is_refused(data, home, tmp_path):
    state = data.loader("train", batch_size=4).state_dict() | {"format": 999}
    torch.save({"data": state}, tmp_path / "new.pt")
    code, _, err = coral("samples", tmp_path / "new.pt", "--step", 0, "--home", home)
    assert code == 2
    assert "format 999" in err


def _by_step(rows: list[dict], steps: int) -> list[list[int]]:
    return [[row["row"] for row in rows if row["step"] == step] for step in range(steps)]


class TestTrainer:
    """Checkpoints of a real Trainer."""

    pytestmark = THIRD_PARTY_WARNINGS

    @pytest.mark.parametrize(("limit", "steps"), [(1.0, 15), (3, 9)])
    def test_its_checkpoint_names_the_rows_of_every_step(self, home, tmp_path, limit, steps):
        project, last = toy_project(tmp_path / "toy"), tmp_path / "last.ckpt"
        options = {"max_epochs": 3, "limit_train_batches": limit}
        callback = lightning("pytorch_lightning").Callback

        class Saving(callback):  # type: ignore[misc,valid-type]
            def on_train_batch_end(self, trainer, model, *rest) -> None:
                if len(model.seen) == 7:
                    trainer.save_checkpoint(last)

        first = fit("pytorch_lightning", tmp_path, example_module(project, home), callbacks=[Saving()], **options)
        foretold = coral_json("samples", last, "--step", 0, "--count", steps, "--home", home)["rows"]
        assert _by_step(foretold, steps) == first.seen
        module = example_module(project, home)
        second = fit("pytorch_lightning", tmp_path, module, ckpt=last, **options)
        second.trainer.save_checkpoint(last)
        found = coral_json("samples", last, "--step", 0, "--count", steps, "--home", home)
        assert _by_step(found["rows"], steps) == first.seen[:7] + second.seen == first.seen
        assert found["fingerprint"] == module.version.fingerprint

    def test_a_checkpoint_from_before_training_says_so(self, home, tmp_path):
        module = example_module(toy_project(tmp_path / "toy"), home)
        module.prepare_data()
        module.setup("fit")
        torch.save({"CoralDataModule": module.state_dict()}, tmp_path / "early.ckpt")
        code, _, err = coral("samples", tmp_path / "early.ckpt", "--step", 0, "--home", home)
        assert code == 2
        assert "from before training" in err


def test_the_command_is_one_of_the_package(data, home, tmp_path):
    checkpoint = save(data.loader("train", batch_size=4), tmp_path / "run.pt")
    command = [sys.executable, "-m", "coralord_lightning.cli", "samples", str(checkpoint), "--step", "0", "--json"]
    done = subprocess.run([*command, "--home", str(home)], capture_output=True, text=True, check=True)
    assert [row["row"] for row in json.loads(done.stdout)["rows"]] == [0, 1, 2, 3]

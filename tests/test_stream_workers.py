"""Worker processes: the same batches as without, and their end whatever happens."""

from __future__ import annotations

import gc
import os
import pickle  # noqa: TID251  # others pickle loaders: spawned processes
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import augmentations
from coralord_lightning.errors import BatchError, UsageError, WorkerError
from coralord_lightning.stream.feed import split_feed
from coralord_lightning.stream.loader import CoralLoader
from coralord_lightning.stream.options import LoaderOptions
from hand_built import write_manifest

TESTS = Path(__file__).parent


def example_loader(home: Path, **options: Any) -> CoralLoader:
    manifest = write_manifest(home, {"train": augmentations.rows_table()})
    values: dict[str, Any] = {"batch_size": 4, "num_workers": 2, "transform": augmentations.name_process}
    return CoralLoader(split_feed(manifest, home, "train"), LoaderOptions(**values | options))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or ") Z " not in stat.read_text()


def require_ended(pids: list[int]) -> None:
    until = time.monotonic() + 10
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < until, f"{pids} are still there"
        time.sleep(0.02)


def pids_of(loader: CoralLoader) -> list[int]:
    return [worker.process.pid or 0 for worker in loader._workers._workers]


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    return value.tolist() if isinstance(value, torch.Tensor) else value


@pytest.mark.parametrize("num_workers", [1, 3])
@pytest.mark.parametrize(
    "options",
    [
        {"transform": augmentations.draw, "shuffle": True},
        {"transform": None, "collate": augmentations.rows_to_lists, "shuffle": "block", "batch_as": ["drawn", "row"]},
        {"transform": augmentations.draw, "batch_size": 7, "world_size": 2, "rank": 1},
        {"transform": None, "batch_size": 100},
    ],
)
def test_batches_and_states_are_those_without_workers(
    tmp_path: Path, options: dict[str, Any], num_workers: int
) -> None:
    with_workers = example_loader(tmp_path, num_workers=num_workers, **options)
    without = example_loader(tmp_path, **options | {"num_workers": 0})

    for _ in range(3):
        assert len(with_workers) == len(without)
        for batch, expected in zip(with_workers, without, strict=True):
            assert plain(batch) == plain(expected)
            assert with_workers.state_dict() == without.state_dict()


def test_a_run_goes_on_with_another_number_of_workers_and_the_same_random_numbers(tmp_path: Path) -> None:
    options: dict[str, Any] = {"transform": augmentations.draw, "shuffle": True}
    uninterrupted = example_loader(tmp_path, num_workers=0, **options)
    whole = [plain(batch) for _ in range(2) for batch in uninterrupted]
    first = example_loader(tmp_path, num_workers=2, **options)
    batches = iter(first)
    seen = [plain(next(batches)) for _ in range(3)]

    resumed = example_loader(tmp_path, num_workers=1, **options)
    resumed.load_state_dict(first.state_dict())
    seen += [plain(batch) for _ in range(2) for batch in resumed]

    assert seen == whole
    assert len({batch["drawn"] for batch in whole}) == len(whole)


def test_without_workers_the_global_generators_go_on_as_if_nothing_had_drawn(tmp_path: Path) -> None:
    loader = example_loader(tmp_path, num_workers=0, transform=augmentations.draw)

    def seed() -> None:
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002  # the global one
        torch.manual_seed(1)

    def draws() -> list[float]:
        return [random.random(), float(np.random.random()), float(torch.rand(()))]  # noqa: NPY002

    seed()
    expected = [draws(), draws()]
    seed()
    batches = iter(loader)
    got = []
    for _ in range(2):
        next(batches)
        got.append(draws())

    assert got == expected


def test_processes_live_from_epoch_to_epoch_and_are_frugal(tmp_path: Path) -> None:
    loader = example_loader(tmp_path)

    epochs = [[(batch["pid"], batch["threads"]) for batch in loader] for _ in range(2)]

    assert epochs[0] == epochs[1]
    assert {pid for pid, _ in epochs[0]} == set(pids_of(loader))
    assert {threads for _, threads in epochs[0]} == {1}


def test_an_epoch_left_early_is_no_part_of_the_next_one(tmp_path: Path) -> None:
    loader, without = example_loader(tmp_path, shuffle=True), example_loader(tmp_path, shuffle=True, num_workers=0)
    for each in (loader, without):
        next(iter(each))
    pids = pids_of(loader)

    assert [plain(batch["row"]) for batch in loader] == [plain(batch["row"]) for batch in without]
    assert pids_of(loader) == pids


def test_few_batches_are_made_before_they_are_asked_for(tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    loader = example_loader(tmp_path, batch_size=1, num_workers=2, transform=augmentations.CountCalls(made))
    batches = iter(loader)
    for _ in range(3):
        next(batches)
    time.sleep(1)

    assert len(list(made.iterdir())) == 3 + 2 * 2
    assert loader.position.batches == 3


def test_values_of_every_kind_arrive_as_they_were_sent(tmp_path: Path) -> None:
    loader = example_loader(tmp_path, transform=augmentations.give_forms, num_workers=1)

    batch = next(iter(loader))

    assert list(batch) == list(augmentations.FORMS)
    for name, expected in augmentations.FORMS.items():
        got = batch[name]
        assert type(got) is type(expected)
        if isinstance(expected, torch.Tensor):
            assert (got.dtype, got.shape) == (expected.dtype, expected.shape), name
            assert torch.equal(got.to_dense(), expected.to_dense()), name
    batch["plain"] += 1
    batch["array"] += 1
    assert batch["plain"].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert (batch["texts"], batch["nested"]) == (["a", "ß"], ({"x": [torch.ones(1)]}, None))


def test_a_function_that_no_other_process_finds_is_refused_at_once(tmp_path: Path) -> None:
    def local(batch: Any) -> Any:
        return batch

    for options in ({"transform": lambda batch: batch}, {"transform": local}, {"transform": None, "collate": local}):
        with pytest.raises(UsageError, match="a function of a module") as caught:
            example_loader(tmp_path, **options)
        assert "num_workers=0" in caught.value.remedy


def test_what_the_function_raises_is_raised_here_with_its_traceback_and_the_run_can_go_on(tmp_path: Path) -> None:
    loader = example_loader(tmp_path, transform=augmentations.fail_at_7)
    batches = iter(loader)
    next(batches)
    pids = pids_of(loader)

    with pytest.raises(ZeroDivisionError, match="row seven") as caught:
        next(batches)

    assert "in fail_at_7" in caught.value.__notes__[0]
    assert f"worker process {pids[1]}" in caught.value.__notes__[0]
    assert loader.position.batches == 1
    assert loader.state_dict() == loader.state_dict()
    loader.set_epoch(0)
    assert next(iter(loader))["pid"] == pids[0]


def test_an_exception_that_cannot_be_sent_is_told(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="Unspeakable: this much") as caught:
        next(iter(example_loader(tmp_path, transform=augmentations.fail_unspeakably)))
    assert "num_workers=0" in caught.value.remedy


def test_a_batch_that_cannot_be_sent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BatchError, match="cannot send"):
        next(iter(example_loader(tmp_path, transform=augmentations.return_a_generator)))


def test_a_killed_worker_is_named_and_the_others_end_too(tmp_path: Path) -> None:
    loader = example_loader(tmp_path)
    batches = iter(loader)
    next(batches)
    pids = pids_of(loader)
    os.kill(pids[1], signal.SIGKILL)

    with pytest.raises(WorkerError, match="out of memory") as caught:
        list(batches)

    assert caught.value.facts["pid"] == str(pids[1])
    assert caught.value.facts["signal"] == "SIGKILL"
    require_ended(pids)
    resumed = example_loader(tmp_path)
    resumed.load_state_dict(loader.state_dict())
    assert len(list(resumed)) == 10 - loader.position.batches


def test_a_worker_that_ends_itself_in_its_first_batch_is_named(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="SIGKILL"):
        next(iter(example_loader(tmp_path, transform=augmentations.die)))


def test_a_worker_killed_in_the_middle_of_a_message_is_no_wait(tmp_path: Path) -> None:
    loader = example_loader(tmp_path, transform=augmentations.give_much, num_workers=2)
    batches = iter(loader)
    pid = next(batches)["pid"]
    time.sleep(0.5)  # it writes the third batch, which nobody has begun to read
    os.kill(pid, signal.SIGKILL)

    with pytest.raises(WorkerError, match=f"{pid}"):
        list(batches)


def test_processes_end_with_their_loader(tmp_path: Path) -> None:
    loader = example_loader(tmp_path, transform=augmentations.stop_or_sleep)
    batches = iter(loader)
    next(batches)
    pids = pids_of(loader)

    del batches, loader
    gc.collect()

    require_ended(pids)


@pytest.mark.parametrize("how", ["ending", "raising", "killed", "terminated"])
def test_processes_end_with_the_program_however_it_ends(tmp_path: Path, how: str) -> None:
    done = subprocess.run(
        [sys.executable, str(TESTS / "augmentations.py"), str(tmp_path), how],
        check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=120,
    )  # fmt: skip

    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2
    require_ended(pids)


def test_ctrl_c_ends_the_wait_for_a_worker_and_the_workers_say_nothing(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, str(TESTS / "augmentations.py"), str(tmp_path), "waiting"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as program:  # fmt: skip
        assert program.stdout is not None
        pids = [int(pid) for pid in program.stdout.readline().split()]
        time.sleep(0.5)
        os.killpg(program.pid, signal.SIGINT)  # as a terminal does it: the workers get it too
        out, err = program.communicate(timeout=60)

    assert out == "interrupted\n"
    assert "Traceback" not in err
    require_ended(pids)


def test_a_function_of_a_program_without_a_file_is_told(tmp_path: Path) -> None:
    program = f"""
import sys; sys.path.insert(0, {str(TESTS)!r})
import augmentations, test_stream_workers
from pathlib import Path
def unfound(batch): return batch
next(iter(test_stream_workers.example_loader(Path({str(tmp_path)!r}), transform=unfound)))
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=120)

    assert "CORAL-E0102 num_workers: a worker process does not find" in done.stderr


def test_a_script_without_a_guard_is_told(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"""
import sys; sys.path.insert(0, {str(TESTS)!r})
import test_stream_workers
from pathlib import Path
next(iter(test_stream_workers.example_loader(Path({str(tmp_path)!r}))))
"""
    )
    done = subprocess.run([sys.executable, str(script)], check=False, capture_output=True, text=True, timeout=120)

    assert "CORAL-E0706" in done.stderr
    assert 'if __name__ == "__main__":' in done.stderr


def test_two_iterations_of_one_loader_are_refused(tmp_path: Path) -> None:
    loader = example_loader(tmp_path)
    first = iter(loader)
    next(first)
    next(iter(loader))

    with pytest.raises(UsageError, match="another iteration"):
        next(first)


def test_a_pickled_loader_has_no_processes(tmp_path: Path) -> None:
    loader = example_loader(tmp_path)
    next(iter(loader))

    copy = pickle.loads(pickle.dumps(loader))

    assert pids_of(copy) == []
    assert len(list(copy)) == 10

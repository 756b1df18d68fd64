"""Groups of real processes that read like DDP: an all_reduce after every batch, and what all of them saw compared.

Run as a program; it imports torch once and forks the ranks of one group after the other. Each group gets a minute.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import sys
import time
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from coralord_lightning.stream.feed import Feed
from coralord_lightning.stream.loader import CoralLoader
from toy_streams import loader_over, mixture_feed, rows_feed, with_block_rows

WORLDS = [2, 1, 3, 4]  # two first: the others go on from where it stops
GLOBAL_BATCH = 12
SECONDS = 60
ROWS = [1, 2, 3, 5, 8, 17, 40, 64]
KINDS = ["full", "stored", "block", "weights", "mixture"]
Case = dict[str, Any]
Taken = list[tuple[int, list[int], list[bool]]]


def drawn_cases(world_size: int) -> list[Case]:
    chance, cases = random.Random(world_size), []
    for _ in range(12 if world_size == 1 else 30):
        case: Case = {"kind": chance.choice(KINDS), "rows": chance.choice(ROWS), "batch_size": chance.randint(1, 7)}
        lanes = [lanes for lanes in (1, 1, 2, 4, 8) if case["batch_size"] * world_size % lanes == 0]
        case |= {"drop_last": chance.random() < 0.3, "seed": chance.randint(0, 9)}
        if case["kind"] in ("full", "stored", "block"):
            case["lanes"] = chance.choice(lanes)
        if case["rows"] > 3 * case["batch_size"] * world_size and chance.random() < 0.3:
            case["skip"] = [(1, 2), (4, 5)]
        cases.append(case)
    if world_size == 2:
        cases.append({"kind": "mixture", "rows": 17, "batch_size": 3, "num_workers": 2})
    return cases


def feed_of(home: Path, kind: str, rows: int) -> Feed:
    return mixture_feed(home, {rows: 0.6, 29: 0.4}, "all") if kind == "mixture" else rows_feed(home, rows)


def made(home: Path, case: Case, rank: int = 0, world_size: int = 1) -> CoralLoader:
    options = {name: value for name, value in case.items() if name not in ("kind", "rows")}
    options |= {"shuffle": {"stored": False, "block": "block"}.get(case["kind"], True)}
    options |= {"weights": "weight"} if case["kind"] == "weights" and case["rows"] > 1 else {}
    loader = loader_over(feed_of(home, case["kind"], case["rows"]), rank=rank, world_size=world_size, **options)
    return with_block_rows(loader, 1) if case["kind"] == "block" else loader


def taken(loader: CoralLoader, steps: int) -> Taken:
    """So many batches, or two epochs where there are fewer; every rank waits for the others after each."""
    out: Taken = []
    for _ in range(2):
        epoch = loader.position.epoch
        for batch in itertools.islice(loader, steps - len(out)):
            dist.all_reduce(torch.ones(1))
            marks = batch["is_padding"].tolist() if "is_padding" in batch else [False] * len(batch["row"])
            out.append((epoch, batch["row"].tolist(), marks))
    return out


def of_all(told: Any) -> list[Any]:
    heard: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(heard, told)
    return heard


def global_rows(step: tuple[tuple[int, list[int], list[bool]], ...]) -> list[int]:
    return [row for _, rows, marks in step for row, mark in zip(rows, marks, strict=True) if not mark]


def compare(case: Case, ranks: list[Taken], alone: Taken) -> list[str]:
    """What is wrong with what all ranks took; `alone` is what one process takes."""
    if len({len(one) for one in ranks}) != 1:
        return [f"{case}: {[len(one) for one in ranks]} batches"]
    steps = list(zip(*ranks, strict=True))
    wrong = [f"{case}: sizes {step}" for step in steps if len({len(rows) for _, rows, _ in step}) != 1]
    if [global_rows(step) for step in steps] != [global_rows((step,)) for step in alone]:
        wrong.append(f"{case}: another sequence than one process has")
    if case["kind"] in ("full", "stored", "block") and "skip" not in case:
        left_out = case["rows"] % (case["batch_size"] * len(ranks)) if case.get("drop_last") else 0
        for epoch in range(2):
            rows = [row for step in steps if step[0][0] == epoch for row in global_rows(step)]
            if (
                len(rows) != case["rows"] - left_out
                or len(set(rows)) != len(rows)
                or not set(rows) <= set(range(case["rows"]))
            ):
                wrong.append(f"{case}: epoch {epoch} has {sorted(rows)}")
    return wrong


def try_cases(home: Path, rank: int, world_size: int) -> tuple[int, list[str]]:
    wrong: list[str] = []
    cases = drawn_cases(world_size)
    for case in cases:
        loader = made(home, case, rank, world_size)
        heard = of_all((taken(loader, 10**6), loader.state_dict()))
        alone = made(home, case | {"batch_size": case["batch_size"] * world_size, "num_workers": 0})
        expected = [(0, batch["row"].tolist(), _marks(batch)) for _ in range(2) for batch in alone]
        wrong += compare(case, [one for one, _ in heard], expected)
        if any(state != alone.state_dict() for _, state in heard):
            wrong.append(f"{case}: states differ")
    return len(cases), wrong


def _marks(batch: dict[str, Any]) -> list[bool]:
    return batch["is_padding"].tolist() if "is_padding" in batch else [False] * len(batch["row"])


def stop_and_go_on(home: Path, folder: Path, rank: int, world_size: int) -> list[str]:
    """Two ranks stop in the middle of an epoch; every other number of ranks goes on from the state of rank 0."""
    wrong = []
    for kind, stop in itertools.product(KINDS, (1, 5)):
        case: Case = {"kind": kind, "rows": 94, "batch_size": GLOBAL_BATCH // world_size}
        case |= {"lanes": 2} if kind in ("full", "block") else {}
        loader, saved = made(home, case, rank, world_size), folder / f"{kind}-{stop}.json"
        if world_size == 2:
            heard = of_all(taken(loader, stop))
            if rank == 0:
                done = [global_rows(step) for step in zip(*heard, strict=True)]
                saved.write_text(json.dumps({"done": done, "state": loader.state_dict()}))
            continue
        told = json.loads(saved.read_text())
        loader.load_state_dict(told["state"])
        heard = of_all(taken(loader, 14))
        whole = taken_alone(home, case | {"batch_size": GLOBAL_BATCH}, stop + 14)
        found = told["done"] + [global_rows(step) for step in zip(*heard, strict=True)]
        if found != whole[: len(found)] or len(found) < stop + 8:
            wrong.append(f"{case} after {stop}: {found} instead of {whole}")
    return wrong


def taken_alone(home: Path, case: Case, count: int) -> list[list[int]]:
    loader = made(home, case)
    batches = itertools.chain.from_iterable(iter(loader) for _ in range(3))
    return [global_rows(((0, batch["row"].tolist(), _marks(batch)),)) for batch in itertools.islice(batches, count)]


def run_rank(folder: Path, rank: int, world_size: int) -> dict[str, Any]:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    rendezvous = f"file://{folder}/rendezvous-{world_size}"
    patience = timedelta(seconds=SECONDS / 2)
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=world_size, timeout=patience)
    home = folder / "home"
    cases, wrong = try_cases(home, rank, world_size)
    wrong += stop_and_go_on(home, folder, rank, world_size)
    dist.barrier()
    dist.destroy_process_group()
    return {"cases": cases, "wrong": wrong}


def run_group(folder: Path, world_size: int) -> None:
    children = {}
    for rank in range(world_size):
        child = os.fork()
        if child == 0:
            told: dict[str, Any] = {}
            try:
                told = run_rank(folder, rank, world_size)
            except BaseException:  # noqa: BLE001  # told by the test, whatever it is
                told = {"failed": traceback.format_exc()}
            (folder / f"{world_size}-{rank}.json").write_text(json.dumps(told))
            os._exit(0)
        children[child] = rank
    deadline = time.monotonic() + SECONDS
    while children and time.monotonic() < deadline:
        ended, _ = os.waitpid(-1, os.WNOHANG)
        children.pop(ended, None)
        time.sleep(0.02)
    for child, rank in children.items():
        os.kill(child, 9)
        os.waitpid(child, 0)
        (folder / f"{world_size}-{rank}.json").write_text(json.dumps({"failed": f"still there after {SECONDS} s"}))


if __name__ == "__main__":
    where = Path(sys.argv[1])
    torch.set_num_threads(1)
    (where / "home").mkdir()
    for rows in [*ROWS, 94]:  # written once, before there are several ranks
        for kind in ("full", "mixture"):
            feed_of(where / "home", kind, rows)
    for world in WORLDS:
        begun = time.monotonic()
        run_group(where, world)
        print(f"{world} ranks: {time.monotonic() - begun:.1f} s", file=sys.stderr)

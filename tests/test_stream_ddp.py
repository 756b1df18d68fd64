"""Real processes in one gloo group each: equal batches, each row once, no hang, one sequence for any ranks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import gloo_ranks

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every rank of every group has to say."""
    folder = tmp_path_factory.mktemp("ranks")
    program = [sys.executable, str(Path(gloo_ranks.__file__)), str(folder)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("world_size", sorted(gloo_ranks.WORLDS))
def test_every_case_ends_with_equal_batches_and_each_row_once(told: Path, world_size: int) -> None:
    ranks: list[dict[str, Any]] = [
        json.loads((told / f"{world_size}-{rank}.json").read_text()) for rank in range(world_size)
    ]

    for rank in ranks:
        assert "failed" not in rank, rank["failed"]
        assert rank["wrong"] == []
        assert rank["cases"] == len(gloo_ranks.drawn_cases(world_size)) >= 12


def test_a_run_of_two_ranks_was_stopped_in_the_middle_for_the_others_to_go_on(told: Path) -> None:
    paths = [told / f"{kind}-{stop}.json" for kind in gloo_ranks.KINDS for stop in (1, 5)]
    states = [json.loads(path.read_text())["state"] for path in paths]

    assert all(state["batches"] in (1, 5) and state["global_batch"] == gloo_ranks.GLOBAL_BATCH for state in states)

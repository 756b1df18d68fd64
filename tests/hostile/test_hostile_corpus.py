"""Every hostile file, archive and server of the corpus goes the whole way, and none gets what it is after.

Each case ends in an error of ours or in exactly the right rows; nothing outside is read or written, no forbidden
address is connected to, and neither time nor memory run away. Cases run in processes of their own (`arena`).
"""

from __future__ import annotations

import importlib
import itertools
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hostile import arena
from hostile.cases import ALL, Case
from hostile.guilty import GUILTY

from coralord_lightning import errors

for _module in arena.CORPUS:
    importlib.import_module(f"hostile.{_module}")

_PROCESSES = 2
_MOST_SECONDS = 30
_MOST_BYTES = 1024**3

Result = dict[str, Any]


@contextmanager
def trap() -> Iterator[tuple[str, list[Any]]]:
    """Somebody listens at a forbidden address; who came is noted."""
    came: list[Any] = []
    with socket.create_server(("127.0.0.2", 0)) as listener:
        listener.settimeout(0.1)
        ended = threading.Event()

        def wait() -> None:
            while not ended.is_set():
                try:
                    connection, peer = listener.accept()
                except TimeoutError:
                    continue
                came.append(peer)
                connection.close()

        thread = threading.Thread(target=wait)
        thread.start()
        try:
            yield f"http://127.0.0.2:{listener.getsockname()[1]}", came
        finally:
            ended.set()
            thread.join()


def fight(names: Sequence[str], forbidden: str) -> dict[str, Result]:
    """What came of the cases; one that ended its process is told as such, and the next ones run in another."""
    results: dict[str, Result] = {}
    waiting = list(names)
    while waiting:
        command = [sys.executable, str(Path(arena.__file__)), forbidden]
        found = subprocess.run(
            command, check=False, input="\n".join(waiting), capture_output=True, text=True, timeout=280
        )
        begun = None
        for line in found.stdout.splitlines():
            said = json.loads(line)
            begun = said.get("begins", begun)
            if "name" in said:
                results[said["name"]] = said
        if begun is None:
            raise AssertionError(found.stderr[-3000:])
        if begun not in results:
            ended = signal.Signals(-found.returncode).name if found.returncode < 0 else found.returncode
            results[begun] = {"bare": f"the process ended: {ended}", "text": found.stderr[-2000:]}
        waiting = [name for name in waiting if name not in results]
    return results


@pytest.fixture(scope="session")
def results(request: pytest.FixtureRequest) -> dict[str, Result]:
    """Results of all cases whose tests are asked for."""
    names = [item.callspec.params["name"] for item in request.session.items if _is_case(item)]
    shares = [names[at::_PROCESSES] for at in range(_PROCESSES)]
    with trap() as (forbidden, came), ThreadPoolExecutor(_PROCESSES) as pool:
        found = list(pool.map(fight, filter(None, shares), itertools.repeat(forbidden)))
    out = {name: result for share in found for name, result in share.items()}
    out["the trap"] = {"came": came}
    return out


def _is_case(item: Any) -> bool:
    return getattr(item, "originalname", "") == test_the_attack_comes_to_nothing.__name__ and Path(item.path) == Path(
        __file__
    )


def complaints(case: Case, result: Result) -> list[str]:
    """What is wrong with how a case ended."""
    found = [f"outside: {what}" for what in result.get("touched", ())]
    if "bare" in result:
        found.append(f"no error of ours: {result['bare']}\n{result['text']}")
    elif "error" in result:
        allowed = [error.__name__ for error in case.refused]
        kinds = [kind.__name__ for kind in getattr(errors, result["error"]).__mro__]
        if not set(allowed) & set(kinds):
            found.append(f"expected {allowed or 'rows'}, got\n{result['text']}")
        if not result["remedy"]:
            found.append("the error has no remedy")
    elif case.rows is None or result["rows"] != repr(list(case.rows)):
        found.append(f"expected {list(case.rows) if case.rows is not None else case.refused}, got {result['rows']}")
    if result.get("seconds", 0) > _MOST_SECONDS:
        found.append(f"took {result['seconds']:.0f} s")
    if result.get("peak_bytes", 0) > _MOST_BYTES:
        found.append(f"took {result['peak_bytes']:,} bytes of memory")
    return found


@pytest.mark.timeout(900)  # the first one waits for all: a minute or two, more where the machine is busy
@pytest.mark.parametrize("name", ALL)
def test_the_attack_comes_to_nothing(name: str, results: dict[str, Result]) -> None:
    found = complaints(ALL[name], results[name])
    assert not found, f"{ALL[name].attack}\n" + "\n".join(found)


def test_nobody_came_to_the_forbidden_address(results: dict[str, Result]) -> None:
    assert results["the trap"]["came"] == []


def test_the_corpus_is_large() -> None:
    assert len(ALL) >= 150


@pytest.fixture(scope="module")
def guilty() -> tuple[dict[str, Result], list[Any]]:
    """Results of cases that do what is forbidden, and who came to the forbidden address."""
    with trap() as (forbidden, came):
        return fight(list(GUILTY), forbidden), came


@pytest.mark.parametrize(
    ("name", "noticed"),
    [
        ("guilty-python", "canary canary.csv"),
        ("guilty-python", "/outside/canary.csv"),
        ("guilty-duckdb", "canary canary.parquet"),
        ("guilty-child", "canary canary.txt"),
        ("guilty-write", "outside/new"),
        ("guilty-beside", "data/new (writes)"),
        ("guilty-process", "process /bin/true"),
        ("guilty-connect", "connect to ('127.0.0.2'"),
        ("guilty-memory", "of memory"),
        ("guilty-bare", "ZeroDivisionError"),
        ("guilty-crash", "the process ended: SIGSEGV"),
    ],
)
def test_the_arena_notices(name: str, noticed: str, guilty: tuple[dict[str, Result], list[Any]]) -> None:
    """Were this not noticed, no case of the corpus would prove anything."""
    assert noticed in " ".join(complaints(GUILTY[name], guilty[0][name]))


def test_the_arena_lets_pass_what_does_nothing(guilty: tuple[dict[str, Result], list[Any]]) -> None:
    results, came = guilty
    assert complaints(GUILTY["guilty-nothing"], results["guilty-nothing"]) == []
    assert len(came) == 1

"""Owns who runs when: contestants in turn, each in a process of its own, and what is kept of each; never a clock."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contestant import MARK

__all__ = ["LABELS", "PEERS", "ROUNDS", "Bench", "median_of", "of_limit", "other_loaders"]

PEERS = ("tensordataset", "hf", "hf-expert", "litdata", "mosaic", "webdataset", "lance-take", "lance-scan")
WITH_WORKERS = frozenset(PEERS) - {"tensordataset", "lance-scan"}
LABELS = {
    "limit": "limit: one copy from memory",
    "coral-8": "CoralORD, 8 shards",
    "coral-1000": "CoralORD, 1,000 shards",
    "tensordataset": "TensorDataset in memory",
    "hf": "Hugging Face",
    "hf-expert": "Hugging Face, by an expert",
    "litdata": "litData",
    "mosaic": "MosaicML Streaming",
    "webdataset": "WebDataset",
    "lance-take": "Lance, random take",
    "lance-scan": "Lance, sequential scan",
}
TIMEOUT_S = 400
ROUNDS = 3


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One run: where its data lies, and whether it is only a quick one."""

    folder: Path
    quick: bool

    def ask(self, do: str, workload: str, **more: Any) -> dict[str, Any]:
        """Have a process do one thing; {failed: why} where it did not."""
        task = {"do": do, "workload": workload, "folder": str(self.folder), "quick": self.quick, **more}
        command = [sys.executable, str(Path(__file__).parent / "contestant.py"), json.dumps(task)]
        try:
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return {"failed": f"not done after {TIMEOUT_S} s"}
        lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
        found = json.loads(lines[-1].removeprefix(MARK)) if lines else {"failed": f"ended with {done.returncode}"}
        if "failed" in found:
            print(f"  {workload} {more}: {found['failed']}\n{done.stderr[-400:]}", file=sys.stderr)
        return found

    def rates(self, workload: str, name: str, orders: Sequence[str], workers: int = 0) -> dict[str, Any]:
        """Rates of one contestant in one process."""
        return self.ask("rates", workload, contestant=name, orders=list(orders), workers=workers)

    def in_turn(self, workload: str, names: Sequence[str], rounds: int) -> dict[str, list[dict[str, Any]]]:
        """The fast ones, several times in turn, with the limit before each of ours; both orders."""
        ours = [name for name in names if name.startswith("coral")]
        turns = [name for our in ours or [None] for name in ("limit", our) if name in names]
        turns += [name for name in ("lance-scan",) if name in names]
        found: dict[str, list[dict[str, Any]]] = {}
        for _ in range(rounds):
            before: dict[str, Any] = {}
            for name in turns:
                orders = ("stored",) if name == "lance-scan" else ("shuffled", "stored")
                result = self.rates(workload, name, orders)
                if name == "limit":
                    before = result
                elif "shuffled" in result and "shuffled" in before:
                    result["of_limit"] = {order: _ratio(result, before, order) for order in orders}
                found.setdefault(name, []).append(result)
        return found

    def peer(self, workload: str, name: str) -> dict[str, Any]:
        """A peer with and without workers; in each order the better counts."""
        tried = {
            workers: self.rates(workload, name, ["shuffled", "stored"], workers) for workers in self._workers(name)
        }
        working = {workers: result for workers, result in tried.items() if "shuffled" in result}
        if not working:
            return next(iter(tried.values()))
        found: dict[str, Any] = {"workers": {}, "by_workers": {}}
        for order in ("shuffled", "stored"):
            medians = {workers: statistics.median(result[order]) for workers, result in working.items()}
            best = max(medians, key=lambda workers: medians[workers])
            found[order], found["workers"][order] = working[best][order], best
            found["by_workers"][order] = {str(workers): median for workers, median in medians.items()}
        failed = {str(workers): result["failed"] for workers, result in tried.items() if "failed" in result}
        return found | ({"failed_with_workers": failed} if failed else {})

    def _workers(self, name: str) -> tuple[int, ...]:
        return (0, 2) if name in WITH_WORKERS else (0,)


def _ratio(result: dict[str, Any], before: dict[str, Any], order: str) -> float:
    return statistics.median(result[order]) / statistics.median(before[order])


def median_of(results: Sequence[dict[str, Any]], order: str) -> float | None:
    """The median of all rates of an order over rounds; None where there is none."""
    rates = [rate for result in results for rate in result.get(order) or ()]
    return statistics.median(rates) if rates else None


def of_limit(results: Sequence[dict[str, Any]], order: str) -> float | None:
    """The median over rounds of what a round reached of the limit just before it."""
    ratios = [result["of_limit"][order] for result in results if "of_limit" in result]
    return statistics.median(ratios) if ratios else None


def other_loaders(contestants: dict[str, Any]) -> dict[str, float]:
    """Shuffled rates of those who read files, as we do."""
    rates = {name: entry.get("shuffled") for name, entry in contestants.items() if name in PEERS}
    return {name: rate for name, rate in rates.items() if rate and name != "tensordataset"}

"""Owns what must hold, and says where it does not; measures nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from report import short
from rounds import LABELS, other_loaders

__all__ = ["verdicts"]

OF_LIMIT = {"coral-8": 0.8, "coral-1000": 0.5}
TIMES = {"hf": 20, "litdata": 100, "mosaic": 100, "webdataset": 100}
TIMES_BEST, FIRST_BATCH_S, SAME = 5, 0.2, 1.3
ENOUGH_OF_LIMIT = 0.8  # nobody can be 20 times faster than what is near the limit


def verdicts(found: dict[str, Any]) -> list[str]:
    """One line for each target: what was measured, and `ok` or `MISSED`."""
    lines = [line for name, entry in found["workloads"].items() for line in _of(name, entry["contestants"])]
    if found.get("fit"):
        ratio = found["fit"]["coral"] / found["fit"]["TensorDataset"]
        lines.append(_line("Lightning fit beside TensorDataset", ratio, 1))
    for shards, seconds in (found.get("first_batch_s") or {}).items():
        good = seconds is not None and seconds <= FIRST_BATCH_S
        lines.append(
            f"{'ok    ' if good else 'MISSED'} first batch of {shards} shards: {seconds} s, at most {FIRST_BATCH_S}"
        )
    if found.get("order_us"):
        few, many = found["order_us"].values()
        good = many <= few * SAME
        lines.append(
            f"{'ok    ' if good else 'MISSED'} order of a batch: {few:.0f} µs at a million, {many:.0f} at a billion"
        )
    return lines


def _of(workload: str, contestants: dict[str, Any]) -> Iterator[str]:
    ours = contestants.get("coral-8", {})
    for name, least in OF_LIMIT.items():
        ratio = (contestants.get(name, {}).get("of_limit") or {}).get("shuffled")
        if ratio is not None:
            yield _line(f"{workload}: {LABELS[name]} of the limit", ratio, least)
    rate, limit = ours.get("shuffled"), contestants.get("limit", {}).get("shuffled")
    others = other_loaders(contestants)
    if rate and limit and others:
        for name in TIMES.keys() & others.keys():
            if TIMES[name] * others[name] < ENOUGH_OF_LIMIT * limit:
                yield _line(f"{workload}: times {LABELS[name]}", rate / others[name], TIMES[name])
        best = max(others, key=lambda name: others[name])
        yield _line(f"{workload}: times the best other loader ({LABELS[best]})", rate / others[best], TIMES_BEST)
    scan = contestants.get("lance-scan", {}).get("stored")
    if scan and ours.get("stored"):
        told = f"{workload}: stored order, {short(ours['stored'])} beside Lance's scan {short(scan)}"
        yield _line(told, ours["stored"] / scan, 1)


def _line(what: str, got: float, least: float) -> str:
    return f"{'ok    ' if got >= least else 'MISSED'} {what}: {got:.2f}, at least {least}"

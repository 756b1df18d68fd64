"""Owns the short table, and its place in the README; measures nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from report import short
from rounds import LABELS, other_loaders

__all__ = ["short_table", "write_into"]

BEGIN, END = "<!-- speed: python benchmarks/stream --draw --readme -->", "<!-- /speed -->"


def short_table(found: dict[str, Any]) -> str:
    """One line a workload: ours, what that is of the limit, and the best other loader; then the rest."""
    lines = [
        "| shuffled samples/s | 8 shards | of the limit | 1,000 shards | of the limit | the best other loader |",
        "|---|--:|--:|--:|--:|---|",
        *(_line(entry) for entry in found["workloads"].values()),
    ]
    return "\n".join([*lines, "", *_sentences(found)])


def write_into(readme: Path, found: dict[str, Any]) -> None:
    """Put the table between its marks.

    Raises:
        ValueError: they are not there.
    """
    text = readme.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no {BEGIN} … {END} in {readme.name}")
    readme.write_text(f"{before}{BEGIN}\n{short_table(found)}\n{END}{after}", encoding="utf-8")


def _line(entry: dict[str, Any]) -> str:
    contestants = entry["contestants"]
    cells = []
    for name in ("coral-8", "coral-1000"):
        ours = contestants.get(name, {})
        ratio = (ours.get("of_limit") or {}).get("shuffled")
        cells += [short(ours.get("shuffled")) or "failed", f"{ratio:.2f}" if ratio else ""]
    others = other_loaders(contestants)
    best = max(others, key=lambda name: others[name], default=None)
    told = f"{LABELS[best]}: {short(others[best])}" if best else ""
    return f"| {entry['title']}: {entry['sample']}; {entry['batch']:,} a batch | {' | '.join(cells)} | {told} |"


def _sentences(found: dict[str, Any]) -> list[str]:
    told = []
    if found.get("fit"):
        ratio = found["fit"]["coral"] / found["fit"]["TensorDataset"]
        told.append(
            f"A Lightning `fit` of one layer is {ratio:.1f} times as fast as over an in-memory `TensorDataset`;"
        )
    first = found.get("first_batch_s") or {}
    if first and all(first.values()):
        times = " and ".join(f"{seconds * 1000:.0f} ms ({int(shards):,} shards)" for shards, seconds in first.items())
        told.append(f"from `setup` to the first batch it takes {times}.")
    machine = found["machine"]
    told.append(f"{machine['date']}, {machine['cores']} cores, {machine['cpu']}, everything in the page cache.")
    return told

"""Owns the table: what was measured as Markdown; measures nothing."""

from __future__ import annotations

from typing import Any

from contestant import SLICE_S
from rounds import LABELS, ROUNDS

__all__ = ["as_markdown", "short"]


def as_markdown(found: dict[str, Any]) -> str:
    """The whole of it, with what every figure means."""
    machine = found["machine"]
    parts = [
        "# The loader beside others\n",
        _machine(machine, quick=found.get("quick", False)),
        *(_workload(entry) for entry in found["workloads"].values()),
        _rest(found),
        _method(found),
    ]
    return "\n".join(part for part in parts if part)


def short(rate: float | None) -> str:
    """A rate in three digits: 2.31 M, 56.0 k, 840."""
    if rate is None:
        return ""
    for size, unit in ((1e6, " M"), (1e3, " k")):
        if rate >= size:
            value = rate / size
            return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}{unit}"
    return f"{rate:.0f}"


def _machine(machine: dict[str, Any], *, quick: bool) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    warning = "**A quick run: few rows and one round; these figures mean nothing.**\n\n" if quick else ""
    return (
        f"{warning}{machine['date']}, {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, "
        f"{machine['system']}, Python {machine['python']}. {packages}.\n"
    )


def _workload(entry: dict[str, Any]) -> str:
    contestants = entry["contestants"]
    lines = [
        f"## {entry['title']}: {entry['sample']}\n",
        f"{entry['rows']:,} rows, batches of {entry['batch']:,}. Samples/s.\n",
        "| | shuffled | of the limit | stored order | of the limit | shuffled, by workers |",
        "|---|--:|--:|--:|--:|---|",
    ]
    ranked = sorted(contestants, key=lambda name: -(contestants[name].get("shuffled") or 0))
    limit = contestants.get("limit", {})
    lines += [_row(name, contestants[name], limit) for name in sorted(ranked, key=lambda name: name != "limit")]
    return "\n".join(lines) + "\n"


def _row(name: str, entry: dict[str, Any], limit: dict[str, Any]) -> str:
    label = f"**{LABELS[name]}**" if name.startswith("coral") else LABELS[name]
    if "failed" in entry or "skipped" in entry:
        return f"| {label} | {'failed: ' + entry['failed'] if 'failed' in entry else entry['skipped']} | | | | |"
    cells = []
    for order in ("shuffled", "stored"):
        rate = entry.get(order)
        ratio = (entry.get("of_limit") or {}).get(order)
        if ratio is None and rate and limit.get(order) and name != "limit":
            ratio = rate / limit[order]
        cells += [
            f"{rate:,.0f}" if rate else "",
            "" if ratio is None else f"{ratio:.2f}" if ratio > 0.1 else f"{ratio:.4f}",
        ]
    told = [f"{workers}: {short(rate)}" for workers, rate in entry.get("by_workers", {}).get("shuffled", {}).items()]
    told += [f"{workers}: failed, {why}" for workers, why in entry.get("failed_with_workers", {}).items()]
    best = ", ".join(told) if len(told) > 1 else ""
    return f"| {label} | {' | '.join(cells)} | {best} |"


def _rest(found: dict[str, Any]) -> str:
    lines = []
    if found.get("fit"):
        ours, memory = found["fit"]["coral"], found["fit"]["TensorDataset"]
        lines.append(
            f"- A Lightning `fit` of one linear layer on the images: {ours:,.0f} batches/s, over an in-memory "
            f"`TensorDataset` {memory:,.0f}: {ours / memory:.2f} times."
        )
    if found.get("first_batch_s"):
        told = ", ".join(
            f"{seconds * 1000:.0f} ms with {int(shards):,} shards" if seconds else f"failed with {shards} shards"
            for shards, seconds in found["first_batch_s"].items()
        )
        lines.append(f"- From the end of `setup` to the first batch, on a hit, torch imported: {told}.")
    if found.get("order_us"):
        told = ", ".join(f"{us:.0f} µs at {int(rows):,} rows" for rows, us in found["order_us"].items())
        lines.append(f"- The order alone, one batch of 256: {told}.")
    return "## And\n\n" + "\n".join(lines) + "\n" if lines else ""


def _method(found: dict[str, Any]) -> str:
    peers = {entry["title"].lower(): entry for entry in found["workloads"].values()}
    fewer = ", ".join(
        f"{entry['peer_rows']:,} {title}" for title, entry in peers.items() if entry["peer_rows"] < entry["rows"]
    )
    return f"""## How

- All data lie in the page cache. Every contestant runs in a process of its own with all cores, after a warm-up.
- The limit is one `torch.index_select` a column and batch from tensors in memory, by a `torch.randperm` drawn in the
  timed part; in the stored order a clone of a slice. For texts and JPEG it takes the same strings out of Python lists
  by that permutation and copies each once (a text by decoding it).
- Limit and ours run in turn, {ROUNDS} times, whole epochs, the order drawn in the timed part: medians. A ratio is to
  the limit measured just before.
- Ours: versions built by `load()` from 8 and from 1,000 Parquet files, read by `data.loader(…)` as it is.
- Peers are used as their documentation recommends for speed, with 0 and with 2 workers; the better one counts. Their
  rates are medians of slices of {SLICE_S} s, the clock started after the first batches, so that workers and orders are
  free. What reads sample by sample has fewer rows to write{": " + fewer if fewer else ""}.
- Hugging Face: `with_format("torch")`, the dtype given, images as lists of 784 (the fastest form), and a DataLoader
  over a BatchSampler; "by an expert": Arrow format, one `take` a batch, a collate function of one's own. litData:
  `optimize`, `StreamingDataLoader`, `TokensLoader` for the tokens; it shuffles within chunks. MosaicML Streaming: MDS
  without compression; it shuffles within blocks. WebDataset: tar, shards shuffled and a buffer of 1,000. Lance: one
  `take` a batch; `LanceDataset` for the scan. The `TensorDataset` stands in memory; for texts and JPEG it is a Dataset
  over lists.
"""

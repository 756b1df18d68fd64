"""Measures the loader: ours beside Hugging Face, litData, MosaicML Streaming, WebDataset, Lance and the limit.

Four workloads, page-cached, shuffled and in the stored order, everyone in a process of their own, ours in turn with the
limit. Writes benchmarks/results/stream.{json,md,png,svg}, unless something was left out. Targets: shuffled, 0.8 of the
limit with 8 shards and 0.5 with 1,000; unshuffled, Lance's sequential rate.

    python benchmarks/stream --quick                              # shows in a few minutes that all of it runs
    python benchmarks/stream --only images --peers coral,limit --data /tmp/bench    # while tuning; the data stay there
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import facts
from report import as_markdown
from rounds import LABELS, PEERS, ROUNDS, Bench, median_of, of_limit
from summary import write_into
from targets import verdicts
from workloads import WORKLOADS

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SHARDS = (8, 1000)
KEPT = ("workers", "by_workers", "failed_with_workers")
OURS = tuple(f"coral-{shards}" for shards in SHARDS)


def measure(bench: Bench, workload: str, names: list[str]) -> dict[str, Any]:
    """All of one workload: contestant -> {shuffled, stored: samples/s, of_limit, workers, …} or {failed}."""
    for shards in (shards for shards in SHARDS if f"coral-{shards}" in names):
        built = bench.ask("build", workload, shards=shards)
        print(f"{workload}: version of {shards} shards in {built.get('seconds', float('nan')):.1f} s", flush=True)
    found: dict[str, Any] = {}
    for name, results in bench.in_turn(workload, names, 1 if bench.quick else ROUNDS).items():
        found[name] = summed_up(results)
        tell(workload, name, found[name])
    for name in (name for name in PEERS if name in names and name not in found):
        result = bench.peer(workload, name)
        found[name] = summed_up([result]) | {key: result[key] for key in KEPT if key in result}
        tell(workload, name, found[name])
    return found


def summed_up(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over rounds, and the rates themselves."""
    told = next((result for result in results if "failed" in result or "skipped" in result), None)
    orders = {order: median_of(results, order) for order in ("shuffled", "stored")}
    ratios = {order: of_limit(results, order) for order in ("shuffled", "stored")}
    kept: dict[str, Any] = {order: rate for order, rate in orders.items() if rate is not None}
    if any(ratios.values()):
        kept["of_limit"] = ratios
    if not kept and told is not None:
        return dict(told)
    kept["runs"] = [{order: result.get(order) for order in orders if result.get(order)} for result in results]
    return kept


def tell(workload: str, name: str, found: dict[str, Any]) -> None:
    rates = ", ".join(f"{order} {found[order]:>12,.0f}/s" for order in ("shuffled", "stored") if order in found)
    limit = found.get("of_limit") or {}
    ratios = " ".join(f"{order} {ratio:.2f}" for order, ratio in limit.items() if ratio)
    workers = f"  (workers {found['workers']})" if found.get("workers") else ""
    print(
        f"{workload:7} {LABELS[name]:28} {rates or found}{workers}{'  of the limit: ' + ratios if ratios else ''}",
        flush=True,
    )


def measure_rest(bench: Bench) -> dict[str, Any]:
    """What is not a rate of samples: a Lightning fit, the first batch after `setup`, the order alone."""
    times = 1 if bench.quick else 3
    first = {}
    for shards in SHARDS:
        taken = [bench.ask("first", "images", shards=shards).get("seconds") for _ in range(times)]
        first[str(shards)] = statistics.median(taken) if None not in taken else None
    rest = {
        "fit": bench.ask("fit", "images").get("rates"),
        "first_batch_s": first,
        "order_us": bench.ask("order", "images").get("us"),
    }
    print(json.dumps(rest, indent=1), flush=True)
    return rest


def write(found: dict[str, Any], folder: Path) -> None:
    from chart import draw

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stream.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (folder / "stream.md").write_text(as_markdown(found), encoding="utf-8")
    draw(found, folder)
    print(f"wrote {folder}/stream.json, .md, .png, .svg")


def draw_again(folder: Path, *, readme: bool) -> None:
    """Table and chart from the JSON that is there."""
    found = json.loads((folder / "stream.json").read_text(encoding="utf-8"))
    write(found, folder)
    if readme:
        write_into(ROOT / "README.md", found)


def chosen(peers: str | None) -> list[str]:
    """Names of contestants: all of them, or those whose name begins so."""
    every = ["limit", *OURS, *PEERS]
    if peers is None:
        return every
    asked = peers.split(",")
    names = [name for name in every if any(name == word or name.startswith(f"{word}-") for word in asked)]
    if not names:
        raise SystemExit(f"--peers: choose from {', '.join(every)}")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rows and one round")
    parser.add_argument("--only", help="workloads, with commas: images, rows, tokens, jpeg")
    parser.add_argument("--peers", help="contestants, with commas: coral, limit, hf, lance, …")
    parser.add_argument("--data", type=Path, help="keep the data here, and use what lies there")
    parser.add_argument("--results", type=Path, help="write the results here, whatever was left out")
    parser.add_argument("--draw", action="store_true", help="only make table and chart again from the JSON")
    parser.add_argument("--readme", action="store_true", help="with --draw: put the short table into the README")
    values = parser.parse_args()
    if values.draw:
        draw_again(values.results or RESULTS, readme=values.readme)
        return
    workloads = values.only.split(",") if values.only else list(WORKLOADS)
    names = chosen(values.peers)
    whole = not (values.quick or values.only or values.peers)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="coralord-bench-") as made:
        bench = Bench(folder=(values.data or Path(made)) / ("quick" if values.quick else "whole"), quick=values.quick)
        found: dict[str, Any] = {"machine": facts(), "quick": values.quick, "workloads": {}}
        for name in workloads:
            workload = WORKLOADS[name].quick() if values.quick else WORKLOADS[name]
            found["workloads"][name] = {
                "title": workload.title,
                "sample": workload.sample,
                "rows": workload.rows,
                "peer_rows": workload.peer_rows,
                "batch": workload.batch,
                "contestants": measure(bench, name, names),
            }
        if "images" in workloads and "coral-8" in names:
            found |= measure_rest(bench)
    found["seconds"] = round(time.perf_counter() - began)
    if whole or values.results:
        write(found, values.results or RESULTS)
    else:
        print(as_markdown(found))
    print(*verdicts(found), sep="\n")
    print(f"in {found['seconds']} s", file=sys.stderr)


if __name__ == "__main__":
    main()

"""Measures builds of many partitions: in containers against processes, with two jobs against one, and their memory.

1. 200 partitions of 50,000 rows with a trivial pipeline: in containers beside the same in `local`.
   Target: at most 1.3 times the wall time.
2. A pipeline that only computes, on partitions of few rows: two jobs beside one, each of one core.
   Target: at least 1.7 times as fast.
3. The highest memory of the building process at 20 and at 200 partitions. Target: flat.

Each figure is the median of several runs in turn, each in a process and a store of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from coralord_lightning.config import load_config
from coralord_lightning.errors import CoralError
from coralord_lightning.workspace import open_workspace

PIPELINES = {
    "trivial": "def run(batch):\n    return batch\n",
    "busy": "def run(batch):\n    n = 0\n    for i in range(30_000_000):\n        n += i & 7\n    return batch\n",
}
LOCAL = "environment: local"
CONTAINER = "environment: {cpus: 1}"


def make_project(folder: Path, *, partitions: int, rows: int, pipeline: str, environment: str) -> Path:
    """A descriptor over so many Parquet files; returns its path."""
    (folder / "data").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(partitions):
        table = pa.table({"x": rng.integers(0, 1000, rows), "y": rng.random(rows), "z": rng.random(rows)})
        pq.write_table(table, folder / "data" / f"{number:04}.parquet")
    (folder / "pipeline.py").write_text(PIPELINES[pipeline])
    descriptor = folder / "rows.yaml"
    descriptor.write_text(
        f"name: rows\nfiles: data/*.parquet\npipeline:\n  entrypoint: pipeline.py:run\n{environment}\n"
    )
    return descriptor


def build_here(descriptor: Path, jobs: int) -> None:
    """Build into a new store and print seconds, bytes of memory at most, and what came out."""
    with tempfile.TemporaryDirectory(dir=descriptor.parent) as home:
        space = open_workspace(load_config(home=home, jobs=jobs))
        began = time.perf_counter()
        outcome = space.ensure(descriptor)
        seconds = time.perf_counter() - began
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) * 1024
    found = {"seconds": seconds, "peak": peak, "digest": outcome.version.content_digest}
    print(json.dumps(found | {"partitions": outcome.partitions_built}))


def measured(descriptor: Path, jobs: int) -> dict:
    command = [sys.executable, __file__, "--build", str(descriptor), "--jobs", str(jobs)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def in_turn(contestants: dict[str, tuple[Path, int]], runs: int) -> dict[str, dict]:
    """Run each contestant in turn, several times: medians of seconds and of memory."""
    found: dict[str, list[dict]] = {name: [] for name in contestants}
    for _ in range(runs):
        for name, (descriptor, jobs) in contestants.items():
            found[name].append(measured(descriptor, jobs))
    digests = {run["digest"] for every in found.values() for run in every}
    if len(digests) != 1:
        raise SystemExit(f"the contents differ: {digests}")
    return {
        name: {key: statistics.median(run[key] for run in every) for key in ("seconds", "peak")}
        for name, every in found.items()
    }


def engine_answers() -> bool:
    from coralord_lightning.builder.runners.docker import engine_version

    try:
        print(engine_version(load_config()))
    except CoralError as error:
        print(f"SKIPPED what needs a container engine: {error}")
        return False
    return True


def compare_runners(folder: Path, runs: int) -> None:
    jobs = len(os.sched_getaffinity(0))
    shape = {"partitions": 200, "rows": 50_000, "pipeline": "trivial"}
    local = make_project(folder / "local", environment=LOCAL, **shape)
    container = make_project(folder / "container", environment="", **shape)
    measured(container, jobs)  # the image is there from now on
    found = in_turn({"local": (local, jobs), "docker": (container, jobs)}, runs)
    ratio = found["docker"]["seconds"] / found["local"]["seconds"]
    print(f"200 partitions x 50,000 rows, {jobs} jobs: local {found['local']['seconds']:.2f} s, "
          f"docker {found['docker']['seconds']:.2f} s: {ratio:.2f} times (target: at most 1.3)")  # fmt: skip


def compare_jobs(folder: Path, runs: int, environment: str) -> None:
    busy = make_project(folder, partitions=24, rows=1000, pipeline="busy", environment=environment)
    ours, limits = [], []
    for _ in range(runs):
        seconds = [measured(busy, jobs)["seconds"] for jobs in (1, 2)]
        ours.append(seconds[0] / seconds[1])
        limits.append(2 * bare(1) / bare(2))
    print(f"computing pipeline ({environment}): 2 jobs {shown(ours)} times as fast as 1 (target: at least 1.7);")
    print(f"two bare processes beside one, on this machine now: {shown(limits)}")


def shown(ratios: list[float]) -> str:
    """The median, and all of them."""
    return f"{statistics.median(ratios):.2f} ({', '.join(f'{ratio:.2f}' for ratio in sorted(ratios))})"


def bare(processes: int) -> float:
    """Seconds that so many processes take to compute as much, each, as a few partitions: what the machine allows."""
    code = PIPELINES["busy"] + "for _ in range(3):\n    run(None)\n"
    began = time.perf_counter()
    started = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(processes)]
    for process in started:
        process.wait()
    return time.perf_counter() - began


def compare_memory(folder: Path, runs: int) -> None:
    peaks = {}
    for partitions in (20, 200):
        project = make_project(
            folder / str(partitions), partitions=partitions, rows=50_000, pipeline="trivial", environment=LOCAL
        )
        peaks[partitions] = in_turn({"run": (project, 2)}, runs)["run"]["peak"]
    ratio = peaks[200] / peaks[20]
    print(f"memory at most: {peaks[20] / 1e6:.0f} MB at 20 partitions, {peaks[200] / 1e6:.0f} MB at 200: "
          f"{ratio:.2f} times (target: flat)")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--jobs", type=int, default=1, help=argparse.SUPPRESS)
    values = parser.parse_args()
    if values.build is not None:
        build_here(values.build, values.jobs)
        return
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}")
    with tempfile.TemporaryDirectory() as folder:
        docker = engine_answers()
        if docker:
            compare_runners(Path(folder) / "runners", values.runs)
        compare_jobs(Path(folder) / "jobs", values.runs, CONTAINER if docker else LOCAL)
        compare_memory(Path(folder) / "memory", values.runs)


if __name__ == "__main__":
    main()

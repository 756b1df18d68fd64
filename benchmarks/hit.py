"""Measures a hit in process: `Workspace.ensure` on the digits when nothing has changed. Target: under 50 ms.

The limit beside it, from the same run, is what no hit can do without: hash the files that the plan names, and read,
parse and check the manifest.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from coralord_lightning.config import Config
from coralord_lightning.spec.manifest import parse_manifest
from coralord_lightning.workspace import open_workspace

DIGITS = Path(__file__).resolve().parent.parent / "examples" / "digits"
TARGET_MS = 50.0
WARM_UP = 5


def median_ms(act: Callable[[], object], times: int) -> tuple[float, float]:
    """Median and 95th percentile of the wall time of `act`, in milliseconds, after a warm-up."""
    taken = []
    for number in range(times + WARM_UP):
        started = time.perf_counter()
        act()
        if number >= WARM_UP:
            taken.append((time.perf_counter() - started) * 1000)
    return statistics.median(taken), sorted(taken)[int(0.95 * len(taken))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=50)
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory(prefix="coralord-bench-") as folder:
        digits, home = Path(folder) / "digits", Path(folder) / "home"
        shutil.copytree(DIGITS, digits)
        workspace = open_workspace(Config(home=home))
        version = workspace.ensure(digits / "digits.yaml").version

        def hit() -> None:
            if workspace.ensure(digits / "digits.yaml").built:
                raise SystemExit("this was no hit")

        def limit() -> None:
            for name in ("digits.yaml", "croissant.json", "digits.parquet", "pipeline.py", "shapes.py"):
                hashlib.sha256((digits / name).read_bytes()).hexdigest()
            path = home / "manifests" / f"{version.fingerprint}.json"
            parse_manifest(json.loads(path.read_bytes()), origin=str(path))

        (hit_ms, hit_p95), (limit_ms, _) = median_ms(hit, times), median_ms(limit, times)
    verdict = "under" if hit_ms < TARGET_MS else "OVER"
    print(f"hit     {hit_ms:7.2f} ms  median of {times}, p95 {hit_p95:.2f} ms; {verdict} the {TARGET_MS:.0f} ms target")
    print(f"limit   {limit_ms:7.2f} ms  hashing the inputs, reading and checking the manifest")
    print(f"ratio   {hit_ms / limit_ms:7.1f}")
    print(f"on      Python {platform.python_version()}, {platform.system()} {platform.machine()}")


if __name__ == "__main__":
    main()

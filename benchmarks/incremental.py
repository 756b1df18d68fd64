"""Measures a build after one of 1,000 source files was edited.

Targets: planning under 1 s, one partition built, at most 1.1 times the bytes of the edited file read from storage, and
no other source file opened.

Every step runs in a process of its own. Before the build that is measured, the pages of all source files are dropped
from the page cache; those that are there afterwards (`mincore`) are what was read of them from the disk, by whatever
process, read-ahead included. What the kernel counts for the build as a whole (`read_bytes` of /proc/self/io) stands
beside it: that is also records of the store that fell out of the page cache, and folders and bitmaps of the file
system. Both need a disk, not a tmpfs.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import mmap
import os
import platform
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

PLANS = 5
TARGET_PLAN_S = 1.0
TARGET_RATIO = 1.1
_IN_OPEN = 0x20
_EVENT = struct.Struct("iIII")
TYPES = {"parquet": "application/x-parquet", "csv": "text/csv"}


def write_file(path: Path, seed: int, rows: int) -> None:
    """Random numbers: nothing compresses them away."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import csv, parquet

    random = np.random.default_rng(seed)
    table = pa.table({"n": random.integers(0, 2**31, rows), "x": random.random(rows), "y": random.random(rows)})
    (parquet.write_table if path.suffix == ".parquet" else csv.write_csv)(table, str(path))
    with path.open("rb") as file:
        os.fsync(file.fileno())  # else its pages cannot be dropped


def make(folder: Path, kind: str, files: int, rows: int) -> None:
    """Source files, their Croissant, and descriptors with and without a pipeline."""
    (folder / "data").mkdir(parents=True)
    for number in range(files):
        write_file(folder / "data" / f"{number:04}.{kind}", number, rows)
    dtypes = {"n": "sc:Integer", "x": "sc:Float", "y": "sc:Float"}
    record_set = {
        "@type": "cr:RecordSet",
        "@id": "rows",
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"rows/{name}",
                "dataType": dtype,
                "source": {"fileSet": {"@id": "files"}, "extract": {"column": name}},
            }
            for name, dtype in dtypes.items()
        ],
    }
    from coralord_lightning.spec.infer import CONTEXT

    file_set = {"@type": "cr:FileSet", "@id": "files", "encodingFormat": TYPES[kind], "includes": f"data/*.{kind}"}
    body = {"@context": dict(CONTEXT), "@type": "sc:Dataset", "distribution": [file_set], "recordSet": [record_set]}
    (folder / "croissant.json").write_text(json.dumps(body))
    (folder / "pipeline.py").write_text("def same(batch):\n    return batch\n")
    splits = "splits: {train: {from: rest, fraction: 0.9}, val: {from: rest, fraction: 0.1}}\n"
    plain = f"name: plain\ncroissant: croissant.json\n{splits}"
    (folder / "plain.yaml").write_text(plain)
    piped = plain.replace("plain", "piped") + "pipeline: {entrypoint: pipeline.py:same}\nenvironment: local\n"
    (folder / "piped.yaml").write_text(piped)


def read_bytes() -> int:
    """What the kernel read from disks for this process and those it waited for."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes"))


def act(step: str, descriptor: str, home: str) -> None:
    """One step, in this process; prints what it came to as JSON."""
    started, before = time.perf_counter(), read_bytes()
    from coralord_lightning.config import Config
    from coralord_lightning.workspace import open_workspace

    imported = time.perf_counter()
    workspace = open_workspace(Config(home=Path(home)))
    said: dict[str, object] = {}
    if step == "plan":
        workspace.plan(descriptor)
    elif step == "foresee":
        said["partitions"] = workspace.foresee(descriptor).forecast.num_partitions
    else:
        outcome = workspace.ensure(descriptor)
        said = {"built": outcome.partitions_built, "reused": outcome.partitions_reused}
    ended = time.perf_counter()
    print(json.dumps(said | {"seconds": ended - imported, "all": ended - started, "read": read_bytes() - before}))


def run(step: str, descriptor: Path, home: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--act", step, str(descriptor), str(home)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def drop(folder: Path) -> None:
    """Let the kernel forget the pages of all files in a folder."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def resident(folder: Path) -> int:
    """Bytes of the files in a folder that are in the page cache."""
    library = ctypes.CDLL(None, use_errno=True)
    library.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)
    total = 0
    for path in folder.iterdir():
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
            pages = ctypes.create_string_buffer(-(-len(mapped) // mmap.PAGESIZE))
            start = ctypes.c_char.from_buffer(mapped)
            if library.mincore(ctypes.addressof(start), len(mapped), pages):
                raise OSError(ctypes.get_errno(), "mincore")
            del start
            total += sum(page & 1 for page in pages.raw) * mmap.PAGESIZE
    return total


@contextmanager
def opens(folder: Path) -> Iterator[set[str]]:
    """Names of the files in a folder that any process opens."""
    library = ctypes.CDLL(None, use_errno=True)
    watch = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if watch < 0 or library.inotify_add_watch(watch, os.fsencode(folder), _IN_OPEN) < 0:
        raise OSError(ctypes.get_errno(), "inotify")
    names: set[str] = set()
    try:
        yield names
        while data := _pending(watch):
            at = 0
            while at < len(data):
                length = _EVENT.unpack_from(data, at)[3]
                at += _EVENT.size
                names.add(data[at : at + length].rstrip(b"\0").decode())
                at += length
        names.discard("")  # the folder itself
    finally:
        os.close(watch)


def _pending(watch: int) -> bytes:
    try:
        return os.read(watch, 1 << 20)
    except BlockingIOError:
        return b""


def measure(descriptor: Path, home: Path, edited: Path, edit: Callable[[], None]) -> bool:
    """Edit a file, plan and build; print figures, and say whether they are within the targets."""
    first = run("build", descriptor, home)
    time.sleep(3)  # longer ago than the tick of any file system: from now on, hashes are remembered
    run("plan", descriptor, home)
    edit()
    plans = [run("plan", descriptor, home) for _ in range(PLANS)]
    plan_s, plan_all = (statistics.median(item[key] for item in plans) for key in ("seconds", "all"))
    foreseen = run("foresee", descriptor, home)
    drop(edited.parent)
    left = resident(edited.parent)
    with opens(edited.parent) as opened:
        built = run("build", descriptor, home)
    read = resident(edited.parent) - left
    ratio = read / edited.stat().st_size
    print(f"{edited.suffix[1:]} {descriptor.stem}: {first['built']} partitions built first, {first['all']:.1f} s")
    print(f"  plan    {plan_s:7.3f} s  median of {PLANS}; with imports {plan_all:.3f} s; target {TARGET_PLAN_S} s")
    print(
        f"  foresee {foreseen['seconds']:7.3f} s  with imports {foreseen['all']:.3f} s; "
        f"{foreseen['partitions']} to build"
    )
    print(f"  build   {built['seconds']:7.3f} s  {built['built']} built, {built['reused']} reused")
    print(f"  read    {read:,} bytes of the sources, {ratio:.3f} times the edited file; target {TARGET_RATIO}")
    print(f"          {built['read']:,} bytes by the kernel's count of all that the build read")
    print(f"  opened  {', '.join(sorted(opened))}", flush=True)
    within = plan_s < TARGET_PLAN_S and built["built"] == 1 and left == 0 and 0 < ratio <= TARGET_RATIO
    return within and opened == {edited.name}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=12_000, help="of each file; a Parquet file is about 24 bytes a row")
    parser.add_argument("--dir", type=Path, help="where to work: a folder on a disk")
    parser.add_argument("--act", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.act:
        act(*asked.act)
        return
    within = True
    with tempfile.TemporaryDirectory(prefix="coralord-bench-", dir=asked.dir) as temp:
        for kind in TYPES:
            folder = Path(temp) / kind
            make(folder, kind, asked.files, asked.rows)
            edited = folder / "data" / f"{asked.files // 2:04}.{kind}"
            for number, name in enumerate(("plain", "piped")):
                edit = partial(write_file, edited, asked.files + number, asked.rows)
                within &= measure(folder / f"{name}.yaml", Path(temp) / "home", edited, edit)
    print(f"{'within' if within else 'OUTSIDE'} the targets")
    print(f"on Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()

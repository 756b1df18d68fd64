"""Runs hostile cases, one after the other, in a process that notes what each touched. Started by `test_hostile_corpus`.

Reads the names of cases from standard input, writes a line of JSON for each to standard output. Notes three ways:
Python's audit events (files, folders, connections, processes), inotify on the canaries (whoever opens them: DuckDB,
Arrow, a child), and a listing of the case's folder before and after.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
CORPUS = sorted(path.stem for path in HERE.parent.glob("corpus_*.py"))
SECONDS = 60
MEMORY = 4 * 1024**3  # of addresses: Arrow's and DuckDB's allocators reserve more than they use
FILES = ("canary.csv", "canary.parquet", "canary.json", "canary.txt", "canary.zip")

_sleep = time.sleep
_getaddrinfo = socket.getaddrinfo
_OPEN_ALWAYS = (
    "/proc/",
    "/sys/",
    "/dev/null",
    "/dev/urandom",
    "/usr/",
    "/lib",
    "/etc/ld.so",
    "/etc/localtime",
    "/etc/ssl",
)
_WATCHED = 0x1 | 0x2 | 0x20 | 0x40 | 0x80 | 0x100 | 0x200  # access, modify, open, moved, created, deleted
_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_PATHS = frozenset(
    {"os.listdir", "os.scandir", "os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.link", "os.symlink",
     "os.truncate", "os.chmod", "os.chown", "os.utime", "os.chdir", "os.walk", "shutil.rmtree"}
)  # fmt: skip
_PROCESSES = (sys.executable, shutil.which("git"))
_READS = frozenset({"os.listdir", "os.scandir", "os.walk"})
_NEVER = frozenset(
    {"os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "pickle.find_class", "webbrowser.open"}
)


class Watch:
    """What a case may touch, and what it touched beside that.

    Args:
        readable, writable: folders.
        addresses: that may be connected to.
    """

    def __init__(self) -> None:
        self.readable: tuple[str, ...] = ()
        self.writable: tuple[str, ...] = ()
        self.addresses: set[tuple[str, int]] = set()
        self.found: list[str] | None = None
        self._busy = False

    def hear(self, event: str, args: tuple[Any, ...]) -> None:
        if self.found is None or self._busy:
            return
        self._busy = True
        try:
            self._judge(event, args)
        finally:
            self._busy = False

    def _judge(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(args[0], (str, bytes)):
            self._path(event, args[0], writes=bool((args[2] or 0) & _WRITE))
        elif event in _PATHS:
            for path in args[1:2] if event == "os.symlink" else args[:2]:
                if isinstance(path, (str, bytes)):
                    self._path(event, path, writes=event not in _READS)
        elif event == "socket.connect" and args[1][:2] not in self.addresses and not isinstance(args[1], str):
            self._note(f"connect to {args[1]}")
        elif event == "subprocess.Popen" and os.fsdecode(args[0]) not in _PROCESSES:
            self._note(f"process {args[0]} {args[1]}")
        elif event in _NEVER:
            self._note(f"{event} {args[:2]}")

    def _path(self, event: str, path: str | bytes, *, writes: bool) -> None:
        text = os.fsdecode(path)
        if "/" not in text and text != "..":
            return  # in a folder that was opened before; what that was has been judged
        real = os.path.realpath(text)
        allowed = self.writable if writes else self.readable + self.writable
        if not real.startswith(allowed) and not (not writes and real.startswith(_OPEN_ALWAYS)) and real != "/dev/null":
            self._note(f"{event} {text}{' -> ' + real if real != text else ''}{' (writes)' if writes else ''}")

    def _note(self, what: str) -> None:
        assert self.found is not None
        if len(self.found) < 20:
            self.found.append(what)


class Canaries:
    """Files that nobody may open, and the kernel's word on who did."""

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0 or libc.inotify_add_watch(self._descriptor, os.fsencode(folder), _WATCHED) < 0:
            raise OSError(ctypes.get_errno(), "inotify")

    def close(self) -> list[str]:
        """What was done to them."""
        data = b""
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._descriptor, 65536)
        os.close(self._descriptor)
        found = []
        while data:
            mask, size = int.from_bytes(data[4:8], "little"), int.from_bytes(data[12:16], "little")
            name = data[16 : 16 + size].rstrip(b"\0").decode(errors="replace")
            if name:
                found.append(f"canary {name}: {mask:#x}")
            data = data[16 + size :]
        return sorted(set(found))


def lay_canaries(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    pq.write_table(pa.table({"a": [666]}), folder / "canary.parquet")
    for name in FILES:
        if not (folder / name).exists():
            (folder / name).write_text("a\n666\n")


def resolve(hosts: dict[str, list[str]]) -> Any:
    """A name server of our own: names of the case, numbers as they are, nothing else."""

    def lookup(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        text = host.decode() if isinstance(host, bytes) else str(host)
        answers = hosts.get(text.rstrip(".").lower())
        if answers is not None:
            text = answers.pop(0) if len(answers) > 1 else answers[0]
        elif text.rstrip(".").lower() in ("localhost", "ip6-localhost"):
            text = "127.0.0.1"
        kwargs["flags"] = socket.AI_NUMERICHOST
        return _getaddrinfo(text, port, *args, **kwargs)

    return lookup


@contextlib.contextmanager
def prepared(watch: Watch, root: Path, place: Any) -> Iterator[None]:
    """The case's own temporary folder, names and memory mark."""
    for name in ("home", "tmp", "elsewhere"):
        (root / name).mkdir()
    os.chdir(root / "elsewhere")
    tempfile.tempdir = str(root / "tmp")
    os.environ["TMPDIR"] = str(root / "tmp")
    socket.getaddrinfo = resolve(place.hosts)
    repository = HERE.parents[2]
    watch.readable = (f"{root / 'data'}", str(repository), sys.prefix, sys.base_prefix)
    watch.writable = (f"{root / 'home'}", f"{root / 'tmp'}")
    watch.addresses = {("127.0.0.1", int(place.site.url.rpartition(":")[2]))}
    Path("/proc/self/clear_refs").write_text("5")
    try:
        yield
    finally:
        socket.getaddrinfo = _getaddrinfo
        os.chdir("/")


def run(name: str, watch: Watch, site: Any, forbidden: str) -> dict[str, Any]:
    from hostile.cases import ALL, Place, dumped
    from hostile.guilty import GUILTY

    with tempfile.TemporaryDirectory(prefix="arena-", ignore_cleanup_errors=True, dir="/tmp") as folder:
        root = Path(os.path.realpath(folder))
        (root / "data").mkdir()
        lay_canaries(root / "outside")
        site.__init__(url=site.url)
        place = Place(folder=root / "data", outside=root / "outside", site=site, forbidden=forbidden)
        ask = (ALL | GUILTY)[name].lay(place)
        reference = ask.croissant
        if not (isinstance(reference, str) and reference.startswith(("http://", "https://"))):
            reference = "croissant.json"
            (place.folder / reference).write_text(dumped(ask.croissant), encoding="utf-8", errors="surrogatepass")
        with prepared(watch, root, place):
            before = listing(root)
            canaries = Canaries(place.outside)
            started = time.monotonic()
            watch.found = []
            result = outcome(root, reference, ask)
            touched, watch.found = watch.found, None
            result["seconds"] = time.monotonic() - started
            result["touched"] = [*touched, *canaries.close(), *changes(before, listing(root))]
            result["peak_bytes"] = peak_bytes()
        return result


def outcome(root: Path, reference: str, ask: Any) -> dict[str, Any]:
    """What comes of a case: rows, an error of ours, or whatever else was raised."""
    from coralord_lightning.config import Config
    from coralord_lightning.errors import CoralError
    from coralord_lightning.workspace import open_workspace

    keys = {"name": "h", "croissant": reference, **ask.keys}
    settings = Config(home=root / "home", **{"allow_private_hosts": frozenset({"127.0.0.1"}), **ask.config})
    try:
        if ask.act is not None:
            ask.act()
            return {"rows": "[]"}
        found = open_workspace(settings).ensure(keys, base_dir=root / "data")
        return {"rows": repr(rows_of(found.version))}
    except CoralError as error:
        json.dumps(error.to_json()).encode()
        return {"error": type(error).__name__, "text": str(error), "remedy": error.remedy}
    except BaseException as error:  # noqa: BLE001  # this is what the corpus is for
        return {"bare": type(error).__name__, "text": traceback.format_exc()[-3000:]}


def rows_of(version: Any) -> list[dict[str, Any]]:
    import pyarrow as pa

    rows: list[dict[str, Any]] = []
    for part in version.manifest.splits.get("train", ()):
        for shard in part.shards:
            with pa.OSFile(str(version.home / shard.path)) as file:
                rows += pa.ipc.open_stream(file).read_all().to_pylist()
            assert len(rows) <= 1_000_000
    return rows[:100]


def listing(root: Path) -> dict[str, tuple[int, int]]:
    """Everything but the store and the temporary folder, with size and time of change."""
    found = {}
    for folder in ("data", "outside", "elsewhere"):
        for path, folders, files in os.walk(root / folder):
            for name in (*folders, *files):
                stat = os.lstat(os.path.join(path, name))
                found[os.path.join(path, name)] = (stat.st_size, stat.st_mtime_ns)
    return found


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [f"changed {path}" for path in sorted({*before, *after}) if before.get(path) != after.get(path)][:10]


def peak_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def main() -> None:
    """Run the cases whose names stand on standard input."""
    sys.path.insert(0, str(HERE.parents[1]))
    time.sleep = lambda seconds: _sleep(min(seconds, 0.01))  # waits between tries of a request
    forbidden = sys.argv[1]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    from web import serve

    for module in CORPUS:
        importlib.import_module(f"hostile.{module}")
    import duckdb  # noqa: F401  # what is imported late is not what a case is measured by
    import httpx  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    watch = Watch()
    sys.addaudithook(watch.hear)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with serve() as site:
        for line in sys.stdin:
            name = line.strip()
            print(json.dumps({"begins": name}), file=answers, flush=True)
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            result = run(name, watch, site, forbidden)
            signal.setitimer(signal.ITIMER_REAL, 0)
            print(json.dumps({"name": name, **result}), file=answers, flush=True)


if __name__ == "__main__":
    main()

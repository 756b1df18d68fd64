"""Watches over the process of a local pipeline and takes along whatever that started; runs no user code itself.

Runs alone, as `python guard.py SETTINGS`, standard library only. It forks: the child becomes `pipeline.py`, behind the
fence where one is asked for. When the child ends, or the process that asked is gone (kill -9 included), or says so
(SIGTERM), every descendant is stopped, then killed. On Linux orphans become children of the guard (child subreaper), so
that neither a double fork nor a session of its own hides one. Elsewhere only the process group can be ended: what left
it outlives us.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import os
import resource
import select
import signal
import sys
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_HERE = Path(__file__).resolve().parent


def main() -> None:
    """Fork, watch, clean up, and end as the child ended."""
    settings = json.loads(sys.argv[1])
    _limit(settings)
    awake = _listen()
    _prctl(_PR_SET_CHILD_SUBREAPER)
    guard, child = os.getpid(), os.fork()
    if child == 0:
        _become_pipeline(settings, guard)
        os._exit(0)
    with contextlib.suppress(OSError):
        os.close(1)  # the child alone answers: its end is the end of the answers
        os.close(2)
    status = _watch(child, awake)
    end_descendants(child)
    if status is not None and os.WIFEXITED(status):
        os._exit(os.WEXITSTATUS(status))
    _die_of(signal.SIGKILL if status is None or not os.WIFSIGNALED(status) else os.WTERMSIG(status))


def _become_pipeline(settings: dict[str, Any], guard: int) -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guard:  # it died before we asked to be told
        os._exit(1)
    sys.argv[1:] = []
    sys.path[:] = [entry for entry in sys.path if entry != str(_HERE)]
    pipeline = _load("pipeline")
    if settings.get("fence"):
        pipeline.FENCE = _load("fence").raise_fence(**settings["fence"])
    pipeline.main()


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"_coral_{name}", _HERE / f"{name}.py")
    if spec is None or spec.loader is None:
        raise AssertionError(name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _limit(settings: dict[str, Any]) -> None:
    """No core file; files bounded in size and number. The child inherits it."""
    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: settings.get("file_bytes"),
        resource.RLIMIT_NOFILE: settings.get("open_files"),
    }
    for kind, value in wanted.items():
        hard = resource.getrlimit(kind)[1]
        if value is not None:
            bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (bound, bound))


def _listen() -> int:
    """A descriptor that can be read when a child has ended or we are told to end."""
    awake, bell = os.pipe()
    os.set_blocking(awake, False)
    os.set_blocking(bell, False)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(bell, warn_on_full_buffer=False)
    return awake


def _watch(child: int, awake: int) -> int | None:
    """Wait for the end; the child's status, or None where it is we who are to end it."""
    poll = select.poll()
    poll.register(0, 0)  # hang-up only: the requests are the child's
    poll.register(awake, select.POLLIN)
    while True:
        ready = poll.poll()
        rung = b""
        with contextlib.suppress(BlockingIOError):
            rung = os.read(awake, 4096)
        status = reap(child)
        if status is not None:
            return status
        if signal.SIGTERM in rung or any(descriptor == 0 for descriptor, _ in ready):
            return None


def reap(child: int) -> int | None:
    """Collect every child that has ended; the status of this one, if it is among them."""
    found = None
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                found = ended[1]
    return found


def end_descendants(child: int) -> None:
    """Stop all, so that none starts another; then kill all; until none is left."""
    if not Path("/proc/self/stat").exists():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with contextlib.suppress(OSError):
            os.kill(child, signal.SIGKILL)
        with contextlib.suppress(OSError):
            os.killpg(0, signal.SIGTERM)
        return
    beyond: set[int] = set()  # of another user: not ours to end
    while left := _descendants() - beyond:
        stopped: set[int] = set()
        while new := _descendants() - stopped - beyond:
            for pid in new:
                _signal(pid, signal.SIGSTOP, beyond)
            stopped |= new
        for pid in left | stopped:
            _signal(pid, signal.SIGKILL, beyond)
        reap(child)


def _signal(pid: int, number: int, beyond: set[int]) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
    except PermissionError:
        beyond.add(pid)


def _descendants() -> set[int]:
    """Every process below this one that has not ended."""
    children: dict[int, list[int]] = {}
    living = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, parent = (entry / "stat").read_bytes().rpartition(b")")[2].split()[:2]
        except (OSError, ValueError):  # it ended while we looked
            continue
        children.setdefault(int(parent), []).append(int(entry.name))
        if state not in (b"Z", b"X"):
            living.add(int(entry.name))
    found, waiting = set(), [os.getpid()]
    while waiting:
        below = children.get(waiting.pop(), [])
        found |= set(below)
        waiting += below
    return found & living


def _prctl(option: int, value: int = 1) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _die_of(number: int) -> None:
    """End by this signal, so that whoever waits for us sees what became of the child."""
    with contextlib.suppress(OSError, ValueError):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
    os._exit(128 + number)


if __name__ == "__main__":
    main()

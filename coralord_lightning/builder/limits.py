"""What a process that reads untrusted bytes may take of its machine. Bounds this process; never starts one."""

from __future__ import annotations

import resource

__all__ = ["allow_cpu", "limit_process"]


def limit_process(*, address_space: int, file_bytes: int, open_files: int) -> None:
    """Bound memory, the size of files written and open files, and leave no core behind."""
    for kind, wanted in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, address_space),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NOFILE, open_files),
    ):
        _lower(kind, wanted)


def allow_cpu(seconds: int) -> None:
    """Give the next request so much processor time, beside what was used: one process serves many."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _lower(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + seconds)


def _lower(kind: int, wanted: int) -> None:
    _, hard = resource.getrlimit(kind)
    ceiling = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(kind, (ceiling, hard))
    except (OSError, ValueError):  # macOS refuses to bound address space; the others hold there
        if kind != resource.RLIMIT_AS:
            raise

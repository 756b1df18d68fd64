"""Owns making the next chunk in a thread while this one is used; never more than one ahead, never decides which.

For large batches only: small ones come faster without it, since each hand-over wakes a thread (decision 027).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

__all__ = ["one_ahead"]

T = TypeVar("T")

_END: Any = object()


def one_ahead(values: Iterator[T]) -> Generator[T]:
    """Hand values on, each made in a thread while the one before is used.

    The thread ends with the last value, with an exception, which is raised here, when this generator is closed or
    collected, and with the interpreter: after the value that it is making, which nobody gets.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="coralord-prefetch") as thread:
        coming = thread.submit(next, values, _END)
        while (value := coming.result()) is not _END:
            coming = thread.submit(next, values, _END)
            yield value

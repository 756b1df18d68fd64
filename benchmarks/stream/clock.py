"""Owns how a contestant is timed: whole epochs, or slices of one; never knows whose batches they are."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["epoch_rates", "slice_rates"]

Epoch = Callable[[], Iterable[Any]]
Count = Callable[[Any], int]


def epoch_rates(epoch: Epoch, count: Count, *, times: int, rows: int) -> list[float]:
    """Samples/s of whole epochs from the moment that one is asked for, so that drawing its order counts; one before.

    Raises:
        ValueError: an epoch had not every row.
    """
    rates = []
    for number in range(times + 1):
        began, samples = time.perf_counter(), 0
        for batch in epoch():
            samples += count(batch)
        seconds = time.perf_counter() - began
        if samples != rows:
            raise ValueError(f"an epoch of {samples} rows, not {rows}")
        if number:
            rates.append(samples / seconds)
    return rates


def slice_rates(epoch: Epoch, count: Count, *, times: int, seconds: float, warm_up: int = 2) -> list[float]:
    """Samples/s of slices of so many seconds at most, each of an epoch of its own.

    The clock starts when the first batches are there: starting workers and drawing an order cost the peer nothing.
    """
    rates = []
    for _ in range(times):
        batches = iter(epoch())
        for _ in itertools.islice(batches, warm_up):
            pass
        began, samples = time.perf_counter(), 0
        for batch in batches:
            samples += count(batch)
            if time.perf_counter() - began > seconds:
                break
        rates.append(samples / (time.perf_counter() - began))
        del batches  # ends its workers
    return rates

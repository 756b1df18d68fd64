"""Workers that refine, run, check and keep extracted partitions, several at a time. Extracts nothing, plans nothing.

Every worker is a thread with a sandbox, a decoder and an admission of its own. Which worker takes what changes no
value: a partition's rows, batches and shards depend on its inputs alone.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any, Protocol, Self

from coralord_lightning.builder.runners.base import Started
from coralord_lightning.builder.tools import Progress
from coralord_lightning.errors import BuildError
from coralord_lightning.spec.manifest import PartitionRecord

__all__ = ["Pool", "Worker"]


class Worker(Protocol):
    """What a thread of the pool works with; opened and closed in that thread."""

    @property
    def isolation(self) -> Mapping[str, Any] | None:
        """What its sandbox enforces; None without one."""
        ...

    def make(self, item: Any) -> PartitionRecord:
        """Turn one extracted partition into a kept one."""
        ...

    def stop(self) -> None:
        """End what it waits for, so that `make` raises soon. Called from another thread; more than once is fine."""
        ...


class Pool:
    """Hands partitions to workers; the caller's thread is the only one that hears of results and errors.

    Args:
        size: most workers at once; each is opened when there is work for it.
        open_worker: opens one, on the stack that its thread will close; called in that thread. It tells its second
            argument how to end the opening.
        progress: told of finished partitions, by the caller's thread.
    """

    def __init__(self, *, size: int, open_worker: Callable[[ExitStack, Started], Worker], progress: Progress) -> None:
        self._size = size
        self._open_worker = open_worker
        self._progress = progress
        self._changed = threading.Condition()
        self._waiting: deque[Any] = deque()
        self._in_hand = 0  # given and not done
        self._threads: list[threading.Thread] = []
        self._stops: list[Callable[[], None]] = []
        self._done: deque[PartitionRecord] = deque()
        self._failure: BaseException | None = None
        self._ending = False
        self.isolation: Mapping[str, Any] | None = None
        self.records: dict[str, PartitionRecord] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._end()
        except KeyboardInterrupt:  # once more, while we end: all the same nothing is left that still works
            self._end()
            raise

    def _end(self) -> None:
        """Stop every worker and wait until each is closed; it may be interrupted and begun again."""
        with suppress(RuntimeError):  # an interrupt right behind a `with self._changed` leaves it locked
            while True:
                self._changed.release()
        with self._changed:
            self._ending = True
            self._waiting.clear()
            stops = list(self._stops)
            self._changed.notify_all()
        for stop in stops:
            stop()
        for thread in self._threads:
            if thread.ident is not None:  # else it never began, or will find that all is over
                thread.join()

    def room(self) -> None:
        """Wait until another partition may be extracted: one for each worker lies ready, no more.

        Raises:
            CoralError: what a worker raised.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._failure or self._in_hand < 2 * self._size)
        self.check()

    def put(self, item: Any) -> None:
        """Give a partition to whichever worker is free."""
        with self._changed:
            self._waiting.append(item)
            self._in_hand += 1
            if self._in_hand > len(self._threads) < self._size:
                thread = threading.Thread(target=self._work, name=f"coral-worker-{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                try:
                    thread.start()
                except RuntimeError as error:  # this machine gives no more threads
                    raise BuildError(
                        "workers",
                        f"cannot be started: {error}",
                        remedy="coral build … --jobs 1   # or raise `ulimit -u`",
                    ) from error
            self._changed.notify_all()

    def check(self) -> None:
        """Tell the progress of what is done.

        Raises:
            CoralError: what a worker raised.
        """
        while self._done:
            record = self._done.popleft()
            self.records[record.key] = record
            parts = record.splits.values()
            self._progress.advance(
                partitions=1,
                rows=sum(part.num_rows for part in parts),
                bytes=sum(shard.size_bytes for part in parts for shard in part.shards),
            )
        if self._failure is not None:
            raise self._failure

    def finish(self) -> dict[str, PartitionRecord]:
        """Wait for everything that was given; partition key -> what it became.

        Raises:
            CoralError: what a worker raised.
        """
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._failure or self._done or not self._in_hand)
                over = not self._in_hand
            self.check()
            if over:
                return self.records

    def _work(self) -> None:
        try:
            with ExitStack() as stack:
                if self._ending:
                    return
                worker = self._open_worker(stack, self._stoppable)
                self._stoppable(worker.stop)
                self._learn(worker)
                while (item := self._take()) is not None:
                    self._hand_in(worker.make(item))
        except BaseException as error:  # noqa: BLE001  # the caller's thread raises it; here nobody would
            with self._changed:
                self._failure = self._failure or error
                self._changed.notify_all()

    def _stoppable(self, stop: Callable[[], None]) -> None:
        """Something has begun that the pool's end is to end."""
        with self._changed:
            self._stops.append(stop)
            ending = self._ending
        if ending:  # it was not there yet when all were stopped
            stop()

    def _learn(self, worker: Worker) -> None:
        with self._changed:
            if self.isolation is None:
                self.isolation = worker.isolation

    def _take(self) -> Any:
        """The next partition; None when the pool ends."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ending)
            return None if self._ending else self._waiting.popleft()

    def _hand_in(self, record: PartitionRecord) -> None:
        with self._changed:
            self._done.append(record)
            self._in_hand -= 1
            self._changed.notify_all()

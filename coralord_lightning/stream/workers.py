"""Owns the worker processes of one loader: their start, their order, their end; never makes a batch itself.

They are started anew (forkserver, or spawn), never forked from a process with threads; they live as long as their
loader. Each has two pipes of its own, so that its death is an end of file that nobody else can hide.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle  # noqa: TID251  # between a process and those that it started itself
import platform
import signal
import weakref
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

from coralord_lightning.errors import UsageError, WorkerError
from coralord_lightning.stream.worker import Failure, Task, serve

if TYPE_CHECKING:
    from coralord_lightning.stream.batches import BatchMaker
    from coralord_lightning.stream.chunks import Chunk

__all__ = ["AHEAD", "Workers", "require_sendable"]

AHEAD = 2
"""Batches that each worker is asked for before the first of them is taken."""

_PATIENCE_S = 5.0


@dataclass(slots=True, kw_only=True)
class _Worker:
    process: BaseProcess
    tasks: Connection
    results: Connection
    has_begun: bool = False


class Workers:
    """Processes that make batches in the order they are asked for; started at the first.

    Pickled or copied, it is as new.

    Args:
        pin_memory: page-locked tensors, copied in this process.
    """

    def __init__(self, count: int, *, pin_memory: bool = False) -> None:
        self.count = count
        self._pin_memory = pin_memory
        self._maker: BatchMaker | None = None
        self._workers: list[_Worker] = []
        self._run = 0
        self._stop: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return Workers(self.count, pin_memory=self._pin_memory).__dict__

    def batches(self, maker: BatchMaker, chunks: Iterable[Chunk], seeds: Iterable[int]) -> Generator[Any]:
        """What the user gets of each batch.

        Args:
            chunks: of one batch each; few are taken before they are needed.
            seeds: of what the user's functions draw, one a batch.
        Raises:
            WorkerError: a worker ended.
            UsageError: this process may not start workers, they do not find the user's function, or another iteration
                of the same loader has begun.
            Exception: what the user's function raised, with a note of where.
        """
        self._run += 1
        run, taken = self._run, 0
        coming = (Task(run, chunk.rows, chunk.padding, seed) for chunk, seed in zip(chunks, seeds, strict=False))
        with self._closing():
            self._ensure(maker)
            asked = sum(self._ask(number, coming) for number in range(AHEAD * self.count))
        while taken < asked:
            worker = self._workers[taken % self.count]
            with self._closing():
                value = self._take(run, worker)
                asked += self._ask(asked, coming)
            if isinstance(value, Failure):
                raise _raised(value, worker)
            taken += 1
            yield _pinned(value) if self._pin_memory else value
            if run != self._run:
                raise _interleaved()

    @contextmanager
    def _closing(self) -> Iterator[None]:
        """End the processes where an exception, Ctrl-C too, may have left half a message in a pipe."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the processes; the next batch starts new ones."""
        if self._stop is not None:
            self._stop()
        self._workers, self._maker, self._stop = [], None, None

    def _ensure(self, maker: BatchMaker) -> None:
        if self._maker is maker:
            return
        self.close()
        payload = pickle.dumps(maker)
        workers = self._workers = list[_Worker]()
        # A finalizer, as it runs when the loader is collected and at the interpreter's end too.
        self._stop = weakref.finalize(self, _stop, workers, os.getpid())
        _prepare_server()
        for _ in range(self.count):
            workers.append(_start())
        for worker in workers:  # after all have been started: it waits for one that is not ready
            _tell(worker, payload)
        self._maker = maker

    def _ask(self, number: int, tasks: Iterator[Task]) -> bool:
        task = next(tasks, None)
        if task is not None:
            _tell(self._workers[number % self.count], tuple(task))
        return task is not None

    def _take(self, run: int, worker: _Worker) -> Any:
        from coralord_lightning.stream.transport import read_value

        of, value = -1, None
        while of != run:  # answers to an iteration that was left early come first
            try:
                of, value = read_value(worker.results.fileno())
            except (EOFError, OSError) as error:
                raise _death(worker) from error
            worker.has_begun = True
        return value


def require_sendable(**functions: object) -> None:
    """Refuse a function that no other process can find.

    Args:
        functions: option -> function, or anything else that is sent.
    Raises:
        UsageError: it is a lambda, or was defined within a function, or holds what cannot be sent.
    """
    for name, function in functions.items():
        try:
            pickle.dumps(function)
        except Exception as error:
            raise UsageError(
                name,
                "cannot be sent to a worker process: what runs there is a function of a module",
                facts={"got": repr(function), "because": error},
                remedy=f"define {name} with `def` at the top level of a module, or num_workers=0",
            ) from error


def _tell(worker: _Worker, value: Any) -> None:
    from coralord_lightning.stream.transport import frames_of, write_frames

    try:
        write_frames(worker.tasks.fileno(), frames_of(value))
    except OSError as error:
        raise _death(worker) from error


def _prepare_server() -> None:
    """Let the fork server import once what every worker needs, unless the user has said what it imports."""
    from multiprocessing import forkserver

    server = getattr(forkserver, "_forkserver", None)
    if getattr(server, "_preload_modules", None) == ["__main__"]:  # as Python sets it
        multiprocessing.set_forkserver_preload(["__main__", "torch", "coralord_lightning.stream.batches"])


def _method() -> str:
    # macOS does not survive a fork of a process that has loaded its frameworks, as torch does.
    has_server = "forkserver" in multiprocessing.get_all_start_methods() and platform.system() != "Darwin"
    return "forkserver" if has_server else "spawn"


def _start() -> _Worker:
    from coralord_lightning.stream.transport import widen

    if multiprocessing.current_process().daemon:
        raise UsageError(
            "num_workers", "this process is a worker of another one, and may start none", remedy="num_workers=0"
        )
    context: Any = multiprocessing.get_context(_method())
    task_reader, tasks = context.Pipe(duplex=False)
    results, result_writer = context.Pipe(duplex=False)
    widen(results.fileno())
    process = context.Process(target=serve, args=(task_reader, result_writer), daemon=True)
    process.start()
    task_reader.close()  # only the worker's own end is left: its death closes it
    result_writer.close()
    return _Worker(process=process, tasks=tasks, results=results)


def _stop(workers: list[_Worker], owner: int) -> None:
    if os.getpid() != owner:
        return  # a fork of the process that they belong to
    for worker in workers:
        worker.tasks.close()
        worker.results.close()
        worker.process.terminate()
    for worker in workers:
        worker.process.join(_PATIENCE_S)
        if worker.process.is_alive():
            worker.process.kill()


def _raised(failure: Failure, worker: _Worker) -> Exception:
    note = f"\nin worker process {worker.process.pid}:\n\n{failure.text}"
    error: object = None
    if failure.pickled is not None:
        try:
            error = pickle.loads(failure.pickled)  # noqa: S301  # our own worker wrote it
        except Exception:  # noqa: BLE001  # a class that cannot be made again of its arguments
            error = None
    if isinstance(error, Exception):
        error.add_note(note)
        return error
    return WorkerError(
        "transform",
        "raised an exception that cannot be sent from its worker process",
        facts={"got": failure.text},
        remedy="num_workers=0     # raises it here",
    )


def _death(worker: _Worker) -> WorkerError:
    worker.process.join(_PATIENCE_S)
    code = worker.process.exitcode
    facts: dict[str, object] = {"pid": worker.process.pid, "exit code": code}
    if code is not None and code < 0:
        facts["signal"] = signal.Signals(-code).name
    message, remedy = _cause(code, has_begun=worker.has_begun)
    return WorkerError("worker process", message, facts=facts, remedy=remedy)


def _cause(code: int | None, *, has_begun: bool) -> tuple[str, str]:
    """What a worker most likely died of, and what to do about it."""
    if code == -signal.SIGKILL:
        likely = "was killed, most likely because the machine or container ran out of memory"
        return likely, "num_workers=0, or a smaller batch_size"
    if code == 1 and not has_begun:
        return (
            "ended before it made a batch; what it wrote to stderr says why",
            'if __name__ == "__main__":     # around what the script does; or num_workers=0',
        )
    return (
        "ended without a word",
        "num_workers=0     # what ends the process, ends this one then: python -X faulthandler",
    )


def _pinned(value: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return value.pin_memory()
    if type(value) is dict:
        return {name: _pinned(part) for name, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_pinned(part) for part in value)
    return value.pin_memory() if hasattr(value, "pin_memory") else value  # a class of the user's, as torch does it


def _interleaved() -> UsageError:
    return UsageError(
        "num_workers",
        "another iteration of this loader has begun, and its workers make that one's batches",
        remedy="one loader for each iteration, or num_workers=0",
    )

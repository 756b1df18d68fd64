"""Owns what a worker process does: tasks in, batches out, and its end when its parent ends; never starts one."""

from __future__ import annotations

import os
import pickle  # noqa: TID251  # between a process and those that it started itself
import queue
import signal
import threading
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NamedTuple

from coralord_lightning.errors import BatchError, UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from coralord_lightning.stream.batches import BatchMaker

__all__ = ["Failure", "Task", "serve"]


class Task(NamedTuple):
    """One batch to make.

    Args:
        run: which iteration asked; answers to earlier ones are thrown away.
        padding: bool[n]; which rows only fill the batch up.
        seed: of the random numbers that the user's function draws.
    """

    run: int
    rows: npt.NDArray[np.int64]
    padding: npt.NDArray[np.bool_]
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An exception on its way to the process that asked.

    Args:
        pickled: the exception; None where it cannot be sent.
        text: its traceback.
    """

    pickled: bytes | None
    text: str

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """Keep an exception as well as it can be kept."""
        try:
            pickled = pickle.dumps(error)
        except Exception:  # noqa: BLE001  # whatever the user's class raises there
            pickled = None
        return cls(pickled=pickled, text="".join(traceback.format_exception(error)))


def serve(tasks: Connection, results: Connection) -> None:
    """Be a worker, until the parent closes its end or is no more.

    Args:
        tasks: a pickled BatchMaker comes first, then tasks.
    """
    import torch

    from coralord_lightning.stream.transport import read_value, write_frames

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    torch.set_num_threads(1)  # the workers are the parallelism
    inbox, outbox = queue.SimpleQueue[Any](), queue.Queue[Any](1)
    newest = [0]

    def receive() -> None:
        try:
            while True:
                value = read_value(tasks.fileno())
                newest[0] = value[0] if isinstance(value, tuple) else 0
                inbox.put(value)
        except (EOFError, OSError):
            os._exit(0)  # the parent ended or let go: so does this process, whatever it is at

    def send() -> None:
        try:
            while True:
                write_frames(results.fileno(), outbox.get())
        except OSError:
            os._exit(0)

    # While a batch is on its way, the next one is made.
    for work in (receive, send):
        threading.Thread(target=work, daemon=True).start()
    maker = _load(inbox.get())
    while True:
        task = Task(*inbox.get())
        if task.run == newest[0]:  # others are of an epoch that was left early
            outbox.put(_frames(task, maker if isinstance(maker, Failure) else _make(maker, task)))


def _load(payload: bytes) -> BatchMaker | Failure:
    try:
        maker: BatchMaker = pickle.loads(payload)  # noqa: S301  # the parent wrote it
    except Exception as error:  # noqa: BLE001  # importing the user's module may raise anything
        refused = UsageError(
            "num_workers",
            "a worker process does not find the transform or collate function",
            facts={"got": repr(error)},
            remedy="define the function in a module that can be imported, or num_workers=0",
        )
        refused.__cause__ = error
        return Failure.of(refused)
    return maker


def _make(maker: BatchMaker, task: Task) -> Any:
    try:
        (batch,) = maker.gather(task.rows, [len(task.rows)], task.padding)
        return maker.finish(batch, task.seed)
    except Exception as error:  # noqa: BLE001  # raised where the batch is asked for
        return Failure.of(error)


def _frames(task: Task, value: Any) -> list[Any]:
    from coralord_lightning.stream.transport import frames_of

    try:
        return frames_of((task.run, value))
    except Exception as error:  # noqa: BLE001  # whatever a class of the user's raises when it is pickled
        refused = BatchError(
            "transform",
            "returned what a worker process cannot send",
            facts={"got": repr(error)},
            remedy="return tensors, arrays, numbers and text; or num_workers=0",
        )
        return frames_of((task.run, Failure.of(refused)))

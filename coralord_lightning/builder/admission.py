"""Lets outputs of the sandbox into the store's own files, through a limited process; never opens one itself."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import selectors
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from coralord_lightning.errors import CoralError, PipelineOutputError, RunnerError, SourceFormatError, StoreFullError
from coralord_lightning.spec.manifest import Column, SplitPart

__all__ = ["Admission", "AdmittedPart"]

_WAIT_S = 600.0
_WAIT_S_PER_GIB = 600.0
_OUT_OF_RESOURCES = (signal.SIGKILL, signal.SIGXCPU, signal.SIGXFSZ)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmittedPart:
    """What was let in.

    Args:
        columns: canonical columns; None where the stream has neither columns nor rows.
        part: shards and blocks; every `shard.path` is a file name in the admission's `out_dir`.
    """

    columns: tuple[Column, ...] | None
    part: SplitPart


class Admission:
    """One limited process for many files; started when first needed, and again after it died.

    Args:
        out_dir: where shards are written; nobody else writes there.
        wait_s: how long a small file may take.
    """

    def __init__(self, out_dir: Path, *, wait_s: float = _WAIT_S) -> None:
        self._out_dir = out_dir
        self._wait_s = wait_s
        self._worker: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def stop(self) -> None:
        """End the process, so that a waiting `admit` raises; for another thread."""
        self._stopped = True
        worker = self._worker
        if worker is not None:
            worker.kill()

    def admit(
        self, path: Path, *, expect: tuple[Column, ...] | None, label: str, selected: bool = False
    ) -> AdmittedPart:
        """Check an untrusted Arrow IPC stream, and write its rows as shards.

        Args:
            path: the file, as the sandbox left it.
            expect: the columns that it must have; None for the first.
            label: what a message calls it.
            selected: the rows are as they were selected, no pipeline made them.

        Raises:
            PipelineOutputError: it is damaged, or has other or unsupported columns.
            SourceFormatError: selected rows have other columns than those of the partitions before.
            RunnerError: checking it takes more memory or time than it may.
            StoreFullError: the disk is full.
        """
        prefix = secrets.token_hex(8)
        request = {
            "path": str(path.absolute()),
            "out_dir": str(self._out_dir.absolute()),
            "prefix": prefix,
            "size_bytes": _size_of(path),
            "expect": None if expect is None else [column.to_json() for column in expect],
        }
        try:
            answer = self._ask(request, label)
            if not answer["ok"]:
                raise _explain(answer, self._out_dir, label, selected=selected)
        except BaseException:
            for name in self._out_dir.glob(f"{prefix}-*"):
                name.unlink()
            raise
        columns = answer["columns"]
        return AdmittedPart(
            columns=None if columns is None else tuple(Column.from_json(item) for item in columns),
            part=SplitPart.from_json(answer["part"]),
        )

    def _ask(self, request: dict[str, Any], label: str) -> dict[str, Any]:
        worker = self._worker or self._start()
        if self._stopped:
            raise _too_much(label, "was stopped")
        stdin, stdout = _pipe(worker.stdin), _pipe(worker.stdout)
        wait_s = self._wait_s + _WAIT_S_PER_GIB * request["size_bytes"] / (1 << 30)
        try:
            stdin.write(json.dumps(request).encode() + b"\n")
            stdin.flush()
            with selectors.DefaultSelector() as selector:
                selector.register(stdout, selectors.EVENT_READ)
                ready = selector.select(wait_s)
            line = stdout.readline() if ready else None
        except OSError:
            line = b""
        if not line:
            raise self._post_mortem(label, in_time=line is not None)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _start(self) -> subprocess.Popen[bytes]:
        # our own code, so it may see where we import from; nothing else of our environment
        environment = {"PYTHONPATH": os.pathsep.join(item for item in sys.path if item), "LC_ALL": "C.UTF-8"}
        environment |= {"OMP_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2"}
        self._worker = subprocess.Popen(
            [sys.executable, "-m", "coralord_lightning.builder.admit"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        return self._worker

    def _post_mortem(self, label: str, *, in_time: bool) -> CoralError:
        """Why the worker gave no answer; the next file gets a new one."""
        worker = self._worker
        code = None
        if worker is not None and in_time:
            with contextlib.suppress(subprocess.TimeoutExpired):  # it closed its output and goes on
                code = worker.wait(timeout=10)
        self._end()
        if code is None:
            return _too_much(label, "took too long")
        if -code in _OUT_OF_RESOURCES:
            return _too_much(label, f"was ended by {signal.Signals(-code).name}")
        return PipelineOutputError(
            label,
            "the pipeline's output is damaged: reading it crashed the process that checks it",
            facts={"ended": signal.Signals(-code).name if code < 0 else f"exit code {code}"},
            remedy="write only through pyarrow; where it did, report this with the versions of `coral doctor`",
        )

    def _end(self) -> None:
        worker, self._worker = self._worker, None
        if worker is None:
            return
        worker.kill()
        worker.wait()
        for pipe in (worker.stdin, worker.stdout):
            try:
                _pipe(pipe).close()
            except OSError:  # what was not sent to a dead worker is of no use
                continue


def _explain(answer: dict[str, Any], out_dir: Path, label: str, *, selected: bool = False) -> CoralError:
    kind, message = answer["kind"], answer.get("message", "")
    if kind in ("full", "unwritable"):
        return StoreFullError(
            str(out_dir.parent),
            "the store cannot take the shards",
            facts={"got": message},
            remedy="free some space there, or name another store: `--home DIR` or CORAL_HOME=DIR",
        )
    if kind == "memory":
        return _too_much(label, f"needs more memory than it may have: {message}")
    if kind == "other_columns":
        column = answer["column"]
        if selected:
            return SourceFormatError(
                label,
                f"field '{column}' has another type than in the files before",
                facts={"was": answer["was"], "now": answer["now"]},
                remedy="say its width in the Croissant file: cr:Int64 for sc:Integer, cr:Float64 for sc:Float",
            )
        return PipelineOutputError(
            label,
            f"column '{column}' is not what it is in the partitions before",
            facts={"was": answer["was"], "now": answer["now"]},
            remedy=f"give '{column}' the same type in every partition, e.g. column.cast(…) with an explicit type",
        )
    if kind == "unsupported":
        return PipelineOutputError(
            label,
            "the pipeline's output has a column that a dataset cannot have",
            facts={"got": message},
            remedy="cast or rename that column in the pipeline",
        )
    return PipelineOutputError(
        label,
        "the pipeline's output is no complete Arrow stream",
        facts={"got": message},
        remedy="return record batches from the pipeline, and write nothing to its output directory",
    )


def _too_much(label: str, what: str) -> RunnerError:
    return RunnerError(
        label,
        "the pipeline's output cannot be checked within its limits",
        facts={"got": f"the check {what}"},
        remedy="return smaller batches: at most a few hundred megabytes each, uncompressed",
    )


def _size_of(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:  # the worker says what is wrong with it
        return 0


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise AssertionError("the worker was started with pipes")
    return pipe

"""Calls the user's function inside the sandbox, one task after the other; never decides what runs or where it is kept.

This file runs alone, as `python pipeline.py`, in a container or in a process of its own: the standard library and
pyarrow, Python 3.9 or newer. It reads one JSON object a line from standard input (first a greeting, then tasks) and
answers each with one line on a private copy of standard output, so that what the user prints cannot garble answers.
The end of standard input ends it at once, whatever it is doing: nothing outlives the process that asked.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import importlib.util
import inspect
import json
import linecache
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

SLICE_BYTES = 64 * 1024 * 1024
MAX_TEXT = 4_000
MAX_FRAMES = 12
FENCE: Any = None
"""What notices undeclared files, in the local sandbox: `fence.py`."""
_END = object()

Json = dict[str, Any]


class Refusal(Exception):  # noqa: N818  # it is an answer, not a failure of this program
    """An answer that says no: its kind, and facts for the message."""

    def __init__(self, kind: str, **facts: Any) -> None:
        super().__init__(kind)
        self.answer: Json = {"ok": False, "kind": kind, **facts}


class Job:
    """The user's function, loaded, with what every task of this session shares."""

    def __init__(self, hello: Json) -> None:
        self.code_dir = Path(os.path.realpath(hello["code_dir"]))
        self.in_dir = Path(hello["in_dir"])
        self.out_dir = Path(hello["out_dir"])
        self.file: str = hello["file"]
        self.function: str = hello["function"]
        self.per: str = hello["per"]
        self.params: Json = hello["params"]
        self.call: Any = None

    def load(self) -> None:
        """Import the user's file and find the function in it."""
        path = self.code_dir / self.file
        if not path.is_file():
            raise Refusal("file_missing", file=self.file)
        os.chdir(self.code_dir)
        sys.path[:0] = list(dict.fromkeys([str(path.parent), str(self.code_dir)]))
        module = self._run_user(lambda: _import_file(path, self.file))
        found = getattr(module, self.function, None)
        if found is None:
            names = sorted(name for name, value in vars(module).items() if callable(value) and name[0] != "_")
            near = difflib.get_close_matches(self.function, names, n=1)
            facts = {"file": self.file, "function": self.function, "names": names[:20], "near": near}
            raise Refusal("function_missing", **facts)
        if not callable(found):
            raise Refusal("not_callable", file=self.file, function=self.function, got=type(found).__name__)
        self._check_params(found)
        self.call = found

    def run(self, task: Json) -> Json:
        """Run the function over one input and write what it returns.

        Returns:
            the answer: how many rows were written.
        """
        import pyarrow as pa

        source = self.in_dir / task["input"]
        try:
            stream = pa.OSFile(str(source), "rb")
        except OSError as error:
            raise Refusal("input_missing", file=task["input"], got=str(error)) from error
        with stream, pa.ipc.open_stream(stream) as reader, Output(self.out_dir / task["output"]) as output:
            for batch in self._results(reader):
                output.write(batch)
        return {"ok": True, "rows": output.num_rows}

    def _results(self, reader: Any) -> Iterator[Any]:
        if self.per != "batch":
            yield from self._flatten(self._run_user(lambda: self.call(reader, **self.params)))
            return
        for batch in reader:
            yield from self._flatten(self._run_user(lambda given=batch: self.call(given, **self.params)))

    def _flatten(self, value: Any) -> Iterator[Any]:
        """Batches of whatever the user's function returned."""
        import pyarrow as pa

        if isinstance(value, (pa.RecordBatch, pa.Table)):
            yield value
            return
        if not isinstance(value, (Iterator, list, tuple, pa.RecordBatchReader)):
            raise Refusal("wrong_type", got=_type_name(value), function=self.function)
        items = iter(value)
        while (item := self._run_user(lambda: next(items, _END))) is not _END:
            if not isinstance(item, (pa.RecordBatch, pa.Table)):
                got = _type_name(value) + " of " + _type_name(item)
                raise Refusal("wrong_type", got=got, function=self.function)
            yield item

    def _run_user(self, action: Any) -> Any:
        """Run user code; whatever it raises becomes a refusal that shows the user's own lines only."""
        try:
            return action()
        except MemoryError as error:
            raise Refusal("memory", message=_text(error), frames=self._frames(error)) from error
        except SyntaxError as error:
            raise Refusal("syntax_error", **self._syntax(error)) from error
        except BaseException as error:  # SystemExit and KeyboardInterrupt of user code too
            missing = error.name if isinstance(error, ModuleNotFoundError) else None
            facts = {"type": type(error).__name__, "message": _text(error), "frames": self._frames(error)}
            raise Refusal("failed", missing=missing, missing_file=self._missing_file(error), **facts) from error

    def _missing_file(self, error: BaseException | None) -> str | None:
        """The file that was not there, relative to the code where it would have been among it."""
        while error is not None and not isinstance(error, FileNotFoundError):
            error = error.__cause__ or error.__context__
        if error is None:
            return None
        # Arrow raises it without a name, which stands in its message
        name = error.filename if isinstance(error.filename, (str, bytes)) else [*_text(error).split("'"), ""][1]
        path = os.path.normpath(self.code_dir / os.fsdecode(name))
        inside = path.startswith(str(self.code_dir) + os.sep)
        return os.path.relpath(path, self.code_dir) if inside else path

    def _frames(self, error: BaseException) -> list[Json]:
        frames = []
        trace = error.__traceback__
        while trace is not None:
            name = trace.tb_frame.f_code.co_filename
            path = os.path.realpath(name)
            # compiled libraries name their sources relative to where they were built
            if name.startswith(os.sep) and path.startswith(str(self.code_dir) + os.sep):
                frames.append(
                    {
                        "file": os.path.relpath(path, self.code_dir),
                        "line": trace.tb_lineno,
                        "function": trace.tb_frame.f_code.co_name,
                        "source": linecache.getline(path, trace.tb_lineno).strip()[:200],
                    }
                )
            trace = trace.tb_next
        return frames[-MAX_FRAMES:]

    def _syntax(self, error: SyntaxError) -> Json:
        path = os.path.realpath(error.filename or self.file)
        inside = path.startswith(str(self.code_dir) + os.sep)
        return {
            "file": os.path.relpath(path, self.code_dir) if inside else path,
            "line": error.lineno,
            "source": (error.text or "").strip()[:200],
            "message": str(error.msg)[:MAX_TEXT],
        }

    def _check_params(self, function: Any) -> None:
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):  # a builtin without a signature: the call itself will tell
            return
        try:
            signature.bind(None, **self.params)
        except TypeError as error:
            facts = {"function": self.function, "message": str(error), "signature": f"{self.function}{signature}"}
            raise Refusal("bad_params", params=sorted(self.params), **facts) from error


class Output:
    """One Arrow IPC stream, uncompressed, whose schema the first batch decides."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.num_rows = 0
        self.num_returned = 0
        self._schema: Any = None
        self._writer: Any = None
        self._file: Any = None

    def __enter__(self) -> Output:  # noqa: PYI034  # typing.Self is newer than Python 3.9
        with _disk(self.path):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW  # never into what was planted there
            descriptor = os.open(self.path, flags, 0o644)
            os.fchmod(descriptor, 0o644)  # the user's code may have set a umask, and the host reads this
            self._file = os.fdopen(descriptor, "wb")
        return self

    def write(self, batches: Any) -> None:
        """Append a record batch or a table."""
        import pyarrow as pa

        self.num_returned += 1
        self._require_schema(batches.schema)
        with _disk(self.path):
            for batch in batches.to_batches() if isinstance(batches, pa.Table) else [batches]:
                # a bounded message each, so that the host can read them in bounded memory
                step = max(1, batch.num_rows * SLICE_BYTES // max(batch.nbytes, SLICE_BYTES))
                for start in range(0, batch.num_rows, step):
                    self._writer.write_batch(batch.slice(start, step))
                self.num_rows += batch.num_rows

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is not None:
            self._file.close()
            return
        import pyarrow as pa

        if self._writer is None:  # nothing was returned: a stream of no columns says so
            self._require_schema(pa.schema([]))
        with _disk(self.path):
            self._writer.close()
            self._file.close()

    def _require_schema(self, schema: Any) -> None:
        import pyarrow as pa

        if self._schema is None:
            self._schema = schema
            with _disk(self.path):
                self._writer = pa.ipc.new_stream(self._file, schema)
        elif not self._schema.equals(schema, check_metadata=False):
            column, was, now = difference(self._schema, schema)
            raise Refusal("schema_changed", column=column, was=was, now=now, batch=self.num_returned)


class _disk:  # noqa: N801  # reads as a statement: with _disk(path)
    """Name a full disk as such."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, OSError):
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            raise Refusal("disk_full" if full else "output_unwritable", file=self.path.name, got=str(error))


def difference(was: Any, now: Any) -> tuple[str, str, str]:
    """The first column in which two schemas differ: its name, how it was, how it is."""
    for before, after in zip(was, now):  # noqa: B905  # Python 3.9 has no strict=
        if before.name != after.name:
            if after.name not in was.names:
                return after.name, "absent", _field_text(after)
            return before.name, _field_text(before), "absent" if before.name not in now.names else "in another place"
        if not before.equals(after, check_metadata=False):
            return before.name, _field_text(before), _field_text(after)
    if len(was) > len(now):
        return was[len(now)].name, _field_text(was[len(now)]), "absent"
    return now[len(was)].name, "absent", _field_text(now[len(was)])


def _field_text(field: Any) -> str:
    return str(field.type) + ("" if field.nullable else " not null")


def _import_file(path: Path, file: str) -> Any:
    parts = list(Path(file).with_suffix("").parts)
    name = ".".join(parts) if all(part.isidentifier() for part in parts) else "coral_user_pipeline"
    if name in sys.modules:  # never take the place of a module that is in use
        name = "coral_user_pipeline"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise Refusal("file_missing", file=file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _type_name(value: Any) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else kind.__module__.split(".")[0] + "." + kind.__name__


def _text(error: BaseException) -> str:
    try:
        return str(error)[:MAX_TEXT]
    except BaseException:  # noqa: BLE001  # a broken __str__ must not hide which error it was, nor end this process
        return "(its message cannot be printed)"


def greet(hello: Json) -> tuple[Job, Json]:
    """Load the user's function and describe this interpreter."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise Refusal("pyarrow_missing", got=str(error), python=sys.version.split()[0]) from error
    limited = _limit_memory(hello.get("memory_bytes"))
    _limit_processors(hello.get("processors"))
    job = Job(hello)
    job.load()
    probe = Path(hello["probe"]).read_text(encoding="utf-8") if hello.get("probe") else None
    python = sys.version.split()[0]
    return job, {"ok": True, "python": python, "pyarrow": pa.__version__, "probe": probe, "memory_limited": limited}


def _limit_memory(memory_bytes: int | None) -> bool:
    """Bound the address space, where the runner has no other way to."""
    if memory_bytes is None:
        return False
    import resource

    try:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    except (OSError, ValueError):  # macOS knows the limit and refuses to set it
        return False
    return True


def _limit_processors(processors: int | None) -> None:
    """Let the user's code see and use so many processors, where the platform knows how."""
    if processors is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:processors])


def serve(requests: Iterable[str], answer: Any) -> None:
    """Answer the greeting, then every task.

    Args:
        requests: JSON objects, one a line.
        answer: called with every answer.
    """
    job: Job | None = None
    mark = ""
    for line in requests:
        try:
            request = json.loads(line)
            if job is None:
                mark = request.get("mark", "")
                job, reply = greet(request)
            else:
                reply = job.run(request)
        except Refusal as refusal:
            reply = refusal.answer
        except MemoryError as error:
            reply = {"ok": False, "kind": "memory", "message": _text(error), "frames": []}
        except Exception as error:  # noqa: BLE001  # e.g. an input that is no Arrow stream: ours to explain
            reply = {"ok": False, "kind": "internal", "type": type(error).__name__, "message": _text(error)}
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        if mark:  # answers and prints go by different ways: this says that no print of the task is under way
            with contextlib.suppress(OSError):
                os.write(2, f"{mark}\n".encode())
        # whatever the code made of the refusal
        answer((FENCE.take() if FENCE is not None else None) or reply)


def _read_lines(source: Any, lines: queue.SimpleQueue[str]) -> None:
    for line in source:
        lines.put(line)
    # The asker is gone. End now, even within user code; take along what that code started.
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(0)


def main() -> None:
    """Take standard input and output for the conversation; give the user's code /dev/null and standard error."""
    sys.path[:] = [entry for entry in sys.path if entry != str(Path(__file__).resolve().parent)]
    source = os.fdopen(os.dup(0), "r", encoding="utf-8")
    sink = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123  # a descriptor, not a path
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # what is printed is to be seen at once
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read_lines, args=(source, lines), daemon=True).start()

    def answer(reply: Json) -> None:
        sink.write(json.dumps(reply) + "\n")
        sink.flush()

    serve(iter(lines.get, ""), answer)


if __name__ == "__main__":
    main()

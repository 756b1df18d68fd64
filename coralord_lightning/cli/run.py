"""One command from words to exit code: every way it can end is here, and no command catches anything itself."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn, TextIO

from coralord_lightning.cli.output import Output
from coralord_lightning.cli.parser import parse
from coralord_lightning.errors import CoralError

__all__ = ["run"]

ISSUES = "https://github.com/coralord/coralord-lightning/issues"
INTERRUPTED = 130
TERMINATED = 143


def run(argv: Sequence[str], *, out: TextIO, err: TextIO) -> int:
    """Run one command; data goes to `out`, messages and errors to `err`.

    Returns:
        0 ok, 1 error, 2 usage, 3 stale, 4 integrity, 5 lock conflict, 6 upstream unreachable, 130 interrupted.
    """
    for stream in (out, err):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    output = Output(out=out, err=err, json="--json" in argv, quiet=False)
    debug = "--debug" in argv
    try:
        with _terminable():
            code = _run(argv, out, err)
            out.flush()
        return code
    except CoralError as error:
        return _report(error, output, debug=debug)
    except KeyboardInterrupt:
        output.error("coral: interrupted; what was finished is kept, and no version is half there")
        return INTERRUPTED
    except BrokenPipeError:
        _abandon(out)
        return 1
    except Exception as error:  # noqa: BLE001 - the last line of defence: a user never meets a bare traceback
        return _report(_unexpected(error), output, debug=debug)


def _run(argv: Sequence[str], out: TextIO, err: TextIO) -> int:
    values = parse(argv)
    from coralord_lightning.cli import commands

    output = Output(out=out, err=err, json=values.json, quiet=values.quiet)
    return commands.COMMANDS[values.command](values, output)


def _report(error: CoralError, output: Output, *, debug: bool) -> int:
    if debug:
        output.error("".join(traceback.format_exception(error)).rstrip())
    else:
        output.error(str(error))
    try:
        if output.json:
            output.value({"error": error.to_json()})
            output.out.flush()
    except BrokenPipeError:
        _abandon(output.out)
    return error.exit_code


def _unexpected(error: Exception) -> CoralError:
    wrapped = CoralError(
        "coral",
        "met an error that it does not know; this is a fault of ours",
        facts={"got": f"{type(error).__name__}: {error}"},
        remedy=f"run it again with --debug and send what it prints to {ISSUES}",
    )
    wrapped.__cause__ = error
    return wrapped


def _abandon(stream: TextIO) -> None:
    """Send what is still buffered nowhere, or Python complains about the closed pipe when it exits."""
    try:
        number = stream.fileno()
    except (OSError, ValueError):
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM unwind like an exit, so that containers and temporary files go."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(*_: object) -> NoReturn:
        sys.exit(TERMINATED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

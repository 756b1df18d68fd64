"""One command from words to exit code: every way it can end is here, and no command catches anything itself."""

from __future__ import annotations

import io
import os
import signal
import threading
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn, TextIO

from coralord_lightning.cli.color import color_error, paint_for
from coralord_lightning.cli.output import Output
from coralord_lightning.cli.parser import parse
from coralord_lightning.errors import CoralError

__all__ = ["run"]

ISSUES = "https://github.com/coralord/coralord-lightning/issues"
INTERRUPTED = 130


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
    signals = _Signals()
    try:
        with signals:
            code = _run(argv, out, err)
            out.flush()
        return code
    except KeyboardInterrupt:
        return _interrupted(output, signals)
    except BrokenPipeError:
        _abandon(out)
        return 1
    except Exception as error:  # noqa: BLE001 - the last line of defence: a user never meets a bare traceback
        if signals.exit_code is not None:  # it failed of the signal: DuckDB says RuntimeError, a child that it died
            return _interrupted(output, signals)
        return _report(error if isinstance(error, CoralError) else _unexpected(error), output, debug=debug)


class _Signals:
    """Ctrl-C and SIGTERM while a command runs: both unwind, so that containers and temporary files go.

    Args:
        exit_code: what the signal that came stands for; None before one came.
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
        for number, handler in usual.items():
            if signal.getsignal(number) == handler:  # one that is ignored, as in `coral … &`, stays so
                self._before[number] = signal.signal(number, self._unwind)

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _unwind(self, number: int, _: object) -> NoReturn:
        self.exit_code = 128 + number
        raise KeyboardInterrupt


def _interrupted(output: Output, signals: _Signals) -> int:
    output.error("coral: interrupted; what was finished is kept, and no version is half there")
    return signals.exit_code or INTERRUPTED


def _run(argv: Sequence[str], out: TextIO, err: TextIO) -> int:
    values = parse(argv)
    from coralord_lightning.cli import commands

    output = Output(out=out, err=err, json=values.json, quiet=values.quiet)
    return commands.COMMANDS[values.command](values, output)


def _report(error: CoralError, output: Output, *, debug: bool) -> int:
    if debug:
        output.error("".join(traceback.format_exception(error)).rstrip())
    else:
        output.error(color_error(str(error), paint_for(output.err)))
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

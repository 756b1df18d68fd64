"""What a task left in its output directory: exactly one regular file, or an error and a clean directory. Reads no byte.

The directory was written to by code that nobody has checked, so nothing in it is followed or opened here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Collection
from pathlib import Path

from coralord_lightning.builder.runners.explain import SHARE
from coralord_lightning.errors import CoralError, PipelineOutputError, RunnerError

__all__ = ["require_output", "sweep"]

_NAMED = 5
_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


def require_output(out_dir: Path, name: str, *, keep: Collection[str], label: str, shared: bool) -> None:
    """Make sure that a task left its output and nothing else.

    Args:
        name: the output's file name.
        keep: outputs of earlier tasks, which may still be there.
        label: what a message calls the task.
        shared: whether an engine elsewhere may have written to a disk that is not ours.
    Raises:
        RunnerError: the output is not there.
        PipelineOutputError: it is no regular file, has another name too, or is not alone.
    """
    found = {}
    for item in os.scandir(out_dir):
        with contextlib.suppress(FileNotFoundError):  # something of the pipeline's still works there
            found[item.name] = item.stat(follow_symlinks=False)
    extra = sorted(set(found) - {name, *keep})
    if name not in found:
        raise _missing(out_dir / name, extra, label=label, shared=shared)
    if (what := _odd(found[name])) is not None:
        raise PipelineOutputError(
            label,
            "the pipeline put something else in the place of its output",
            facts={"got": what, "expected": "a regular file of one name"},
            remedy="return the batches; write to no file in the output directory",
        )
    if extra:
        raise PipelineOutputError(
            label,
            "the pipeline left files beside its output",
            facts={"got": _names(extra)},
            remedy="write such files to tempfile.mkdtemp(), and return as batches what is to be kept",
        )


def sweep(out_dir: Path, *, keep: Collection[str]) -> CoralError | None:
    """Remove everything else, following no link; the error where that cannot be done."""
    for item in os.scandir(out_dir):
        if item.name in keep:
            continue
        try:
            if item.is_dir(follow_symlinks=False):
                shutil.rmtree(item.path)
            else:
                Path(item.path).unlink(missing_ok=True)
        except OSError as error:
            return RunnerError(
                str(out_dir),
                "holds what the pipeline left there, and it cannot be removed",
                facts={"left": _names([item.name]), "got": error.strerror or error},
                remedy="write only to tempfile.mkdtemp() in the pipeline",
            )
    return None


def _odd(status: os.stat_result) -> str | None:
    """What it is, where it is no plain file of one name."""
    if not stat.S_ISREG(status.st_mode):
        return _KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")
    return f"a file of {status.st_nlink} names (hard links)" if status.st_nlink > 1 else None


def _missing(path: Path, extra: list[str], *, label: str, shared: bool) -> RunnerError:
    return RunnerError(
        label,
        "the pipeline ended well, but its output is not here",
        facts={"expected": path} | ({"there": _names(extra)} if extra else {}),
        remedy="delete and rename nothing in the pipeline that it did not make"
        + (f"; otherwise, {SHARE}" if shared else ""),
    )


def _names(names: list[str]) -> str:
    """File names chosen by hostile code, as one printable line."""
    shown = ", ".join(ascii(name[:100]) for name in names[:_NAMED])
    return shown + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")

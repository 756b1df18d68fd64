"""What to write in the descriptor so that a pipeline finds a file of the user's project. Reads no file, only looks."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from coralord_lightning.builder.runners.base import Sandbox

__all__ = ["declare", "how_to_declare", "lies_beside"]

_NAMED = 20
_PLAIN = re.compile(r"[\w./-]+")


def lies_beside(path: str, sandbox: Sandbox) -> tuple[str, ...]:
    """The undeclared files that a missing path means, relative to the descriptor's folder.

    Args:
        path: as the pipeline's code asked for it: relative to its own folder, or absolute.
    Returns:
        the file; of a folder, the files in it; nothing where it is not there, or not in the descriptor's folder.
    """
    base = sandbox.project_dir
    if base is None or not path or "\0" in path:
        return ()
    place = Path(os.path.normpath(base / path))
    if not place.is_relative_to(base) or place == base:
        return ()
    found = [place] if os.path.isfile(place) else _files_in(place)  # noqa: PTH113  # it may be no path at all
    names = [item.relative_to(base).as_posix() for item in found]
    return tuple(name for name in names if not (sandbox.code_dir / name).exists())


def declare(names: tuple[str, ...], sandbox: Sandbox) -> str:
    """The line of the descriptor with these and what is declared already."""
    every = (
        name if _PLAIN.fullmatch(name) else json.dumps(name, ensure_ascii=False) for name in (*sandbox.files, *names)
    )
    return f"files: [{', '.join(every)}]  # beneath pipeline:"


def how_to_declare(path: str, sandbox: Sandbox) -> str:
    """What to do about a file of the project that a pipeline reached for where it lies."""
    base = sandbox.project_dir
    names = lies_beside(path, sandbox)
    if base is not None and names:
        return f"{declare(names, sandbox)}\nand open it as '{os.path.relpath(path, base)}'"
    if base is not None and Path(path).is_relative_to(base) and path != str(base):
        return f"open it as '{os.path.relpath(path, base)}', which is the declared copy"
    package = _package_of(Path(path))
    if package is not None:
        return f"pip install {package} (without -e), or copy the module beside the descriptor"
    return f"copy it beside the descriptor, and declare it:\n{declare((Path(path).name,), sandbox)}"


def _files_in(folder: Path) -> list[Path]:
    return sorted(item for item in folder.rglob("*") if item.is_file())[:_NAMED] if os.path.isdir(folder) else []  # noqa: PTH112


def _package_of(path: Path) -> Path | None:
    """The installable project that a module belongs to."""
    if path.suffix != ".py":
        return None
    marks = ("pyproject.toml", "setup.py")
    return next((item for item in path.parents if any(os.path.isfile(item / mark) for mark in marks)), None)  # noqa: PTH113

"""Notices what a local pipeline opens of the user's project beyond what its descriptor declares; isolates nothing.

A version must not depend on a file that its fingerprint does not know. An audit hook sees every file that Python opens,
lists, changes or loads, refuses those in the project, and remembers them: a pipeline that swallows the refusal fails
at the end of its task all the same. It does not see what native code opens by itself (Arrow's and DuckDB's own file
systems, HDF5, a database client), what child processes do, `stat`, or paths relative to a directory's descriptor. It is
a net for mistakes, not a wall against malice: `docker` is that.

Runs inside the local sandbox, standard library only.
"""

# audit events carry names as they were given, and this must open nothing itself
# ruff: noqa: PTH100, PTH118, PTH119, PTH120, PTH206

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import unquote

_CHANGES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_IMPORTERS = ("_frozen_importlib", "importlib", "pkgutil", "zipimport", "pkg_resources", "site")
_METADATA = (".dist-info", ".egg-info")

Deed = tuple[str, Any]
"""What is done to a path: "read", "list", "change" or "load"."""


DeedsOf = Callable[..., list[Deed]]


def _opened(path: Any, _mode: Any, flags: Any, *_: Any) -> list[Deed]:
    if isinstance(flags, int) and flags & _CHANGES:
        return [("change", path)]
    return [("list" if isinstance(flags, int) and flags & getattr(os, "O_DIRECTORY", 0) else "read", path)]


def _database(path: Any, *_: Any) -> list[Deed]:
    text = os.fsdecode(path)
    if text.startswith("file:"):
        text = unquote(text[5:].partition("?")[0].partition("#")[0])
        text = "/" + text[2:].partition("/")[2] if text.startswith("//") else text
    return [] if text in ("", ":memory:") else [("read", text)]


def _library(path: Any, *_: Any) -> list[Deed]:
    return [("load", path)] if path is not None and os.sep in os.fsdecode(path) else []


def _listed(path: Any, *_: Any) -> list[Deed]:
    return [("list", path)]


def _changed(path: Any, *_: Any) -> list[Deed]:
    return [("change", path)]


def _imported(_module: Any, path: Any, *_: Any) -> list[Deed]:
    return [("load", path)]


def _renamed(old: Any, new: Any, *_: Any) -> list[Deed]:
    return [("change", old), ("change", new)]


def _linked(old: Any, new: Any, *_: Any) -> list[Deed]:
    return [("read", old), ("change", new)]


def _pointed(_old: Any, new: Any, *_: Any) -> list[Deed]:
    return [("change", new)]


_EVENTS: dict[str, DeedsOf] = {
    "ctypes.dlopen": _library,
    "import": _imported,
    "open": _opened,
    "os.chflags": _changed,
    "os.chmod": _changed,
    "os.chown": _changed,
    "os.link": _linked,
    "os.listdir": _listed,
    "os.mkdir": _changed,
    "os.remove": _changed,
    "os.removexattr": _changed,
    "os.rename": _renamed,
    "os.rmdir": _changed,
    "os.scandir": _listed,
    "os.setxattr": _changed,
    "os.symlink": _pointed,
    "os.truncate": _changed,
    "os.utime": _changed,
    "sqlite3.connect": _database,
}


class Undeclared(PermissionError):  # noqa: N818  # what the user sees of it is its name
    """The pipeline reached for a file that its descriptor does not declare."""


class Fence:
    """Tells what of the file system lies behind the fence, and keeps what was reached for.

    Args:
        project: the user's folder.
        open_to: what may be used although it lies in the project: the staged copy, the interpreter's packages.
        code_dir: where the user's code runs.
    """

    def __init__(self, *, project: str, open_to: Iterable[str], code_dir: str) -> None:
        roots = {project: True, os.path.realpath(project): True}
        for root in open_to:
            roots |= {root: False, os.path.realpath(root): False}
        # of nested folders, the innermost decides
        self._roots = sorted(((root.rstrip(os.sep) + os.sep, shut) for root, shut in roots.items()), key=_depth)
        self._code_dir = os.path.realpath(code_dir) + os.sep
        self._found: list[dict[str, Any]] = []

    def hook(self, event: str, args: tuple[Any, ...]) -> None:
        """Refuse what an audit event is about, where it lies behind the fence."""
        deeds_of = _EVENTS.get(event)
        if deeds_of is None:
            return
        for deed, path in deeds_of(*args):
            if path is not None and not isinstance(path, int):
                self._judge(deed, path, sys._getframe(1))  # noqa: SLF001  # the way to a caller's frame

    def take(self) -> dict[str, Any] | None:
        """What was reached for first since the last call, as an answer."""
        found, self._found = self._found, []
        if not found:
            return None
        for frame in found[0]["frames"]:
            source = linecache.getline(self._code_dir + frame["file"], frame["line"])
            frame["source"] = source.strip()[:200]
        return {"ok": False, "kind": "undeclared", **found[0]}

    def find(self, path: str) -> str | None:
        """The path where it lies behind the fence, by its name or by where its links lead; else None."""
        plain = os.path.abspath(path)
        return next((item for item in (plain, os.path.realpath(plain)) if self._innermost(item)), None)

    def _innermost(self, path: str) -> bool:
        return next((shut for root, shut in self._roots if (path + os.sep).startswith(root)), False)

    def _judge(self, deed: str, path: Any, frame: Any) -> None:
        try:
            text = os.fsdecode(path)
            whole = None if "\0" in text else self.find(text)
        except (TypeError, ValueError, OSError):  # what is no path will be told by who was called
            return
        if whole is None or (deed != "change" and not os.path.lexists(whole)):
            return
        importing = str(frame.f_globals.get("__name__", "")).startswith(_IMPORTERS)
        if importing and deed == "list":  # looking for a module is no use of what lies there
            return
        if deed == "read" and any(part.endswith(_METADATA) for part in whole.split(os.sep)):
            return
        deed = "load" if importing and deed == "read" else deed
        self._found.append({"deed": deed, "path": _source(whole), "frames": self._frames(frame)})
        raise Undeclared(1, "the descriptor does not declare it (pipeline.files)", whole)

    def _frames(self, frame: Any) -> list[dict[str, Any]]:
        """The user's own lines, outermost first."""
        frames: list[dict[str, Any]] = []
        while frame is not None:
            name = frame.f_code.co_filename
            path = os.path.realpath(name)
            if name.startswith(os.sep) and path.startswith(self._code_dir):
                place = {"file": path[len(self._code_dir) :], "line": frame.f_lineno, "function": frame.f_code.co_name}
                frames.insert(0, place)
            frame = frame.f_back
        return frames[-12:]


def raise_fence(*, project: str, open_to: Sequence[str], code_dir: str) -> Fence:
    """Put the fence up for the rest of this process: an audit hook cannot be taken away."""
    fence = Fence(project=project, open_to=open_to, code_dir=code_dir)
    sys.addaudithook(fence.hook)
    return fence


def _depth(root: tuple[str, bool]) -> tuple[int, bool]:
    return -len(root[0]), not root[1]


def _source(path: str) -> str:
    """The source of a cached module; other paths as they are."""
    folder, name = os.path.split(path)
    if name.endswith(".pyc") and os.path.basename(folder) == "__pycache__":
        return os.path.join(os.path.dirname(folder), name.partition(".")[0] + ".py")
    return path

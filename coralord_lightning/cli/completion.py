"""What a shell may complete a line to: files, names and fingerprints that are here. Only runs when a shell asks."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import argcomplete
from argcomplete.shell_integration import shellcode

from coralord_lightning.cli.parser import make_parser

if TYPE_CHECKING:
    from coralord_lightning.store import Store

__all__ = ["Shell", "complete", "script"]

Shell = Literal["bash", "zsh", "fish"]

_SHORT = 12
_DESCRIPTORS = (".yaml", ".yml", ".jsonld")


def complete() -> None:
    """Answer the shell and end this process, by argcomplete's protocol."""
    parser = make_parser(completers=_COMPLETERS)
    none: Any = None  # argcomplete tests for it: what nobody knows is left to the shell
    argcomplete.autocomplete(parser, always_complete_options=False, default_completer=none)


def script(shell: Shell) -> str:
    """What a shell reads to complete `coral` from then on."""
    return shellcode(["coral"], shell=shell).lstrip("\n")


def _descriptors(prefix: str, **_: Any) -> list[str]:
    return _files(prefix, _DESCRIPTORS)


def _checkpoints(prefix: str, **_: Any) -> list[str]:
    return _files(prefix, (".ckpt", ".pt", ".pth"))


def _any_file(prefix: str, **_: Any) -> list[str]:
    return _files(prefix, ("",))


def _folders(prefix: str, **_: Any) -> list[str]:
    return _files(prefix, ())


def _files(prefix: str, endings: tuple[str, ...]) -> list[str]:
    """Files of these endings and all folders that begin so; hidden ones where a dot is typed."""
    folder, _, start = prefix.rpartition("/")
    where = Path(folder or ("/" if prefix.startswith("/") else ".")).expanduser()
    before = prefix[: len(prefix) - len(start)]
    found = []
    with contextlib.suppress(OSError):
        for path in sorted(where.iterdir()):
            if not path.name.startswith(start) or (path.name.startswith(".") and not start.startswith(".")):
                continue
            if path.is_dir():
                found.append(f"{before}{path.name}/")
            elif path.name.endswith(endings):
                found.append(before + path.name)
    return found


def _names(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    store = _store(parsed_args)
    return [] if store is None else store.names()


def _fingerprints(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> dict[str, str]:
    """Fingerprint -> the names that it is the newest version of, which zsh and fish show beside it."""
    store = _store(parsed_args)
    if store is None:
        return {}
    newest: dict[str, list[str]] = {}
    for name in store.names():
        newest.setdefault(store.latest_pin(name) or "", []).append(name)
    length = _SHORT if len(prefix) <= _SHORT else 64
    return {each[:length]: ", ".join(newest.get(each, ["an older version"])) for each in store.fingerprints()}


def _store(parsed_args: argparse.Namespace) -> Store | None:
    """The store that the line asks for; None where there is none: a shell has no place for an error."""
    from coralord_lightning.config import load_config
    from coralord_lightning.errors import CoralError
    from coralord_lightning.store import open_store

    try:
        home = load_config(home=getattr(parsed_args, "home", None)).home
        return open_store(home) if home.is_dir() else None
    except (CoralError, OSError):
        return None


_COMPLETERS: Mapping[str, Callable[..., Any]] = {
    "descriptor": _descriptors,
    "descriptors": _descriptors,
    "fingerprint": _fingerprints,
    "fingerprints": _fingerprints,
    "name": _names,
    "checkpoint": _checkpoints,
    "path": _any_file,
    "folder": _folders,
    "--output": _any_file,
    "--home": _folders,
}

"""Cases that do what no case may, in place of the package: proof that the arena notices. No part of the corpus."""

from __future__ import annotations

import ctypes
import socket
import subprocess
import sys
from collections.abc import Callable
from urllib.parse import urlsplit

from hostile.cases import Ask, Case, Place

__all__ = ["GUILTY"]


def _by_python(place: Place) -> None:
    (place.outside / "canary.csv").read_text()


def _by_duckdb(place: Place) -> None:
    import duckdb

    duckdb.sql(f"SELECT * FROM read_parquet('{place.outside}/canary.parquet')").fetchall()


def _by_child(place: Place) -> None:
    code = f"open({str(place.outside / 'canary.txt')!r}).read()"
    subprocess.run([sys.executable, "-I", "-c", code], check=True)


def _write(place: Place) -> None:
    ctypes.CDLL(None).creat(bytes(place.outside / "new"), 0o600)


def _write_beside(place: Place) -> None:
    (place.folder / "new").touch()


def _process(place: Place) -> None:
    subprocess.run(["/bin/true"], check=True)


def _connect(place: Place) -> None:
    parts = urlsplit(place.forbidden)
    socket.create_connection((parts.hostname or "", parts.port or 0)).close()


def _bare(place: Place) -> None:
    assert 1 / 0


def _crash(place: Place) -> None:
    ctypes.string_at(0)


def _memory(place: Place) -> None:
    held = bytearray(1024**3)
    held[::4096] = b"x" * len(held[::4096])


def _case(name: str, act: Callable[[Place], None]) -> Case:
    attack = f"does {name} in place of the package"
    return Case(name=name, attack=attack, lay=lambda place: Ask(croissant={}, act=lambda: act(place)), rows=())


GUILTY = {
    name: _case(name, act)
    for name, act in {
        "guilty-python": _by_python,
        "guilty-duckdb": _by_duckdb,
        "guilty-child": _by_child,
        "guilty-write": _write,
        "guilty-beside": _write_beside,
        "guilty-process": _process,
        "guilty-connect": _connect,
        "guilty-memory": _memory,
        "guilty-bare": _bare,
        "guilty-crash": _crash,
        "guilty-nothing": lambda place: None,
    }.items()
}

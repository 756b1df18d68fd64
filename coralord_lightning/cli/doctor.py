"""Whether this machine has what builds need: looks, reports, mends nothing."""

from __future__ import annotations

import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from coralord_lightning import __version__
from coralord_lightning.cli.output import size
from coralord_lightning.config import Config, config_files, load_config
from coralord_lightning.errors import CoralError

__all__ = ["Finding", "examine"]

LOW_BYTES = 5_000_000_000
_PACKAGES = ("duckdb", "pyarrow", "numpy", "torch", "pytorch-lightning", "lightning")
_OPTIONAL = frozenset({"lightning"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at; `remedy` is empty where all is well."""

    what: str
    state: Literal["ok", "warn", "fail"]
    text: str
    remedy: str = ""

    def to_json(self) -> dict[str, str]:
        """The finding as plain values."""
        return {"what": self.what, "state": self.state, "text": self.text, "remedy": self.remedy}


def examine(home: str | None) -> list[Finding]:
    """Look at everything; what fails is a finding, never an exception."""
    findings = [_platform(), *_packages(), _duckdb()]
    try:
        config = load_config(home=home)
    except CoralError as error:
        return [*findings, _failed("configuration", error)]
    return [*findings, *_settings(config), *_home(config.home), _engine(config)]


def _platform() -> Finding:
    version = platform.python_version()
    text = f"coral {__version__}, Python {version}, {platform.system()} {platform.machine()}"
    if sys.platform not in {"linux", "darwin"}:
        return Finding(what="platform", state="fail", text=text, remedy="run it inside WSL: wsl --install")
    return Finding(what="platform", state="ok", text=text)


def _packages() -> Iterator[Finding]:
    for name in _PACKAGES:
        try:
            yield Finding(what=name, state="ok", text=metadata.version(name))
        except metadata.PackageNotFoundError:
            if name not in _OPTIONAL:
                yield Finding(what=name, state="fail", text="is not installed", remedy=f"pip install {name}")


def _duckdb() -> Finding:
    answer: object
    try:
        import duckdb

        with duckdb.connect() as connection:
            answer = connection.execute("SELECT sum(i) FROM range(10) numbers(i)").fetchall()
    except Exception as error:  # noqa: BLE001 - whatever a broken native library does, it is the finding
        answer = error
    if answer != [(45,)]:
        remedy = "pip install --force-reinstall duckdb"
        return Finding(what="duckdb works", state="fail", text=f"0 + 1 + ... + 9 gives {answer}", remedy=remedy)
    return Finding(what="duckdb works", state="ok", text="answers a query")


def _settings(config: Config) -> Iterator[Finding]:
    files = config_files()
    text = ", ".join(map(str, files)) or "none found, defaults hold"
    yield Finding(what="coral.toml", state="ok", text=text)
    for name, path in {"wheelhouse": config.wheelhouse, "ca_bundle": config.ca_bundle}.items():
        if path is not None and not path.exists():
            yield Finding(what=name, state="fail", text=f"{path} is not there", remedy=f"set {name} to what exists")


def _home(home: Path) -> Iterator[Finding]:
    """Look at the store directory, or the nearest one above it that exists; creates neither."""
    yield Finding(what="home", state="ok", text=f"{home}{'' if home.exists() else ', not there yet'}")
    folder = next(folder for folder in (home, *home.parents) if folder.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=".coral-doctor-", dir=folder) as scratch:
            yield Finding(what="home writable", state="ok", text="a file can be made there")
            yield _locks(Path(scratch))
    except OSError as error:
        yield Finding(
            what="home writable", state="fail", text=f"{folder}: {error.strerror}",
            remedy="set CORAL_HOME to a directory that you may write",
        )  # fmt: skip
        return
    free = shutil.disk_usage(folder).free
    low = free < LOW_BYTES
    yield Finding(
        what="free space", state="warn" if low else "ok", text=size(free),
        remedy="free some, or set CORAL_HOME to a larger disk" if low else "",
    )  # fmt: skip


def _locks(folder: Path) -> Finding:
    """Whether a second holder of one lock is kept out; some network file systems let it in."""
    from filelock import FileLock, Timeout

    first, second = (FileLock(folder / "lock", timeout=0, is_singleton=False) for _ in range(2))
    try:
        with first:
            second.acquire()
            second.release()
    except Timeout:
        return Finding(what="file locks", state="ok", text="a second holder is kept out")
    except (OSError, NotImplementedError) as error:
        return _no_locks(str(error))
    return _no_locks("a second holder is let in")


def _no_locks(text: str) -> Finding:
    return Finding(
        what="file locks", state="warn", text=f"{text}: builds stay correct, but may be done twice",
        remedy="set CORAL_HOME to a local disk, or to NFS version 4",
    )  # fmt: skip


def _engine(config: Config) -> Finding:
    from coralord_lightning.builder.runners.engine import engine_version

    try:
        chosen = f", chosen by {config.runner_from}" if config.runner_from else ""
        return Finding(what="container engine", state="ok", text=f"{engine_version(config)}{chosen}")
    except CoralError as error:
        text = f"{error.message}; only pipelines without `environment: local` need it"
        return Finding(what="container engine", state="warn", text=text, remedy=error.remedy)


def _failed(what: str, error: CoralError) -> Finding:
    return Finding(what=what, state="fail", text=f"{error.subject}: {error.message}", remedy=error.remedy)

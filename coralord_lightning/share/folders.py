"""Owns how an exported folder appears: whole or not at all, and never over what others wrote. Knows no format.

A folder is written beside its place and renamed into it. `coral-export.json` in it names every file that we wrote:
a folder that holds just those is an earlier export, and may be replaced. A `coral.lock` that a build inside it wrote is
no work of the user's, and goes with it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coralord_lightning.errors import ConfigError, StoreError, UsageError
from coralord_lightning.spec.lock import parse_lock

__all__ = ["MARKER", "Place", "list_files", "publish_folder", "sha256_of", "write_marker"]

MARKER = "coral-export.json"
_LOCK = "coral.lock"


@dataclass(slots=True, kw_only=True)
class Place:
    """Where a folder is written.

    Args:
        folder: its place, absolute.
        temp: what to write to until it is finished.
        set_aside: where what lay there before is, once it was forced aside.
    """

    folder: Path
    temp: Path
    set_aside: Path | None = None


@contextmanager
def publish_folder(
    folder: Path, about: Mapping[str, Any], *, force: bool = False, keep_out: Path | None = None
) -> Iterator[Place]:
    """A new folder to write to; it takes the place of `folder` when the context ends well, and is gone if it does not.

    What lies there already is replaced if it is an earlier export as it was written, also with the `coral.lock` of a
    build inside it. With `force` anything else is renamed to `<name>.before` first.

    Args:
        about: what the marker says beside the files: primitives.
        keep_out: a folder that is neither replaced nor written into: the store.
    Raises:
        UsageError: something lies there that may not be replaced.
        StoreError: the folder cannot be written.
    """
    folder = _absolute(folder)
    _require_outside(folder, keep_out)
    _require_place(folder, force=force)
    with _explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temp = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        with _explained(folder):
            place = Place(folder=folder, temp=temp)
            yield place
            write_marker(temp, about)
            temp.chmod(0o777 & ~_umask())
            _sync(temp)
            place.set_aside = _put(temp, folder, force=force)
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def write_marker(folder: Path, about: Mapping[str, Any]) -> None:
    """Name every file in a folder as ours."""
    files = {name: {"size_bytes": (folder / name).stat().st_size, "sha256": sha256_of(folder / name)}
             for name in list_files(folder)}  # fmt: skip
    body = {"format": 1, **about, "files": files}
    (folder / MARKER).write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")


def list_files(folder: Path) -> list[str]:
    """Every file below a folder, and every link, by its name there, sorted."""
    return _walk(folder)[0]


def _walk(folder: Path) -> tuple[list[str], list[str]]:
    """Files and links below a folder, and folders with nothing in them; no link is followed."""
    files, empty = [], []
    for place, folders, names in os.walk(folder, onerror=_raise):
        here = Path(place).relative_to(folder)
        files += [(here / name).as_posix() for name in names]
        files += [(here / name).as_posix() for name in folders if (Path(place) / name).is_symlink()]
        if not folders and not names and here != Path():
            empty.append(here.as_posix())
    return sorted(files), empty


def _raise(error: OSError) -> None:
    raise error


def _absolute(folder: Path) -> Path:
    try:
        return Path(os.path.abspath(folder.expanduser()))  # noqa: PTH100  # a link's target is not what is replaced
    except (RuntimeError, FileNotFoundError) as error:  # no such user; no current folder
        raise UsageError(str(folder), f"cannot be found: {error}", remedy="name a folder by its whole path") from error


def _require_outside(folder: Path, keep_out: Path | None) -> None:
    """Refuse the places that nothing may take: where the user is, what is mounted there, the store."""
    place = folder.resolve()
    if not folder.name or _cwd_is_in(place):
        raise UsageError(
            str(folder), "is where you are; a folder of its own is written", remedy=f"name {folder / 'export'}"
        )
    if folder.is_mount():
        raise UsageError(
            str(folder), "is mounted there, and cannot be replaced as a whole", remedy=f"name {folder / 'export'}"
        )
    if keep_out is not None:
        kept = keep_out.resolve()
        if place.is_relative_to(kept) or kept.is_relative_to(place):
            raise UsageError(
                str(folder), "is, holds or lies in the store", facts={"store": keep_out}, remedy="name another folder"
            )


def _cwd_is_in(place: Path) -> bool:
    try:
        return Path.cwd().resolve().is_relative_to(place)
    except FileNotFoundError:
        return False


def _require_place(folder: Path, *, force: bool) -> bool:
    """Whether what lies there is ours, or nothing; with `force` it may be anything that can be set aside."""
    if not os.path.lexists(folder) or _is_ours(folder):
        return True
    if not force:
        raise UsageError(
            str(folder),
            "is there already and is no export, or one that was changed since",
            facts={
                "holds": ", ".join(sorted(path.name for path in folder.glob("*"))[:5]) if folder.is_dir() else "a file"
            },
            remedy=f"name another folder; or --force, which renames it to {_before(folder).name}",
        )
    if os.path.lexists(_before(folder)):
        raise UsageError(
            str(_before(folder)), "is there already; what was forced aside is kept", remedy=f"rm -r {_before(folder)}"
        )
    return False


def _is_ours(folder: Path) -> bool:
    """Whether it holds nothing, or what an export wrote, byte for byte, and the lock of what was built out of it."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    try:
        found, empty = _walk(folder)
    except OSError:
        return False
    if empty or not found:
        return not empty
    known = _marked(folder)
    rest = set(found) - {*known, MARKER}
    if rest and not (rest == {_LOCK} and _is_lock(folder / _LOCK)):
        return False
    return bool(known) and all(_is_as_written(folder / name, known[name]) for name in found if name in known)


def _marked(folder: Path) -> dict[str, Mapping[str, Any]]:
    """The files that the marker names; none where there is no marker, or no readable one."""
    try:
        files = json.loads((folder / MARKER).read_text(encoding="utf-8"))["files"]
        return {str(name): dict(said) for name, said in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _is_as_written(path: Path, said: Mapping[str, Any]) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    return path.stat().st_size == said.get("size_bytes") and sha256_of(path) == said.get("sha256")


def _is_lock(path: Path) -> bool:
    """Whether a build wrote it: a lock that pins nothing outside the folder, so that nothing is lost with it."""
    try:
        entries = parse_lock(path.read_text(encoding="utf-8"), str(path)).entries.values()
    except (OSError, ValueError, ConfigError):
        return False
    return all(entry.image is None and entry.croissant is None and not entry.sources for entry in entries)


def _put(temp: Path, folder: Path, *, force: bool) -> Path | None:
    """Rename the new folder into its place; what lay there is back if that fails. Where what was set aside is now."""
    if not os.path.lexists(folder):
        temp.rename(folder)
        return None
    ours = _require_place(folder, force=force)  # again: it took time to write; somebody may have used it
    aside = (
        Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".old", dir=folder.parent)) if ours else _before(folder)
    )
    folder.rename(aside)  # onto an empty folder; between the two there is none, and never half of one
    try:
        temp.rename(folder)
    except BaseException:
        aside.rename(folder)
        raise
    if not ours:
        return aside
    if _is_ours(aside):
        shutil.rmtree(aside, ignore_errors=True)
        return None
    return aside.rename(_before(folder))  # written to in that very moment


def _before(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.before")


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "name a folder on a disk with room for it" if full else "name a folder that you may write to"
        raise StoreError(str(folder), "cannot be written", facts={"got": error}, remedy=remedy) from error


def _sync(folder: Path) -> None:
    for name in list_files(folder):
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask

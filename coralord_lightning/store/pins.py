"""Pins: which fingerprint a name stood for, one numbered file after the other. The newest number is the current one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from coralord_lightning.errors import UsageError
from coralord_lightning.store.disk import Disk
from coralord_lightning.store.documents import is_fingerprint, print_sealed, read_sealed, warn_damaged

__all__ = ["Pin", "Pins", "parse_pin", "require_pin"]

_NAME = re.compile(r"[a-z0-9-]+(/[a-z0-9-]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One name bound to one version.

    Args:
        created_at: ISO 8601 in UTC, to the second.
        origin: the descriptor that was built, as the user named it; for messages.
    """

    name: str
    number: int
    fingerprint: str
    created_at: str
    origin: str | None = None

    def to_json(self) -> dict[str, Any]:
        body = {
            "format": 1,
            "name": self.name,
            "number": self.number,
            "fingerprint": self.fingerprint,
            "created_at": self.created_at,
        }
        return body if self.origin is None else body | {"origin": self.origin}


def parse_pin(path: Path) -> Pin | None:
    """The pin in a file; None, with a warning, where it is damaged."""
    body = read_sealed(path)
    if body is None:
        return None
    try:
        return require_pin(path, body)
    except (KeyError, TypeError, ValueError) as error:
        warn_damaged(path, repr(error))
        return None


def require_pin(path: Path, body: Mapping[str, Any]) -> Pin:
    """The pin that a document is.

    Raises:
        KeyError, TypeError, ValueError: it is none, or not the one of that path.
    """
    pin = Pin(
        name=body["name"],
        number=body["number"],
        fingerprint=body["fingerprint"],
        created_at=str(body["created_at"]),
        origin=body.get("origin"),
    )
    if path.stem != str(pin.number) or not path.parent.as_posix().endswith(f"/{pin.name}"):
        raise ValueError("it is not the pin that its path says")
    if not is_fingerprint(pin.fingerprint):
        raise ValueError("it names no fingerprint")
    return pin


class Pins:
    """`pins/<name>/<n>.json`; a name may be `team/name`."""

    def __init__(self, disk: Disk, clock: Callable[[], datetime]) -> None:
        self._disk = disk
        self._clock = clock

    def pin(self, name: str, fingerprint: str, origin: str | None) -> int:
        """Bind a name; the number of the pin that says so, new only where the latest says otherwise."""
        while True:
            latest = self.latest(name)
            if latest is not None and latest.fingerprint == fingerprint:
                return latest.number
            number = max(self._numbers(name), default=0) + 1
            pin = Pin(
                name=name,
                number=number,
                fingerprint=fingerprint,
                created_at=self._clock().isoformat(timespec="seconds"),
                origin=origin,
            )
            if self._disk.publish_bytes("pins", self._path(name, number), print_sealed(pin.to_json())):
                return number

    def latest(self, name: str) -> Pin | None:
        """The current pin of a name."""
        for number in sorted(self._numbers(name), reverse=True):
            pin = parse_pin(self._path(name, number))
            if pin is not None:
                return pin
        return None

    def of(self, name: str) -> tuple[Pin, ...]:
        """All pins of a name, oldest first."""
        found = (parse_pin(self._path(name, number)) for number in sorted(self._numbers(name)))
        return tuple(pin for pin in found if pin is not None)

    def names(self) -> list[str]:
        """Every name that has a pin, sorted."""
        return sorted({_name_of(self._root, path) for path in self.files()})

    def files(self) -> list[Path]:
        """Every pin's file."""
        return [*self._root.glob("*/*.json"), *self._root.glob("*/*/*.json")]

    @property
    def _root(self) -> Path:
        return self._disk.root / "pins"

    def _path(self, name: str, number: int) -> Path:
        return self._folder(name) / f"{number}.json"

    def _folder(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise UsageError(
                name,
                "is no name for a dataset",
                facts={"expected": "lowercase letters, digits and dashes, or team/name"},
                remedy="coral list",
            )
        return self._root / name

    def _numbers(self, name: str) -> list[int]:
        return [int(path.stem) for path in self._folder(name).glob("*.json") if path.stem.isdecimal()]


def _name_of(root: Path, path: Path) -> str:
    return path.parent.relative_to(root).as_posix()

"""Owns `load()`: from a descriptor, or a pin, to its version; what is stale is built by the workspace."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from coralord_lightning.config import load_config
from coralord_lightning.dataset.checkpoints import read_checkpoint_pin
from coralord_lightning.dataset.dataset import Dataset, Verify
from coralord_lightning.errors import UsageError, nearest
from coralord_lightning.workspace import Version, open_workspace
from coralord_lightning.workspace.progress import PlainProgress

if TYPE_CHECKING:
    from coralord_lightning.workspace.planning import DescriptorLike

__all__ = ["Update", "load", "resolve"]

Update = Literal["auto", "locked", "offline"]

_FINGERPRINT = re.compile(r"[0-9a-f]{4,64}")


def load(
    descriptor: DescriptorLike,
    *,
    home: str | os.PathLike[str] | None = None,
    base_dir: str | os.PathLike[str] | None = None,
    update: Update | None = None,
    build: bool = True,
    pin: str | os.PathLike[str] | None = None,
    verify: Verify = "stat",
) -> Dataset:
    """Resolve a descriptor, check its version and build it if it is stale or missing.

    Args:
        descriptor: path, mapping, DictConfig or SubsetDescriptor.
        home: the store directory; default: CORAL_HOME, `coral.toml`, `~/.cache/coralord`.
        base_dir: what relative paths in a mapping are relative to.
        update: None: the committed `coral.lock` if there is one, else "auto".
        build: False: a stale or missing version raises, naming the `coral build …` to run.
        pin: a fingerprint, a prefix of one, or a checkpoint: this version and no other, whatever the descriptor says.
        verify: "stat": shards are there with their sizes; "read": their bytes are what was built.
    Raises:
        CoralError: the descriptor, its data or its pipeline cannot be used; the error says what to do.
    """
    version = resolve(descriptor, home=home, base_dir=base_dir, update=update, build=build, pin=pin, verify=verify)
    return Dataset(version, verify=verify)


def resolve(
    descriptor: DescriptorLike,
    *,
    home: str | os.PathLike[str] | None,
    base_dir: str | os.PathLike[str] | None,
    update: Update | None,
    build: bool,
    pin: str | os.PathLike[str] | None,
    verify: Verify,
) -> Version:
    """Find or build the version; the arguments are those of `load`."""
    _require_choice("update", update, (None, "auto", "locked", "offline"))
    _require_choice("verify", verify, ("stat", "read"))
    workspace = open_workspace(load_config(home=home), offline=update == "offline")
    if pin is not None:
        return workspace.version(_fingerprint_of(pin), verify=verify)
    folder = None if base_dir is None else Path(base_dir).absolute()
    progress = PlainProgress(sys.stderr)  # a hit says nothing; a training that waits for a build says why
    return workspace.ensure(
        descriptor, base_dir=folder, update=update, build=build, verify=verify, progress=progress
    ).version


def _require_choice(name: str, value: object, choices: Sequence[object]) -> None:
    if value in choices:
        return
    near = nearest(str(value), [str(choice) for choice in choices if choice is not None])
    raise UsageError(
        name,
        "has a value that is none of its choices",
        facts={"got": repr(value), "choices": ", ".join(repr(choice) for choice in choices)},
        remedy=f'{name}="{near or choices[-1]}"',
    )


def _fingerprint_of(pin: str | os.PathLike[str]) -> str:
    """Read a pin: a fingerprint as it is, or the one in a checkpoint."""
    text = os.fspath(pin)
    if Path(text).is_file():
        return read_checkpoint_pin(Path(text))
    if _FINGERPRINT.fullmatch(text):
        return text
    raise UsageError(
        "pin",
        "is neither a fingerprint nor a checkpoint file",
        facts={"got": text, "expected": "4 to 64 hex digits, or a path"},
        remedy="coral log     # prints the fingerprints of the store",
    )

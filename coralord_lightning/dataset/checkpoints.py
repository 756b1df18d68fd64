"""Owns what a checkpoint says of its data: read without running anything in it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coralord_lightning.errors import UsageError

__all__ = ["read_checkpoint", "read_checkpoint_pin", "read_saved_state"]


def read_saved_state(path: str | os.PathLike[str]) -> Mapping[str, Any] | None:
    """What a run with a CoralDataModule kept in its checkpoint; nothing in the file is run.

    Returns:
        None where its run had no CoralDataModule.
    Raises:
        UsageError: it is no checkpoint, or not one of plain values.
    """
    from coralord_lightning.stream.state import saved_state

    return saved_state(read_checkpoint(path, remedy='pin="<fingerprint>", as the run logged it'))


def read_checkpoint(path: str | os.PathLike[str], *, remedy: str) -> object:
    """What a checkpoint holds; nothing in the file is run.

    Args:
        remedy: what helps whoever asks where it cannot be read.
    Raises:
        UsageError: it is no checkpoint, or not one of plain values.
    """
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises anything on a file that is no checkpoint
        raise UsageError(
            os.fspath(path),
            "cannot be read as a checkpoint of plain values",
            facts={"got": str(error).splitlines()[0] if str(error) else type(error).__name__},
            remedy=remedy,
        ) from error


def read_checkpoint_pin(path: Path) -> str:
    """The fingerprint that a checkpoint's run read.

    Raises:
        UsageError: its run had no CoralDataModule.
    """
    state = read_saved_state(path)
    if state is None:
        raise UsageError(
            str(path),
            "is a checkpoint without a data version: its run had no CoralDataModule",
            remedy='pin="<fingerprint>", or no pin',
        )
    return str(state["version"]["fingerprint"])

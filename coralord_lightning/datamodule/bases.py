"""Owns the classes of Lightning that ours derive from: of both packages at once, so that both Trainers take them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytorch_lightning import Callback, LightningDataModule
else:

    def _join(name: str) -> type[Any]:
        """Make one class of that name's classes in the packages that are installed."""
        found = []
        for package in ("lightning.pytorch", "pytorch_lightning"):
            try:
                found.append(getattr(importlib.import_module(package), name))
            except ModuleNotFoundError as error:
                if error.name not in (package, package.split(".")[0]):
                    raise
        return found[0] if len(found) == 1 else type(name, tuple(found), {"__module__": __name__})

    Callback, LightningDataModule = _join("Callback"), _join("LightningDataModule")

__all__ = ["Callback", "LightningDataModule"]

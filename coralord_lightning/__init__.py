"""Software-defined datasets for PyTorch Lightning. Public names are handed on lazily (PEP 562)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coralord_lightning.datamodule import CoralDataModule
    from coralord_lightning.dataset import Dataset, load
    from coralord_lightning.errors import CoralError
    from coralord_lightning.spec.descriptor import SubsetDescriptor

__all__ = ["CoralDataModule", "CoralError", "Dataset", "SubsetDescriptor", "load"]

__version__ = "0.1.0"

_HOMES = {
    "CoralDataModule": "datamodule",
    "CoralError": "errors",
    "Dataset": "dataset",
    "SubsetDescriptor": "spec.descriptor",
    "load": "dataset",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

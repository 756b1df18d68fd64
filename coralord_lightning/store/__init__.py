"""Every byte we keep: shards, manifests, partitions, pins, runs, and the DuckDB index over them. Builds nothing.

`open_store(home)` gives a `Store`; constructing it touches nothing, and a hit on a read-only home writes nothing.
JSON files are the truth and are published without replacing; `catalog.duckdb` can be deleted at any time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coralord_lightning.store.home import Store, open_store
    from coralord_lightning.store.pins import Pin
    from coralord_lightning.store.query import QueryResult

__all__ = ["Pin", "QueryResult", "Store", "open_store"]

_HOMES = {"Pin": "pins", "QueryResult": "query", "Store": "home", "open_store": "home"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)

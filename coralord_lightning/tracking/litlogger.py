"""The words of LitLogger: metadata of the experiment, one text a key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from coralord_lightning.tracking.entry import HPARAMS_KEY, Entry

__all__ = ["tell"]


def tell(logger: Any, entry: Entry) -> None:
    """Write the entry to a LitLogger."""
    logger.log_metadata(dict(_flat(HPARAMS_KEY, entry.to_json())))


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    """Leaves by their dotted path: LitLogger would print a dict as one text."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _flat(f"{prefix}.{name}", item)
    elif value is not None:
        yield prefix, str(value)

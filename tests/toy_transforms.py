"""A transform for worker processes; it imports nothing, so that they start soon."""

from __future__ import annotations

from typing import Any


def tenfold(batch: dict[str, Any]) -> dict[str, Any]:
    """Ten times the row's number."""
    return batch | {"row": batch["row"] * 10}

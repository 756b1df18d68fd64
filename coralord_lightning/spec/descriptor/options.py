"""What every part of a descriptor has in common: strict values, frozen, no unknown keys."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Options"]


class Options(BaseModel):
    """A mapping of keys in a descriptor."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)

"""An image that a descriptor names by tag, as a registry once resolved it. Pure values; nothing is looked up here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["ImageTag"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTag:
    """What is kept of a tag beside the digest it stood for; never fingerprinted.

    Args:
        name: as the descriptor has it, `name:tag`.
        index: digest of the list of platforms that the tag stood for; None where it stood for one image.
        platforms: platform -> digest of its image, of every platform in the index.
        local: the image was only built, and no registry has it: its identity is its ID in one engine.
    """

    name: str
    index: str | None = None
    platforms: Mapping[str, str] = field(default_factory=dict)
    local: bool = False

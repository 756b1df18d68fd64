"""Every byte from outside: Croissant files, data files, the file system for DuckDB. Never decides what to read."""

from __future__ import annotations

from coralord_lightning.sources.candidates import Candidate, pin_all, require_mapped
from coralord_lightning.sources.hashes import HashCache
from coralord_lightning.sources.opened import Sources, open_sources
from coralord_lightning.sources.texts import FetchedText

__all__ = ["Candidate", "FetchedText", "HashCache", "Sources", "open_sources", "pin_all", "require_mapped"]

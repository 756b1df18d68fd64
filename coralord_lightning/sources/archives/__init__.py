"""Archives: what is in them, and their members as files under their hashes. Never writes under a member's name."""

from __future__ import annotations

from coralord_lightning.sources.archives.archive import Archive, ArchiveKind
from coralord_lightning.sources.archives.limits import ArchiveLimits
from coralord_lightning.sources.archives.names import member_path

__all__ = ["Archive", "ArchiveKind", "ArchiveLimits", "member_path"]

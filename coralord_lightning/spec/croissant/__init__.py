"""Croissant: JSON-LD to a typed model. Values only: never reads a file, never fetches a context."""

from __future__ import annotations

from coralord_lightning.spec.croissant.model import CroissantDataset, Field, File, RecordSet, Reference, Source
from coralord_lightning.spec.croissant.parse import parse_croissant

__all__ = ["CroissantDataset", "Field", "File", "RecordSet", "Reference", "Source", "parse_croissant"]

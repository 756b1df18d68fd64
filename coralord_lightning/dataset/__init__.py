"""Owns `load()` and `Dataset`: one version without Lightning, to be read by whatever reads Arrow, tensors or rows."""

from coralord_lightning.dataset.checkpoints import read_checkpoint, read_saved_state
from coralord_lightning.dataset.dataset import Dataset, Verify
from coralord_lightning.dataset.resolve import Update, load, resolve

__all__ = ["Dataset", "Update", "Verify", "load", "read_checkpoint", "read_saved_state", "resolve"]

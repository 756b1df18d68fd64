"""The flow and the composition root: descriptor to version. Start reading at `workspace.Workspace.ensure`."""

from __future__ import annotations

from coralord_lightning.workspace.version import Outcome, Version
from coralord_lightning.workspace.workspace import Workspace, open_workspace

__all__ = ["Outcome", "Version", "Workspace", "open_workspace"]

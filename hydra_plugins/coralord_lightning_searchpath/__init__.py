"""Owns what Hydra does with us when it starts: it finds our configurations, schemas and resolvers. Imports no torch."""

from __future__ import annotations

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from coralord_lightning.config.schemas import register

__all__ = ["CoralordSearchPathPlugin"]

register()


class CoralordSearchPathPlugin(SearchPathPlugin):
    """Puts our configurations last: a user's file of the same name wins."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append `pkg://coralord_lightning.configs`."""
        search_path.append(provider="coralord-lightning", path="pkg://coralord_lightning.configs")

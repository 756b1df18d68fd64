"""The command line `coral`: parse, call, print. It decides nothing about data."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: the words after `coral`; default: this process's own.
    """
    from coralord_lightning.config.terminal import is_completing

    if is_completing():
        from coralord_lightning.cli.completion import complete

        complete()
    from coralord_lightning.cli.run import run

    return run(sys.argv[1:] if argv is None else argv, out=sys.stdout, err=sys.stderr)

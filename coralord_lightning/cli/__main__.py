"""`python -m coralord_lightning.cli`: the same as `coral`."""

from __future__ import annotations

import sys

from coralord_lightning.cli import main

if __name__ == "__main__":
    sys.exit(main())

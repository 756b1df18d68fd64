"""`coral` in this process, on a copy of the digits; what tests of the command line share."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coralord_lightning.cli.run import run

DIGITS = Path(__file__).resolve().parent.parent / "examples" / "digits"
KEPT = ("objects", "manifests", "partitions", "pins", "runs")


@dataclass(frozen=True, kw_only=True)
class Digits:
    """A copy of the digits that tests may break."""

    folder: Path

    @classmethod
    def copy_to(cls, folder: Path) -> Digits:
        shutil.copytree(DIGITS, folder, ignore=shutil.ignore_patterns("__pycache__", "coral.lock"))
        return cls(folder=folder)

    @property
    def descriptor(self) -> Path:
        return self.folder / "digits.yaml"

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.folder / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def pipeline(self, *lines: str) -> None:
        text = "import pyarrow as pa\n\n\ndef scale(batch, max):\n" + "".join(f"    {line}\n" for line in lines)
        (self.folder / "pipeline.py").write_text(text)

    def where(self, predicate: str) -> None:
        self.edit("digits.yaml", "record_set: digits\n", f"record_set: digits\nwhere: {json.dumps(predicate)}\n")

    def croissant(self, edit: Callable[[dict[str, Any]], object]) -> None:
        path = self.folder / "croissant.json"
        document = json.loads(path.read_text())
        edit(document)
        path.write_text(json.dumps(document))

    def declare(self, sha256: str | None) -> None:
        self.croissant(lambda document: document["distribution"][0].pop("sha256"))
        if sha256 is not None:
            self.croissant(lambda document: document["distribution"][0].update(sha256=sha256))

    def truncate(self, *, declared: bool) -> None:
        path = self.folder / "digits.parquet"
        path.write_bytes(path.read_bytes()[:20_000])
        if not declared:
            self.declare(None)


def coral(*words: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one command."""
    out, err = io.StringIO(), io.StringIO()
    code = run([str(word) for word in words], out=out, err=err)
    return code, out.getvalue(), err.getvalue()


def coral_json(*words: object, code: int = 0) -> Any:
    """What a command prints with `--json`."""
    got, out, err = coral(*words, "--json")
    assert got == code, err
    return json.loads(out)


def listing(home: Path) -> dict[str, str]:
    """Every kept file and what is in it; scratch space must be empty."""
    assert [path for path in (home / "tmp").rglob("*") if path.is_file()] == []
    files = [path for name in KEPT for path in (home / name).rglob("*") if path.is_file()]
    return {str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

"""constraints-lowest.txt: every requirement at the oldest version that pyproject.toml admits."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENTS = sorted(
    {line for lines in [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()] for line in lines}
)


def _pins(name: str) -> dict[str, str]:
    lines = [line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line)] == []
    return dict(line.split("==") for line in lines)


@pytest.mark.parametrize("line", [item for item in REQUIREMENTS if not item.startswith("coralord-lightning")])
def test_lowest_is_the_floor(line):
    asked = Requirement(line)
    floors = [Version(item.version) for item in asked.specifier if item.operator == ">="]
    pinned = Version(_pins("constraints-lowest.txt")[canonicalize_name(asked.name)])
    assert floors == [pinned]
    assert asked.specifier.contains(pinned)


def test_a_requirement_named_twice_has_one_range():
    ranges: dict[str, set[str]] = {}
    for line in REQUIREMENTS:
        asked = Requirement(line)
        ranges.setdefault(canonicalize_name(asked.name), set()).add(str(asked.specifier))
    assert {name: found for name, found in ranges.items() if len(found) > 1} == {}


def test_torch_is_the_one_that_is_tested():
    assert _pins("constraints-lowest.txt")["torch"] == _pins("constraints.txt")["torch"]

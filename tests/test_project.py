"""The project around the package: versions, licence, Makefile, what must not stand in it."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from coralord_lightning import __version__

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = {
    canonicalize_name(name): version
    for name, version in re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)
}


def test_the_package_says_the_project_s_version():
    assert __version__ == PROJECT["version"]
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_constraints_pin_every_requirement_inside_its_range():
    extras = [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
    asked = [Requirement(line) for line in [*PROJECT["dependencies"], *extras]]
    wanted = [item for item in asked if item.name != "coralord-lightning"]
    assert [item.name for item in wanted if canonicalize_name(item.name) not in PINS] == []
    for item in wanted:
        assert item.specifier.contains(PINS[canonicalize_name(item.name)]), item


def test_constraints_name_nothing_but_packages_and_versions():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line)] == []
    assert PINS["torch"] == "2.13.0"


def test_the_licence_is_apache_2_in_full():
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


@pytest.mark.parametrize("goal", ["demo", "demo-docker", "test", "test-lowest", "check", "docs", "bench", "clean"])
def test_make_knows_its_goals(goal):
    done = subprocess.run(["make", "--dry-run", goal], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_make_names_the_remedy_for_an_old_python(tmp_path):
    old = tmp_path / "python-old"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    done = subprocess.run(["make", "demo", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "older than Python 3.11" in done.stdout
    assert not (tmp_path / ".venv").exists()


def test_decisions_are_numbered_without_gaps_and_short():
    files = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [path.name[:4] for path in files] == [f"{number:03}-" for number in range(1, len(files) + 1)]
    assert all(len(path.read_text().splitlines()) <= 16 for path in files)


def test_every_link_between_documents_leads_somewhere():
    for path in [*ROOT.glob("*.md"), *(ROOT / "examples").rglob("*.md")]:  # of docs/: test_docs_site
        for target in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"

"""The documentation as a site: it builds without a warning, its links lead somewhere, no request leaves it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from coralord_lightning import errors
from coralord_lightning.cli.parser import COMMANDS
from coralord_lightning.spec.descriptor.schema import TEXTS, descriptor_schema
from doc_blocks import ROOT

sys.path.insert(0, str(ROOT / "docs" / "gen"))

from doc_floors import floors  # the generators live beside what they make
from doc_pages import cli_page, decisions_page, descriptor_page, error_help, errors_page, every_error

WRITTEN = sorted((ROOT / "docs").rglob("*.md"))


@dataclass
class Links(HTMLParser):
    """What one page refers to, and what it can be referred to by.

    Args:
        loaded: what a browser fetches without being asked.
    """

    loaded: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        loads = tag in ("script", "img", "iframe", "source", "use", "object")
        self.loaded += [values[name] for name in ("src", "data", "srcset") if loads and name in values]
        if tag == "link" and values.get("rel") not in ("canonical", "prev", "next"):
            self.loaded.append(values["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "true"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr  # with --quiet a warning would neither be said nor counted
    assert (done.returncode, [line for line in said.splitlines() if not line.startswith("INFO")]) == (0, []), said
    return folder


@pytest.fixture(scope="module")
def pages(site) -> dict[str, Links]:
    found = {}
    for path in site.rglob("*.html"):
        links = Links()
        links.feed(path.read_text(encoding="utf-8"))
        links.text = path.read_text(encoding="utf-8")
        found[str(path.relative_to(site))] = links
    return found


@pytest.mark.slow
def test_no_request_leaves_the_site(site, pages):
    for name, page in pages.items():
        assert [address for address in page.loaded if urlsplit(address).netloc] == [], name
        assert 'class="mermaid"' not in page.text, name  # the theme would fetch what draws it
    for path in site.rglob("*.css"):
        assert re.findall(r"url\(\s*['\"]?(?:https?:)?//", path.read_text(encoding="utf-8")) == [], path.name


@pytest.mark.slow
def test_every_link_and_anchor_leads_somewhere(site, pages):
    for name, page in pages.items():
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            if parts.scheme or name == "404.html":
                continue
            target = (site / name).parent / unquote(parts.path) if parts.path else site / name
            assert target.exists(), f"{name}: {link}"
            there = pages.get(str(target.resolve().relative_to(site.resolve())))
            if parts.fragment and there is not None and not parts.fragment.startswith("__"):
                assert unquote(parts.fragment) in there.anchors, f"{name}: {link}"


@pytest.mark.slow
def test_every_page_is_in_the_navigation(pages):
    listed = set(re.findall(r"^ +- (?:[\w ]+: )?([\w/-]+)\.md$", (ROOT / "mkdocs.yml").read_text(), flags=re.MULTILINE))
    standing = {name.removesuffix(".html") for name in pages if not re.match(r"404|decisions/[0-9]", name)}
    assert standing == listed


@pytest.mark.slow
def test_the_schema_is_published_where_the_pages_say(site):
    assert json.loads((site / "schema" / "descriptor.json").read_text(encoding="utf-8")) == descriptor_schema()


@pytest.mark.slow
def test_what_only_tests_read_is_not_on_the_site(pages):
    for name, page in pages.items():
        assert not re.search(r"<!-- *(run|block|page|measured):", page.text), name


def test_every_error_has_a_cause_and_a_remedy():
    told = error_help()
    assert list(told) == [cls.code for cls in every_error()]
    assert {cls.__name__ for cls in every_error()} == {name for name in errors.__all__ if name.endswith("Error")}
    for code, entry in told.items():
        assert entry.keys() == {"cause", "remedy"}, code
        assert all(len(text) > 20 and text.endswith((".", ")")) for text in entry.values()), code
        assert f"#{code} }}" in errors_page()


def test_the_command_line_is_told_in_full():
    page = cli_page()
    for command in COMMANDS.values():
        assert f"## coral {command.name} " in page
        for argument in command.all_arguments():
            assert all(name in page for name in argument.names if name.startswith("-")), argument.names


def test_every_key_of_a_descriptor_is_told():
    page = descriptor_page()
    keys = [key for key in TEXTS if not key.endswith(".*")]
    assert [key for key in keys if f"## `{key.replace('.*.', '.NAME.')}` " not in page] == []


def test_commands_that_pages_name_are_there():
    for path in [ROOT / "README.md", *WRITTEN, ROOT / "docs" / "gen" / "errors.toml"]:
        if path.parent.name != "decisions":
            found = re.findall(r"(?:`|^\$? *)coral ([a-z]+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert [word for word in found if word not in COMMANDS] == [], path.name


def test_the_drawing_of_the_floors_has_every_room():
    drawing = floors(ROOT / "pyproject.toml")
    drawn = set(re.findall(r"<strong>(\w+)</strong><span>[^<]", drawing))
    modules = [path for path in (ROOT / "coralord_lightning").glob("*/*.py") if path.name != "__init__.py"]
    assert drawn == {path.parent.name for path in modules}


def test_every_decision_is_listed_with_what_was_decided():
    page = decisions_page()
    for path in (ROOT / "docs" / "decisions").glob("[0-9]*.md"):
        assert f"]({path.name})" in page

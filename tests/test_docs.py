"""The documentation's pages: every block runs and prints what the page says; the runner itself tells what is wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from doc_blocks import ROOT, Page, read_page, run_page

DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "gen"))

from doc_pages import every_page  # noqa: E402  # the generators live beside what they make

WRITTEN = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))}
GENERATED = {f"docs/{name}": text for name, text in every_page().items() if name.endswith(".md")}
PAGES = [read_page(name, text) for name, text in (WRITTEN | GENERATED).items()]
RUNNING = [page for page in PAGES if page.blocks and not page.skip]


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNING, ids=lambda page: page.name)
def test_every_block_runs_and_prints_what_the_page_says(page, tmp_path):
    run_page(page, tmp_path / "work", tmp_path / "home")


def _run(text: str, tmp_path: Path) -> Page:
    page = read_page("docs/some.md", text)
    run_page(page, tmp_path / "work", tmp_path / "home")
    return page


def test_a_block_goes_on_where_the_one_before_ended(tmp_path):
    _run("```python\na = 3\n```\n\n```sh\necho 4 > n\n```\n```python\nprint(a, open('n').read())\n```\n"
         "```text\n3 4\n```\n", tmp_path)  # fmt: skip


def test_other_output_is_told_with_file_and_line(tmp_path):
    with pytest.raises(AssertionError, match=r"docs/some\.md:5: is not what was printed"):
        _run("# Page\n```sh\necho one\n```\n```text\ntwo\n```\n", tmp_path)


def test_a_failing_block_is_told_with_file_and_line(tmp_path):
    with pytest.raises(AssertionError, match=r"docs/some\.md:2: exit 1"):
        _run("# Page\n```sh\nfalse\n```\n", tmp_path)
    with pytest.raises(AssertionError, match=r'(?s)docs/some\.md:1: .*some\.md", line 3.*ZeroDivisionError'):
        _run("```python\na = 1\na / 0\n```\n", tmp_path / "again")


def test_a_failure_that_the_page_tells_of_is_expected(tmp_path):
    _run("<!-- block: exit 1 -->\n```python\n1 / 0\n```\n```text\nZeroDivisionError: …\n```\n", tmp_path)
    with pytest.raises(AssertionError, match="exit 0"):
        _run("<!-- block: exit 2 -->\n```sh\ntrue\n```\n", tmp_path / "again")


def test_what_may_differ_is_left_open(tmp_path):
    _run(
        f"```sh\nprintf 'a 12.5 s\\n%s\\nx\\ny\\nend\\n' {'0' * 64}\n```\n```text\na 1 s\n{'f' * 64}\n…\ne…d\n```\n",
        tmp_path,
    )


def test_a_block_is_skipped_only_with_a_reason(tmp_path):
    page = _run("<!-- block: skip, needs a hub -->\n```sh\nfalse\n```\n```text\nnothing\n```\n", tmp_path)
    assert page.blocks[0].skip == "needs a hub"
    with pytest.raises(AssertionError, match=r"docs/some\.md:1: nobody knows"):
        read_page("docs/some.md", "<!-- block: skip -->\n```sh\nfalse\n```\n")


def test_hidden_steps_run_and_titled_blocks_are_files(tmp_path):
    hidden, module = "<!-- run: sh\necho 1 > hidden\n-->\n", '```python title="a/m.py"\nprint(1/0)\n```\n'
    _run(f"{hidden}{module}```sh\ncat hidden a/m.py\n```\n```text\n1\nprint(1/0)\n```\n", tmp_path)


def test_a_language_that_nobody_checks_is_refused(tmp_path):
    with pytest.raises(AssertionError, match=r"docs/some\.md:1: a block of 'ruby'"):
        _run("```ruby\n1\n```\n", tmp_path)


def test_a_titled_descriptor_with_a_mistake_is_refused(tmp_path):
    with pytest.raises(Exception, match="unknown key"):
        _run('```yaml title="d.yaml"\nname: a\nfiles: b.csv\nlimt: 3\n```\n', tmp_path)

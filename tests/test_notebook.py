"""How data look in a notebook: well-formed, escaped, in the notebook's own colours; nothing is read or resolved."""

from __future__ import annotations

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pytest

import coralord_lightning as coral
from command_line import Digits
from coralord_lightning.workspace import Version
from hand_built import write_manifest
from many_types import built

VOID = {"br"}


class _Shown(HTMLParser):
    """The text of a piece of HTML; tags that do not close are an AssertionError."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.styles: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert tag in {"div", "strong", "table", "tr", "th", "td", "br"}
        self.styles += [value for name, value in attrs if name == "style"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_a_version_shows_what_it_is_and_its_columns(tmp_path):
    data = built(tmp_path, train=pa.table({"x": pa.array(range(1_500))}), test=pa.table({"x": pa.array([1])}))
    shown = _Shown(data.version._repr_html_())
    for word in (data.version.fingerprint[:12], data.version.content_digest[:12], "train 1,500, test 1", "x", "int64"):
        assert word in shown.words
    assert "train 1,500, test 1" in _Shown(data._repr_html_()).words


def test_names_of_others_are_escaped(tmp_path):
    manifest = write_manifest(tmp_path, {"train": pa.table({"<img src=x onerror=alert(1)>": pa.array([1])})})
    version = Version(manifest=manifest, home=tmp_path, name="<script>")
    for text in (version._repr_html_(), coral.Dataset(version)._repr_html_()):
        assert "<img" not in text
        assert "<script" not in text
        assert "&lt;img src=x" in text
        _Shown(text)


def test_no_colour_is_set_so_that_light_and_dark_notebooks_both_show_it(tmp_path):
    data = built(tmp_path, train=pa.table({"x": pa.array([1])}))
    rules = [rule for style in _Shown(data.version._repr_html_()).styles for rule in style.split(";") if rule]
    named = {rule.partition(":")[2] for rule in rules if rule.partition(":")[0] in ("color", "background")}
    assert named == {"inherit", "transparent"}


@pytest.mark.filterwarnings("ignore")
def test_a_data_module_shows_what_is_asked_and_then_what_it_is(tmp_path):
    digits = Digits.copy_to(tmp_path / "digits")
    dm = coral.CoralDataModule(str(digits.descriptor), batch_size=32, home=tmp_path / "home")
    before = _Shown(dm._repr_html_())
    assert str(digits.descriptor) in before.words
    assert "32" in before.words
    assert any(word.startswith("not resolved yet") for word in before.words)
    assert not (tmp_path / "home").exists()
    dm.prepare_data()
    after = _Shown(dm._repr_html_())
    assert dm.version.fingerprint[:12] in after.words
    assert not any(word.startswith("not resolved yet") for word in after.words)


def test_a_mapping_is_not_spilled_into_the_notebook():
    dm = coral.CoralDataModule({"name": "a", "croissant": "https://user:secret@host/c.json"}, batch_size=4)
    assert "secret" not in dm._repr_html_()
    assert "given as a mapping" in dm._repr_html_()


def test_showing_a_version_reads_nothing_and_imports_no_torch(tmp_path):
    code = (
        "import sys, pathlib; sys.path.insert(0, 'tests')\n"
        "from hand_built import write_manifest\nimport pyarrow as pa\n"
        "from coralord_lightning.workspace import Version\n"
        f"home = pathlib.Path({str(tmp_path)!r})\n"
        "version = Version(manifest=write_manifest(home, {'train': pa.table({'x': [1]})}), home=home / 'gone')\n"
        "sys.addaudithook(lambda event, args: event == 'socket.connect' and sys.exit(3))\n"
        "assert 'int64' in version._repr_html_()\nassert 'torch' not in sys.modules\n"
    )
    root = Path(__file__).resolve().parent.parent
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, env=os.environ | {"PYTHONPATH": str(root)})

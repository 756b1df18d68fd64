"""What is said of a version stands beside its manifest; the newest word counts, and the data know nothing of it."""

from __future__ import annotations

import json

from command_line import Digits
from coralord_lightning import load


def _said(data):
    path = data.version.home / "descriptions" / f"{data.version.fingerprint}.json"
    return json.loads(path.read_text())


def test_a_version_is_described_by_its_croissant(tmp_path):
    digits = Digits.copy_to(tmp_path / "digits")
    said = _said(load(digits.descriptor, home=tmp_path / "home"))
    assert said["name"] == "digits"
    assert said["metadata"]["sc:license"] == "https://creativecommons.org/licenses/by/4.0/"
    assert said["fields"]["label"]["data_types"] == ["cr:UInt8"]
    assert said["descriptor"]["splits"]["test"] == {"where": "part = 'test'"}


def test_a_new_licence_is_a_new_description_and_no_new_version(tmp_path):
    digits = Digits.copy_to(tmp_path / "digits")
    first = load(digits.descriptor, home=tmp_path / "home")
    digits.edit("croissant.json", "licenses/by/4.0", "licenses/by-nc/4.0")
    second = load(digits.descriptor, home=tmp_path / "home", build=False)
    assert second.version.fingerprint == first.version.fingerprint
    assert _said(second)["metadata"]["sc:license"].endswith("by-nc/4.0/")
    assert "license" not in (second.version.home / "manifests" / f"{second.version.fingerprint}.json").read_text()


def test_a_damaged_description_is_none(tmp_path, caplog):
    from coralord_lightning.config import load_config
    from coralord_lightning.workspace import open_workspace

    digits = Digits.copy_to(tmp_path / "digits")
    data = load(digits.descriptor, home=tmp_path / "home")
    path = data.version.home / "descriptions" / f"{data.version.fingerprint}.json"
    path.write_text(path.read_text().replace("digits", "digitz"))
    assert open_workspace(load_config(home=tmp_path / "home")).store.read_description(data.version.fingerprint) is None
    assert "skipping damaged" in caplog.text

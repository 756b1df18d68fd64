"""How an exported folder appears: nothing that somebody else has in it is ever lost."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from coralord_lightning.errors import StoreError, UsageError
from coralord_lightning.share.folders import MARKER, publish_folder


def export(folder: Path, text: str = "one", **options: object) -> Path | None:
    with publish_folder(folder, {"kind": "test"}, **options) as place:
        (place.temp / "data").mkdir()
        (place.temp / "data" / "a.txt").write_text(text)
    return place.set_aside


def content(folder: Path) -> str:
    return (folder / "data" / "a.txt").read_text()


def left_over(folder: Path) -> list[str]:
    return [path.name for path in folder.parent.iterdir() if path.name.startswith(".")]


def test_an_earlier_export_and_an_empty_folder_are_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    export(tmp_path / "out")
    export(tmp_path / "out", "two")
    assert content(tmp_path / "out") == "two"
    assert left_over(tmp_path / "out") == []


def add_link(folder: Path) -> None:
    (folder / "link").symlink_to("/etc")


def add_folder(folder: Path) -> None:
    (folder / "mine" / "deeper").mkdir(parents=True)


def edit(folder: Path) -> None:
    (folder / "data" / "a.txt").write_text("mine")


def add_file(folder: Path) -> None:
    (folder / "data" / "b.txt").write_text("mine")


def forge(folder: Path) -> None:
    (folder / "thesis.tex").write_text("mine")
    (folder / MARKER).write_text(json.dumps({"files": ["thesis.tex", "data/a.txt"]}))


def nest(folder: Path) -> None:
    (folder / MARKER).write_text("[" * 100_000)


@pytest.mark.parametrize("change", [add_link, add_folder, edit, add_file, forge, nest])
def test_what_somebody_has_changed_is_refused_and_kept_aside_by_force(tmp_path, change):
    out = tmp_path / "out"
    export(out)
    change(out)
    with pytest.raises(UsageError, match="changed since"):
        export(out, "two")
    assert export(out, "two", force=True) == tmp_path / "out.before"
    assert content(out) == "two"
    assert (tmp_path / "out.before" / "data").is_dir()


@pytest.mark.parametrize("change", [add_link, add_folder])
def test_a_folder_of_links_or_folders_alone_is_not_empty(tmp_path, change):
    (tmp_path / "out").mkdir()
    change(tmp_path / "out")
    with pytest.raises(UsageError, match="is no export"):
        export(tmp_path / "out")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_the_earlier_export_is_back_where_the_new_one_cannot_take_its_place(tmp_path, monkeypatch, error):
    out = tmp_path / "out"
    export(out)
    rename = Path.rename

    def broken(self: Path, target: Path) -> Path:
        if self.name.endswith(".part"):
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", broken)
    with pytest.raises((StoreError, KeyboardInterrupt)):
        export(out, "two")
    assert content(out) == "one"


def test_what_is_written_at_the_last_moment_is_kept(tmp_path, monkeypatch):
    out = tmp_path / "out"
    export(out)
    rename = Path.rename

    def late(self: Path, target: Path) -> Path:
        if self == out:
            (out / "notes.txt").write_text("mine")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    assert export(out, "two") == tmp_path / "out.before"
    assert (tmp_path / "out.before" / "notes.txt").read_text() == "mine"
    assert content(out) == "two"


def test_where_one_is_and_the_store_are_never_taken(tmp_path, monkeypatch):
    (tmp_path / "here" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here" / "below")
    for folder in (tmp_path / "here", tmp_path / "here" / "below", Path()):
        with pytest.raises(UsageError, match="is where you are"):
            export(folder, force=True)
    home = tmp_path / "store" / "home"
    home.mkdir(parents=True)
    for folder in (home, home.parent, home / "runs"):
        with pytest.raises(UsageError, match="lies in the store"):
            export(folder, force=True, keep_out=home)


def test_a_user_who_is_not_there_and_the_root_are_refused():
    with pytest.raises(UsageError, match="cannot be found"):
        export(Path("~no-such-user-here/x"))
    with pytest.raises(UsageError):
        export(Path("/"), force=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to_says_so(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="that you may write to"):
        export(tmp_path / "out")

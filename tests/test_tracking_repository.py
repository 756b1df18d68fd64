"""Which commit a run's code is at: git is asked, nothing of the repository runs, and nothing here fails a run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from coralord_lightning.tracking.repository import RepositoryState, read_repository
from git_server import git, make_repository


def test_a_clean_work_tree_has_a_commit(tmp_path: Path) -> None:
    commit = make_repository(tmp_path / "code", train_py=b"1")

    assert read_repository(tmp_path / "code") == RepositoryState(commit=commit, dirty=False)


def test_a_change_of_a_tracked_file_is_dirty_and_a_new_file_is_not(tmp_path: Path) -> None:
    commit = make_repository(tmp_path / "code", train_py=b"1")

    (tmp_path / "code" / "out.csv").write_text("1")
    assert read_repository(tmp_path / "code") == RepositoryState(commit=commit, dirty=False)
    (tmp_path / "code" / "train.py").write_text("22")
    assert read_repository(tmp_path / "code") == RepositoryState(commit=commit, dirty=True)


def test_a_staged_change_is_dirty(tmp_path: Path) -> None:
    make_repository(tmp_path / "code", train_py=b"1")
    (tmp_path / "code" / "new.py").write_text("1")
    git(tmp_path / "code", "add", "new.py")

    state = read_repository(tmp_path / "code")

    assert state is not None
    assert state.dirty is True


def test_the_current_folder_decides_also_from_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = make_repository(tmp_path / "code", train_py=b"1", outputs__run_txt=b"1")
    monkeypatch.chdir(tmp_path / "code" / "outputs")

    state = read_repository()

    assert state is not None
    assert state.commit == commit


def test_without_one_there_the_folder_of_the_script_decides(tmp_path: Path) -> None:
    lines = "from coralord_lightning.tracking.repository import read_repository\nprint(read_repository().commit)\n"
    commit = make_repository(tmp_path / "code", train_py=lines.encode())
    (tmp_path / "elsewhere").mkdir()

    done = subprocess.run(
        [sys.executable, tmp_path / "code" / "train.py"],
        cwd=tmp_path / "elsewhere",
        capture_output=True,
        text=True,
        check=True,
    )

    assert (done.stdout.strip(), done.stderr) == (commit, "")


def test_a_tool_that_is_installed_is_not_the_users_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # pytest is the script that was started; its environment may be in a repository

    assert read_repository() is None


def test_no_repository_and_no_commit_are_nothing_to_log(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "empty")

    assert read_repository(tmp_path) is None
    assert read_repository(tmp_path / "empty") is None
    assert read_repository(tmp_path / "missing") is None


def test_no_git_is_nothing_to_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_repository(tmp_path / "code", train_py=b"1")
    monkeypatch.setenv("PATH", str(tmp_path))

    assert read_repository(tmp_path / "code") is None


def test_variables_of_git_do_not_point_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = make_repository(tmp_path / "code", train_py=b"1")
    make_repository(tmp_path / "other", train_py=b"2")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))

    state = read_repository(tmp_path / "code")

    assert state is not None
    assert state.commit == commit


def test_nothing_that_the_repository_names_is_run(tmp_path: Path) -> None:
    make_repository(tmp_path / "code", train_py=b"1")
    trap = tmp_path / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\n")
    trap.chmod(0o755)
    git(tmp_path / "code", "config", "core.fsmonitor", str(trap))
    for hook in ("post-index-change", "fsmonitor-watchman"):
        (tmp_path / "code" / ".git" / "hooks").mkdir(exist_ok=True)
        (tmp_path / "code" / ".git" / "hooks" / hook).symlink_to(trap)
    os.utime(tmp_path / "code" / "train.py", (1, 1))  # the index would be written anew
    before = (tmp_path / "code" / ".git" / "index").read_bytes()

    assert read_repository(tmp_path / "code") is not None
    assert not (tmp_path / "ran").exists()
    assert (tmp_path / "code" / ".git" / "index").read_bytes() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to give files to another user")
def test_of_a_repository_of_another_owner_the_commit_is_known_and_no_more(tmp_path: Path) -> None:
    commit = make_repository(tmp_path / "code", train_py=b"1")
    for path in [tmp_path / "code", *(tmp_path / "code").rglob("*")]:
        os.lchown(path, 12345, 12345)

    assert read_repository(tmp_path / "code") == RepositoryState(commit=commit, dirty=None)

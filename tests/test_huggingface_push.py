"""`coral export hf FP --push`: a commit to a hub on loopback by the real client, pinned, and read back from there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coralord_lightning import Dataset
from hub_writer import WritingHub, serve_writing_hub
from many_types import expected, published

CORAL = [sys.executable, "-W", "ignore", "-m", "coralord_lightning.cli"]


@pytest.fixture
def hub() -> Iterator[WritingHub]:
    with serve_writing_hub() as hub:
        yield hub


def settings(hub: WritingHub, home: Path, **changes: str) -> dict[str, str]:
    """A user's environment: where the hub is, and their token. A hub of this kind has no Xet."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return (
        kept
        | {"HF_ENDPOINT": hub.url, "HF_TOKEN": hub.token, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
        | changes
    )


def push(hub: WritingHub, data: Dataset, *words: str, code: int = 0, **changes: str) -> Any:
    home = data.version.home
    done = subprocess.run(
        [*CORAL, "export", "hf", data.version.fingerprint[:10], "--push", *words, "--home", str(home), "--json"],
        env=settings(hub, home / "hf", **changes),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert hub.token not in done.stdout + done.stderr
    return json.loads(done.stdout)


def test_a_version_is_committed_and_loaded_by_its_revision(hub: WritingHub, tmp_path: Path) -> None:
    data = published(tmp_path / "home")

    pushed = push(hub, data, "team/toy")

    head = hub.head("team/toy")
    assert pushed["revision"] == head.oid
    assert pushed["load"] == f'load_dataset("team/toy", revision="{head.oid}")'
    assert data.version.fingerprint[:12] in head.summary
    assert sorted(head.files) == [
        ".gitattributes", "README.md", "coral-export.json", "croissant.json", "data/test-00000-of-00001.parquet",
        "data/train-00000-of-00001.parquet",
    ]  # fmt: skip
    code = f"import datasets, json\nfound = datasets.{pushed['load']}\nprint(json.dumps(found['train'][:]))"
    done = subprocess.run([sys.executable, "-c", code], env=settings(hub, tmp_path / "hf2"), capture_output=True,
                          text=True, check=True)  # fmt: skip
    assert json.loads(done.stdout) == expected(data)


def test_the_next_commit_takes_old_data_files_away_and_the_revision_stays(hub: WritingHub, tmp_path: Path) -> None:
    data = published(tmp_path / "home")
    first = push(hub, data, "team/toy")
    before = hub.head("team/toy").files
    hub.commit("team/toy", "main", "by hand", before | {"data/older-00000-of-00001.parquet": b"x", "LICENSE": b"l"})

    push(hub, published(tmp_path / "other", rows=9), "team/toy")

    files = hub.head("team/toy").files
    assert "data/older-00000-of-00001.parquet" not in files
    assert files["LICENSE"] == b"l"
    assert files["data/train-00000-of-00001.parquet"] != before["data/train-00000-of-00001.parquet"]
    found = hub.find("team/toy", first["revision"])
    assert found is not None
    assert found.files == before


def test_a_branch_of_a_private_repository(hub: WritingHub, tmp_path: Path) -> None:
    pushed = push(hub, published(tmp_path / "home"), "team/toy", "--branch", "v2", "--private")

    assert hub.private == {"team/toy"}
    assert hub.head("team/toy", "v2").oid == pushed["revision"]
    assert list(hub.head("team/toy").files) == [".gitattributes"]


def test_the_token_goes_to_the_hub_and_not_with_the_data(hub: WritingHub, tmp_path: Path) -> None:
    push(hub, published(tmp_path / "home"), "team/toy")

    stored = [headers for _, path, headers in hub.requests if path.startswith("/storage/")]
    assert len(stored) == 2
    assert all("authorization" not in headers for headers in stored)


@pytest.mark.parametrize(
    ("changes", "words", "code", "said"),
    [
        ({"HF_TOKEN": "", "HF_TOKEN_PATH": "/nowhere"}, ["team/toy"], "CORAL-E0101", "export HF_TOKEN"),
        ({"HF_TOKEN": "hf_other"}, ["team/toy"], "CORAL-E0404", "401"),
        ({"HF_HUB_OFFLINE": "1"}, ["team/toy"], "CORAL-E0406", "HF_HUB_OFFLINE"),
        ({}, ["team/toy/more"], "CORAL-E0102", "no name of a repository"),
        ({}, ["team/toy", "DIR"], "CORAL-E0102", "takes a folder; or --push"),
    ],
    ids=["no token", "another token", "offline", "no name", "folder and push"],
)
def test_what_cannot_be_pushed_says_why(
    hub: WritingHub, tmp_path: Path, changes: dict[str, str], words: list[str], code: str, said: str
) -> None:
    exits = {"CORAL-E0101": 1, "CORAL-E0102": 2, "CORAL-E0404": 6, "CORAL-E0406": 6}

    error = push(hub, published(tmp_path / "home"), *words, code=exits[code], **changes)["error"]

    assert error["code"] == code
    assert said in json.dumps(error)


def test_a_refusal_of_the_hub_is_told_and_commits_nothing(hub: WritingHub, tmp_path: Path) -> None:
    hub.refused = 403

    error = push(hub, published(tmp_path / "home"), "team/toy", code=6)["error"]

    assert "may not write to this branch" in error["facts"]["got"]
    assert error["facts"]["hub"] == hub.url
    assert list(hub.head("team/toy").files) == [".gitattributes"]


def test_a_repository_of_others_is_left_alone(hub: WritingHub, tmp_path: Path) -> None:
    hub.create("team/theirs", private=False)
    theirs = {"README.md": b"mine", "data/mine.parquet": b"mine"}
    hub.commit("team/theirs", "main", "theirs", theirs)

    data = published(tmp_path / "home")

    assert "holds no export" in push(hub, data, "team/theirs", code=2)["error"]["message"]
    assert "is public" in push(hub, data, "team/theirs", "--private", "--force", code=2)["error"]["message"]
    assert hub.head("team/theirs").files == theirs

    push(hub, data, "team/theirs", "--force")
    push(hub, data, "team/theirs")
    assert "data/mine.parquet" not in hub.head("team/theirs").files


def test_offline_asks_nothing(hub: WritingHub, tmp_path: Path) -> None:
    data = published(tmp_path / "home")
    words = [
        "--offline",
        "export",
        "hf",
        data.version.fingerprint[:10],
        "--push",
        "team/toy",
        "--home",
        str(data.version.home),
    ]
    done = subprocess.run(
        [*CORAL, *words], env=settings(hub, tmp_path / "hf"), capture_output=True, text=True, check=False
    )
    assert (done.returncode, "leave --offline out" in done.stderr) == (6, True)
    assert hub.requests == []


def test_a_hub_that_cannot_be_reached_is_an_upstream_error(hub: WritingHub, tmp_path: Path) -> None:
    data = published(tmp_path / "home")
    error = push(hub, data, "team/toy", code=6, HF_ENDPOINT="http://127.0.0.1:9")["error"]
    assert error["message"] == "was not committed to"

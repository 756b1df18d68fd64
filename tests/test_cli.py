"""The command line where all is well: what it prints, what it decides, which exit codes it has."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from command_line import Digits, coral, coral_json

CORAL = [sys.executable, "-m", "coralord_lightning.cli"]


@pytest.fixture
def digits(tmp_path) -> Digits:
    return Digits.copy_to(tmp_path / "digits")


@pytest.fixture
def home(tmp_path) -> Path:
    return tmp_path / "home"


def _change_data(digits: Digits) -> None:
    """One byte of the data, and the description told so."""
    path = digits.folder / "digits.parquet"
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    digits.declare(hashlib.sha256(data).hexdigest())


def test_building_twice_builds_once(digits, home):
    first = coral_json("build", digits.descriptor, "--home", home)
    second = coral_json("build", digits.descriptor, "--home", home)
    assert (first["built"], second["built"]) == (True, False)
    assert (first["partitions_built"], second["partitions_built"]) == (1, 0)
    for key in ("fingerprint", "content_digest"):
        assert first[key] == second[key]
        assert re.fullmatch("[0-9a-f]{64}", first[key])
    assert first["name"] == "digits"
    assert first["num_rows"] == sum(first["splits"].values()) == 1797
    assert set(first["splits"]) == {"train", "val", "test"}
    assert first["bytes_fetched"] == 0
    assert first["image_digest"] is None
    assert isinstance(first["seconds"], float)


def test_another_folder_gives_the_same_two_values(tmp_path, home):
    here = Digits.copy_to(tmp_path / "digits")
    there = Digits.copy_to(tmp_path / "another checkout" / "of-the-same")
    one = coral_json("build", here.descriptor, "--home", home)
    other = coral_json("build", there.descriptor, "--home", tmp_path / "other home")
    assert [one[key] for key in ("fingerprint", "content_digest")] == [
        other[key] for key in ("fingerprint", "content_digest")
    ]
    assert other["built"]


def test_build_says_whether_it_built(digits, home):
    _, first, _ = coral("build", digits.descriptor, "--home", home)
    _, second, _ = coral("build", digits.descriptor, "--home", home)
    assert re.match(r"digits  built in [\d.]+ m?s\n", first)
    assert second.startswith("digits  fresh: nothing was rebuilt\n")
    assert "1,797 (" in second


def test_a_build_writes_the_lock_and_locked_obeys_it(digits, home):
    built = coral_json("build", digits.descriptor, "--home", home)
    lock = (digits.folder / "coral.lock").read_text()
    assert built["content_digest"] in lock
    assert coral_json("build", digits.descriptor, "--home", home, "--locked")["built"] is False
    digits.edit("digits.yaml", "max: 16", "max: 15")
    code, out, err = coral("build", digits.descriptor, "--home", home, "--locked")
    assert (code, out) == (3, "")
    assert err.startswith("CORAL-E0702")
    assert "pipeline.params.max" in err


def test_a_comment_in_the_descriptor_or_code_keeps_it_fresh(digits, home):
    coral_json("build", digits.descriptor, "--home", home)
    digits.edit("digits.yaml", "name: digits", "# a comment\nname: digits # another")
    digits.edit("pipeline.py", "SHAPE = (8, 8)", "SHAPE = (8, 8)  # rows, columns")
    (status,) = coral_json("status", digits.descriptor, "--home", home, "--exit-code")
    assert (status["state"], status["changed"]) == ("fresh", [])


@pytest.mark.parametrize(
    ("change", "what"),
    [
        pytest.param(
            lambda it: it.edit("pipeline.py", "SHAPE = (8, 8)", "SHAPE = (4, 16)"),
            "pipeline.code.pipeline.py",
            id="a constant",
        ),
        pytest.param(
            lambda it: it.edit("shapes.py", "rows = len(column)", "rows = int(len(column))"),
            "pipeline.code.shapes.py",
            id="an imported local module",
        ),
        pytest.param(lambda it: it.edit("digits.yaml", "max: 16", "max: 15"), "pipeline.params.max", id="a parameter"),
        pytest.param(_change_data, "sources.digits.parquet.sha256", id="one byte of the data"),
    ],
)
def test_an_edit_that_counts_makes_it_stale_and_is_named(digits, home, change, what):
    built = coral_json("build", digits.descriptor, "--home", home)
    change(digits)
    (status,) = coral_json("status", digits.descriptor, "--home", home, "--explain", "--exit-code", code=3)
    assert status["state"] == "stale"
    assert status["fingerprint"] != built["fingerprint"]
    assert [item["what"] for item in status["changed"]] == [what]
    assert status["changed"][0]["was"] != status["changed"][0]["now"]

    code, out, _ = coral("status", digits.descriptor, "--home", home, "--explain")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split()[:2] == ["digits", "stale"]
    assert lines[1] == f"  {what}"
    assert lines[2].startswith("    was  ")
    assert lines[3].startswith("    now  ")


def test_one_byte_of_declared_data_is_stale_for_status_and_refused_by_build(digits, home):
    """The shipped description declares the file's sha256: status names what changed, build must not take it."""
    built = coral_json("build", digits.descriptor, "--home", home)
    path = digits.folder / "digits.parquet"
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    (status,) = coral_json("status", digits.descriptor, "--home", home, "--explain", "--exit-code", code=3)
    assert status["state"] == "stale"
    assert status["fingerprint"] == built["fingerprint"]
    assert [item["what"] for item in status["changed"]] == ["sources.digits.parquet.sha256"]
    assert status["changed"][0]["now"] == hashlib.sha256(data).hexdigest()
    assert coral_json("build", digits.descriptor, "--home", home, code=4)["error"]["code"] == "CORAL-E0402"


def test_status_of_what_was_never_built_is_missing(digits, home):
    (status,) = coral_json("status", digits.descriptor, "--home", home, "--exit-code", code=3)
    assert (status["name"], status["state"], status["changed"]) == ("digits", "missing", [])
    _, out, _ = coral("status", digits.descriptor, "--home", home)
    assert f"coral build {digits.descriptor}" in out


def test_plan_builds_nothing_and_says_what_a_build_takes(digits, home):
    _, out, _ = coral("plan", digits.descriptor, "--home", home)
    assert out.startswith("digits  not built yet\n")
    assert "image[8, 8], label" in out
    assert "nothing, all of it is here" in out
    assert not (home / "manifests").exists() or not list((home / "manifests").iterdir())
    plan = coral_json("plan", digits.descriptor, "--home", home)
    built = coral_json("build", digits.descriptor, "--home", home)
    assert plan["fingerprint"] == built["fingerprint"]
    assert coral_json("plan", digits.descriptor, "--home", home)["built"] is True


def test_list_log_and_show_tell_of_versions(digits, home):
    old = coral_json("build", digits.descriptor, "--home", home)
    digits.edit("digits.yaml", "max: 16", "max: 15")
    new = coral_json("build", digits.descriptor, "--home", home)
    assert [item["fingerprint"] for item in coral_json("list", "--home", home)] == [new["fingerprint"]]
    history = {item["fingerprint"] for item in coral_json("log", "digits", "--home", home)}
    assert history == {old["fingerprint"], new["fingerprint"]}
    code, _, err = coral("log", "digit", "--home", home)
    assert code == 1
    assert err.startswith("CORAL-E0605")
    assert "coral log digits" in err

    _, out, _ = coral("show", new["fingerprint"][:8], "--home", home)
    assert out.startswith(new["fingerprint"])
    assert "image: float[8, 8]" in out
    assert "pipeline.py:scale(max=15), per batch" in out
    shown = coral_json("show", old["fingerprint"], "--home", home)
    assert shown["content_digest"] == old["content_digest"]


def test_an_empty_store_is_no_error(home):
    assert coral_json("list", "--home", home) == []
    code, out, err = coral("list", "--home", home)
    assert (code, out) == (0, "")
    assert "coral build" in err


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(os.urandom(4096))])
def test_the_catalog_comes_back_when_it_is_lost_or_damaged(digits, home, damage):
    coral_json("build", digits.descriptor, "--home", home)
    tables = {name: f"select * from {name} order by all" for name in ("entries", "shards", "sources", "pins", "runs")}
    queries = {"issue": "select name, fingerprint, num_rows from entries", **tables}
    before = {name: coral("query", sql, "--home", home) for name, sql in queries.items()}
    assert before["issue"][1].split()[:4] == ["name", "fingerprint", "num_rows", "digits"]
    damage(home / "catalog.duckdb")
    assert {name: coral("query", sql, "--home", home) for name, sql in queries.items()} == before


def test_query_prints_json_too(digits, home):
    built = coral_json("build", digits.descriptor, "--home", home)
    rows = coral_json("query", "select name, fingerprint, num_rows from entries", "--home", home)
    assert rows == [{"name": "digits", "fingerprint": built["fingerprint"], "num_rows": 1797}]


def test_eight_simultaneous_builds_build_once(digits, home):
    command = [*CORAL, "build", str(digits.descriptor), "--home", str(home), "--json", "-q"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(8)]
    outcomes = []
    for process in running:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        outcomes.append(json.loads(out))
    assert sum(item["built"] for item in outcomes) == 1
    assert len({(item["fingerprint"], item["content_digest"]) for item in outcomes}) == 1


def test_update_moves_the_lock_and_builds_nothing(digits, home):
    coral_json("build", digits.descriptor, "--home", home)
    still = coral_json("update", digits.descriptor, "--home", home, "--dry-run", "--exit-code")
    assert still["moves"] is False
    digits.edit("digits.yaml", "max: 16", "max: 15")
    lock = (digits.folder / "coral.lock").read_text()
    change = coral_json("update", digits.descriptor, "--home", home, "--dry-run", "--exit-code", code=3)
    assert [item["what"] for item in change["changed"]] == ["pipeline.params.max"]
    assert (digits.folder / "coral.lock").read_text() == lock
    code, out, _ = coral("update", digits.descriptor, "--home", home)
    assert code == 0
    assert "coral.lock has moved" in out
    assert change["now"] in (digits.folder / "coral.lock").read_text()
    assert coral_json("status", digits.descriptor, "--home", home)[0]["state"] == "stale"


@pytest.mark.docker
def test_local_and_docker_give_the_same_values(digits, home):
    local = coral_json("build", digits.descriptor, "--home", home)
    docker = coral_json("build", digits.folder / "digits-docker.yaml", "--home", home)
    assert docker["content_digest"] == local["content_digest"]
    assert docker["fingerprint"] != local["fingerprint"]
    assert docker["image_digest"]


def test_doctor_looks_at_everything_and_makes_nothing(home):
    findings = {item["what"]: item for item in coral_json("doctor", "--home", home)}
    for what in ("platform", "duckdb", "torch", "duckdb works", "home writable", "file locks"):
        assert findings[what]["state"] == "ok", findings[what]
    assert findings["container engine"]["state"] in {"ok", "warn"}
    assert not home.exists()


def test_doctor_gives_a_remedy_for_what_is_missing(home, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    code, out, _ = coral("doctor", "--home", home)
    assert code == 0
    line = next(line for line in out.splitlines() if "container engine" in line)
    assert line.startswith("warn")
    assert "try: " in out


def test_doctor_fails_where_the_home_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    findings = coral_json("doctor", "--home", tmp_path / "file" / "home", code=1)
    assert [item["what"] for item in findings if item["state"] == "fail"] == ["home writable"]


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["buld", "x.yaml"], "coral build"),
        (["--home", "h", "stats"], "coral status"),
        (["status", "x.yaml", "--explan"], "coral status --explain"),
        (["build"], "coral build --help"),
        ([], "coral --help"),
        (["frobnicate"], "coral --help"),
        (["build", "d.yaml", "--jobs", "0"], "--jobs 2"),
        (["build", "d.yaml", "--jobs", "x"], "--jobs 2"),
    ],
)
def test_wrong_words_are_usage_errors_with_the_likely_right_ones(words, remedy):
    code, out, err = coral(*words)
    assert (code, out) == (2, "")
    assert err.startswith("CORAL-E0102")
    assert f"try:      {remedy}\n" in err


def test_options_stand_before_or_after_the_command(digits, home):
    after = coral_json("plan", digits.descriptor, "--home", home)
    code, out, _ = coral("--home", home, "--json", "plan", digits.descriptor)
    assert code == 0
    assert json.loads(out) == after


def test_the_version_and_help_are_printed(capsys):
    for words, said in ((["--version"], "coral 0."), (["--help"], "doctor"), (["build", "--help"], "--locked")):
        with pytest.raises(SystemExit) as left:
            coral(*words)
        assert left.value.code == 0
        assert said in capsys.readouterr().out


def test_a_closed_pipe_is_no_noise(digits, home):
    coral_json("build", digits.descriptor, "--home", home)
    words = " ".join([*CORAL, "query", "'select * from range(200000)'", "--home", str(home)])
    done = subprocess.run(["sh", "-c", f"{words} | head -1"], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout == "range\n" or done.stdout.strip() == "range"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_build_says_so_and_leaves_nothing_half(digits, home, number, code):
    digits.pipeline("import pathlib, time", "time.sleep(60)", "return batch")
    # Not measured: coverage takes a lock that is not reentrant, and a signal that comes then never gets through.
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    started = subprocess.Popen(
        [*CORAL, "build", str(digits.descriptor), "--home", str(home)],
        stderr=subprocess.PIPE,
        text=True,
        env=unmeasured,
    )
    for line in started.stderr:
        if "building partition" in line:
            break
    started.send_signal(number)
    _, rest = started.communicate(timeout=30)
    assert started.returncode == code
    assert "Traceback" not in rest
    assert coral_json("list", "--home", home) == []
    assert [path for path in (home / "tmp").rglob("*") if path.is_file()] == []


def test_what_nobody_foresaw_has_a_code_and_asks_for_a_report(tmp_path, monkeypatch):
    """A real fault: the working directory is gone while the command starts."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    code, _, err = coral("list")
    assert code == 1
    assert err.startswith("CORAL-E0001")
    assert "--debug" in err
    assert "Traceback" not in err
    _, _, err = coral("list", "--debug")
    assert "Traceback" in err

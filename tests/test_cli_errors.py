"""Bad input on the command line: a code, a remedy, an exit code, no traceback, and the store as it was."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from command_line import Digits, coral, listing
from images import registry_host


@pytest.fixture
def project(tmp_path) -> Digits:
    return Digits.copy_to(tmp_path / "digits")


@pytest.fixture(scope="module")
def filled_home(tmp_path_factory) -> Path:
    """A home in which the digits are built already: there is something that could be damaged."""
    folder = tmp_path_factory.mktemp("filled")
    digits = Digits.copy_to(folder / "digits")
    code, _, err = coral("build", digits.descriptor, "--home", folder / "home", "-q")
    assert code == 0, err
    return folder / "home"


def _drop_encoding(document: dict) -> None:
    document["distribution"][0]["encodingFormat"] = "application/x-hdf5"


NESTED = "(" * 10_000 + "label = 3" + ")" * 10_000
RAISING = "raise ValueError('ink ran out')"
LATE = ("if batch.num_rows < 300:", f"    {RAISING}", "return batch")
TWO_SCHEMAS = (
    "yield batch.select(['label'])",
    "yield pa.record_batch({'label': pa.array(['a'])})",
)


@pytest.mark.parametrize(
    ("breaking", "code", "exit_code", "said"),
    [
        pytest.param(lambda it: it.descriptor.unlink(), "E0201", 1, "digits-docker.yaml", id="descriptor missing"),
        pytest.param(lambda it: it.descriptor.write_text("a: [1,\nb: }"), "E0202", 1, "digits.yaml:2", id="not YAML"),
        pytest.param(
            lambda it: it.edit("digits.yaml", "record_set: digits\n", "record_set: digits\nname: again\n"),
            "E0202", 1, "name", id="duplicate key",
        ),
        pytest.param(
            lambda it: it.edit("digits.yaml", "splits:", "split:"), "E0204", 1, "splits", id="unknown key"
        ),
        pytest.param(
            lambda it: it.edit("digits.yaml", "[image, label]", "[imag, label]"), "E0203", 1, "image",
            id="unknown field",
        ),
        pytest.param(
            lambda it: it.edit("digits.yaml", "record_set: digits", "record_set: digit"),
            "E0205", 1, "digits", id="unknown record set",
        ),
        pytest.param(lambda it: it.where("lable = 3"), "E0203", 1, "label", id="where: typo"),
        pytest.param(
            lambda it: it.where("label IN (SELECT 1)"), "E0206", 1, "where", id="where: subquery"
        ),
        pytest.param(
            lambda it: it.where("label IN (SELECT label FROM read_csv('/etc/passwd'))"),
            "E0206", 1, "where", id="where: read_csv in a subquery",
        ),
        pytest.param(lambda it: it.where("read_csv('/etc/passwd')"), "E0206", 1, "where", id="where: read_csv"),
        pytest.param(lambda it: it.where("label = 3; drop table t"), "E0206", 1, "where", id="where: drop table"),
        pytest.param(
            lambda it: it.where("label = 3) union select (1"), "E0206", 1, "where", id="where: union select"
        ),
        pytest.param(lambda it: it.where(NESTED), "E0206", 1, "where", id="where: 10,000 parentheses"),
        pytest.param(
            lambda it: (it.folder / "croissant.json").unlink(), "E0301", 1, "croissant.json", id="Croissant missing"
        ),
        pytest.param(
            lambda it: (it.folder / "croissant.json").write_text("<html>"), "E0302", 1, "croissant.json",
            id="Croissant not JSON",
        ),
        pytest.param(
            lambda it: it.croissant(_drop_encoding), "E0303", 1, "application/x-hdf5", id="unsupported encoding"
        ),
        pytest.param(
            lambda it: (it.folder / "digits.parquet").unlink(), "E0401", 1, "digits.parquet", id="data missing"
        ),
        pytest.param(
            lambda it: it.declare("0" * 64), "E0402", 4, "0" * 64, id="wrong sha256"
        ),
        pytest.param(
            lambda it: it.truncate(declared=True), "E0402", 4, "digits.parquet", id="truncated, sha256 declared"
        ),
        pytest.param(
            lambda it: it.truncate(declared=False), "E0403", 1, "digits.parquet", id="truncated, no sha256"
        ),
        pytest.param(
            lambda it: (it.folder / "pipeline.py").unlink(), "E0501", 1, "pipeline.py", id="pipeline file missing"
        ),
        pytest.param(
            lambda it: it.edit("digits.yaml", ":scale", ":scal"), "E0501", 1, "scale", id="pipeline function missing"
        ),
        pytest.param(lambda it: it.pipeline(RAISING), "E0502", 1, "pipeline.py", id="pipeline raises"),
        pytest.param(lambda it: it.pipeline("return 3"), "E0503", 1, "int", id="pipeline returns a wrong type"),
        pytest.param(lambda it: it.pipeline(*LATE), "E0502", 1, "pipeline.py", id="pipeline raises on its last split"),
        pytest.param(lambda it: it.pipeline(*TWO_SCHEMAS), "E0503", 1, "label", id="schema changes between batches"),
    ],
)  # fmt: skip
def test_bad_input_is_an_error_with_a_remedy(project, filled_home, breaking, code, exit_code, said):
    breaking(project)
    before = listing(filled_home)

    got, out, err = coral("build", project.descriptor, "--home", filled_home)

    assert got == exit_code, err
    message = err[err.index("CORAL-") :]
    assert message.startswith(f"CORAL-{code} ")
    assert said in message
    assert re.search(r"^  try: +\S", message, flags=re.MULTILINE)
    assert "Traceback" not in err
    assert out == ""
    assert listing(filled_home) == before
    assert not (project.folder / "coral.lock").exists()


def test_json_carries_the_error_too(project, filled_home):
    project.where("lable = 3")
    code, out, err = coral("build", project.descriptor, "--home", filled_home, "--json")
    error = json.loads(out)["error"]
    assert code == 1
    assert error["code"] == "CORAL-E0203"
    assert error["remedy"]
    assert err.startswith("CORAL-E0203")


def test_a_raising_pipeline_is_shown_with_its_own_file_and_line(project, filled_home):
    project.pipeline("ink = batch.num_rows", RAISING)
    code, _, err = coral("build", project.descriptor, "--home", filled_home)
    assert code == 1
    assert "ValueError: ink ran out" in err
    assert re.search(r"digits/pipeline\.py.{1,9}6", err)
    assert "coralord_lightning" not in err


def test_without_an_engine_both_remedies_are_named(project, filled_home, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    before = listing(filled_home)
    code, _, err = coral("build", project.folder / "digits-docker.yaml", "--home", filled_home)
    assert code == 1
    assert err[err.index("CORAL-") :].startswith("CORAL-E0505")
    assert "environment: local" in err
    assert "Traceback" not in err
    assert listing(filled_home) == before


@pytest.mark.docker
def test_an_image_that_is_nowhere_is_named(project, filled_home):
    image = f"{registry_host()}/there-is-no-such-image@sha256:{'0' * 64}"
    with (project.folder / "digits-docker.yaml").open("a") as stream:
        stream.write(f"environment: {{image: '{image}'}}\n")
    before = listing(filled_home)
    code, _, err = coral("build", project.folder / "digits-docker.yaml", "--home", filled_home)
    assert code == 1
    assert err[err.index("CORAL-") :].startswith("CORAL-E0506")
    assert "there-is-no-such-image" in err
    assert "Traceback" not in err
    assert listing(filled_home) == before


def test_a_full_disk_is_an_error_and_leaves_no_version(project, tmp_path):
    home = tmp_path / "small"
    home.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=320k", "tmpfs", str(home)]
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    try:
        code, _, err = coral("build", project.descriptor, "--home", home)
        assert code == 1, err
        assert err[err.index("CORAL-") :].startswith("CORAL-E0601")
        assert "Traceback" not in err
        assert listing(home) == {}
    finally:
        subprocess.run(["umount", str(home)], check=True)


def test_sql_that_is_wrong_or_writes_is_refused(filled_home):
    for sql in ("select nme from entries", "drop table entries", "select * from read_csv('/etc/passwd')", "selct"):
        before = listing(filled_home)
        code, out, err = coral("query", sql, "--home", filled_home)
        assert (code, out) == (1, ""), sql
        assert err.startswith("CORAL-E0606"), sql
        assert listing(filled_home) == before


@pytest.mark.parametrize("prefix", ["ffff", "nonsense", ""])
def test_a_version_that_is_not_there_is_named(filled_home, prefix):
    code, _, err = coral("show", prefix, "--home", filled_home)
    assert code == 1
    assert err.startswith("CORAL-E0605")


def test_a_home_that_is_a_url_is_refused():
    code, _, err = coral("list", "--home", "s3://bucket/home")
    assert code == 1
    assert err.startswith("CORAL-E0101")

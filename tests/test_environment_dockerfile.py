"""`environment: {dockerfile: …}`, whole: what makes a version stale, what a lock keeps, how a build goes and fails."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import docker.errors
import pytest

from command_line import coral, coral_json
from coralord_lightning.builder.runners.building import IMAGE_LABEL, image_tag
from coralord_lightning.builder.runners.engine import connect
from coralord_lightning.builder.runners.image import ensure_image
from coralord_lightning.config import Config
from coralord_lightning.errors import CoralError, DescriptorValueError, RunnerError, SourceIntegrityError
from coralord_lightning.spec.plan import EnvironmentPlan
from coralord_lightning.versions.status import Status, status
from coralord_lightning.workspace import open_workspace
from projects import edit, example_project

NOWHERE = "unix:///nowhere/docker.sock"


@dataclass
class Project:
    """A project whose pipeline runs in an image of its own; the images are removed with it."""

    descriptor: Path
    config: Config
    tags: set[str] = field(default_factory=set)

    @property
    def folder(self) -> Path:
        return self.descriptor.parent

    def environment(self, **options: object) -> None:
        text = self.descriptor.read_text().partition("environment:")[0]
        self.descriptor.write_text(f"{text}environment: {json.dumps({'dockerfile': 'Dockerfile'} | options)}\n")

    def plan(self) -> EnvironmentPlan:
        found = open_workspace(self.config).plan(self.descriptor).plan.environment
        assert found is not None
        self.tags.add(image_tag(found.identity))
        return found

    def build(self, *, lock: bool = False):
        self.plan()
        return open_workspace(self.config).ensure(self.descriptor, lock=lock)

    def status(self) -> Status:
        return status(open_workspace(self.config), self.descriptor)

    def changed(self) -> set[str]:
        found = self.status()
        assert found.state == "stale"
        return {change.what for change in found.changed}

    def image(self) -> tuple[str, list[str]]:
        """Have the image built; its ID and what was shown."""
        lines: list[str] = []
        return ensure_image(self.plan(), config=self.config, echo=lines.append), lines


@pytest.fixture
def project(tmp_path: Path, docker_config: Config, default_image: str) -> Iterator[Project]:
    made = Project(example_project(tmp_path / "project"), docker_config)
    (made.folder / "Dockerfile").write_text(
        f"ARG WORD=one\nFROM {default_image} AS first\nARG WORD\nUSER 0\nRUN echo $WORD >/word\n\n"
        "FROM first\nCOPY . /sent\n"
    )
    (made.folder / ".dockerignore").write_text("*\n!note.txt\n")
    (made.folder / "note.txt").write_text("a note\n")
    made.environment()
    yield made
    with connect(docker_config) as client:
        for tag in made.tags:
            for image in client.images.list(name=tag):
                client.images.remove(tag, force=True)
                assert image.labels[IMAGE_LABEL]


@pytest.fixture
def registry_image(docker_config: Config) -> Iterator[tuple[str, object]]:
    """The name of an image in a real registry, and a function that moves its tag to another; gives the digest."""
    registry = os.environ.get("CORAL_TEST_REGISTRY")
    if not registry:
        if os.environ.get("CORAL_REQUIRE_DOCKER"):
            pytest.fail("CORAL_REQUIRE_DOCKER is set, but CORAL_TEST_REGISTRY is not", pytrace=False)
        pytest.skip("needs a registry on loopback: bash .ci/engine.sh up DIR && source DIR/env")
    name = f"{registry}/coral-test/{uuid.uuid4().hex}"
    with connect(docker_config) as client:

        def push(text: str) -> str:
            client.api.import_image_from_data(_rootfs(text), repository=name, tag="1")
            client.images.push(name, tag="1")
            (digest,) = client.images.get(f"{name}:1").attrs["RepoDigests"]
            return str(digest).partition("@")[2]

        yield f"{name}:1", push
        for image in client.images.list():
            for reference in (*image.tags, *image.attrs["RepoDigests"]):
                with contextlib.suppress(docker.errors.ImageNotFound):  # the digest goes with the last tag
                    if reference.startswith(name):
                        client.images.remove(reference, force=True)


def _rootfs(text: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("word")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


def in_image(config: Config, image: str, path: str) -> dict[str, bytes | None]:
    """The files beneath a path of an image."""
    with connect(config) as client:
        container = client.api.create_container(image, command="none")["Id"]
        try:
            chunks, _ = client.api.get_archive(container, path)
            with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
                found = {entry.name: tar.extractfile(entry) for entry in tar.getmembers()}
                return {name: stream.read() for name, stream in found.items() if stream is not None}
        finally:
            client.api.remove_container(container, force=True)


@pytest.mark.docker
def test_the_image_is_built_once_holds_what_was_sent_and_serves_every_project_with_that_context(project, tmp_path):
    image, lines = project.image()
    assert any(line.startswith("[image] Step 5/8 : RUN echo") for line in lines)
    assert in_image(project.config, image, "/sent") == {"sent/note.txt": b"a note\n"}
    assert in_image(project.config, image, "/word") == {"word": b"one\n"}
    first = project.build()
    assert first.version.manifest.plan["environment"].keys() == {"kind", "context", "bases", "platform"}
    other = Project(tmp_path / "other" / "points.yaml", replace(project.config, home=tmp_path / "home-2"))
    shutil.copytree(project.folder, other.folder, copy_function=shutil.copy)
    (other.folder / "note.txt").chmod(0o600)
    os.utime(other.folder / "note.txt", (1, 1))
    assert other.image() == (image, [])
    assert other.build().version.fingerprint == first.version.fingerprint


EDITS = {
    "a sent file": (lambda p: (p.folder / "note.txt").write_text("other"), {"environment.context"}),
    "its executable bit": (lambda p: (p.folder / "note.txt").chmod(0o755), {"environment.context"}),
    "a comment in the Dockerfile": (
        lambda p: edit(p.folder / "Dockerfile", "ARG WORD=one", "# so\nARG WORD=one"), {"environment.context"},
    ),
    "a build arg": (lambda p: p.environment(build_args={"WORD": "two"}), {"environment.build_args"}),
    "the target": (lambda p: p.environment(target="first"), {"environment.target"}),
    "a base": (
        lambda p: edit(p.folder / "Dockerfile", "FROM first\n", "FROM scratch\n"), {"environment.context"},
    ),
}  # fmt: skip


@pytest.mark.docker
def test_an_edit_that_could_matter_is_stale_and_named_and_any_other_is_fresh(project):
    project.build()
    for name in ("ignored.txt", "README.md", "coral.lock.old"):
        (project.folder / name).write_text("x")
    edit(project.folder / ".dockerignore", "*\n", "# what is sent\n*\n")
    assert project.status().state == "fresh"
    texts = {path: path.read_text() for path in (project.descriptor, *project.folder.glob("[Dn]o*"))}
    for change, named in EDITS.values():
        change(project)
        assert project.changed() == named
        for path, text in texts.items():
            path.write_text(text)
            path.chmod(0o644)
        assert project.status().state == "fresh"
    EDITS["a build arg"][0](project)
    _, told, _ = coral("status", project.descriptor, "--explain", "--home", project.config.home)
    assert "environment.build_args" in told
    assert in_image(project.config, project.image()[0], "/word") == {"word": b"two\n"}


@pytest.mark.docker
def test_a_moved_base_waits_for_an_update_and_the_old_version_still_loads(project, registry_image):
    name, push = registry_image
    was = push("old")
    edit(project.folder / "Dockerfile", "COPY . /sent\n", f"COPY . /sent\nCOPY --from={name} /word /word\n")
    first = project.build(lock=True)
    (image, _), now = project.image(), push("new")
    assert project.status().state == "fresh"
    assert project.image() == (image, [])
    (change,) = coral_json("update", project.descriptor, "--home", project.config.home)["changed"]
    assert change == {"what": f"environment.bases.{name}", "was": was, "now": now}
    assert project.changed() == {f"environment.bases.{name}"}
    second = project.build()
    assert in_image(project.config, project.image()[0], "/word") == {"word": b"new"}
    assert in_image(project.config, image, "/word") == {"word": b"old"}
    assert second.version.fingerprint != first.version.fingerprint
    assert open_workspace(project.config).version(first.version.fingerprint).num_rows == 100


HIT = """
import json, sys
opened = []
sys.addaudithook(lambda event, told: opened.append(str(told[0])) if event == "open" else None)
from coralord_lightning.config import load_config
from coralord_lightning.workspace import open_workspace
outcome = open_workspace(load_config(home=sys.argv[2], docker_host=sys.argv[3])).ensure(sys.argv[1])
heavy = sorted({"docker", "pyarrow", "torch", "requests"} & sys.modules.keys())
print(json.dumps({"built": outcome.built, "heavy": heavy, "read": any("large.bin" in name for name in opened)}))
"""


@pytest.mark.docker
def test_a_hit_under_a_lock_asks_no_engine_loads_no_client_and_reads_no_large_file_again(project):
    (project.folder / "large.bin").write_bytes(b"0" * 1_000_000)
    (project.folder / ".dockerignore").write_text("*\n!large.bin\n")
    project.build(lock=True)
    time.sleep(2.1)  # until then, a file that was just written could be written once more without its stamp telling
    assert project.status().state == "fresh"
    arguments = [project.descriptor, project.config.home, NOWHERE]
    done = subprocess.run([sys.executable, "-c", HIT, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"built": False, "heavy": [], "read": False}


@pytest.mark.docker
def test_a_sites_base_image_stands_for_the_dockerfiles_own_and_its_name_does_not_count(project, default_image):
    text = "ARG BASE_IMAGE=python:3.11-slim\nFROM ${BASE_IMAGE}\nCOPY . /sent\n"
    (project.folder / "Dockerfile").write_text(text)
    with connect(project.config) as client:
        name = client.images.get(default_image).tags[0]
    for base in (name, default_image):
        project.config = replace(project.config, base_image=base)
        assert project.plan().identity["bases"] == {"python:3.11-slim": default_image}
    assert in_image(project.config, project.image()[0], "/sent") == {"sent/note.txt": b"a note\n"}
    project.environment(build_args={"BASE_IMAGE": name})
    project.config = replace(project.config, base_image="nothing/here:1")
    with pytest.raises(CoralError, match=r"Dockerfile:2"):  # an image that was only built here has no tag in a registry
        project.plan()


@pytest.mark.docker
def test_a_context_may_lie_elsewhere_where_it_is_said(project, tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "note.txt").write_text("shared")
    (project.folder / "docker").mkdir()
    (project.folder / "Dockerfile").rename(project.folder / "docker" / "Dockerfile.etl")
    project.environment(dockerfile="docker/Dockerfile.etl", context="../shared")
    assert in_image(project.config, project.image()[0], "/sent") == {"sent/note.txt": b"shared"}


@pytest.mark.docker
def test_a_failing_step_is_told_with_its_line_and_last_words(project):
    edit(project.folder / "Dockerfile", "COPY . /sent\n", "RUN echo what went wrong \\\n  && exit 3\n")
    with pytest.raises(RunnerError) as caught:
        project.image()
    assert caught.value.subject.endswith("project/Dockerfile:8")
    assert "what went wrong" in caught.value.facts["last"]
    assert "code: 3" in caught.value.facts["got"]
    edit(project.folder / "Dockerfile", "RUN echo what", "RUNN echo what")
    with pytest.raises(RunnerError, match="RUNN") as caught:
        project.image()
    assert caught.value.subject.endswith("project/Dockerfile:8")
    assert "mend" in caught.value.remedy


@pytest.mark.docker
def test_what_the_engines_builder_lacks_is_said_with_a_way_out(project):
    edit(project.folder / "Dockerfile", "COPY . /sent\n", "RUN --mount=type=cache,target=/c true\n")
    with pytest.raises(RunnerError, match="BuildKit") as caught:
        project.image()
    assert "docker build" in caught.value.remedy


@pytest.mark.docker
def test_a_file_that_changes_between_plan_and_build_is_named(project):
    plan = project.plan()
    (project.folder / "note.txt").write_text("later")
    with pytest.raises(SourceIntegrityError, match=r"note\.txt") as caught:
        ensure_image(plan, config=project.config)
    assert caught.value.remedy == "run the same command again"


BUILD = """
import sys
from coralord_lightning.config import load_config
from coralord_lightning.workspace import open_workspace
open_workspace(load_config(home=sys.argv[2])).ensure(sys.argv[1])
"""


@pytest.mark.docker
def test_an_interrupted_build_leaves_no_image_and_no_container(project):
    mark = uuid.uuid4().hex
    edit(project.folder / "Dockerfile", "COPY . /sent\n", f"RUN echo started {mark} && sleep 300\n")
    tag = image_tag(project.plan().identity)
    command = [sys.executable, "-c", BUILD, project.descriptor, project.config.home]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if line.startswith(f"[image] started {mark}"):
                break
        process.send_signal(signal.SIGINT)
        process.stderr.read()
    assert process.returncode != 0
    with connect(project.config) as client:
        assert client.images.list(name=tag) == []
        deadline = time.monotonic() + 60
        while [item for item in client.api.containers(all=True) if mark in item["Command"]]:
            assert time.monotonic() < deadline
            time.sleep(0.2)


WRONG = {
    "a typo": ({"dockerfile": "Dockerfle"}, "there is no such file", "dockerfile: Dockerfile"),
    "a folder": ({"dockerfile": "docker"}, "is a folder", "dockerfile: docker/Dockerfile"),
    "no context": ({"context": "nowhere"}, "there is no such folder", "context: ."),
    "a context that is a file": ({"context": "note.txt"}, "is no folder", "context: ."),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_not_there_is_told_with_its_line(tmp_path, case):
    options, why, remedy = WRONG[case]
    made = Project(example_project(tmp_path / "project"), Config(home=tmp_path / "home", docker_host=NOWHERE))
    (made.folder / "docker").mkdir()
    for name in ("Dockerfile", "docker/Dockerfile", "note.txt"):
        (made.folder / name).write_text("FROM scratch\n")
    made.environment(**options)
    with pytest.raises(DescriptorValueError) as caught:
        made.plan()
    assert (caught.value.message, caught.value.remedy) == (why, remedy)
    assert caught.value.facts["at"].endswith("points.yaml:12")

"""What every test room may ask for: a container engine, and the Croissant corpus beside the checkout."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from coralord_lightning.config import Config, load_config
from coralord_lightning.errors import CoralError

REPOSITORY = Path(__file__).resolve().parents[1]
NO_ENGINE = "no container engine"
# `make test` asks for coverage of spec, sources, store and builder alone; tracing nearly doubles the time of these.
# Hydra takes a traced process for one under a debugger, and prints other errors there.
UNMEASURED = (
    "test_stream_", "test_datamodule", "test_examples", "test_readme", "test_docs", "test_hydra", "test_lightning_cli",
    "test_tracking", "test_huggingface",
)  # fmt: skip
HOW_TO_GET_AN_ENGINE = "get one with: bash .ci/engine.sh up DIR && source DIR/env"


@functools.cache
def engine_problem() -> str | None:
    """Why no container can be run here; None where one can."""
    from coralord_lightning.builder.runners.engine import engine_version

    try:
        engine_version(load_config(home=REPOSITORY))
    except CoralError as error:
        return f"{NO_ENGINE}: {error.facts.get('got', error.message)}; {HOW_TO_GET_AN_ENGINE}"
    return None


def pytest_configure(config: pytest.Config) -> None:
    # A shell that runs the suite in the background ignores SIGINT for it and its children; tests of Ctrl-C need it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "HF_HOME" not in os.environ:  # Hugging Face's caches are a folder of this run, gone after it
        config.add_cleanup(functools.partial(shutil.rmtree, _hugging_face_home(), ignore_errors=True))


def _hugging_face_home() -> str:
    os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="coral-hf-")
    return os.environ["HF_HOME"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.name.startswith(UNMEASURED):
            item.add_marker("no_cover")


@pytest.fixture(autouse=True)
def _processes_of_unmeasured_tests(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Children of a test that is not measured are not measured either."""
    if request.node.get_closest_marker("no_cover") is not None:
        monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("docker") is None:
        return
    problem = engine_problem()
    if problem is None:
        return
    if os.environ.get("CORAL_REQUIRE_DOCKER"):
        pytest.fail(f"CORAL_REQUIRE_DOCKER is set, but {problem}", pytrace=False)
    pytest.skip(problem)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])]
    ours = [reason for reason in skipped if NO_ENGINE in reason]  # from reports: workers skip in other processes
    if ours:
        text = f"WARNING: {len(ours)} tests of the container runner were SKIPPED: {engine_problem()}"
        terminalreporter.write_line(text, red=True, bold=True)


@pytest.fixture
def docker_config(tmp_path: Path) -> Config:
    """A configuration with a fresh home and this machine's engine; use it with `@pytest.mark.docker`."""
    return load_config(home=tmp_path / "home")


@pytest.fixture(scope="session")
def default_image() -> str:
    """The shipped default image, built where the engine lacks it; use it with `@pytest.mark.docker`."""
    from coralord_lightning.builder.runners.image import ensure_image, resolve

    config = load_config(home=REPOSITORY)
    return ensure_image(resolve(None, config=config), config=config)


@pytest.fixture(scope="session")
def shared_croissant() -> Path:
    """The corpus of real Croissant files beside the checkout."""
    folder = REPOSITORY.parent / "shared" / "croissant"
    if folder.is_dir():
        return folder
    reason = f"no Croissant corpus: there is no folder {folder}"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy dataset's descriptor, for modules that name no other project."""
    from toy_runs import toy_project

    return toy_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, project: Path) -> Path:
    """A store in which the module's project is built."""
    from coralord_lightning import load

    home = tmp_path_factory.mktemp("store")
    load(project, home=home)
    return home

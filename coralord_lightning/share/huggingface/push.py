"""Owns what is committed to a dataset repository of the hub, through huggingface_hub; it reads no setting by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, RepositoryNotFoundError
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from coralord_lightning.errors import CoralError, OfflineError, UpstreamError, UsageError
from coralord_lightning.share.folders import MARKER

__all__ = ["Pushed", "push_folder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """A commit.

    Args:
        revision: its hash: what to load the data by, whatever the branch is moved to.
    """

    repository: str
    revision: str
    url: str

    @property
    def load(self) -> str:
        """Python that reads just this."""
        return f'load_dataset("{self.repository}", revision="{self.revision}")'

    def to_json(self) -> dict[str, Any]:
        return {"repository": self.repository, "revision": self.revision, "url": self.url, "load": self.load}


def push_folder(
    folder: Path,
    repository: str,
    *,
    endpoint: str,
    token: str,
    message: str,
    branch: str = "main",
    private: bool = False,
    force: bool = False,
    progress: bool = False,
) -> Pushed:
    """Commit a folder to a dataset repository, which is made where there is none; older data files go.

    Args:
        repository: org/name.
        private: of a repository that is made now; a public one that is there is refused.
        force: also over what is no export of ours.
        progress: let huggingface_hub draw its bars.
    Raises:
        UsageError: that is no name of a repository, or it is another's or public and was not to be.
        UpstreamError: the hub refuses.
        OfflineError: huggingface_hub was told to make no request.
    """
    api = HfApi(
        endpoint=endpoint, token=token, library_name="coralord-lightning", library_version=version("coralord-lightning")
    )
    with _explained(repository, endpoint), _bars(shown=progress):
        _require_ours(api, repository, private=private, force=force)
        api.create_repo(repository, repo_type="dataset", private=private or None, exist_ok=True)
        if branch != "main":
            api.create_branch(repository, repo_type="dataset", branch=branch, exist_ok=True)
        made = api.upload_folder(
            repo_id=repository,
            repo_type="dataset",
            folder_path=folder,
            revision=branch,
            commit_message=message,
            delete_patterns="data/*",
        )
    return Pushed(repository=repository, revision=made.oid, url=f"{endpoint}/datasets/{repository}/tree/{made.oid}")


def _require_ours(api: HfApi, repository: str, *, private: bool, force: bool) -> None:
    """Refuse a repository whose files we did not write, and a public one for what shall be private."""
    try:
        found = api.dataset_info(repository)
    except RepositoryNotFoundError:
        return
    if private and not found.private:
        raise UsageError(
            repository,
            "is there already, and is public",
            remedy="name another one, or make it private on the hub first",
        )
    files = {item.rfilename for item in found.siblings or ()} - {".gitattributes"}
    if files and MARKER not in files and not force:
        raise UsageError(
            repository,
            "is there already and holds no export",
            facts={"holds": ", ".join(sorted(files)[:5])},
            remedy="name another one; or --force, which replaces its README.md and data/",
        )


@contextmanager
def _explained(repository: str, endpoint: str) -> Iterator[None]:
    try:
        yield
    except HFValidationError as error:
        raise UsageError(
            repository, "is no name of a repository", facts={"got": error}, remedy="--push ORG/NAME"
        ) from error
    except OfflineModeIsEnabled as error:
        raise OfflineError(
            repository, "cannot be committed to: HF_HUB_OFFLINE is set", remedy="unset HF_HUB_OFFLINE"
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        remedy = (
            "export HF_TOKEN=…     # a token that may write to it"
            if status in (401, 403, 404)
            else f"ask again later, or look whether {endpoint} is a hub"
        )
        raise UpstreamError(
            repository,
            "was not committed to: the hub refuses",
            facts={"got": f"{status} {error.server_message or error.response.reason_phrase}", "hub": endpoint},
            remedy=remedy,
        ) from error
    except CoralError:
        raise
    except Exception as error:  # huggingface_hub has changed its HTTP library twice, and lets its errors through
        raise UpstreamError(
            repository,
            "was not committed to",
            facts={"got": error, "hub": endpoint},
            remedy=f"look whether {endpoint} answers",
        ) from error


@contextmanager
def _bars(*, shown: bool) -> Iterator[None]:
    before = are_progress_bars_disabled()
    if not shown:
        disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            enable_progress_bars()

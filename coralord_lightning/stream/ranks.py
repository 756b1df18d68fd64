"""Owns what the processes of one run tell each other about their data; never resolves anything itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coralord_lightning.errors import CoralError, DataVersionMismatchError

__all__ = ["Report", "Told", "agree", "are_connected", "tell_failure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One version, as another rank can open it."""

    fingerprint: str
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one rank knows: the versions it prepared, or why it could not; None and None where it had nothing to do.

    Args:
        versions: role in the run ("main", "val", "mixture.web", …) -> version.
    """

    versions: Mapping[str, Told] | None = None
    failure: CoralError | None = None


def are_connected() -> bool:
    """Whether this process has others to agree with."""
    import torch.distributed as dist

    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def tell_failure(error: Exception) -> CoralError:
    """Make an error one that every rank can raise; another's may not survive the way between processes."""
    if isinstance(error, CoralError):
        return error
    import torch.distributed as dist

    failure = CoralError(
        "prepare_data",
        f"failed on rank {dist.get_rank()}",
        facts={"got": repr(error)},
        remedy=f"read the traceback that rank {dist.get_rank()} printed",
    )
    failure.__cause__ = error  # shown on this rank; it does not travel
    return failure


def agree(mine: Report) -> Report | None:
    """Hear all ranks; every rank of the run must call this at the same point.

    Returns:
        the report of the lowest rank that has versions; None where no rank has any.
    Raises:
        CoralError: the error of the lowest rank that failed, the same one on every rank.
        DataVersionMismatchError: ranks have different versions in some role.
    """
    import torch.distributed as dist

    reports: list[Report | None] = [None] * dist.get_world_size()
    dist.all_gather_object(reports, mine)
    heard = [report for report in reports if report is not None]
    for report in heard:
        if report.failure is not None:
            raise mine.failure or report.failure
    _require_same(heard)
    return next((report for report in heard if report.versions is not None), None)


def _require_same(heard: Sequence[Report]) -> None:
    """Every role has the same fingerprint on all ranks that know of any."""
    known = {rank: report.versions for rank, report in enumerate(heard) if report.versions is not None}
    for role in dict.fromkeys(role for versions in known.values() for role in versions):
        found = {rank: versions[role].fingerprint if role in versions else None for rank, versions in known.items()}
        if len(set(found.values())) > 1:
            raise DataVersionMismatchError(
                "version" if role == "main" else role,
                "the processes of this run resolved different versions of the data",
                facts={f"rank {rank}": fingerprint or "has no such data" for rank, fingerprint in found.items()},
                remedy='pin="<one of these fingerprints>"     # or let all nodes share one home',
            )

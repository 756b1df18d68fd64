"""What a build of a plan would fetch and need, and whether that is allowed. Decides; fetches footers at most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from coralord_lightning.errors import FetchLimitError, ShardMissingError
from coralord_lightning.spec.descriptor.units import shown_bytes
from coralord_lightning.spec.fingerprint import partition_keys
from coralord_lightning.spec.plan import RemoteFile
from coralord_lightning.workspace.planning import Planned

if TYPE_CHECKING:
    from coralord_lightning.builder.estimate import Forecast
    from coralord_lightning.spec.manifest import Manifest
    from coralord_lightning.store import Store

__all__ = ["Foreseen", "foresee", "require_within", "text_bytes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """A plan and what building it would take.

    Args:
        built: whether it is in the store, so that a build would do nothing.
    """

    planned: Planned
    forecast: Forecast
    built: bool


def foresee(planned: Planned, *, store: Store, filesystem: Callable[[], Any]) -> Foreseen:
    """Foretell what a build of a plan takes: the partitions that the store lacks, and the Croissant file itself.

    Args:
        filesystem: opens what reads the plan's remote files; only called if one of them is to be looked at.
    Raises:
        SourceError: a footer cannot be read.
    """
    from coralord_lightning.builder.estimate import forecast

    job = planned.job
    manifest = _finished(store, job.fingerprint)
    built = manifest is not None
    keys = [] if built else partition_keys(job.canonical)
    missing = [index for index, key in enumerate(keys) if store.lookup_partition(key) is None]
    remote = any(isinstance(place, RemoteFile) for place in job.locations.values())
    found = forecast(job, partitions=missing, remote=filesystem() if remote and missing else None)
    if manifest is not None:
        found = replace(found, num_rows=manifest.num_rows if job.plan.pipeline is None else None)
    whole = replace(found, bytes_to_fetch=found.bytes_to_fetch + text_bytes(planned))
    return Foreseen(planned=planned, forecast=whole, built=built)


def _finished(store: Store, fingerprint: str) -> Manifest | None:
    """The version, if it is in the store and whole; what is damaged is left as it is."""
    manifest = store.read_manifest(fingerprint)
    try:
        if manifest is not None:
            store.check_shards(manifest, mode="stat")
    except ShardMissingError:
        return None
    return manifest


def text_bytes(planned: Planned) -> int:
    """Bytes of the Croissant file that every run fetches; none for a local one, and one that a lock pins."""
    text, pins = planned.croissant, planned.pins
    pinned = pins is not None and pins.croissant is not None and pins.croissant.url == text.url
    return 0 if text.url is None or pinned else len(text.text.encode())


def require_within(foreseen: Foreseen, limit: int | None, *, spent: int = 0) -> None:
    """Make sure that a build would not fetch more than is allowed.

    Args:
        limit: bytes; None: no limit.
        spent: bytes that this command has fetched already, beside what is foretold.
    Raises:
        FetchLimitError: it would.
    """
    planned = foreseen.planned
    total = foreseen.forecast.bytes_to_fetch + spent
    if limit is None or total <= limit:
        return
    raise FetchLimitError(
        planned.job.name,
        "a build would fetch more than is allowed",
        facts={"would fetch": shown_bytes(total), "allowed": shown_bytes(limit)},
        remedy=f"coral build {planned.descriptor.origin} --max-fetch {total}   # or select fewer fields or rows",
    )

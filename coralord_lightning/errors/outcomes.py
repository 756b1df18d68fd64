"""Failures of what is done with it: building, keeping, comparing, batching."""

from __future__ import annotations

from typing import ClassVar

from coralord_lightning.errors.base import CoralError

__all__ = [
    "BatchError",
    "BuildError",
    "DataVersionMismatchError",
    "EmptySelectionError",
    "EngineUnreachableError",
    "ImageNotFoundError",
    "LockConflictError",
    "LockedError",
    "ManifestCorruptError",
    "NotDeterministicError",
    "PipelineFailedError",
    "PipelineNotFoundError",
    "PipelineOutputError",
    "QueryError",
    "RunnerError",
    "ShardMissingError",
    "SplitNotFoundError",
    "StaleError",
    "StoreError",
    "StoreFullError",
    "VersionNotFoundError",
    "WorkerError",
]


class BuildError(CoralError):
    """The plan is fine, making it true failed."""

    code: ClassVar[str] = "CORAL-E0500"


class PipelineNotFoundError(BuildError):
    """The pipeline's file or function is not there."""

    code: ClassVar[str] = "CORAL-E0501"


class PipelineFailedError(BuildError):
    """The user's pipeline raised."""

    code: ClassVar[str] = "CORAL-E0502"


class PipelineOutputError(BuildError):
    """The pipeline returned what cannot be a dataset."""

    code: ClassVar[str] = "CORAL-E0503"


class EmptySelectionError(BuildError):
    """The selection leaves no row at all."""

    code: ClassVar[str] = "CORAL-E0504"


class EngineUnreachableError(BuildError):
    """No container engine answers."""

    code: ClassVar[str] = "CORAL-E0505"


class ImageNotFoundError(BuildError):
    """The engine has no such image and cannot get it."""

    code: ClassVar[str] = "CORAL-E0506"


class RunnerError(BuildError):
    """The process or container that runs the pipeline ended badly."""

    code: ClassVar[str] = "CORAL-E0507"


class NotDeterministicError(BuildError):
    """One fingerprint gave two different contents."""

    code: ClassVar[str] = "CORAL-E0508"
    exit_code: ClassVar[int] = 4


class StoreError(CoralError):
    """The store could not be read or written."""

    code: ClassVar[str] = "CORAL-E0600"


class StoreFullError(StoreError):
    """The store's disk is full."""

    code: ClassVar[str] = "CORAL-E0601"


class ShardMissingError(StoreError):
    """A shard named in a manifest is gone or has another size."""

    code: ClassVar[str] = "CORAL-E0602"
    exit_code: ClassVar[int] = 4


class ManifestCorruptError(StoreError):
    """A manifest does not match its own checksum."""

    code: ClassVar[str] = "CORAL-E0603"
    exit_code: ClassVar[int] = 4


class LockConflictError(StoreError):
    """Another process holds a lock for longer than we wait."""

    code: ClassVar[str] = "CORAL-E0604"
    exit_code: ClassVar[int] = 5


class VersionNotFoundError(StoreError):
    """No version in the store matches."""

    code: ClassVar[str] = "CORAL-E0605"


class QueryError(StoreError):
    """A catalog query cannot be run."""

    code: ClassVar[str] = "CORAL-E0606"


class StaleError(CoralError):
    """The version is stale or missing and building was ruled out."""

    code: ClassVar[str] = "CORAL-E0701"
    exit_code: ClassVar[int] = 3


class LockedError(CoralError):
    """The descriptor no longer fits its `coral.lock`."""

    code: ClassVar[str] = "CORAL-E0702"
    exit_code: ClassVar[int] = 3


class DataVersionMismatchError(CoralError):
    """Saved state belongs to other data than what is loaded."""

    code: ClassVar[str] = "CORAL-E0703"
    exit_code: ClassVar[int] = 4


class SplitNotFoundError(CoralError):
    """The version has no split of that name."""

    code: ClassVar[str] = "CORAL-E0704"


class BatchError(CoralError):
    """Rows cannot be made into the batch that was asked for."""

    code: ClassVar[str] = "CORAL-E0705"


class WorkerError(CoralError):
    """A process that makes batches ended, or failed in a way that cannot be told."""

    code: ClassVar[str] = "CORAL-E0706"

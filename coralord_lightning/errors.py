"""The error tree: every failure a user can meet, with a stable code, an exit code and a remedy.

CoralError
├── ConfigError                    CORAL-E0101
├── UsageError                     CORAL-E0102   exit 2
├── NotYetSupportedError           CORAL-E0103
├── DescriptorError                CORAL-E0200
│   ├── DescriptorNotFoundError    CORAL-E0201
│   ├── DescriptorSyntaxError      CORAL-E0202
│   ├── UnknownFieldError          CORAL-E0203
│   ├── DescriptorValueError       CORAL-E0204
│   ├── UnknownRecordSetError      CORAL-E0205
│   ├── PredicateError             CORAL-E0206
│   └── SplitError                 CORAL-E0207
├── CroissantError                 CORAL-E0300
│   ├── CroissantNotFoundError     CORAL-E0301
│   ├── CroissantSyntaxError       CORAL-E0302
│   └── UnsupportedCroissantError  CORAL-E0303
├── SourceError                    CORAL-E0400
│   ├── SourceMissingError         CORAL-E0401
│   ├── SourceIntegrityError       CORAL-E0402   exit 4
│   ├── SourceFormatError          CORAL-E0403
│   ├── UpstreamError              CORAL-E0404   exit 6
│   ├── ForbiddenSourceError       CORAL-E0405
│   └── OfflineError               CORAL-E0406   exit 6
├── BuildError                     CORAL-E0500
│   ├── PipelineNotFoundError      CORAL-E0501
│   ├── PipelineFailedError        CORAL-E0502
│   ├── PipelineOutputError        CORAL-E0503
│   ├── EmptySelectionError        CORAL-E0504
│   ├── EngineUnreachableError     CORAL-E0505
│   ├── ImageNotFoundError         CORAL-E0506
│   ├── RunnerError                CORAL-E0507
│   └── NotDeterministicError      CORAL-E0508   exit 4
├── StoreError                     CORAL-E0600
│   ├── StoreFullError             CORAL-E0601
│   ├── ShardMissingError          CORAL-E0602   exit 4
│   ├── ManifestCorruptError       CORAL-E0603   exit 4
│   ├── LockConflictError          CORAL-E0604   exit 5
│   ├── VersionNotFoundError       CORAL-E0605
│   └── QueryError                 CORAL-E0606
├── StaleError                     CORAL-E0701   exit 3
├── LockedError                    CORAL-E0702   exit 3
├── DataVersionMismatchError       CORAL-E0703   exit 4
├── SplitNotFoundError             CORAL-E0704
└── BatchError                     CORAL-E0705

CoralWarning: what went wrong beside the way, where going on is right.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

__all__ = [
    "BatchError",
    "BuildError",
    "ConfigError",
    "CoralError",
    "CoralWarning",
    "CroissantError",
    "CroissantNotFoundError",
    "CroissantSyntaxError",
    "DataVersionMismatchError",
    "DescriptorError",
    "DescriptorNotFoundError",
    "DescriptorSyntaxError",
    "DescriptorValueError",
    "EmptySelectionError",
    "EngineUnreachableError",
    "ForbiddenSourceError",
    "ImageNotFoundError",
    "LockConflictError",
    "LockedError",
    "ManifestCorruptError",
    "NotDeterministicError",
    "NotYetSupportedError",
    "OfflineError",
    "PipelineFailedError",
    "PipelineNotFoundError",
    "PipelineOutputError",
    "PredicateError",
    "QueryError",
    "RunnerError",
    "ShardMissingError",
    "SourceError",
    "SourceFormatError",
    "SourceIntegrityError",
    "SourceMissingError",
    "SplitError",
    "SplitNotFoundError",
    "StaleError",
    "StoreError",
    "StoreFullError",
    "UnknownFieldError",
    "UnknownRecordSetError",
    "UnsupportedCroissantError",
    "UpstreamError",
    "UsageError",
    "VersionNotFoundError",
    "nearest",
]


class CoralError(Exception):
    """A failure that its reader can act on.

    Args:
        subject: what it is about: a descriptor key, a file, a Croissant node.
        message: what is wrong, in one sentence.
        remedy: what to type or change; it works when pasted.
        facts: label -> value lines shown between message and remedy (got, expected, line, …).
    """

    code: ClassVar[str] = "CORAL-E0001"
    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        subject: str,
        message: str,
        *,
        remedy: str,
        facts: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(subject, message)
        self.subject = subject
        self.message = message
        self.remedy = remedy
        self.facts: dict[str, str] = {key: str(value) for key, value in (facts or {}).items()}

    def __str__(self) -> str:
        lines = [f"{self.code} {self.subject}: {self.message}"]
        for label, value in [*self.facts.items(), ("try", self.remedy)]:
            first, *rest = value.splitlines() or [""]
            lines.append(f"  {label + ':':<9} {first}")
            lines.extend(" " * 12 + line for line in rest)
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.subject, self.message, self.remedy, self.facts)

    def to_json(self) -> dict[str, object]:
        """The error as plain values, for `--json` and for other ranks."""
        return {
            "code": self.code,
            "subject": self.subject,
            "message": self.message,
            "remedy": self.remedy,
            "facts": dict(self.facts),
        }


def _rebuild(cls: type[CoralError], subject: str, message: str, remedy: str, facts: dict[str, str]) -> CoralError:
    return cls(subject, message, remedy=remedy, facts=facts)


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that a typist most likely meant, or None where nothing is near."""
    pool = list(choices)
    folded = {choice.lower(): choice for choice in pool}
    if word.lower() in folded:
        return folded[word.lower()]
    found = difflib.get_close_matches(word, pool, n=1, cutoff=0.6)
    return found[0] if found else None


class ConfigError(CoralError):
    """`coral.toml`, an environment variable or a setting has a value we cannot use."""

    code: ClassVar[str] = "CORAL-E0101"


class UsageError(CoralError):
    """An argument has a value that no call can mean."""

    code: ClassVar[str] = "CORAL-E0102"
    exit_code: ClassVar[int] = 2


class NotYetSupportedError(CoralError):
    """A documented key or argument whose machinery is not in this release."""

    code: ClassVar[str] = "CORAL-E0103"


class DescriptorError(CoralError):
    """The descriptor cannot be used as it is."""

    code: ClassVar[str] = "CORAL-E0200"


class DescriptorNotFoundError(DescriptorError):
    """There is no descriptor at that path."""

    code: ClassVar[str] = "CORAL-E0201"


class DescriptorSyntaxError(DescriptorError):
    """The descriptor is not YAML 1.2, or says a key twice."""

    code: ClassVar[str] = "CORAL-E0202"


class UnknownFieldError(DescriptorError):
    """A name is no field of the record set."""

    code: ClassVar[str] = "CORAL-E0203"


class DescriptorValueError(DescriptorError):
    """A key of the descriptor is unknown, missing or has a value of the wrong kind."""

    code: ClassVar[str] = "CORAL-E0204"


class UnknownRecordSetError(DescriptorError):
    """The Croissant dataset has no such record set."""

    code: ClassVar[str] = "CORAL-E0205"


class PredicateError(DescriptorError):
    """A predicate is not in the restricted SQL that descriptors take."""

    code: ClassVar[str] = "CORAL-E0206"


class SplitError(DescriptorError):
    """Splits overlap, add up to more than everything, or name what is not there."""

    code: ClassVar[str] = "CORAL-E0207"


class CroissantError(CoralError):
    """The Croissant description cannot be used as it is."""

    code: ClassVar[str] = "CORAL-E0300"


class CroissantNotFoundError(CroissantError):
    """There is no Croissant description at that path or address."""

    code: ClassVar[str] = "CORAL-E0301"


class CroissantSyntaxError(CroissantError):
    """The Croissant description is not valid JSON-LD of a dataset."""

    code: ClassVar[str] = "CORAL-E0302"


class UnsupportedCroissantError(CroissantError):
    """The subset needs something of Croissant that we do not read."""

    code: ClassVar[str] = "CORAL-E0303"


class SourceError(CoralError):
    """A byte from outside could not be had as described."""

    code: ClassVar[str] = "CORAL-E0400"


class SourceMissingError(SourceError):
    """A data file that the plan needs is not there."""

    code: ClassVar[str] = "CORAL-E0401"


class SourceIntegrityError(SourceError):
    """A data file is not the one that was declared or pinned."""

    code: ClassVar[str] = "CORAL-E0402"
    exit_code: ClassVar[int] = 4


class SourceFormatError(SourceError):
    """A data file cannot be read as the format it is declared to be."""

    code: ClassVar[str] = "CORAL-E0403"


class UpstreamError(SourceError):
    """A server did not give what we asked for."""

    code: ClassVar[str] = "CORAL-E0404"
    exit_code: ClassVar[int] = 6


class ForbiddenSourceError(SourceError):
    """A path or address lies outside what a dataset may name."""

    code: ClassVar[str] = "CORAL-E0405"


class OfflineError(SourceError):
    """Something is needed from the network, and the network was ruled out."""

    code: ClassVar[str] = "CORAL-E0406"
    exit_code: ClassVar[int] = 6


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


class CoralWarning(UserWarning):
    """Something beside the way went wrong, and going on is right: a logger that fails, say."""

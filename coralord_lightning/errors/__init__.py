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
│   ├── OfflineError               CORAL-E0406   exit 6
│   └── FetchLimitError            CORAL-E0407
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
├── BatchError                     CORAL-E0705
└── WorkerError                    CORAL-E0706

CoralWarning: what went wrong beside the way, where going on is right.
"""

from __future__ import annotations

from coralord_lightning.errors.base import CoralError, CoralWarning, nearest
from coralord_lightning.errors.inputs import (
    ConfigError,
    CroissantError,
    CroissantNotFoundError,
    CroissantSyntaxError,
    DescriptorError,
    DescriptorNotFoundError,
    DescriptorSyntaxError,
    DescriptorValueError,
    FetchLimitError,
    ForbiddenSourceError,
    NotYetSupportedError,
    OfflineError,
    PredicateError,
    SourceError,
    SourceFormatError,
    SourceIntegrityError,
    SourceMissingError,
    SplitError,
    UnknownFieldError,
    UnknownRecordSetError,
    UnsupportedCroissantError,
    UpstreamError,
    UsageError,
)
from coralord_lightning.errors.outcomes import (
    BatchError,
    BuildError,
    DataVersionMismatchError,
    EmptySelectionError,
    EngineUnreachableError,
    ImageNotFoundError,
    LockConflictError,
    LockedError,
    ManifestCorruptError,
    NotDeterministicError,
    PipelineFailedError,
    PipelineNotFoundError,
    PipelineOutputError,
    QueryError,
    RunnerError,
    ShardMissingError,
    SplitNotFoundError,
    StaleError,
    StoreError,
    StoreFullError,
    VersionNotFoundError,
    WorkerError,
)

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
    "FetchLimitError",
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
    "WorkerError",
    "nearest",
]

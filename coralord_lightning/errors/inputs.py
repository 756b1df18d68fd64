"""Failures of what was asked for or comes from outside: settings, descriptor, Croissant, sources."""

from __future__ import annotations

from typing import ClassVar

from coralord_lightning.errors.base import CoralError

__all__ = [
    "ConfigError",
    "CroissantError",
    "CroissantNotFoundError",
    "CroissantSyntaxError",
    "DescriptorError",
    "DescriptorNotFoundError",
    "DescriptorSyntaxError",
    "DescriptorValueError",
    "FetchLimitError",
    "ForbiddenSourceError",
    "NotYetSupportedError",
    "OfflineError",
    "PredicateError",
    "SourceError",
    "SourceFormatError",
    "SourceIntegrityError",
    "SourceMissingError",
    "SplitError",
    "UnknownFieldError",
    "UnknownRecordSetError",
    "UnsupportedCroissantError",
    "UpstreamError",
    "UsageError",
]


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


class FetchLimitError(SourceError):
    """More would be fetched than was allowed."""

    code: ClassVar[str] = "CORAL-E0407"

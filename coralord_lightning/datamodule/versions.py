"""Owns which version each role of a run has: resolved, agreed on by all ranks, kept in a state and compared with one.

Never reads a row; what a version is, the workspace decides.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coralord_lightning.datamodule.roles import MAIN, Asked, PathLike, Roles
from coralord_lightning.dataset import Update, Verify, read_saved_state, resolve
from coralord_lightning.errors import (
    CoralError,
    DataVersionMismatchError,
    DescriptorNotFoundError,
    ShardMissingError,
    UsageError,
    VersionNotFoundError,
)
from coralord_lightning.stream.ranks import Report, Told, agree, tell_failure

if TYPE_CHECKING:
    from coralord_lightning.workspace import Version

__all__ = ["Resolver", "Versions", "agreed", "mismatches", "saved_versions", "versions_to_json"]

Versions = Mapping[str, "Version"]
"""Role -> version."""

Saved = Mapping[str, Mapping[str, Any]]
"""Role -> what `Version.to_json` gave, in a checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolver:
    """How a run's data are looked up; the settings are those of `dataset.resolve`."""

    roles: Roles
    home: PathLike | None
    update: Update | None
    verify: Verify

    def resolve(self, *, build: bool, expected: Saved) -> dict[str, Version]:
        """Find or build the version of every role.

        Args:
            expected: the versions of a saved run; a role that it knows gets that version and no other.
        Raises:
            CoralError: a role's data cannot be used; the error says which role, where it is not the main one.
            DataVersionMismatchError: a saved version is not in the store, and its descriptor stands for other data now.
        """
        pins = self._pins()
        found: dict[str, Version] = {}
        read: dict[str, Version] = {}  # of one file, however many roles it has, there is one version in a run
        for role, asked in self.roles.asked.items():
            with _naming(role, asked):
                path = os.fspath(asked.descriptor) if isinstance(asked.descriptor, str | os.PathLike) else None
                if role in pins:
                    found[role] = self._open(asked, build=build, pin=pins[role])
                elif role in expected:
                    found[role] = self._expected(role, asked, expected[role], build=build)
                elif path is None:
                    found[role] = self._open(asked, build=build)
                else:
                    found[role] = read[path] = read.get(path) or self._open(asked, build=build)
        return found

    def reopen(self, told: Mapping[str, Told]) -> dict[str, Version]:
        """Open, and never build, what another rank prepared."""
        found = {}
        for role, version in told.items():
            asked = self.roles.asked[role]
            with _naming(role, asked):
                opened = self._open(asked, build=False, pin=version.fingerprint)
                found[role] = replace(opened, name=version.name)
        return found

    def _open(self, asked: Asked, *, build: bool, pin: PathLike | None = None) -> Version:
        return resolve(
            asked.descriptor,  # type: ignore[arg-type]  # None where a pin is given, which is all that is read then
            home=self.home,
            base_dir=asked.base_dir,
            update=self.update,
            build=build,
            pin=pin,
            verify=self.verify,
        )

    def _expected(self, role: str, asked: Asked, saved: Mapping[str, Any], *, build: bool) -> Version:
        try:
            return replace(self._open(asked, build=build, pin=saved["fingerprint"]), name=saved["name"])
        except (VersionNotFoundError, ShardMissingError):
            if asked.descriptor is None:
                raise
            version = self._open(asked, build=build)
            if version.content_digest != saved["content_digest"]:
                raise _mismatch(role, saved, version) from None
            return version

    def _pins(self) -> dict[str, PathLike]:
        """Role -> pin, of the roles that are pinned by hand; a checkpoint pins all roles that its run had."""
        pin, asked = self.roles.pin, self.roles.asked
        own = {role: data.pin for role, data in asked.items() if data.pin is not None}
        if pin is None:
            return own
        if not Path(pin).is_file():
            if MAIN not in asked:
                raise UsageError(
                    "pin",
                    "pins the data of descriptor=, and none is given",
                    facts={"got": pin, "sources": ", ".join(source.name for source in self.roles.mixture)},
                    remedy=f'mixture={{"{self.roles.mixture[0].name}": {{"pin": "{pin}", …}}}}',
                )
            return own | {MAIN: pin}
        state = read_saved_state(pin)
        if state is None:
            return dict.fromkeys(asked, pin)  # whoever opens it says what is wrong with it
        known = {role: saved["fingerprint"] for role, saved in saved_versions(state).items() if role in asked}
        if not known:
            raise UsageError(
                "pin",
                "is a checkpoint of a run over other sources",
                facts={"saved": ", ".join(saved_versions(state)), "asked": ", ".join(asked)},
                remedy="CoralDataModule.load_from_checkpoint(…)     # the data module of that run",
            )
        return known | own


@contextmanager
def _naming(role: str, asked: Asked) -> Iterator[None]:
    """Say in an error which of a run's data it is about."""
    try:
        yield
    except CoralError as error:
        if role != MAIN:
            error.facts.setdefault("data of", role)
        if isinstance(error, DescriptorNotFoundError) and role == f"mixture.{asked.descriptor}":
            error.remedy = f'"{asked.descriptor}": {{"descriptor": "<path>.yaml", …}}     # or its path as the name'
        raise


def agreed(
    prepared: Versions | None,
    failure: Exception | None,
    *,
    resolve: Callable[[], Versions],
    reopen: Callable[[Mapping[str, Told]], Versions],
) -> Versions:
    """The versions of the ranks that prepared some, opened here; every rank of the run calls this.

    Args:
        prepared: on this rank; None where another one did it.
        failure: why this rank could not.
        resolve: looks the versions up where no rank prepared any.
    Raises:
        CoralError: what any rank raised, the same on all of them.
    """
    told = agree(_report(prepared, failure))
    try:
        if prepared is not None:
            versions = prepared
        else:
            heard = None if told is None else told.versions
            versions = resolve() if heard is None else reopen(heard)
    except Exception as error:  # whatever it is, the other ranks wait to hear of it
        agree(_report(None, error))
        raise
    agree(_report(versions, None))
    return versions


def _report(versions: Versions | None, error: Exception | None) -> Report:
    if error is not None:
        return Report(failure=tell_failure(error))
    if versions is None:
        return Report()
    told = {role: Told(fingerprint=version.fingerprint, name=version.name) for role, version in versions.items()}
    return Report(versions=told)


def versions_to_json(versions: Versions) -> dict[str, Any]:
    """All versions as they stand in a checkpoint: the run's own, and by role where there are others."""
    first = next(iter(versions.values())).to_json()
    if set(versions) == {MAIN}:
        return {"version": first}
    return {"version": first, "versions": {role: version.to_json() for role, version in versions.items()}}


def saved_versions(state: Mapping[str, Any]) -> Saved:
    """Role -> version, of a state that `versions_to_json` is in."""
    found: Saved = state.get("versions") or {MAIN: state["version"]}
    return found


def mismatches(saved: Saved, live: Versions) -> list[DataVersionMismatchError]:
    """What to say of each role whose data are not those of the saved run; roles of only one of the two are nothing."""
    return [
        _mismatch(role, saved[role], version)
        for role, version in live.items()
        if role in saved and saved[role]["content_digest"] != version.content_digest
    ]


def _mismatch(role: str, saved: Mapping[str, Any], live: Version) -> DataVersionMismatchError:
    pin = saved["fingerprint"]
    remedy = f'CoralDataModule(…, pin="{pin}")'
    if role.startswith("mixture."):
        remedy = f'mixture={{"{role.removeprefix("mixture.")}": {{"pin": "{pin}", …}}}}'
    elif role != MAIN:
        remedy = "CoralDataModule.load_from_checkpoint(…), or pin=<the checkpoint>: all data of the saved run"
    return DataVersionMismatchError(
        "checkpoint",
        "was trained on other data than the descriptor stands for now",
        facts={"saved": pin, "loaded": live.fingerprint} | ({} if role == MAIN else {"data of": role}),
        remedy=remedy,
    )

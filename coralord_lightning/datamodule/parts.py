"""Owns which rows each part of a run reads: which splits of which versions; never in which order."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coralord_lightning.datamodule.roles import EVAL_PARTS, MAIN, Roles
from coralord_lightning.errors import SplitNotFoundError, nearest
from coralord_lightning.stream.feed import Feed, mixed_feed, split_feed
from coralord_lightning.stream.shards import Verify

if TYPE_CHECKING:
    from coralord_lightning.datamodule.versions import Versions
    from coralord_lightning.workspace import Version

__all__ = ["Taken", "open_part", "splits_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One split of one version."""

    role: str
    split: str


def splits_of(roles: Roles, versions: Versions) -> dict[str, tuple[Taken, ...]]:
    """Part of a run -> the splits that it reads; a part that the run has no data for is left out.

    Raises:
        SplitNotFoundError: a mixture's source, or a descriptor given for one part, has no split for it.
    """
    found: dict[str, tuple[Taken, ...]] = {}
    if roles.mixture:
        found["train"] = tuple(
            Taken(role=source.role, split=_split_for("train", source.role, versions[source.role], source.split))
            for source in roles.mixture
        )
    elif "train" in versions[MAIN].splits:
        found["train"] = (Taken(role=MAIN, split="train"),)
    for part in EVAL_PARTS:
        if part in versions:
            found[part] = (Taken(role=part, split=_split_for(part, part, versions[part])),)
        elif MAIN in versions and part in versions[MAIN].splits:
            found[part] = (Taken(role=MAIN, split=part),)
    return found


def open_part(part: str, roles: Roles, versions: Versions, *, verify: Verify, as_stored: bool = False) -> Feed | None:
    """The rows of one part; None where the run has none for it.

    Args:
        as_stored: of a mixture, only its first source: for what must be the same in each epoch.
    Raises:
        SplitNotFoundError: the data has no split to train on.
        UsageError: the sources of the mixture cannot be mixed.
    """
    taken = splits_of(roles, versions).get(part)
    if taken is None:
        if part == "train":
            raise _missing("train", "train", versions[MAIN], _train_remedy(roles, versions[MAIN]))
        return None
    feeds = [split_feed(versions[one.role].manifest, versions[one.role].home, one.split, verify) for one in taken]
    if part != "train" or not roles.mixture or as_stored:
        return feeds[0]
    names = [source.name for source in roles.mixture]
    weights = {source.name: source.weight for source in roles.mixture}
    return mixed_feed(dict(zip(names, feeds, strict=True)), weights, roles.stopping)


def _split_for(part: str, subject: str, version: Version, asked: str | None = None) -> str:
    """The split that was asked for; else the one named like the part; else the only one."""
    splits = version.splits
    wanted = part if asked is None else asked
    if wanted in splits:
        return wanted
    if asked is None and len(splits) == 1:
        return next(iter(splits))
    remedy = f"call one of these splits '{wanted}' in that descriptor, or let it have one split only"
    if subject.startswith("mixture."):
        near = nearest(wanted, splits) or next(iter(splits))
        remedy = f'"{subject.removeprefix("mixture.")}": {{"split": "{near}", …}}     # or another one of its splits'
    raise _missing(subject if asked is None else f"{subject}.split", wanted, version, remedy)


def _train_remedy(roles: Roles, version: Version) -> str:
    split = nearest("train", version.splits) or next(iter(version.splits))
    descriptor = roles.asked[MAIN].descriptor
    path = os.fspath(descriptor) if isinstance(descriptor, str | os.PathLike) else "<descriptor>"
    return (
        f'mixture={{"{path}": {{"weight": 1, "split": "{split}"}}}}     # or call a split \'train\' in the descriptor'
    )


def _missing(subject: str, wanted: str, version: Version, remedy: str) -> SplitNotFoundError:
    return SplitNotFoundError(
        subject,
        f"there is no split '{wanted}' in these data",
        facts={"data": version.name or version.fingerprint, "splits": ", ".join(version.splits)},
        remedy=remedy,
    )

"""What a lock says of containers: the addresses of files inside them carry it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from coralord_lightning.spec.lock import LockedSource

__all__ = ["LockedPins"]

_RESOLVED = re.compile(r"/resolve/([0-9a-f]{40})/.*")


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedPins:
    """The remote files that a lock names, and the archives and repositories that they lie in."""

    sources: tuple[LockedSource, ...] = ()

    def files(self) -> tuple[LockedSource, ...]:
        """All files, archives that others lie in too, each by the address that it is fetched from."""
        out = list(self.sources)
        for item in self.sources:
            address, facts = _parts(item.url)
            if "sha256" in facts:
                out.append(LockedSource(url=_without(address, facts), size_bytes=0, sha256=facts["sha256"]))
        return tuple(dict.fromkeys(out))

    def commit(self, repository: str, revision: str) -> str | None:
        """The commit of a repository, at a revision of it, that a lock names: in its files' addresses."""
        for item in self.sources:
            address, facts = _parts(item.url)
            if facts.get("revision", "") != quote(revision, safe=""):
                continue
            found = _RESOLVED.fullmatch(address.removeprefix(repository))
            if address.startswith(repository) and found is not None:
                return found[1]
            if address == repository and "commit" in facts:
                return facts["commit"]
        return None


def _parts(url: str) -> tuple[str, Mapping[str, str]]:
    """An address without what is pinned, and that by name."""
    address, _, rest = url.partition("#")
    pairs = (fact.partition("=") for fact in rest.partition("!")[0].split("&") if "=" in fact)
    return address, {key: value for key, _, value in pairs}


def _without(address: str, facts: Mapping[str, str]) -> str:
    """The address of an archive as it stands in locks when it is a file itself."""
    kept = "&".join(f"{key}={value}" for key, value in facts.items() if key != "sha256")
    return f"{address}#{kept}" if kept else address

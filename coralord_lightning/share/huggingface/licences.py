"""Owns what a licence is called on the hub; pure. What it does not know is `other`, with a link: it never guesses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Licence", "hub_licence"]

_CREATIVE_COMMONS = frozenset(
    """
    cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0
    cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0
    """.split()  # noqa: SIM905
)
_OTHERS = frozenset(
    """
    apache-2.0 mit openrail afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda
    cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2
    agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc lppl-1.3c ms-pl mpl-2.0 odc-by odbl osl-3.0 postgresql
    ofl-1.1 ncsa unlicense zlib pddl
    """.split()  # noqa: SIM905
)
_SAME = {"odc-by-1.0": "odc-by", "odbl-1.0": "odbl", "pddl-1.0": "pddl", "cc0": "cc0-1.0", "apache2": "apache-2.0"}
_ADDRESSES = (
    (r"creativecommons\.org/licenses/([a-z-]+)/([0-9.]+)", "cc-{}-{}"),
    (r"creativecommons\.org/publicdomain/zero/([0-9.]+)", "cc0-{}"),
    (r"spdx\.org/licenses/([a-z0-9.+-]+?)(?:\.html|\.json)?/?$", "{}"),
    (r"opensource\.org/licenses?/([a-z0-9.+-]+?)(?:\.php|\.html)?/?$", "{}"),
    (r"choosealicense\.com/licenses/([a-z0-9.+-]+)", "{}"),
    (r"apache\.org/licenses/license-([0-9.]+?)(?:\.txt|\.html)?/?$", "apache-{}"),
    (r"gnu\.org/licenses/(?:old-licenses/)?([al]?gpl-[0-9.]+?)(?:\.txt|\.html|\.en\.html)?/?$", "{}"),
    (r"opendatacommons\.org/licenses/(odbl|pddl)\b", "{}"),
    (r"opendatacommons\.org/licenses/by\b", "odc-by"),
    (r"cdla\.(?:dev|io)/((?:sharing|permissive)-[12])-0", "cdla-{}.0"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """What a card's front matter says.

    Args:
        ids: of the hub.
        name, link: of a licence that the hub has no identifier for.
    """

    ids: tuple[str, ...]
    name: str | None = None
    link: str | None = None


def hub_licence(stated: Sequence[str]) -> Licence | None:
    """The licence that these texts or addresses are; None where there is none.

    Of several, all must be known: a card that names but one of two licences would be wrong.
    """
    found = [_identifier(text) for text in stated]
    known = tuple(dict.fromkeys(item for item in found if item is not None))
    if not stated or (len(known) > 0 and None not in found):
        return Licence(ids=known) if known else None
    (first, *_) = (text for text, item in zip(stated, found, strict=True) if item is None)
    is_address = "://" in first
    name = re.sub(r"[^a-z0-9.]+", "-", first.lower().partition("://")[2] if is_address else first.lower()).strip("-")
    return Licence(ids=("other",), name=name[:64] or "other", link=first if is_address else None)


def _identifier(text: str) -> str | None:
    lowered = text.strip().lower()
    for pattern, form in _ADDRESSES:
        found = re.search(pattern, lowered)
        if found is not None:
            return _known(form.format(*found.groups()))
    return None if "://" in lowered else _known(re.sub(r"[\s_]+", "-", re.sub(r"\blicen[cs]e\b", "", lowered).strip()))


def _known(name: str) -> str | None:
    bare = re.sub(r"-(only|or-later)$|\+$", "", name)
    bare = _SAME.get(bare, bare)
    return bare if bare in _CREATIVE_COMMONS or bare in _OTHERS else None

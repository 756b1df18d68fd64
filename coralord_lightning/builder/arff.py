"""The text of a dense ARFF file: attributes, then rows of texts. Opens no file.

Source: https://waikato.github.io/weka-wiki/formats_and_processing/arff_stable/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

__all__ = ["ArffError", "attributes", "rows_of"]

_ATTRIBUTE = re.compile(
    r"""@attribute\s+(?:'((?:[^'\\]|\\.)+)'|"((?:[^"\\]|\\.)+)"|([^\s'"]\S*))\s+\S""", re.IGNORECASE
)
_VALUE = re.compile(r"""\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|([^,'"\t{][^,\t]*|))\s*(?:[,\t]|$)""")
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}


class ArffError(ValueError):
    """A text is no ARFF that is read; its message says why."""


def attributes(text: Iterable[str]) -> list[str]:
    """The names of the attributes, in their order; the text is read up to its data.

    Raises:
        ArffError: an attribute has no name of its own, or there are no data.
    """
    names: list[str] = []
    for line in text:
        word = line.split(maxsplit=1)[0].lower() if line.strip() else ""
        if word == "@attribute":
            found = _ATTRIBUTE.match(line.strip())
            said = "" if found is None else _unescaped(next(group for group in found.groups() if group is not None))
            if not said or said in names:
                raise ArffError(f"an attribute without a name of its own: {line.strip()[:80]}")
            names.append(said)
        elif word == "@data":
            return names
    raise ArffError("no @DATA after its @ATTRIBUTEs")


def rows_of(text: Iterable[str], count: int) -> Iterator[list[str | None]]:
    """The rows of data, each of so many values; `?` is None.

    Raises:
        ArffError: a row is sparse, is quoted wrongly, or has another number of values.
    """
    for line in text:
        plain = line.strip()
        if not plain or plain.startswith("%"):
            continue
        if plain.startswith("{"):
            raise ArffError("its rows are sparse: {index value, …}")
        row = _values(plain)
        if len(row) != count:
            raise ArffError(f"a row of {len(row)} values, {count} attributes")
        yield row


def _values(line: str) -> list[str | None]:
    values: list[str | None] = []
    at = 0
    while True:
        found = _VALUE.match(line, at)
        if found is None:
            raise ArffError(f"a value that is quoted wrongly: {line[at:][:80]}")
        single, double, plain = found.groups()
        quoted = single if single is not None else double
        value = _unescaped(quoted) if quoted is not None else plain.strip()
        values.append(None if quoted is None and value == "?" else value)
        at = found.end()
        if found[0][-1:] not in (",", "\t"):
            return values


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: _ESCAPED.get(found[1], found[1]), text)

"""Croissant DataSource, Extract and Transform to typed sources and references. Reads no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coralord_lightning.spec.croissant.formats import DateFormatError, strptime_format
from coralord_lightning.spec.croissant.model import File, Reference, Source
from coralord_lightning.spec.croissant.terms import Node, as_list, id_of
from coralord_lightning.spec.json_path import JsonPathError, path_segments
from coralord_lightning.spec.predicate.duck import is_regex
from coralord_lightning.spec.selection import FILE_PROPERTIES, FieldKind, Transform

__all__ = ["SourceReader", "split_replace"]

_FILES = ("cr:fileObject", "cr:fileSet", "sc:distribution", "cr:distribution")
_OPS = {
    "cr:regex": "regex",
    "cr:separator": "separator",
    "cr:delimiter": "separator",
    "cr:replace": "replace",
    "cr:jsonPath": "json_path",
    "cr:format": "format",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceReader:
    """Reads sources against the files and fields that the dataset has.

    Args:
        fields: @ids of all fields.
    """

    files: Mapping[str, File]
    fields: frozenset[str]

    def source(self, node: Node, problems: list[str]) -> Source | None:
        """The source of a field; None, and a reason in `problems`, where we do not read what it is.

        Raises:
            CroissantSyntaxError: it names what is not there, or is no source.
        """
        said = node.get("cr:source")
        if isinstance(said, list) and len(said) == 1:
            said = said[0]
        if isinstance(said, str):
            said = {"@id": said}
        if not isinstance(said, Mapping):
            problems.append("several sources" if isinstance(said, list) else "a source that is no object")
            return None
        return self._read(node, Node.of(said, node.context, node.where), problems)

    def reference(self, node: Node, said: Any, problems: list[str]) -> Reference:
        """What a field references: `{"field": {"@id": x}}`, `{"@id": x}`, or a column of a file."""
        inner = Node.of(said, node.context, node.where) if isinstance(said, Mapping) else None
        name = id_of(said) if inner is None else (inner.reference("cr:field") or inner.reference("@id"))
        if name is not None and name not in self.files:
            if name not in self.fields:
                raise node.error("references a field that is not there", got=name)
            return Reference(field=name)
        if inner is None:
            problems.append("references to what is no field")
            return Reference()
        return Reference(source=self._read(node, inner, problems))

    def _read(self, node: Node, source: Node, problems: list[str]) -> Source | None:
        transforms = self._transforms(node, source, problems)
        name = source.reference("cr:field") or source.reference("cr:recordSet") or source.reference("@id")
        file = next((found for term in _FILES if (found := source.reference(term))), None)
        if file is None and name in self.files:
            file = name
        if file is None:
            if name is None:
                problems.append("a source that is no file")
                return None
            if name not in self.fields:
                raise node.error("comes from a field that is not there", got=name)
            return Source(field=name, transforms=transforms)
        if file not in self.files:
            raise node.error("comes from a file that is not there", got=file, expected=", ".join(self.files))
        kind, column = self._extract(node, source, problems)
        return Source(file=file, kind=kind, column=column, transforms=transforms)

    def _extract(self, node: Node, source: Node, problems: list[str]) -> tuple[FieldKind, str]:
        said = source.get("cr:extract")
        if said is None:
            return "file_property", "lines" if _reads_lines(source) else "content"
        if not isinstance(said, Mapping):
            raise node.error("has an extract that is no object", got=str(said)[:80], expected='{"column": "x"}')
        extract = Node.of(said, node.context, node.where)
        column, path, prop = (extract.get(term) for term in ("cr:column", "cr:jsonPath", "cr:fileProperty"))
        if isinstance(column, str) and column:
            return "column", column
        if isinstance(path, str) and path:
            return "json_path", _checked_path(node, path)
        if isinstance(prop, str) and prop:
            plain = prop.rpartition("#")[2].rpartition("/")[2].removeprefix("cr:")
            if plain not in FILE_PROPERTIES:
                raise node.error("extracts no property of a file", got=prop, expected=", ".join(FILE_PROPERTIES))
            return "file_property", "lines" if plain == "content" and _reads_lines(source) else plain
        problems.append(
            f"extract by {', '.join(term.partition(':')[2] or term for term in extract.terms) or 'nothing'}"
        )
        return "column", ""

    def _transforms(self, node: Node, source: Node, problems: list[str]) -> tuple[Transform, ...]:
        steps: list[Transform] = []
        said = [
            *as_list(source.get("cr:transform")),
            *({"cr:format": item} for item in as_list(source.get("cr:format"))),
        ]
        for item in said:
            if not isinstance(item, Mapping):
                raise node.error("has a transform that is no object", got=str(item)[:80], expected='{"regex": "(.*)"}')
            for term, argument in Node.of(item, node.context, node.where).own_terms().items():
                if term in ("cr:unArchive", "cr:readLines", "@type", "@id"):
                    continue
                if term not in _OPS:
                    problems.append(f"transform by {term.partition(':')[2] or term}")
                    continue
                steps.append(_step(node, _OPS[term], argument))
        return tuple(steps)


def _reads_lines(source: Node) -> bool:
    said = [item for item in as_list(source.get("cr:transform")) if isinstance(item, Mapping)]
    return any(Node.of(item, source.context, source.where).get("cr:readLines") for item in said)


def _step(node: Node, op: str, argument: Any) -> Transform:
    """One transform, its argument checked.

    Raises:
        CroissantSyntaxError: the argument is none that can be applied.
    """
    if not isinstance(argument, str) or not argument:
        raise node.error(f"has a {op} that is no text", got=str(argument)[:80])
    if op in ("regex", "replace"):
        pattern = argument if op == "regex" else split_replace(argument)[0]
        if not is_regex(pattern):
            raise node.error(
                f"has a {op} that is no regular expression in RE2 syntax",
                got=argument[:200],
                expected="RE2: no look-around, no back-references (https://github.com/google/re2/wiki/Syntax)",
                remedy="write the pattern without (?=…), (?<=…) and \\1 in the Croissant file",
            )
    if op == "format":
        try:
            return Transform(op="format", argument=strptime_format(argument))
        except DateFormatError as error:
            raise node.error("has a format that cannot be read", got=argument, expected=str(error)) from error
    if op == "json_path":
        _checked_path(node, argument)
    return Transform(op=op, argument=argument)  # type: ignore[arg-type]  # _OPS has the words of the type


def _checked_path(node: Node, path: str) -> str:
    try:
        path_segments(path)
    except JsonPathError as error:
        raise node.error("has a jsonPath that cannot be read", got=str(error), expected='"$.items[*].name"') from error
    return path


def split_replace(argument: str) -> tuple[str, str]:
    r"""`pattern/replacement` apart, at the first `/` that no backslash precedes; `\/` is a slash."""
    parts = []
    rest = argument
    at = -1
    while (at := rest.find("/", at + 1)) >= 0:
        if rest[:at].endswith("\\") and not rest[:at].endswith("\\\\"):
            continue
        parts = [rest[:at], rest[at + 1 :]]
        break
    pattern, replacement = parts or [argument, ""]
    return pattern.replace("\\/", "/"), replacement.replace("\\/", "/")

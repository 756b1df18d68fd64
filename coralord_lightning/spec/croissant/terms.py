"""JSON-LD as far as Croissant needs it: terms folded to one spelling, values unwrapped. Never fetches a context."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from coralord_lightning.errors import CroissantSyntaxError

__all__ = ["MAX_DEPTH", "MAX_NODES", "Context", "Node", "as_list", "check_size", "id_of", "read_context"]

MAX_DEPTH = 64
MAX_NODES = 2_000_000

_NAMESPACES = {
    "schema.org/": "sc:",
    "www.schema.org/": "sc:",
    "mlcommons.org/croissant/": "cr:",
    "mlcommons.org/croissant/1.0/": "cr:",
    "mlcommons.org/croissant/1.1/": "cr:",
    "mlcommons.org/schema/": "cr:",
    "mlcommons.org/croissant/RAI/": "rai:",
    "www.w3.org/ns/prov#": "prov:",
    "purl.org/dc/terms/": "dct:",
}
_LONGEST_FIRST = sorted(_NAMESPACES.items(), key=lambda item: -len(item[0]))
_CROISSANT_TERMS = frozenset(
    {
        "annotation", "arrayShape", "citeAs", "column", "containedIn", "data", "dataType", "delimiter",
        "equivalentProperty", "examples", "excludes", "extract", "field", "fileObject", "fileProperty", "fileSet",
        "format", "includes", "isArray", "isLiveDataset", "jsonPath", "jsonQuery", "key", "md5", "parentField", "path",
        "readLines", "recordSet", "references", "regex", "repeated", "replace", "samplingRate", "sdVersion",
        "separator", "source", "subField", "transform", "unArchive", "value",
    }
)  # fmt: skip
_UNLISTED = frozenset(
    {
        "annotation", "arrayShape", "containedIn", "delimiter", "equivalentProperty", "excludes", "isArray",
        "jsonQuery", "readLines", "samplingRate", "sdVersion", "unArchive", "value",
    }
)  # fmt: skip
"""Terms that the official contexts of version 1.0 forgot, and that mean nothing in schema.org: read all the same."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_KEYWORD = re.compile(r"@(id|type|value|language|graph|context|list|set)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the document's `@context` says of terms.

    Args:
        terms: term or prefix -> IRI or compact IRI.
        inline: False where it says nothing itself (absent, or only the address of the standard one).
        language: `@language`.
        folded: terms that were folded before: a document repeats few of them very often.
    """

    origin: str
    terms: Mapping[str, str]
    inline: bool
    language: str | None = None
    folded: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    def fold(self, term: str) -> str:
        """One spelling of a term: `sc:name`, `cr:field`, `@id`, or the whole IRI of another vocabulary."""
        found = self.folded.get(term)
        if found is None:
            found = self.folded[term] = self._folded(term)
        return found

    def _folded(self, term: str) -> str:
        if _KEYWORD.fullmatch(term):
            return term
        iri = self._expand(term)
        bare = re.sub(r"^https?://", "", iri)
        for namespace, prefix in _LONGEST_FIRST:
            if bare.startswith(namespace) and "/" not in bare[len(namespace) :]:
                return prefix + bare[len(namespace) :]
        return iri

    def _expand(self, term: str) -> str:
        for _ in range(8):  # an alias of an alias; a circle ends here
            prefix, colon, rest = term.partition(":")
            if term in self.terms:
                term = self.terms[term]
            elif colon and not rest.startswith("//") and prefix in self.terms:
                term = self.terms[prefix] + rest
            else:
                break
        if ":" in term:
            prefix, _, rest = term.partition(":")
            known = {
                "sc": "https://schema.org/",
                "schema": "https://schema.org/",
                "cr": "http://mlcommons.org/croissant/",
            }
            return known[prefix] + rest if prefix in known else term
        if not self.inline and term in _CROISSANT_TERMS:
            return "http://mlcommons.org/croissant/" + term
        return "https://schema.org/" + term


def read_context(value: object, *, origin: str) -> Context:
    """The context of a document: a mapping, the address of the standard one, or a list of these."""
    terms: dict[str, str] = {}
    language: str | None = None
    inline = False
    for part in as_list(value):
        if not isinstance(part, Mapping):
            continue
        inline = inline or any(term == "@vocab" or not term.startswith("@") for term in part)
        for term, meaning in part.items():
            iri = meaning.get("@id") if isinstance(meaning, Mapping) else meaning
            if term == "@language":
                language = str(meaning)
            elif isinstance(iri, str) and not term.startswith("@"):
                terms[term] = iri
    standard = any(isinstance(part, str) and "mlcommons.org/croissant" in part for part in as_list(value))
    return Context(origin=origin, terms=terms, inline=inline and not standard, language=language)


@dataclass(frozen=True, slots=True)
class Node:
    """One JSON-LD node, with its terms folded; made by `Node.of`."""

    context: Context
    terms: Mapping[str, Any]
    where: str

    @classmethod
    def of(cls, value: Mapping[str, Any], context: Context, where: str) -> Node:
        """A node.

        Args:
            where: what to call it in messages: `field images/label`.
        """
        return cls(context, {context.fold(key): item for key, item in value.items()}, where)

    def get(self, term: str) -> Any:
        """The value of a folded term, None where it is not said.

        Raises:
            CroissantSyntaxError: it is said in a spelling that the document's own context takes for schema.org's.
        """
        if term in self.terms:
            return self.terms[term]
        prefix, _, name = term.partition(":")
        if prefix == "cr" and f"sc:{name}" in self.terms:
            if name in _UNLISTED:
                return self.terms[f"sc:{name}"]
            raise CroissantSyntaxError(
                self.where,
                f"says {name!r}, which its own @context does not define",
                facts={"at": self.context.origin, "expected": f"{name} defined as cr:{name}"},
                remedy=f'"@context": {{"{name}": "cr:{name}"}}',
            )
        return None

    def own_terms(self) -> dict[str, Any]:
        """All terms, those that the first contexts forgot under Croissant's name, as `get` finds them."""
        return {
            f"cr:{term[3:]}" if term.startswith("sc:") and term[3:] in _UNLISTED else term: value
            for term, value in self.terms.items()
        }

    def text(self, term: str) -> str | None:
        """A text; of several languages the document's own, else English, else the first."""
        return _text(self.get(term), self.context.language)

    def types(self, term: str = "@type") -> tuple[str, ...]:
        """Folded type names."""
        found = self.get(term)
        names = [id_of(item) for item in as_list(found)]
        return tuple(self.context.fold(name) for name in names if name is not None)

    def reference(self, term: str) -> str | None:
        """The @id that a term points at, written `{"@id": x}` or `x`."""
        return id_of(self.get(term))

    def nodes(self, term: str, what: str) -> list[Node]:
        """The nodes under a term, one or a list."""
        found = []
        for item in as_list(self.get(term)):
            if not isinstance(item, Mapping):
                raise self.error(f"has a {what} that is no object", got=str(item)[:80], expected="an object with @type")
            name = item.get("@id") or _text(item.get("name"), self.context.language) or "without @id"
            found.append(Node.of(item, self.context, f"{what} {name}"))
        return found

    def error(self, message: str, *, remedy: str = "", **facts: object) -> CroissantSyntaxError:
        """The error for this node."""
        return CroissantSyntaxError(
            self.where,
            message,
            facts={"at": self.context.origin, **facts},
            remedy=remedy or "mend the Croissant file; `mlcroissant validate --jsonld FILE` checks it",
        )


def as_list(value: object) -> list[Any]:
    """One value or several, as several."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def id_of(value: object) -> str | None:
    """The @id in `{"@id": x}` or `x`; None where it is neither."""
    found = value.get("@id") if isinstance(value, Mapping) else value
    return found if isinstance(found, str) else None


def check_size(document: object, *, origin: str) -> None:
    """Refuse a document that nests or grows beyond any dataset.

    Raises:
        CroissantSyntaxError: it does.
    """
    level: list[Any] = [document]
    seen = 0
    for _ in range(MAX_DEPTH):
        seen += len(level)
        if seen > MAX_NODES:
            break
        _check_texts(level, origin)
        level = [item for value in level for item in _children(value)]
        if not level:
            return
    raise CroissantSyntaxError(
        origin,
        "is larger or nested deeper than any dataset's description",
        facts={"expected": f"at most {MAX_NODES:,} values, {MAX_DEPTH} deep"},
        remedy="put the records into files and describe those",
    )


def _children(value: object) -> list[Any]:
    """The values inside a value, keys of objects included."""
    if isinstance(value, Mapping):
        return [*value, *value.values()]
    return value if isinstance(value, list) else []


def _check_texts(values: list[Any], origin: str) -> None:
    for value in values:
        if isinstance(value, str) and ("\0" in value or (not value.isascii() and _SURROGATE.search(value))):
            raise CroissantSyntaxError(
                origin,
                "has a character that no file name or hash can hold",
                facts={"got": ascii(value)[:100]},
                remedy="take \\u0000 and lone \\ud800 to \\udfff out of its texts",
            )


def _text(value: object, language: str | None) -> str | None:
    if isinstance(value, list):
        texts = {item.get("@language"): item.get("@value") for item in value if isinstance(item, Mapping)}
        value = texts or (value[0] if value else None)
    if isinstance(value, Mapping):
        value = value.get("@value") or value.get(language) or value.get("en") or next(iter(value.values()), None)
    return value if isinstance(value, str) and value else None

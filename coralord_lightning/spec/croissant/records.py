"""Croissant RecordSet and Field to typed records: fields, subfields, keys, annotations, inline rows. Reads no file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from coralord_lightning.spec.croissant.model import Field, File, RecordSet, Reference, Source
from coralord_lightning.spec.croissant.sources import SourceReader
from coralord_lightning.spec.croissant.terms import Node, as_list, id_of
from coralord_lightning.spec.croissant.types import SPLIT_TYPES, read_shape, read_types
from coralord_lightning.spec.selection import InlineData

__all__ = ["parse_record_sets"]

_MAX_DEPTH = 16


def parse_record_sets(dataset: Node, files: Mapping[str, File]) -> tuple[RecordSet, ...]:
    """Every record set.

    Raises:
        CroissantSyntaxError: one of them, or of their fields, is no valid Croissant; names it.
    """
    nodes = dataset.nodes("cr:recordSet", "record set")
    splits = frozenset(_identity(node) for node in nodes if SPLIT_TYPES & set(node.types("cr:dataType")))
    fields = frozenset(name for node in nodes for name in _field_ids(node, 0))
    parser = _Parser(sources=SourceReader(files=files, fields=fields), splits=splits)
    return tuple(parser.record_set(node) for node in nodes)


def _identity(node: Node) -> str:
    found = node.reference("@id") or node.text("sc:name")
    if found is None:
        raise node.error("has neither @id nor name", remedy='"@id": "digits"')
    return found


def _field_ids(node: Node, depth: int) -> Iterable[str]:
    for term in ("cr:field", "cr:subField", "cr:annotation"):
        for child in node.nodes(term, "field") if depth < _MAX_DEPTH else ():
            name = child.reference("@id") or child.text("sc:name")
            if name is not None:
                yield name
            yield from _field_ids(child, depth + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parser:
    """Record sets against what is known of the whole dataset.

    Args:
        splits: @ids of record sets of the type cr:Split.
    """

    sources: SourceReader
    splits: frozenset[str]

    def record_set(self, node: Node) -> RecordSet:
        identity = _identity(node)
        if "cr:RecordSet" not in node.types():
            raise node.error("is no cr:RecordSet", got=", ".join(node.types()) or "no @type")
        data = as_list(node.get("cr:data"))
        nodes = node.nodes("cr:field", "field")
        fields = [self.field(child, inline=bool(data)) for child in nodes]
        fields += _apart(fields, [item for owner in (node, *nodes) for item in self.annotations(owner)])
        return RecordSet(
            id=identity,
            name=node.text("sc:name") or identity,
            fields=tuple(fields),
            key=_key(node, identity, fields),
            data=_rows(node, data, fields) if data else None,
            is_enumeration="sc:Enumeration" in node.types("cr:dataType"),
        )

    def field(self, node: Node, *, inline: bool, depth: int = 0) -> Field:
        identity = _identity(node)
        if "cr:Field" not in node.types():
            raise node.error("is no cr:Field", got=", ".join(node.types()) or "no @type")
        if depth >= _MAX_DEPTH:
            raise node.error("is nested too deeply", expected=f"at most {_MAX_DEPTH} fields inside each other")
        children = tuple(self.child(item, inline=inline, depth=depth) for item in self.children(node))
        problems: list[str] = []
        references = self.references(node, problems)
        constant = None if node.get("cr:value") is None else (node.get("cr:value"),)
        source = self._source(node, problems, references, optional=inline or constant is not None or bool(children))
        types = read_types(node, problems, is_known=bool(children) or (source is not None and source.field is not None))
        return Field(
            id=identity,
            name=(node.text("sc:name") or identity).rpartition("/")[2] or identity,
            source=source,
            value=constant,
            dtype="struct" if children else types.dtype,
            shape=read_shape(node) + types.inner_shape,
            media=types.media,
            is_split=types.is_split or any(self._is_split(item) for item in references),
            references=references,
            children=children,
            parent=self.parent(node, problems),
            description=node.text("sc:description") or "",
            data_types=tuple(node.types("cr:dataType")),
            unsupported=tuple(
                dict.fromkeys([*problems, *(reason for child in children for reason in child.unsupported)])
            ),
        )

    def children(self, node: Node) -> list[Node]:
        return node.nodes("cr:subField", "field")

    def child(self, node: Node, *, inline: bool, depth: int) -> Field:
        """A subfield; one without `@type` is what it stands for."""
        typed = node if node.types() else Node(node.context, {**node.terms, "@type": "cr:Field"}, node.where)
        return self.field(typed, inline=inline, depth=depth + 1)

    def annotations(self, node: Node) -> list[Field]:
        """Annotations that have a source: one more value a row. Others say something of the data, and are no data."""
        found = []
        for item in node.nodes("cr:annotation", "field"):
            if item.get("cr:source") is None and not self.children(item):
                continue
            found.append(self.child(item, inline=False, depth=0))
        return found

    def references(self, node: Node, problems: list[str]) -> tuple[Reference, ...]:
        return tuple(self.sources.reference(node, item, problems) for item in as_list(node.get("cr:references")))

    def parent(self, node: Node, problems: list[str]) -> Field | None:
        """How the rows of a nested record set find the row that they belong to."""
        said = [item for item in as_list(node.get("cr:parentField")) if isinstance(item, Mapping)]
        if not said:
            return None
        if len(said) > 1:
            problems.append("several parentFields")
        inner = Node.of(said[0], node.context, node.where)
        references = self.references(inner, problems)
        source = self.sources.source(inner, problems) if inner.get("cr:source") is not None else None
        if source is None or not references:
            problems.append("a parentField without source and references")
        return Field(id=f"{_identity(node)}/parentField", name="parentField", source=source, references=references)

    def _source(
        self, node: Node, problems: list[str], references: tuple[Reference, ...], *, optional: bool
    ) -> Source | None:
        if node.get("cr:source") is not None:
            return self.sources.source(node, problems)
        of_file = next((item.source for item in references if item.source is not None), None)
        if optional or of_file is not None:
            return of_file  # a key of a file is read there
        if references:
            problems.append(f"references without a source (a join with {references[0].field or 'a file'})")
            return None
        raise node.error(
            "has no source", remedy='"source": {"fileObject": {"@id": "data"}, "extract": {"column": "x"}}'
        )

    def _is_split(self, reference: Reference) -> bool:
        return (reference.field or "").rpartition("/")[0] in self.splits


def _apart(fields: list[Field], annotations: list[Field]) -> list[Field]:
    """Annotations whose names are not those of fields: `images/image/label` is `label`, or `image_label`."""
    taken = {item.name for item in fields}
    out = []
    for item in annotations:
        name = "_".join(item.id.split("/")[-2:]) if item.name in taken else item.name
        taken.add(name)
        out.append(replace(item, name=name))
    return out


def _key(node: Node, record_set: str, fields: Iterable[Field]) -> tuple[str, ...] | None:
    """Names of the key fields: `{"@id": "images/id"}`, and the short form `{"@id": "id"}` of older files."""
    names = {
        spelling: field.name for field in fields for spelling in (field.id, f"{record_set}/{field.name}", field.name)
    }
    found = []
    for item in as_list(node.get("cr:key")):
        said = id_of(item)
        if said is None or said not in names:
            return None
        found.append(names[said])
    return tuple(found)


def _rows(node: Node, data: list[Any], fields: Iterable[Field]) -> InlineData:
    """Inline rows with their keys folded to field names."""
    return InlineData(rows=tuple(_row(node, row, fields, f"row {number}") for number, row in enumerate(data)))


def _row(node: Node, row: Any, fields: Iterable[Field], where: str) -> dict[str, Any]:
    if not isinstance(row, Mapping):
        raise node.error(f"has a row in data that is no object: {where}", got=str(row)[:80])
    known = {spelling: field for field in fields for spelling in (field.name, field.id)}
    unknown = [key for key in row if key not in known]
    if unknown:
        raise node.error(
            f"has a row in data with a key that is no field: {where}", got=unknown[0], expected=", ".join(known)
        )
    return {known[key].name: _value(node, value, known[key], where) for key, value in row.items()}


def _value(node: Node, value: Any, field: Field, where: str) -> Any:
    if not field.children or value is None:
        return value
    if isinstance(value, list):
        return [_row(node, item, field.children, where) for item in value]
    return _row(node, value, field.children, where)

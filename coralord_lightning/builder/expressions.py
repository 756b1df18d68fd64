"""Selected fields over one table as SQL: leaves cast, subfields packed. Pure text, runs nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from coralord_lightning.builder.field_sql import cast_sql, failure_sql
from coralord_lightning.builder.kinds import JSON, TEXT, ColumnType, NoCastError, Value
from coralord_lightning.builder.scans import Table
from coralord_lightning.builder.transform_sql import json_path, transformed
from coralord_lightning.errors import SourceFormatError
from coralord_lightning.spec.predicate import quote_literal
from coralord_lightning.spec.selection import SelectedField

__all__ = ["Targets", "ends_of", "field_sql", "leaves"]

Place = tuple[str, ...]
Targets = Mapping[Place, str]
"""(field, subfield, …) -> DuckDB type of its elements."""


def leaves(field: SelectedField, table: Table) -> Iterator[tuple[Place, SelectedField, ColumnType]]:
    """The fields without subfields in a field: their place, and the type that the table has for them.

    Raises:
        SourceFormatError: the table has no such column, or a transform cannot be applied to it.
    """
    yield from _leaves(field, _view(field, table)[0], (field.name,))


def field_sql(field: SelectedField, table: Table, targets: Targets) -> str:
    """The expression that gives a field as the selection types it.

    Raises:
        SourceFormatError: a column is missing or can never be the field.
    """
    return _sql(field, table, targets, (field.name,))


def _leaves(field: SelectedField, table: Table, place: Place) -> Iterator[tuple[Place, SelectedField, ColumnType]]:
    if not field.children:
        yield place, field, _value(field, table).type
        return
    for child in field.children:
        yield from _leaves(child, _view(child, table)[0], (*place, child.name))


def _sql(field: SelectedField, table: Table, targets: Targets, place: Place) -> str:
    if not field.children:
        return _leaf_sql(field, table, targets[place])
    inner, lists = _view(field, table)
    parts = [
        f"{quote_literal(child.name)}: {_sql(child, inner, targets, (*place, child.name))}" for child in field.children
    ]
    packed = f"{{{', '.join(parts)}}}"
    if lists is not None:
        return f"list_transform({lists.sql}, lambda r{lists.type.depth}: {packed})"
    if field.shape and not field.table:  # a joined table's rows are listed once they are joined
        raise _no_list(field, table)
    whole = _common(field, table)
    return packed if whole is None else f"CASE WHEN {whole.sql} IS NOT NULL THEN {packed} END"


def _leaf_sql(field: SelectedField, table: Table, target: str) -> str:
    try:
        return cast_sql(field, _value(field, table), target, file=table.file, truncates=table.truncates)
    except NoCastError as error:
        raise _no_cast(field, table, error) from error


def _value(field: SelectedField, table: Table) -> Value:
    if field.kind == "constant":
        return _constant(json.loads(field.column))
    value = table.value(field)
    try:
        failure = failure_sql(field, table.file)
        found = transformed(value, field.transforms, dtype=field.dtype, failure=failure)
        # Hugging Face keeps pictures and sound as {bytes, path}
        is_media = field.dtype == "bytes" and found.type.element == "STRUCT" and "bytes" in dict(found.type.fields)
        return json_path(found, "bytes") if is_media else found
    except NoCastError as error:
        raise _no_cast(field, table, error) from error


def _constant(value: object) -> Value:
    if isinstance(value, list):
        items = ", ".join(_constant(item).sql for item in value)
        return Value(f"CAST([{items}] AS VARCHAR[])", TEXT.listed(1))
    text = value if isinstance(value, str) else json.dumps(value)
    return Value("CAST(NULL AS VARCHAR)" if value is None else quote_literal(text), TEXT)


def _view(field: SelectedField, table: Table) -> tuple[Table, Value | None]:
    """The table as subfields see it: where their one column is a list of structs, one of these at a time."""
    whole = _common(field, table)
    if whole is not None and field.shape and whole.type in (JSON, TEXT):
        whole = Value(f"CAST(CAST({whole.sql} AS JSON) AS JSON[])", JSON.listed(1))
    if whole is None or whole.type.depth == 0 or whole.type.element not in ("STRUCT", "MAP", "JSON"):
        return table, None
    leaf = next(ends_of(field))
    return table.with_value(leaf, Value(f"r{whole.type.depth}", whole.type.item)), whole


def _common(field: SelectedField, table: Table) -> Value | None:
    """The one column that all subfields come from, each by a path into it; None where there is none."""
    ends = list(ends_of(field)) if field.children else []
    sources = {(end.kind, end.column) for end in ends}
    if len(sources) != 1 or not all(end.transforms and end.transforms[0].op == "json_path" for end in ends):
        return None
    return table.value(ends[0])


def ends_of(field: SelectedField) -> Iterator[SelectedField]:
    """The field, or the fields without subfields in it, at any depth."""
    if not field.children:
        yield field
    for child in field.children:
        yield from ends_of(child)


def _no_list(field: SelectedField, table: Table) -> SourceFormatError:
    return SourceFormatError(
        table.name,
        f"field '{field.name}' is an array, and no list is where its subfields are read from",
        facts={"expected": "one column or path of lists, and a way into their items by each subfield"},
        remedy=f"leave isArray out of '{field.name}', or give all of its subfields the list itself as `extract`, "
        'and each `"transform": {"jsonPath": "$.name"}`',
    )


def _no_cast(field: SelectedField, table: Table, error: NoCastError) -> SourceFormatError:
    return SourceFormatError(
        table.name,
        f"'{field.column}' cannot be field '{field.name}'",
        facts={"got": error, "expected": f"{field.dtype} {list(field.shape) or ''}".strip()},
        remedy=f"correct dataType, arrayShape or transform of '{field.name}' in the Croissant file",
    )

"""Predicates in restricted SQL: parsed by DuckDB, kept in our own tree, printed from it. Reads no data, ever."""

from __future__ import annotations

from collections.abc import Mapping

from coralord_lightning.spec.predicate.syntax import Predicate, equals, quote_identifier, quote_literal

__all__ = ["Predicate", "equals", "parse_predicate", "quote_identifier", "quote_literal"]


def parse_predicate(text: str, *, subject: str, fields: Mapping[str, str]) -> Predicate:
    """Read one predicate.

    Args:
        text: an SQL condition over field names.
        subject: the key it stands in, for messages: `where`, `splits.test.where`.
        fields: name -> dtype of every field that may be used.
    Raises:
        UnknownFieldError: a name is no field; the remedy is the corrected text.
        PredicateError: it is not in the restricted SQL.
    """
    from coralord_lightning.spec.predicate.duck import parse_tree, too_deep
    from coralord_lightning.spec.predicate.kinds import check_kinds
    from coralord_lightning.spec.predicate.scan import MAX_NESTING, PredicateText, check_text
    from coralord_lightning.spec.predicate.translate import translate

    source = PredicateText(subject=subject, text=text)
    check_text(source)
    try:
        predicate = Predicate(translate(parse_tree(source, fields), source=source, fields=fields))
        depth = predicate.depth()
    except RecursionError:
        raise too_deep(source) from None
    if depth > MAX_NESTING:
        raise too_deep(source)
    check_kinds(predicate.root, source=source, fields=fields)
    return predicate

"""DuckDB as a parser of predicates: one locked connection a process, opened late. Runs no query over any data."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterable
from typing import Any

from coralord_lightning.errors import PredicateError
from coralord_lightning.spec.predicate.scan import MAX_NESTING, PredicateText
from coralord_lightning.spec.predicate.syntax import quote_identifier, quote_literal

__all__ = ["is_castable", "is_regex", "parse_tree", "too_deep"]

_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "threads": "1",
    "enable_external_access": "false",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "max_expression_depth": "200",
    "lock_configuration": "true",
}

_NOTHING_ELSE = {"", "modifiers", "group_expressions", "group_sets", "where_clause", "having", "sample", "qualify"}


class _Parser:
    """A DuckDB connection that only parses; one thread at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: Any = None

    def ask(self, sql: str) -> Any:
        """The one value that `sql` gives."""
        import duckdb

        with self._lock:
            if self._connection is None:
                self._connection = duckdb.connect(":memory:", config=_SETTINGS)
            # never execute(sql, params): that imports pandas
            return self._connection.execute(sql).fetchone()[0]


_PARSERS: dict[int, _Parser] = {}
"""By process id: a forked child must neither use nor close its parent's connection, nor wait for its lock."""


def _parser() -> _Parser:
    return _PARSERS.setdefault(os.getpid(), _Parser())


def parse_tree(source: PredicateText, names: Iterable[str] = ()) -> dict[str, Any]:
    """DuckDB's tree of the predicate: the one select item of `SELECT (…) FROM t`.

    Args:
        names: the fields, for the remedy: one may be a reserved word of SQL that wants quotes.
    Raises:
        PredicateError: it does not parse, or is more than one expression.
        RecursionError: it nests too deep for the JSON reader.
    """
    body = _serialized(source.text)
    if body["error"]:
        raise _syntax_error(source, str(body.get("error_message", "")), names)
    return _only_item(source, body)


def is_castable(text: str, sql_type: str) -> bool:
    """Whether DuckDB reads `text` as that type; `sql_type` comes from our own list."""
    return bool(_parser().ask(f"SELECT TRY_CAST({quote_literal(text)} AS {sql_type}) IS NOT NULL"))


def is_regex(pattern: str) -> bool:
    """Whether the pattern is a regular expression in RE2's syntax."""
    import duckdb

    try:
        _parser().ask(f"SELECT regexp_matches('', {quote_literal(pattern)})")
    except duckdb.Error:
        return False
    return True


def _serialized(text: str) -> dict[str, Any]:
    query = f"SELECT (\n{text}\n) FROM t"  # noqa: S608  # never run: handed to the parser as a literal
    body: dict[str, Any] = json.loads(_parser().ask(f"SELECT json_serialize_sql({quote_literal(query)})"))
    return body


def _only_item(source: PredicateText, body: dict[str, Any]) -> dict[str, Any]:
    statements = body["statements"]
    node = statements[0]["node"] if len(statements) == 1 else {}
    table = node.get("from_table", {})
    items = node.get("select_list", [])
    plain = (
        node.get("type") == "SELECT_NODE"
        and not any(node.get(name) for name in _NOTHING_ELSE)
        and not node["cte_map"]["map"]
        and (table.get("type"), table.get("table_name"), table.get("alias")) == ("BASE_TABLE", "t", "")
        and not any(table.get(name) for name in ("sample", "schema_name", "catalog_name", "column_name_alias"))
        and len(items) == 1
    )
    if not plain:
        raise source.refusal(
            "is more than one expression",
            remedy="write one condition over field names: label % 2 = 0 AND part = 'test'",
        )
    item: dict[str, Any] = items[0]
    return item


def _syntax_error(source: PredicateText, message: str, names: Iterable[str]) -> PredicateError:
    if "expression depth" in message:
        return too_deep(source)
    quoted = _with_quoted_names(source.text, names)
    return source.refusal(
        "is not a predicate in SQL",
        parser=message.splitlines()[0] if message else "no reason given",
        remedy="write a condition over field names: label % 2 = 0 AND part = 'test'"
        if quoted == source.text or _serialized(quoted)["error"]
        else source.paste(quoted),
    )


def _with_quoted_names(text: str, names: Iterable[str]) -> str:
    """The text with every field name in double quotes, outside of texts and names that are quoted already."""
    words = "|".join(re.escape(name) for name in names if name.isidentifier())
    pattern = re.compile(rf"""('[^']*'|"[^"]*")|\b({words})\b(?!\s*\()""")
    return pattern.sub(lambda found: found[1] or quote_identifier(found[2]), text) if words else text


def too_deep(source: PredicateText) -> PredicateError:
    """The error for what nests without end."""
    return source.refusal(f"nests deeper than {MAX_NESTING}", remedy="write lists of values as: label IN (1, 2, 3)")

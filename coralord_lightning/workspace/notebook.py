"""Owns how versions look in a notebook: small HTML tables in the notebook's own colours. Reads no disk, no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

__all__ = ["html_of_facts", "html_of_rows", "html_of_version_facts"]

_SHORT = 12
_CELL = "text-align:left;vertical-align:top;padding:2px 12px 2px 0;background:transparent;color:inherit"


def html_of_facts(title: str, facts: Mapping[str, object], *, below: str = "") -> str:
    """Labels and values, one pair a line; all of it is escaped but `below`, which is HTML."""
    rows = "".join(
        f'<tr style="background:transparent"><th scope="row" style="{_CELL};opacity:.7">{_text(label)}</th>'
        f'<td style="{_CELL}">{_text(value)}</td></tr>'
        for label, value in facts.items()
    )
    return f"<div><strong>{_text(title)}</strong>{_table(rows)}{below}</div>"


def html_of_rows(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table with a head; all of it is escaped."""
    top = "".join(f'<th scope="col" style="{_CELL};opacity:.7">{_text(name)}</th>' for name in head)
    body = "".join(
        '<tr style="background:transparent">' + "".join(f'<td style="{_CELL}">{_text(cell)}</td>' for cell in row)
        + "</tr>" for row in rows
    )  # fmt: skip
    return _table(f'<tr style="background:transparent">{top}</tr>{body}')


def html_of_version_facts(fingerprint: str, content_digest: str, splits: Mapping[str, int]) -> dict[str, object]:
    """What every table of a version begins with."""
    return {
        "fingerprint": fingerprint[:_SHORT],
        "content digest": content_digest[:_SHORT],
        "rows": ", ".join(f"{name} {rows:,}" for name, rows in splits.items()) or "none",
    }


def _table(rows: str) -> str:
    return f'<table style="border-collapse:collapse;margin:4px 0;color:inherit;width:auto">{rows}</table>'


def _text(value: object) -> str:
    return escape(str(value)).replace("\n", "<br>")

"""Queries over the rows of a selection: one split's, those in two splits, those in none. Pure text, runs nothing.

Splits by fraction hash a row's key: a text in which every value stands with its kind and length, so that no two keys
share a text. The hash is the upper half of its MD5, as `uint64`; the version is `SEMANTICS["splits"]`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from coralord_lightning.spec.predicate import Predicate, quote_literal
from coralord_lightning.spec.selection import DType, Join, SelectedField, Selection, SplitRule

__all__ = [
    "Joined",
    "Rows",
    "Scan",
    "crowd_query",
    "file_key",
    "in_one_group",
    "overlap_pairs",
    "overlap_query",
    "split_query",
    "unassigned_query",
]

_MAX_HASH = 2**64 - 1

_KEY_TEXTS: Mapping[str, str] = {
    "bool": "'b' || CAST({x} AS VARCHAR)",
    "float": "'f' || CAST(CAST({x} AS DOUBLE) AS VARCHAR)",
    "text": "'s' || {x}",
    "bytes": "'y' || hex({x})",
    "date": "'d' || CAST({x} AS VARCHAR)",
    "timestamp": "'t' || CAST(epoch_us(CAST({x} AS TIMESTAMP)) AS VARCHAR)",
    "time": "'c' || CAST({x} AS VARCHAR)",
    "integer": "'i' || CAST({x} AS VARCHAR)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """One source, or several read at once, as SQL reads it.

    Args:
        src: SQL of the source's place among the plan's sources.
        key: SQL of the source's name as it keys a row, of `file_key`.
        relation: what stands after FROM.
        row: SQL of the row's number in the file, from 0.
        fields: field name -> expression.
        keys: alias of a table that is joined by something here -> expression of that.
        own_key: what this table is joined by; None for the selection's own files.
    """

    src: str
    key: str
    relation: str
    row: str
    fields: Mapping[str, str]
    keys: Mapping[str, str] = field(default_factory=dict)
    own_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """A table that is joined to the rows: all of its sources."""

    join: Join
    scans: Sequence[Scan]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The rows of some sources under a selection, of which queries are made.

    Args:
        scans: in the order of their rows.
        joined: in the order they are joined; their rows come in the order of their sources.
    """

    selection: Selection
    scans: Sequence[Scan]
    joined: Sequence[Joined] = ()

    @property
    def order(self) -> list[str]:
        """What rows are in the order of."""
        plain = [item.join.alias for item in self.joined if not item.join.nested]
        return ["src", "pos", *(f"{alias}_{place}" for alias in plain for place in ("src", "pos"))]

    def alias(self, name: str) -> str:
        """What a field is called inside a query: by its place, so that no name can clash with another."""
        return f"f{[item.name for item in _all_fields(self.selection)].index(name)}"

    def predicate(self, predicate: Predicate) -> str:
        """A predicate that takes null for false."""
        return f"coalesce({predicate.to_sql(self.alias)}, FALSE)"

    def relation(self, needed: Iterable[str], *, with_file: bool) -> str:
        """All rows before any condition: the needed fields, `src`, `pos` and, for file keys, `file`."""
        wanted = set(needed)
        names = [item.name for item in _all_fields(self.selection) if item.name in wanted]
        own = self._union(self.scans, [name for name in names if name in self.scans[0].fields], with_file=with_file)
        if not self.joined:
            return own
        columns = [f"t.{self.alias(name)}" for name in names if name in self.scans[0].fields]
        columns += ["t.src", "t.pos", *(["t.file"] if with_file else [])]
        places = {"": "t"}
        sql = f"  FROM (\n{own}\n  ) AS t"
        for item in self.joined:
            there = [name for name in names if name in item.scans[0].fields]
            before = places[item.join.on[0].table]
            alias = places[item.join.alias] = item.join.alias
            sql += (
                f"\n  LEFT JOIN (\n{self._joined_rows(item, there)}\n  ) AS {alias} ON {before}.k_{alias} = {alias}.k"
            )
            if item.join.nested:
                columns += [f"coalesce({alias}.{self.alias(name)}, []) AS {self.alias(name)}" for name in there]
            else:
                columns += [f"{alias}.{self.alias(name)}" for name in there]
                columns += [f"{alias}.src AS {alias}_src", f"{alias}.pos AS {alias}_pos"]
        return f"  SELECT {', '.join(columns)}\n{sql}"

    def _joined_rows(self, item: Joined, names: Sequence[str]) -> str:
        """The rows of a joined table; of a nested one, a list of those that share a key."""
        rows = self._union(item.scans, names, with_file=False)
        if not item.join.nested:
            return rows
        lists = [f"list({self.alias(name)} ORDER BY src, pos) AS {self.alias(name)}" for name in names]
        return f"  SELECT {', '.join(['k', *lists])} FROM (\n{rows}\n  ) GROUP BY k"  # noqa: S608 - all quoted

    def _union(self, scans: Sequence[Scan], names: Sequence[str], *, with_file: bool) -> str:
        return "\n  UNION ALL\n".join(self._select(scan, names, with_file=with_file) for scan in scans)

    def _select(self, scan: Scan, names: Sequence[str], *, with_file: bool) -> str:
        columns = [f"{scan.fields[name]} AS {self.alias(name)}" for name in names]
        columns += [f"{scan.src} AS src", f"{scan.row} AS pos"]
        if with_file:
            columns.append(f"{scan.key} AS file")
        columns += [f"{sql} AS k_{alias}" for alias, sql in scan.keys.items()]
        if scan.own_key is not None:
            columns.append(f"{scan.own_key} AS k")
        listed = ",\n    ".join(columns)
        return f"  SELECT\n    {listed}\n  FROM {scan.relation}"


def file_key(names: Sequence[str]) -> str:
    """SQL of a file's name as it keys a row; of several files by `k`, their number from 1."""
    literals = [quote_literal(_with_length("s" + name)) for name in names]
    return literals[0] if len(literals) == 1 else f"([{', '.join(literals)}])[k]"


def split_query(rows: Rows, split: str) -> str:
    """The rows of one split in their order: the selection's fields, then `src` and `pos`."""
    selection = rows.selection
    rule = next(item for item in selection.splits if item.name == split)
    # on its own, a condition need not take null for false: as it stands, DuckDB leaves row groups unread by it
    alone = rule.claims if rule.bounds is None else None
    member = _member(rows, rule) if alone is None else alone.to_sql(rows.alias)
    names = [item.name for item in selection.fields]
    needed = {*names, *_condition_fields(selection, [rule]), *(key.field for key in selection.order_by)}
    sql = f"SELECT {', '.join([*map(rows.alias, names), 'src', 'pos'])}\n"
    sql += _from_where(rows, needed, [rule], [member] if member != "TRUE" else [])
    if selection.order_by or rows.joined:  # a join keeps no order
        keys = [f"{rows.alias(key.field)}{' DESC' * key.descending} NULLS LAST" for key in selection.order_by]
        sql += f"\nORDER BY {', '.join([*keys, *rows.order])}"
    return sql + (f"\nLIMIT {selection.limit}" if selection.limit is not None else "")


def in_one_group(first: SplitRule, second: SplitRule) -> bool:
    """Whether both take a fraction of the same rows."""
    return first.bounds is not None and second.bounds is not None and first.of == second.of


def overlap_pairs(splits: Sequence[SplitRule]) -> list[tuple[SplitRule, SplitRule]]:
    """Pairs of splits that could have a row in common: only rows can tell."""
    return [(first, second) for first, second in itertools.combinations(splits, 2) if _may_overlap(first, second)]


def crowd_query(rows: Rows, splits: Sequence[SplitRule]) -> str:
    """The rows that several of these splits could have, one at most: for each split, whether it could have it.

    It grows with the splits and not with their pairs. Splits that divide one group are one here.
    """
    regions = list(dict.fromkeys(_region(rows, rule) for rule in splits))
    members = ", ".join(f"CAST({region} AS INTEGER)" for region in regions)
    own = ", ".join(f"m[{regions.index(_region(rows, rule)) + 1}]" for rule in splits)
    inner = f"SELECT [{members}] AS m\n" + _from_where(rows, _condition_fields(rows.selection, splits), splits, [])
    return f"SELECT {own}\nFROM (\n{inner}\n) AS u\nWHERE list_sum(m) > 1\nLIMIT 1"


def overlap_query(rows: Rows, pairs: Sequence[tuple[SplitRule, SplitRule]]) -> str:
    """One row: for each of these pairs, how many selected rows are in both.

    Where a fraction divides a group of its own, all of the group counts, not the part that its hash picks: else it
    would be luck whether an overlap shows.
    """
    counts = [f"count(*) FILTER (WHERE {_both(rows, *pair)}) AS o{index}" for index, pair in enumerate(pairs)]
    involved = list({rule.name: rule for pair in pairs for rule in pair}.values())
    needed = _condition_fields(rows.selection, involved)
    return f"SELECT {', '.join(counts)}\n" + _from_where(rows, needed, involved, [])


def unassigned_query(rows: Rows) -> str | None:
    """One row: how many selected rows are in no split; None where there can be none."""
    rules = rows.selection.splits
    members = [_member(rows, rule) for rule in rules]
    if "TRUE" in members:
        return None
    outside = [f"NOT ({' OR '.join(members)})"] if members else []
    return "SELECT count(*) AS n\n" + _from_where(rows, _condition_fields(rows.selection, rules), rules, outside)


def _from_where(rows: Rows, needed: Iterable[str], rules: Sequence[SplitRule], conditions: Sequence[str]) -> str:
    by_key = any(rule.bounds is not None and not rule.group_by for rule in rules)
    with_file = not rows.selection.split_key and by_key
    where = [] if rows.selection.where is None else [rows.selection.where.to_sql(rows.alias)]
    sql = f"FROM (\n{rows.relation(needed, with_file=with_file)}\n) AS t"
    conditions = [*where, *conditions]
    return "\n".join([sql, *(f"{'  AND' if at else 'WHERE'} {test}" for at, test in enumerate(conditions))])


def _condition_fields(selection: Selection, rules: Sequence[SplitRule]) -> set[str]:
    """Fields that conditions on rows of these splits read."""
    asked = list(rules)
    if any(rule.bounds is not None and rule.of is None for rule in rules):
        asked = list(selection.splits)  # the rest is what all others leave
    predicates = [selection.where, *(rule.claims for rule in asked), *(rule.of for rule in asked)]
    fields = {name for predicate in predicates if predicate is not None for name in predicate.fields()}
    for rule in (rule for rule in rules if rule.bounds is not None):
        fields |= {*rule.stratify_by, *(rule.group_by or selection.split_key)}
    return fields


def _member(rows: Rows, rule: SplitRule) -> str:
    """Whether a row is in a split."""
    if rule.bounds is None:
        return _region(rows, rule)
    parts = [part for part in (_region(rows, rule), _in_bounds(rows, rule, rule.bounds)) if part != "TRUE"]
    return f"({' AND '.join(parts)})" if parts else "TRUE"


def _region(rows: Rows, rule: SplitRule) -> str:
    """Whether a row is in what a split claims, or in the group that it takes a fraction of."""
    predicate = rule.claims if rule.bounds is None else rule.of
    if predicate is not None:
        return rows.predicate(predicate)
    if rule.bounds is None:
        return "TRUE"
    others = [
        other.claims if other.bounds is None else other.of
        for other in rows.selection.splits
        if other.bounds is None or other.of is not None
    ]
    if any(other is None for other in others):
        return "FALSE"
    taken = list(dict.fromkeys(rows.predicate(other) for other in others if other is not None))
    return f"NOT ({' OR '.join(taken)})" if taken else "TRUE"


def _in_bounds(rows: Rows, rule: SplitRule, bounds: tuple[int, int]) -> str:
    """Whether low <= hash < high, compared as `uint64` throughout."""
    low, high = bounds
    if low >= high:
        return "FALSE"
    key = f"md5_number_upper({_key(rows, rule)})"
    parts = [f"{key} >= CAST('{low}' AS UBIGINT)"] if low > 0 else []
    parts += [f"{key} <= CAST('{high - 1}' AS UBIGINT)"] if high <= _MAX_HASH else []
    return " AND ".join(parts) or "TRUE"


def _key(rows: Rows, rule: SplitRule) -> str:
    """What is hashed: the group alone, which keeps it together, or the row's key behind the stratum's values.

    A stratum is a salt: within each, rows draw their lots anew, and each has the fraction in expectation. A group draws
    one lot for all of its rows, whatever their strata.
    """
    if rule.group_by:
        return _lengthened(rows, rule.group_by)
    own = (
        _lengthened(rows, rows.selection.split_key)
        if rows.selection.split_key
        else "file || 'i' || CAST(pos AS VARCHAR)"
    )
    return f"'stratum' || {_lengthened(rows, rule.stratify_by)} || {own}" if rule.stratify_by else own


def _lengthened(rows: Rows, names: Sequence[str]) -> str:
    """The values of some fields as one text; no two tuples of values share one."""
    kinds = {item.name: item.dtype for item in _all_fields(rows.selection)}
    texts = [_key_text(rows.alias(name), kinds[name]) for name in names]
    return " || ".join(f"CAST(length({text}) AS VARCHAR) || ':' || {text}" for text in texts)


def _key_text(value: str, dtype: DType) -> str:
    kind = dtype.rstrip("0123456789").removeprefix("u")
    kind = "integer" if kind == "int" else kind
    return f"coalesce({_KEY_TEXTS[kind].replace('{x}', value)}, 'n')"


def _with_length(text: str) -> str:
    return f"{len(text)}:{text}"


def _may_overlap(first: SplitRule, second: SplitRule) -> bool:
    rests = [rule.bounds is not None and rule.of is None for rule in (first, second)]
    if first.bounds is not None and second.bounds is not None and in_one_group(first, second):
        return max(first.bounds[0], second.bounds[0]) < min(first.bounds[1], second.bounds[1])
    return not any(rests)


def _both(rows: Rows, first: SplitRule, second: SplitRule) -> str:
    test = _member if in_one_group(first, second) else _region
    return f"{test(rows, first)} AND {test(rows, second)}"


def _all_fields(selection: Selection) -> tuple[SelectedField, ...]:
    return (*selection.fields, *selection.helpers)

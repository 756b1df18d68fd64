"""What a build will fetch and need, foretold: bytes, rows, disk. Reads the footers of Parquet files and nothing else.

Footers of remote files are read through the file system that the build reads them by, so that within one process they
cross the wire once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata

from coralord_lightning.builder.footers import Footer, RangeReader, length, read_footer
from coralord_lightning.builder.pruning import Span, can_hold, conjuncts, is_plain, must_hold
from coralord_lightning.spec.plan import Job, Location, Partition, Plan, RemoteFile, SourceFile
from coralord_lightning.spec.predicate import Predicate
from coralord_lightning.spec.selection import SelectedField, Selection, SplitRule

__all__ = ["Forecast", "forecast"]

TEXT_FACTOR = 2
"""Kept bytes for each byte of a CSV or JSON file: stated, not measured."""
IMAGE_FACTOR = 10
"""Kept bytes for each byte of a picture whose decoded shape is not said."""
_WIDTHS = {"bool": 1, "integer": 8, "float": 8, "date": 4, "timestamp": 8, "time": 8} | {
    f"{kind}{bits}": bits // 8 for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a build will take; of `order_by` with `limit` at most, for what is read of that depends on the values.

    Args:
        num_rows: rows that will be selected; None where only reading them would tell.
        bytes_to_fetch: that will cross the wire, from the beginning, footers included.
        disk_bytes: of the store when it is done, and of what was fetched meanwhile.
        num_partitions: that will be built.
    """

    num_rows: int | None
    bytes_to_fetch: int
    disk_bytes: int
    num_partitions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """A source, and the partitions that read it."""

    source: SourceFile
    parts: tuple[Partition, ...]

    @property
    def text_bytes(self) -> int:
        """Bytes of a source that is text; of rows in the Croissant file, their part of it."""
        whole = max((cut.stop for cut in self.source.slices), default=0)
        if not whole or any(part.slice is None for part in self.parts):
            return self.source.size_bytes
        taken = sum(part.slice.stop - part.slice.start for part in self.parts if part.slice is not None)
        return self.source.size_bytes * taken // whole

    def groups(self, footer: Footer) -> list[int]:
        """The row groups of a Parquet file that are read."""
        cuts = [part.window for part in self.parts]
        if None in cuts:
            return list(range(footer.metadata.num_row_groups))
        return sorted({group for window in cuts if window is not None for group in footer.groups_in(window)})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Need:
    """One reading of a table: which columns, of rows that which predicates leave, up to how many.

    Args:
        columns: beside those that the predicates read.
    """

    columns: frozenset[str]
    predicates: tuple[Predicate, ...]
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What one source comes to."""

    bytes_to_fetch: int
    kept_bytes: int
    num_rows: int | None


def forecast(job: Job, *, partitions: Sequence[int], remote: RangeReader | None) -> Forecast:
    """Foretell a build of some partitions of a job.

    Args:
        partitions: indices of those that are not in the store.
        remote: reads the remote sources; None where there are none.
    Raises:
        SourceError: a footer cannot be read.
    """
    plan = job.plan
    told = list(_told(plan.selection, _wanted(plan, partitions), job.locations, remote))
    fetched = sum(item.bytes_to_fetch for item in told)
    rows = [item.num_rows for item in told]
    known = _all_rows(plan.selection) and len(partitions) == len(plan.partitions) and None not in rows
    num_rows = sum(row for row in rows if row is not None) if known else None
    limit = plan.selection.limit
    if num_rows is not None and limit is not None:
        num_rows = min(num_rows, limit) if len(plan.selection.splits) == 1 else None
    return Forecast(
        num_rows=num_rows,
        bytes_to_fetch=fetched,
        disk_bytes=fetched + sum(item.kept_bytes for item in told),
        num_partitions=len(partitions),
    )


def _wanted(plan: Plan, partitions: Sequence[int]) -> list[_Wanted]:
    """What these partitions read of each source, each once: a byte is fetched once for all of them."""
    parts: dict[int, list[Partition]] = {}
    for number in partitions:
        first, *joined = plan.partitions[number].sources
        parts.setdefault(first, []).append(plan.partitions[number])
        for index in joined:
            parts.setdefault(index, []).append(Partition(sources=(index,)))
    return [_Wanted(source=plan.sources[index], parts=tuple(found)) for index, found in parts.items()]


def _told(
    selection: Selection, wanted: Iterable[_Wanted], locations: Mapping[str, Location], remote: RangeReader | None
) -> Iterator[_Told]:
    """Each source in turn, and none that a limit leaves unopened."""
    rest = _Rest(selection)
    for want in wanted:
        source = want.source
        needs = rest.needs(source)
        if not needs:
            return
        place = locations.get(source.name)
        fetch = source.size_bytes if isinstance(place, RemoteFile) else 0
        if source.format == "parquet" and place is not None:
            footer = read_footer(source, place, remote)
            told = _parquet(selection, want, footer, needs, rest)
            yield (
                told
                if isinstance(place, RemoteFile)
                else _Told(bytes_to_fetch=0, kept_bytes=told.kept_bytes, num_rows=told.num_rows)
            )
        elif selection.reading.mode == "files" and not source.table:
            yield _Told(bytes_to_fetch=fetch, kept_bytes=_media_bytes(selection, source), num_rows=1)
        else:
            yield _Told(bytes_to_fetch=fetch, kept_bytes=want.text_bytes * TEXT_FACTOR, num_rows=None)


class _Rest:
    """How many rows each reading still wants: a limit ends it."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._readings = _needs(selection)
        self._left = {need: need.limit for need in self._readings}

    def needs(self, source: SourceFile) -> list[_Need]:
        """The readings that this source is opened for."""
        if source.table:
            return [_Need(columns=_table_columns(self._selection, source.table), predicates=())]
        return [need for need in self._readings if self._left[need] is None or self._left[need]]

    def wants(self, need: _Need) -> bool:
        left = self._left.get(need)
        return left is None or left > 0

    def take(self, need: _Need, num_rows: int) -> None:
        left = self._left.get(need)
        if left is not None:
            self._left[need] = max(0, left - num_rows)


def _needs(selection: Selection) -> list[_Need]:
    """What the queries of a build read of the selection's own files: each split, then counts over all."""
    where = conjuncts(selection.where) if selection.where is not None else ()
    listed: list[_Need] = []
    for rule in selection.splits:
        claims = conjuncts(rule.claims) if rule.bounds is None and rule.claims is not None else ()
        names = {item.name for item in selection.fields} | {key.field for key in selection.order_by}
        names |= _conditions(selection, [rule]) if rule.bounds is not None else set()
        limit = _rows(selection.limit, rule) if not selection.order_by else None
        listed.append(_Need(columns=_columns(selection, names), predicates=(*where, *claims), limit=limit))
    if len(selection.splits) > 1 or any(rule.claims is not None or rule.bounds for rule in selection.splits):
        listed.append(_Need(columns=_columns(selection, _conditions(selection, selection.splits)), predicates=where))
    return list(dict.fromkeys(listed))


def _rows(limit: int | None, rule: SplitRule) -> int | None:
    """Rows to read for a limit: of a fraction, as many more as it leaves out."""
    if limit is None or rule.bounds is None:
        return limit
    low, high = rule.bounds
    return math.ceil(limit * 2**64 / (high - low)) if high > low else limit


def _conditions(selection: Selection, rules: Sequence[SplitRule]) -> set[str]:
    """Fields that tell which rows these splits have, once `where` has chosen."""
    asked = list(rules)
    if any(rule.bounds is not None and rule.of is None for rule in rules):
        asked = list(selection.splits)  # the rest is what all others leave
    predicates = [*(rule.claims for rule in asked), *(rule.of for rule in asked)]
    names = {name for predicate in predicates if predicate is not None for name in predicate.fields()}
    if any(rule.bounds is not None for rule in rules):
        names |= set(selection.split_key)
    return names | {name for rule in asked for name in (*rule.group_by, *rule.stratify_by)}


def _columns(selection: Selection, names: Iterable[str]) -> frozenset[str]:
    """Columns of the selection's own files that give fields, and the keys of joins."""
    wanted = set(names)
    items = [item for item in (*selection.fields, *selection.helpers) if item.name in wanted]
    items += [join.on[0] for join in selection.joins]
    return frozenset(column for item in items for column in _leaves(item, ""))


def _table_columns(selection: Selection, table: str) -> frozenset[str]:
    items = [*selection.fields, *selection.helpers, *(join.on[1] for join in selection.joins if join.alias == table)]
    found = {column for item in items for column in _leaves(item, table)}
    keys = {column for join in selection.joins for key in join.on for column in _leaves(key, table)}
    own = {join.on[1].column for join in selection.joins if join.alias == table}
    return frozenset(found | keys | own)


def _leaves(item: SelectedField, table: str) -> Iterator[str]:
    for child in item.children:
        yield from _leaves(child, table)
    if not item.children and item.kind == "column" and item.table == table:
        yield item.column


def _parquet(selection: Selection, want: _Wanted, footer: Footer, readings: Sequence[_Need], rest: _Rest) -> _Told:
    items = [item for item in (*selection.fields, *selection.helpers) if item.table == want.source.table]
    groups = [footer.metadata.row_group(index) for index in range(footer.metadata.num_row_groups)]
    spans = [footer.spans(group, items) for group in groups]
    needs = [_without_trifles(selection, need, spans) for need in readings]
    output = _columns(selection, (item.name for item in selection.fields))
    stretches, kept, num_rows = [footer.tail], 0, 0
    for group, held in ((groups[index], spans[index]) for index in want.groups(footer)):
        num_rows += group.num_rows
        columns: set[str] = set()
        for need, columns_of_need in needs:
            if not rest.wants(need):
                continue
            ruled_out = [predicate for predicate in need.predicates if not can_hold(predicate, held)]
            if not ruled_out:
                columns |= columns_of_need
                rest.take(need, group.num_rows)
            elif not _looks_far() and not any(map(is_plain, ruled_out)):  # then it reads what the conditions need
                columns |= _columns(selection, {name for item in need.predicates for name in item.fields()})
        stretches += footer.stretches(group, columns)
        kept += sum(chunk.total_uncompressed_size for chunk in footer.chunks(group, output)) if columns else 0
    return _Told(bytes_to_fetch=length(stretches), kept_bytes=kept, num_rows=num_rows)


def _looks_far() -> bool:
    """Whether this DuckDB leaves rows unread by more than comparisons with constants."""
    return int(metadata.version("duckdb").partition(".")[0]) >= 2


def _without_trifles(
    selection: Selection, need: _Need, spans: Sequence[Mapping[str, Span]]
) -> tuple[_Need, frozenset[str]]:
    """A reading and all its columns, without those of conditions that the footer shows to hold throughout."""
    asked = [item for item in need.predicates if not (_looks_far() and all(must_hold(item, held) for held in spans))]
    names = {name for predicate in asked for name in predicate.fields()}
    return need, need.columns | _columns(selection, names)


def _media_bytes(selection: Selection, source: SourceFile) -> int:
    """What one file that is one row is kept as."""
    total = 0
    for item in selection.fields:
        refine = item.refine
        if refine is None or refine.decode is None:
            total += source.size_bytes if item.kind == "file_property" and item.column == "content" else 32
        elif refine.shape is not None and -1 not in refine.shape:
            total += math.prod(refine.shape) * _WIDTHS.get(refine.dtype or "uint8", 1)
        else:
            total += source.size_bytes * IMAGE_FACTOR
    return total


def _all_rows(selection: Selection) -> bool:
    """Whether every row of the files is in some split."""
    if selection.where is not None or selection.joins:
        return False
    rules = selection.splits
    if any(rule.claims is None and rule.bounds is None for rule in rules):
        return True
    parts = sorted(rule.bounds for rule in rules if rule.bounds is not None and rule.of is None)
    end = 0
    for low, high in parts:
        if low > end:
            return False
        end = max(end, high)
    return end >= 2**64 - 1

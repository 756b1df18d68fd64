"""What commands say to people: values of the package in, lines of text out. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from coralord_lightning.cli.color import Paint, plain_paint
from coralord_lightning.cli.output import cell, count, duration, pairs, size, table

if TYPE_CHECKING:
    from pathlib import Path

    from coralord_lightning.cli.doctor import Finding
    from coralord_lightning.share.huggingface.push import Pushed
    from coralord_lightning.spec.explain import Change
    from coralord_lightning.store import QueryResult
    from coralord_lightning.versions.export import Exported
    from coralord_lightning.versions.samples import Samples
    from coralord_lightning.versions.status import Status
    from coralord_lightning.versions.update import LockChange
    from coralord_lightning.versions.verify import Verified
    from coralord_lightning.workspace import Outcome, Version
    from coralord_lightning.workspace.describe import Described
    from coralord_lightning.workspace.foresight import Foreseen

SHORT = 12
ENTRY_HEAD = ("name", "fingerprint", "rows", "size", "built (UTC)")
NEWEST = """
    SELECT name, fingerprint, content_digest, num_rows, size_bytes, created_at
    FROM pins JOIN entries USING (name, fingerprint)
    QUALIFY row_number() OVER (PARTITION BY name ORDER BY number DESC) = 1
    ORDER BY name
"""
_WIDE = 72


def exported_lines(exported: Exported) -> list[str]:
    """What was exported, for people."""
    values = {
        "folder": str(exported.folder),
        "version": exported.fingerprint,
        "rows": count(exported.num_rows),
        "files": f"{_number(len(exported.files), 'file')}, {size(exported.size_bytes)}",
    }
    if exported.set_aside is not None:
        values["set aside"] = str(exported.set_aside)
    return pairs(values)


def pushed_lines(pushed: Pushed) -> list[str]:
    """What was committed, for people."""
    values = {"repository": pushed.repository, "revision": pushed.revision, "url": pushed.url, "load": pushed.load}
    return pairs(values)


def foreseen_json(foreseen: Foreseen) -> dict[str, Any]:
    """A plan for programs: the whole canonical plan, and what building it takes."""
    job, forecast = foreseen.planned.job, foreseen.forecast
    return {
        "name": job.name,
        "fingerprint": job.fingerprint,
        "built": foreseen.built,
        "partitions": len(job.plan.partitions),
        "files": len(job.plan.sources),
        "size_bytes": sum(source.size_bytes for source in job.plan.sources),
        "num_rows": forecast.num_rows,
        "bytes_to_fetch": forecast.bytes_to_fetch,
        "disk_bytes": forecast.disk_bytes,
        "num_partitions": forecast.num_partitions,
        "plan": job.plan.to_json(),
    }


def foreseen_lines(foreseen: Foreseen) -> list[str]:
    """A plan for people."""
    job, forecast, plan = foreseen.planned.job, foreseen.forecast, foreseen.planned.job.plan
    files = _number(len(plan.sources), "file")
    rows = "known when they are read" if forecast.num_rows is None else count(forecast.num_rows)
    to_fetch = f"about {size(forecast.bytes_to_fetch)}" if forecast.bytes_to_fetch else "nothing, all of it is here"
    to_build = f"{forecast.num_partitions} of {len(plan.partitions)} to build"
    values = {
        "fingerprint": job.fingerprint,
        "fields": ", ".join(item.name + _shape(item.shape) for item in plan.selection.fields),
        "splits": ", ".join(rule.name for rule in plan.selection.splits),
        "rows": rows,
        "inputs": f"{files}, {size(sum(source.size_bytes for source in plan.sources))}",
        "to fetch": to_fetch,
        "disk": f"about {size(forecast.disk_bytes)}" if forecast.disk_bytes else "nothing more",
        "partitions": str(len(plan.partitions)) if foreseen.built else to_build,
    }
    if plan.pipeline is not None:
        values["pipeline"] = f"{plan.pipeline.file}:{plan.pipeline.function}, per {plan.pipeline.per}"
    if plan.environment is not None:
        values["environment"] = _environment(plan.to_json()["environment"])
    state = "built already: a build would do nothing" if foreseen.built else "not built yet"
    return [f"{job.name}  {state}", *pairs(values)]


def described_json(found: Described, warnings: Sequence[str], target: Path | None) -> dict[str, Any]:
    """A description for programs, with what it leaves out."""
    return {
        "croissant": found.document,
        "output": None if target is None else str(target),
        "files": len(found.files),
        "num_rows": found.num_rows,
        "left_out": list(found.notes),
        "skipped": list(found.skipped),
        "warnings": list(warnings),
    }


def described_notes(found: Described, warnings: Sequence[str], target: Path | None) -> list[str]:
    """What `coral describe` looked at, what it left out, and what to do next."""
    if "recordSet" not in found.document or not found.files:  # a descriptor
        wrote = [] if target is None else [f"coral: wrote {target}; every command that takes a descriptor takes it"]
        return [*(f"mlcroissant: {warning}" for warning in warnings), *wrote]
    rows = f", {_number(found.num_rows, 'row')}" if found.num_rows is not None else ""
    lines = [f"coral: described {_number(len(found.files), 'file')}{rows}; CSV and JSON lines were read to the end"]
    lines += [f"coral: {note}" for note in found.notes]
    if found.skipped:
        more = f" and {len(found.skipped) - 8} more" if len(found.skipped) > 8 else ""
        lines.append(f"coral: no data that is read: {', '.join(found.skipped[:8])}{more}")
    lines += [f"mlcroissant: {warning}" for warning in warnings]
    if target is not None:
        sets = [item["@id"] for item in found.document["recordSet"] if "data" not in item]
        lines.append(f"coral: wrote {target} (record sets: {', '.join(sets)}); it is yours to edit")
    return lines


def outcome_lines(outcome: Outcome) -> list[str]:
    """What `coral build` came to."""
    version = outcome.version
    said = f"built in {duration(outcome.seconds)}" if outcome.built else "fresh: nothing was rebuilt"
    values = {
        "fingerprint": version.fingerprint,
        "content digest": version.content_digest,
        "rows": _rows(version),
    }
    if outcome.built:
        values["partitions"] = f"{outcome.partitions_built} built, {outcome.partitions_reused} reused"
    if outcome.bytes_fetched:
        values["fetched"] = size(outcome.bytes_fetched)
    if outcome.image_digest:
        values["image"] = outcome.image_digest
    if outcome.checked:
        values["checked"] = "a second build gave the same content"
    return [f"{version.name or version.fingerprint[:SHORT]}  {said}", *pairs(values)]


def status_lines(
    found: Sequence[Status], descriptors: Sequence[str], *, explain: bool, paint: Paint = plain_paint
) -> list[str]:
    """One line a descriptor; with `explain` every change beneath it."""
    lines: list[str] = []
    rows = [(item.name, item.state, item.fingerprint[:SHORT], _why(item, path, explain=explain))
            for item, path in zip(found, descriptors, strict=True)]  # fmt: skip
    for item, line in zip(found, table(("name", "state", "fingerprint", ""), rows)[1:], strict=True):
        name, state, rest = line.partition(f"  {item.state} ")  # of a name no blank is a part
        lines.append(f"{name}  {paint(item.state, item.state)} {rest}" if state else line)
        if explain:
            lines.extend(_change_lines(item.changed))
    return lines


def lock_lines(change: LockChange, descriptor: str, *, dry_run: bool) -> list[str]:
    """What `coral update` moved, or would."""
    if not change.moves:
        return [f"{change.name}  coral.lock says so already: {change.now[:SHORT]}"]
    said = "coral.lock would move" if dry_run else f"coral.lock has moved; next: coral build {descriptor}"
    moved = pairs({"was": change.was or "(no entry)", "now": change.now})
    return [f"{change.name}  {said}", *moved, *_change_lines(change.changed)]


def history(name: str | None) -> str:
    """The query for every version that a name, or any name, ever had; newest first."""
    from coralord_lightning.spec.predicate import quote_literal

    where = "" if name is None else f"WHERE name = {quote_literal(name)}"
    return f"""
        SELECT name, fingerprint, content_digest, num_rows, size_bytes, created_at, pinned_at
        FROM entries {where}
        ORDER BY pinned_at DESC, created_at DESC, fingerprint
    """  # noqa: S608 - a quoted literal


def entry_rows(result: QueryResult) -> list[tuple[str, str, str, str, str]]:
    """Rows of `NEWEST` or `history` as people read them."""
    names = [name for name, _ in result.columns]
    found = [dict(zip(names, row, strict=True)) for row in result.rows]
    return [
        (
            item["name"], item["fingerprint"][:SHORT], count(item["num_rows"]), size(item["size_bytes"]),
            f"{item['created_at']:%Y-%m-%d %H:%M:%S}",
        )
        for item in found
    ]  # fmt: skip


def version_lines(version: Version) -> list[str]:
    """One version, as `coral show` tells it."""
    manifest, plan = version.manifest, version.plan
    columns = "\n".join(f"{column.name}: {column.type}{_shape(column.shape)}" for column in manifest.columns)
    sources = "\n".join(f"{item['name']}  {_identity(item)}" for item in plan["sources"])
    values = {
        "content digest": version.content_digest,
        "built": f"{version.created_at:%Y-%m-%d %H:%M:%S} UTC",
        "rows": _rows(version),
        "size": f"{size(manifest.size_bytes)} in {_number(sum(1 for _ in manifest.shards()), 'shard')}",
        "columns": columns,
        "inputs": sources,
    }
    if pipeline := plan.get("pipeline"):
        params = ", ".join(f"{name}={cell(value)}" for name, value in pipeline["params"].items())
        values["pipeline"] = f"{pipeline['file']}:{pipeline['function']}({params}), per {pipeline['per']}"
        values["code"] = "\n".join(f"{name}  {digest[:SHORT]}" for name, digest in pipeline["code"].items())
    if environment := plan.get("environment"):
        values["environment"] = _environment(environment)
    return [version.fingerprint, *pairs(values)]


def verified_lines(found: Sequence[Verified], *, deep: bool, paint: Paint = plain_paint) -> list[str]:
    """One line a version; of a damaged one, each file with what is wrong and what mends it."""
    lines = []
    for item in found:
        whose = "(unknown)" if item.fingerprint is None else item.fingerprint[:SHORT]
        looked = f"{_number(item.num_files, 'file')}, {size(item.size_bytes)}" + ("" if deep else ", bytes not read")
        said = looked if item.ok else f"{len(item.damaged)} damaged"
        state = "ok  " if item.ok else "FAIL"
        lines.append(f"{paint(state, state)}  {whose:<{SHORT}}  {said}")
        for damage in item.damaged:
            lines.extend(
                (f"      {cell(damage.path)}", f"        {cell(damage.what)}", f"        try: {damage.remedy}")
            )
    return lines


def samples_notes(found: Samples, home: Path) -> list[str]:
    """What to know of a list of rows before one trusts it."""
    lines = [
        f"coral: version {name[:SHORT]} is not in {home}: its rows are told by their number only"
        for name in found.missing
    ]
    last = max((row.step for row in found.rows), default=found.step)
    if last >= found.position:
        lines.append(
            f"coral: the checkpoint stands before step {found.position}: from there on, if it goes on as it was"
        )
    return lines


def samples_lines(found: Samples) -> list[str]:
    """One line a row, below a head."""
    named = found.sources[0].name is not None
    head = ("step", "epoch", *(("source",) if named else ()), "row", "partition", "file", "row in shard")
    rows: list[tuple[Any, ...]] = []
    for row in found.rows:
        place = row.place
        files = () if place is None else place.files
        told = f"{files[0]} and {len(files) - 1} more" if len(files) > 1 else "".join(files)
        where = ("", "", None) if place is None else (place.partition[:SHORT], told, place.row_in_shard)
        rows.append((row.step, row.epoch, *((row.source,) if named else ()), row.row, *where))
    return table(head, rows)


def finding_lines(findings: Sequence[Finding], paint: Paint = plain_paint) -> list[str]:
    """One line a finding, its remedy beneath it."""
    lines = []
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        lines.append(f"{paint(f'{finding.state:<4}', finding.state)}  {finding.what:<{width}}  {finding.text}")
        for number, line in enumerate(finding.remedy.splitlines()):
            lines.append(f"{'':<4}  {'':<{width}}  {'     ' if number else 'try: '}{line}")
    return lines


def _why(item: Status, descriptor: str, *, explain: bool) -> str:
    if item.state == "fresh":
        return ""
    if item.state == "missing" or explain:
        return f"next: coral build {descriptor}"
    what = [change.what for change in item.changed]
    more = f" and {len(what) - 3} more" if len(what) > 3 else ""
    return f"changed: {', '.join(what[:3])}{more}"


def _change_lines(changes: Sequence[Change]) -> list[str]:
    lines = []
    for change in changes:
        lines.append(f"  {change.what}")
        lines.extend((f"    was  {_short(change.was)}", f"    now  {_short(change.now)}"))
    return lines


def _short(value: str | None) -> str:
    if value is None:
        return "(nothing)"
    text = cell(value)
    return text if len(text) <= _WIDE else f"{text[: _WIDE - 3]}..."


def _rows(version: Version) -> str:
    splits = ", ".join(f"{name} {count(rows)}" for name, rows in version.splits.items())
    rest = version.manifest.unassigned_rows
    return f"{count(version.num_rows)} ({splits})" + (f"; {count(rest)} in no split" if rest else "")


def _environment(environment: Mapping[str, Any]) -> str:
    if environment["kind"] == "local":
        return f"local: {environment['implementation']} {environment['python']}, not pinned by a container"
    image = environment.get("image") or environment.get("base") or "the shipped image, not built yet"
    return f"{environment['kind']}: {image}"


def _identity(source: Mapping[str, Any]) -> str:
    if "sha256" in source:
        return f"sha256 {source['sha256'][:SHORT]}"
    return f"{source.get('url', '')}  etag {source.get('etag')}  {size(int(source.get('size', 0)))}"


def _shape(shape: Sequence[int]) -> str:
    return f"[{', '.join('?' if length < 0 else str(length) for length in shape)}]" if shape else ""


def _number(number: int, noun: str) -> str:
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"

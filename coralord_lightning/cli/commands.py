"""What each command does: one call into the package, then print. Every function takes (values, output)."""

from __future__ import annotations

import re
import shlex
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from coralord_lightning.cli import report
from coralord_lightning.cli.color import paint_for
from coralord_lightning.cli.output import Output
from coralord_lightning.cli.progress import progress_for
from coralord_lightning.errors import ConfigError, UsageError, VersionNotFoundError, nearest

if TYPE_CHECKING:
    from coralord_lightning.store import Store
    from coralord_lightning.workspace import Workspace
    from coralord_lightning.workspace.environments import Override
    from coralord_lightning.workspace.locking import Update

__all__ = ["COMMANDS"]

OK = 0
STALE = 3
INTEGRITY = 4

_NOTHING = "nothing is built here yet; next: coral build DESCRIPTOR"


def describe(values: Namespace, output: Output) -> int:
    """`coral describe PATH`."""
    from coralord_lightning.config import load_config
    from coralord_lightning.sources import open_sources
    from coralord_lightning.workspace import describe as describing

    target = None if values.output is None else Path(values.output).expanduser()
    config = load_config(home=values.home)
    with open_sources(config, cache_dir=config.home / "cache", offline=True) as sources:
        beside = None if target is None else target.absolute().parent
        found = describing.describe(Path(values.path).expanduser(), beside=beside, sources=sources)
    warnings = describing.validate(found.document) if values.validate else []
    if target is not None:
        describing.write(found, target, force=values.force)
    for line in report.described_notes(found, warnings, target):
        output.note(line)
    if output.json:
        output.value(report.described_json(found, warnings, target))
    elif target is None:
        output.text(found.text.rstrip("\n"))
    return OK


def plan(values: Namespace, output: Output) -> int:
    """`coral plan D`."""
    foreseen = _workspace(values).foresee(values.descriptor, update=_update(values))
    if output.json:
        output.value(report.foreseen_json(foreseen))
    else:
        output.text(*report.foreseen_lines(foreseen))
    return OK


def build(values: Namespace, output: Output) -> int:
    """`coral build D`."""
    progress = progress_for(output)
    try:
        outcome = _workspace(values).ensure(
            values.descriptor,
            update=_update(values),
            verify=values.verify,
            lock=True,
            check=values.check,
            progress=progress,
        )
    finally:
        progress.finish()
    if output.json:
        output.value(outcome.to_json())
    else:
        output.text(*report.outcome_lines(outcome))
    return OK


def status(values: Namespace, output: Output) -> int:
    """`coral status D…`."""
    from coralord_lightning.versions.status import status as status_of

    workspace = _workspace(values)
    found = [status_of(workspace, path, update=_update(values)) for path in values.descriptors]
    if output.json:
        output.value([item.to_json() for item in found])
    else:
        output.text(
            *report.status_lines(found, values.descriptors, explain=values.explain, paint=paint_for(output.out))
        )
    return STALE if values.exit_code and any(item.state != "fresh" for item in found) else OK


def update(values: Namespace, output: Output) -> int:
    """`coral update D`."""
    from coralord_lightning.versions.update import update_lock

    change = update_lock(_workspace(values), values.descriptor, dry_run=values.dry_run)
    if output.json:
        output.value(change.to_json())
    else:
        output.text(*report.lock_lines(change, values.descriptor, dry_run=values.dry_run))
    return STALE if values.exit_code and change.moves else OK


def list_(values: Namespace, output: Output) -> int:
    """`coral list`."""
    return _entries(_workspace(values).store, output, report.NEWEST)


def log(values: Namespace, output: Output) -> int:
    """`coral log [NAME]`."""
    store = _workspace(values).store
    if values.name is not None and values.name not in store.names():
        raise _unknown_name(values.name, store.names())
    return _entries(store, output, report.history(values.name))


def show(values: Namespace, output: Output) -> int:
    """`coral show FP`."""
    version = _workspace(values).version(values.fingerprint)
    if output.json:
        output.value(version.manifest.to_json())
    else:
        output.text(*report.version_lines(version))
    return OK


def verify(values: Namespace, output: Output) -> int:
    """`coral verify [FP…]`."""
    from coralord_lightning.cli.progress import watch_for
    from coralord_lightning.versions.verify import verify as verified

    store = _workspace(values).store
    options = f"--home {shlex.quote(values.home)}" if values.home else ""
    with watch_for(output) as watch:
        found = verified(store, values.fingerprints, deep=values.deep, options=options, watch=watch)
    if output.json:
        output.value([item.to_json() for item in found])
    elif found:
        output.text(*report.verified_lines(found, deep=values.deep, paint=paint_for(output.out)))
    else:
        output.note(_NOTHING)
    return OK if all(item.ok for item in found) else INTEGRITY


def samples(values: Namespace, output: Output) -> int:
    """`coral samples CHECKPOINT --step N`."""
    from coralord_lightning.versions.samples import samples as samples_of

    step, count = _number("--step", values.step), _number("--count", values.count)
    store = _workspace(values).store
    found = samples_of(store, Path(values.checkpoint).expanduser(), step, count=count)
    for line in report.samples_notes(found, store.home):
        output.note(line)
    if output.json:
        output.value(found.to_json())
    else:
        output.text(*report.samples_lines(found))
    return OK


def query(values: Namespace, output: Output) -> int:
    """`coral query SQL`."""
    result = _workspace(values).store.query(values.sql)
    output.records([name for name, _ in result.columns], result.rows)
    return OK


def export(values: Namespace, output: Output) -> int:
    """`coral export hf|croissant FP DIR`, and `coral export hf FP --push ORG/NAME`."""
    from coralord_lightning.versions import export as exporting

    if (values.folder is None) == (values.push is None) or (values.push is not None and values.kind != "hf"):
        raise UsageError(
            "coral export",
            "takes a folder; or --push, of hf",
            remedy=f"coral export {values.kind} {shlex.quote(values.fingerprint)} DIR",
        )
    if values.push is not None:
        return _push(values, output)
    write = {"hf": exporting.export_hf, "croissant": exporting.export_croissant}[values.kind]
    done = write(_workspace(values), values.fingerprint, Path(values.folder), force=values.force)
    if output.json:
        output.value(done.to_json())
    else:
        output.text(*report.exported_lines(done))
    return OK


def _push(values: Namespace, output: Output) -> int:
    from coralord_lightning.versions.export import push_hf

    pushed = push_hf(
        _workspace(values),
        values.fingerprint,
        values.push,
        branch=values.branch,
        private=values.private,
        force=values.force,
        progress=not output.quiet and output.err.isatty(),
    )
    if output.json:
        output.value(pushed.to_json())
    else:
        output.text(*report.pushed_lines(pushed))
    return OK


def doctor(values: Namespace, output: Output) -> int:
    """`coral doctor`."""
    from coralord_lightning.cli.doctor import examine

    findings = examine(values.home)
    if output.json:
        output.value([finding.to_json() for finding in findings])
    else:
        output.text(*report.finding_lines(findings, paint_for(output.out)))
    return 1 if any(finding.state == "fail" for finding in findings) else OK


def _entries(store: Store, output: Output, sql: str) -> int:
    result = store.query(sql)
    if output.json:
        output.records([name for name, _ in result.columns], result.rows)
    elif result.rows:
        output.records(report.ENTRY_HEAD, report.entry_rows(result))
    else:
        output.note(_NOTHING)
    return OK


def _unknown_name(name: str, names: Sequence[str]) -> VersionNotFoundError:
    near = nearest(name, names)
    return VersionNotFoundError(
        name,
        "no dataset of that name was ever built here",
        facts={"names": ", ".join(names) or "none"},
        remedy=f"coral log {near}" if near else "coral list",
    )


def schema(_: Namespace, output: Output) -> int:
    """`coral schema`: JSON, asked for or not."""
    from coralord_lightning.spec.descriptor.schema import descriptor_schema

    output.value(descriptor_schema())
    return OK


def completion(values: Namespace, output: Output) -> int:
    """`coral completion SHELL`."""
    from coralord_lightning.cli.completion import script

    text = script(values.shell)
    if output.json:
        output.value({"shell": values.shell, "script": text})
    else:
        output.text(text.rstrip("\n"))
    return OK


def _workspace(values: Namespace) -> Workspace:
    from coralord_lightning.config import load_config
    from coralord_lightning.workspace import open_workspace

    config = load_config(
        home=values.home, allow_private=values.allow_private or None, jobs=_jobs(values.jobs), runner=values.runner
    )
    return open_workspace(
        config,
        offline=values.offline,
        max_fetch=_max_fetch(values.max_fetch),
        environment=_environment(values.environment),
    )


def _environment(text: str | None) -> Override:
    if text is None:
        return None
    if text == "local":
        return "local"
    raise UsageError(
        "--environment",
        "takes one word, local; another image belongs into the descriptor",
        facts={"got": text},
        remedy="--environment local",
    )


def _jobs(text: str | None) -> int | None:
    from coralord_lightning.config.limits import parse_count

    try:
        return None if text is None else parse_count(text, subject="--jobs")
    except ConfigError as error:
        raise UsageError("--jobs", error.message, facts=error.facts, remedy="--jobs 2") from error


def _number(option: str, text: str) -> int:
    if re.fullmatch(r"-?[0-9]{1,4000}", text):
        return int(text)
    raise UsageError(option, "takes a whole number", facts={"got": text}, remedy=f"{option} 1")


def _max_fetch(text: str | None) -> int | None:
    from coralord_lightning.spec.descriptor.units import parse_size

    try:
        return None if text is None else int(parse_size(text))
    except ValueError as error:
        raise UsageError("--max-fetch", str(error), remedy="--max-fetch 50GB") from error


def _update(values: Namespace) -> Update:
    if values.locked:
        return "locked"
    return "offline" if values.offline else None


COMMANDS: Mapping[str, Callable[[Namespace, Output], int]] = {
    "describe": describe,
    "plan": plan,
    "build": build,
    "status": status,
    "update": update,
    "list": list_,
    "log": log,
    "show": show,
    "verify": verify,
    "samples": samples,
    "query": query,
    "export": export,
    "schema": schema,
    "completion": completion,
    "doctor": doctor,
}

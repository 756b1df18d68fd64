"""Lays a build's inputs out for its sandbox: extracted rows as Arrow streams, code and extra files at their paths."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from coralord_lightning.errors import SourceIntegrityError, StoreFullError
from coralord_lightning.spec.plan import Job

__all__ = ["stage_code", "write_batches"]

_ENOSPC = 28


def write_batches(reader: Any, path: Path, *, watch: Callable[[], None] = lambda: None) -> int:
    """Write a RecordBatchReader as one Arrow IPC stream, batch by batch; returns its rows.

    Args:
        watch: called before every batch; what it raises ends the writing.
    Raises:
        StoreFullError: the disk is full.
    """
    import pyarrow as pa

    rows = 0
    try:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, reader.schema) as writer:
            for batch in reader:
                watch()
                writer.write_batch(batch)
                rows += batch.num_rows
    except OSError as error:
        if error.errno != _ENOSPC:
            raise
        raise full_disk(path) from error
    return rows


def stage_code(job: Job, folder: Path) -> None:
    """Write the pipeline's modules and copy its extra files, which must still be what the plan pinned.

    Raises:
        SourceIntegrityError: an extra file changed since it was planned.
    """
    for name, text in job.code.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    pinned = job.plan.pipeline.files if job.plan.pipeline is not None else {}
    for name, source in job.files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        with target.open("rb") as copy:
            got = hashlib.file_digest(copy, "sha256").hexdigest()
        if got != pinned[name]:
            raise SourceIntegrityError(
                f"pipeline.files: {name}",
                "changed while it was being read",
                facts={"expected": pinned[name], "got": got},
                remedy="run the same command again",
            )


def full_disk(path: Path) -> StoreFullError:
    """The error for a full disk beneath `path`."""
    free = shutil.disk_usage(path.parent).free
    return StoreFullError(
        str(path.parent),
        "no space is left on the store's disk",
        facts={"free": f"{free:,} bytes"},
        remedy="free some space there, or name another store: `--home DIR` or CORAL_HOME=DIR",
    )

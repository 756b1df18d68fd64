"""What an answer of `pipeline.py` means to the user: the error with subject, facts and remedy. Pure.

Answers come out of the sandbox, so every value in them may be missing or of any type.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from coralord_lightning.builder.runners.base import Sandbox
from coralord_lightning.builder.runners.undeclared import declare, how_to_declare, lies_beside
from coralord_lightning.errors import (
    CoralError,
    PipelineFailedError,
    PipelineNotFoundError,
    PipelineOutputError,
    RunnerError,
    StoreFullError,
)

__all__ = ["SHARE", "explain", "format_bytes", "out_of_memory"]

SHARE = "use an engine on this machine, or a store that the engine sees at the same path: --home DIR"
_FRAMES = 12
_MODULE = re.compile(r"[\w.-]+")
_CONVERSIONS = {
    "pandas.DataFrame": "pa.RecordBatch.from_pandas(frame, preserve_index=False)",
    "dict": "pa.RecordBatch.from_pydict(columns)",
    "NoneType": "the batch that it made (is a `return` missing?)",
}


def explain(answer: Mapping[str, Any], sandbox: Sandbox, label: str) -> CoralError:
    """Make the error that an answer stands for."""
    maker = _MAKERS.get(str(answer.get("kind")), _Refusal.internal)
    return maker(_Refusal(answer=answer, sandbox=sandbox, label=label))


def format_bytes(size: int) -> str:
    """Print a size as `environment.memory` takes it."""
    binary, decimal = ((1 << 30, "g"), (1 << 20, "m")), ((10**9, "GB"), (10**6, "MB"))
    for unit, name in (*binary, *decimal, (1 << 10, "k")):
        if size >= unit and size * 10 % unit == 0:
            return f"{size / unit:g}{name}"
    return str(size)


def out_of_memory(label: str, limit: int | None) -> RunnerError:
    """Make the error for a pipeline that needed more memory than it may have."""
    return RunnerError(
        label,
        "the pipeline ran out of memory",
        facts={"allowed": format_bytes(limit)} if limit else {},
        remedy=f"raise environment.memory, e.g. memory: {format_bytes(2 * (limit or 4 << 30))}",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refusal:
    """One answer that says no, in its sandbox."""

    answer: Mapping[str, Any]
    sandbox: Sandbox
    label: str

    def text(self, key: str) -> str:
        value = self.answer.get(key)
        return "" if value is None else str(value)[:4000]

    def words(self, key: str) -> list[str]:
        value = self.answer.get(key)
        return [str(item)[:200] for item in value[:50]] if isinstance(value, list) else []

    def frames(self) -> list[tuple[str, str]]:
        """Where the user's code was, outermost first: `file:line`, and what stands there."""
        value = self.answer.get("frames")
        frames = [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
        return [
            (
                f"{self.shown(str(frame.get('file'))[:1000])}:{str(frame.get('line'))[:20]}",
                f"in {str(frame.get('function'))[:200]}: {str(frame.get('source'))[:200]}",
            )
            for frame in frames[-_FRAMES:]
        ]

    def shown(self, path: str) -> str:
        return self.sandbox.source_names.get(path, path)

    @property
    def entry(self) -> str:
        return self.shown(self.sandbox.file)

    def file_missing(self) -> CoralError:
        return PipelineNotFoundError(
            "pipeline.entrypoint",
            f"there is no file '{self.entry}'",
            remedy=f"create {self.entry}, or correct pipeline.entrypoint (file.py:function)",
        )

    def syntax_error(self) -> CoralError:
        at = f"{self.shown(self.text('file'))}:{self.text('line')}"
        return PipelineNotFoundError(
            at,
            f"is no Python that the sandbox can read: {self.text('message')}",
            facts={"got": self.text("source")},
            remedy=f"mend {at}",
        )

    def function_missing(self) -> CoralError:
        near = self.words("near")
        return PipelineNotFoundError(
            "pipeline.entrypoint",
            f"'{self.entry}' has no function '{self.sandbox.function}'",
            facts={"functions": ", ".join(self.words("names")) or "none"},
            remedy=(
                f"entrypoint: {self.sandbox.file}:{near[0]}"
                if near
                else f"define `def {self.sandbox.function}(batch)` in {self.entry}"
            ),
        )

    def not_callable(self) -> CoralError:
        return PipelineNotFoundError(
            "pipeline.entrypoint",
            f"'{self.sandbox.function}' in '{self.entry}' is no function",
            facts={"got": self.text("got"), "expected": "a function of a record batch"},
            remedy=f"define `def {self.sandbox.function}(batch)` in {self.entry}",
        )

    def bad_params(self) -> CoralError:
        return PipelineFailedError(
            "pipeline.params",
            f"'{self.sandbox.function}' cannot be called with these parameters: {self.text('message')}",
            facts={"function": self.text("signature"), "params": ", ".join(self.words("params")) or "none"},
            remedy=f"change pipeline.params to the parameters of {self.sandbox.function}, or the function to take them",
        )

    def failed(self) -> CoralError:
        frames = self.frames()
        facts = {"raised": f"{self.text('type')}: {self.text('message')}"}
        if frames:
            facts["at"] = "\n".join(f"{at} {what}" for at, what in frames)
        subject = frames[-1][0] if frames else self.entry
        remedy = f"mend {subject}"
        missing = self.text("missing") if _MODULE.fullmatch(self.text("missing")) else ""
        beside = lies_beside(self.text("missing_file"), self.sandbox)
        if beside:
            facts["undeclared"] = f"{', '.join(beside)}: beside the descriptor, and not declared in pipeline.files"
            remedy = declare(beside, self.sandbox)
        elif missing and self.sandbox.image is None:
            remedy = f"pip install {missing}"
        elif missing:
            remedy = f"use an image that has '{missing}' (environment.image), or environment: local"
        return PipelineFailedError(subject, f"the pipeline raised ({self.label})", facts=facts, remedy=remedy)

    def undeclared(self) -> CoralError:
        frames = self.frames()
        path = self.text("path")
        what = _DEEDS.get(self.text("deed"), "reached for")
        facts = {"file": path, "declared": ", ".join(self.sandbox.files) or "none"}
        if frames:
            facts["at"] = "\n".join(f"{at} {line}" for at, line in frames)
        remedy = (
            "write scratch files to tempfile.mkdtemp(), and return as batches what is to be kept"
            if self.text("deed") == "change"
            else how_to_declare(path, self.sandbox)
        )
        return PipelineFailedError(
            frames[-1][0] if frames else self.entry,
            f"the pipeline {what} a file of your project that the descriptor does not declare ({self.label})",
            facts=facts,
            remedy=remedy,
        )

    def output_unwritable(self) -> CoralError:
        return RunnerError(
            self.label,
            "the output cannot be written: the pipeline changed the directory that it goes to",
            facts={"file": self.text("file"), "got": self.text("got")},
            remedy="return the batches; write to no file in the output directory",
        )

    def wrong_type(self) -> CoralError:
        got = self.text("got")
        convert = _CONVERSIONS.get(got, "a pyarrow.RecordBatch")
        return PipelineOutputError(
            self.entry,
            f"'{self.sandbox.function}' returned what is no record batch ({self.label})",
            facts={"got": got, "expected": "pyarrow.RecordBatch, pyarrow.Table, or an iterator or list of them"},
            remedy=f"return {convert}",
        )

    def schema_changed(self) -> CoralError:
        column = self.text("column")
        return PipelineOutputError(
            self.entry,
            f"'{self.sandbox.function}' changed the schema between batches: column '{column}' ({self.label})",
            facts={"was": self.text("was"), "now": f"{self.text('now')}, in batch {self.text('batch')}"},
            remedy=f"give '{column}' one type in every batch, e.g. column.cast(…) with an explicit type",
        )

    def memory(self) -> CoralError:
        return out_of_memory(self.label, self.sandbox.limits.memory_bytes)

    def disk_full(self) -> CoralError:
        return StoreFullError(
            str(self.sandbox.out_dir),
            f"the disk is full ({self.label})",
            facts={"got": self.text("got")},
            remedy="free space there, or use another home: --home DIR",
        )

    def pyarrow_missing(self) -> CoralError:
        return RunnerError(
            self.sandbox.image or "local",
            "the environment has no usable pyarrow",
            facts={"got": self.text("got"), "python": self.text("python")},
            remedy=f"{'' if self.sandbox.image is None else 'in the image: '}python -m pip install pyarrow",
        )

    def input_missing(self) -> CoralError:
        return RunnerError(
            self.label,
            "the sandbox cannot read its input",
            facts={"expected": self.sandbox.in_dir / self.text("file"), "got": self.text("got")},
            remedy=SHARE,
        )

    def internal(self) -> CoralError:
        return RunnerError(
            self.label,
            "the sandbox could not do its task",
            facts={"got": f"{self.text('type') or self.text('kind')}: {self.text('message') or self.text('got')}"},
            remedy="coral build … again; if it happens twice, report it with this message",
        )


_DEEDS: Mapping[str, str] = {
    "read": "read",
    "list": "listed",
    "load": "loaded",
    "change": "tried to change",
}

_MAKERS: Mapping[str, Callable[[_Refusal], CoralError]] = {
    "file_missing": _Refusal.file_missing,
    "syntax_error": _Refusal.syntax_error,
    "function_missing": _Refusal.function_missing,
    "not_callable": _Refusal.not_callable,
    "bad_params": _Refusal.bad_params,
    "failed": _Refusal.failed,
    "undeclared": _Refusal.undeclared,
    "output_unwritable": _Refusal.output_unwritable,
    "wrong_type": _Refusal.wrong_type,
    "schema_changed": _Refusal.schema_changed,
    "memory": _Refusal.memory,
    "disk_full": _Refusal.disk_full,
    "pyarrow_missing": _Refusal.pyarrow_missing,
    "input_missing": _Refusal.input_missing,
}

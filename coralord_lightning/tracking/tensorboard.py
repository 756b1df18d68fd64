"""The words of TensorBoard: hyperparameters, and a text panel with the version as a table."""

from __future__ import annotations

from typing import Any

from coralord_lightning.tracking.entry import HPARAMS_KEY, Entry

__all__ = ["tell"]


def tell(logger: Any, entry: Entry) -> None:
    """Write the entry to a TensorBoardLogger."""
    # Without metrics it keeps the values for `hparams.yaml` and writes no `hp_metric`, which is the user's.
    # It is not told to save: the file is never overwritten, and the model's hyperparameters are still to come.
    logger.log_hyperparams({HPARAMS_KEY: entry.to_json()}, metrics={})
    logger.experiment.add_text(HPARAMS_KEY, _table(entry), 0)


def _table(entry: Entry) -> str:
    """The entry as a Markdown table."""
    rows = [("data", entry.version.name or "pinned")]
    rows += [("fingerprint", f"`{entry.version.fingerprint}`"), ("content digest", f"`{entry.version.content_digest}`")]
    rows += [("rows", f"{entry.version.num_rows:,}"), ("splits", _splits(entry.version.splits))]
    rows += [("built", f"{entry.version.created_at:%Y-%m-%d %H:%M:%S} UTC")]
    if entry.repository is not None:
        dirty = {True: ", with changes that are not committed", False: "", None: ", perhaps with changes"}
        rows.append(("your code", f"`{entry.repository.commit}`{dirty[entry.repository.dirty]}"))
    rows += [(role, f"{version.name or 'pinned'} `{version.fingerprint}`") for role, version in entry.others.items()]
    lines = [f"| {label} | {text.replace('|', chr(92) + '|')} |" for label, text in rows]
    return "\n".join(["| | |", "|---|---|", *lines])


def _splits(splits: dict[str, int]) -> str:
    shown = [f"{name} {rows:,}" for name, rows in list(splits.items())[:8]]
    return ", ".join(shown) + (f" and {len(splits) - 8} more" if len(splits) > 8 else "")

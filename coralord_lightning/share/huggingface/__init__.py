"""Versions as Hugging Face knows data: datasets over the same files, folders of Parquet with a card, repositories.

`datasets` and `huggingface_hub` are imported by the modules of this room, so they are imported late, after
`require_datasets`.
"""

from __future__ import annotations

from coralord_lightning.errors import UsageError

__all__ = ["require_datasets"]


def require_datasets(subject: str) -> None:
    """Refuse to go on without a `datasets` that can be used.

    Raises:
        UsageError: it is not installed, or is older than 4.
    """
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise UsageError(
            subject, "needs Hugging Face datasets", remedy="pip install 'coralord-lightning[hf]'"
        ) from error
    if not hasattr(datasets, "List"):
        raise UsageError(
            subject,
            "needs Hugging Face datasets 4 or newer",
            facts={"got": datasets.__version__},
            remedy="pip install -U 'coralord-lightning[hf]'",
        )

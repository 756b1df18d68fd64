"""Owns the contestants that read from memory: the limit, and DataLoader over a TensorDataset; maps no file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset
from workloads import Workload, columns

__all__ = ["limit", "tensor_dataset"]


def limit(workload: Workload, folder: Path, *, shuffle: bool) -> Any:
    """What no loader that hands out fresh batches can beat but by more threads: one copy a batch, from memory.

    Tensors: `index_select` by a `torch.randperm`; unshuffled, a clone of a slice. Texts and bytes: taken out of a
    Python list by the same permutation, and copied once (`bytes(view)`; a text is decoded, which is its copy).
    """
    values = columns(workload, folder)
    tensors = {name: torch.from_numpy(column) for name, column in values.items() if not isinstance(column, list)}
    lists = {
        name: (column if name == "caption" else [memoryview(value) for value in column])
        for name, column in values.items()
        if isinstance(column, list)
    }
    copies = {"caption": bytes.decode, "jpeg": bytes}

    def shuffled() -> Iterator[dict[str, Any]]:
        order = torch.randperm(workload.rows)
        for rows in order.split(workload.batch):
            batch: dict[str, Any] = {name: torch.index_select(tensor, 0, rows) for name, tensor in tensors.items()}
            if lists:
                chosen = rows.tolist()
                for name, column in lists.items():
                    copy = copies[name]
                    batch[name] = [copy(column[row]) for row in chosen]
            yield batch

    def stored() -> Iterator[dict[str, Any]]:
        for start in range(0, workload.rows, workload.batch):
            stop = start + workload.batch
            batch: dict[str, Any] = {name: tensor[start:stop].clone() for name, tensor in tensors.items()}
            for name, column in lists.items():
                copy = copies[name]
                batch[name] = [copy(value) for value in column[start:stop]]
            yield batch

    return shuffled if shuffle else stored


class _Lists(Dataset):
    """What TensorDataset is for tensors, for columns that are lists."""

    def __init__(self, values: dict[str, Any], rows: int) -> None:
        self.values = values
        self.rows = rows

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> tuple[Any, ...]:
        return tuple(column[row] for column in self.values.values())


def tensor_dataset(workload: Workload, folder: Path, *, shuffle: bool) -> Any:
    """`DataLoader(TensorDataset(…), batch_size, shuffle)`, as everyone writes it, over the first `peer_rows` rows."""
    values = columns(workload, folder)
    rows = workload.peer_rows
    if workload.is_bytes:
        values["caption"] = [value.decode() for value in values["caption"]]
        dataset: Dataset = _Lists(values, rows)
    else:
        dataset = TensorDataset(*(torch.from_numpy(column[:rows]) for column in values.values()))
    loader = DataLoader(dataset, batch_size=workload.batch, shuffle=shuffle)
    names = list(values)

    def epoch() -> Iterator[dict[str, Any]]:
        for batch in loader:
            yield dict(zip(names, batch, strict=True))

    return epoch

"""Owns the peers that read Arrow: Hugging Face datasets and Lance, each as its documentation recommends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler
from workloads import Workload, table, write_parquet

__all__ = ["hugging_face", "hugging_face_expert", "lance_scan", "lance_take"]

Epoch = Callable[[], Any]


def hugging_face(workload: Workload, folder: Path, *, shuffle: bool, workers: int) -> Epoch:
    """`with_format("torch")` and a DataLoader over a BatchSampler, which asks for a batch at a time.

    That is faster than `batch_size=`, where a batch is taken apart and collated again. So is a given dtype (whole
    numbers would become int64), and an image as a list of 784: Array2D takes five times as long.
    """
    dtypes = {"images": torch.uint8, "tokens": torch.int32}
    given = {"dtype": dtypes[workload.name]} if workload.name in dtypes else {}
    data = _hf_dataset(workload, folder).with_format("torch", **given)
    return _fixed(
        DataLoader(data, sampler=_batches(data, workload, shuffle=shuffle), batch_size=None, num_workers=workers)
    )


def hugging_face_expert(workload: Workload, folder: Path, *, shuffle: bool, workers: int) -> Epoch:
    """The Arrow format, a batch of row numbers as one index (so one `take`), and a collate function of one's own."""
    data = _hf_dataset(workload, folder).with_format("arrow")
    batches = _batches(data, workload, shuffle=shuffle)
    return _fixed(
        DataLoader(data, sampler=batches, batch_size=None, num_workers=workers, collate_fn=_Tensors(workload))
    )


def lance_scan(workload: Workload, folder: Path, *, shuffle: bool, workers: int) -> Epoch:
    """Sequential: `lance.torch.data.LanceDataset`; shuffled it does not exist."""
    from lance.torch.data import LanceDataset

    if shuffle or workers:
        raise NotImplementedError("Lance scans in the stored order")
    convert = _Tensors(workload)
    data = LanceDataset(
        str(_lance_dataset(workload, folder)),
        batch_size=workload.batch,
        batch_readahead=8,
        to_tensor_fn=lambda batch, **_: convert(batch),
    )
    return lambda: data


def lance_take(workload: Workload, folder: Path, *, shuffle: bool, workers: int) -> Epoch:
    """Random access: one `take` a batch by a DataLoader, in spawned workers where there are any (it does not fork)."""
    data = _LanceRows(_lance_dataset(workload, folder), workload)
    batches = _batches(data, workload, shuffle=shuffle)
    spawned = {"num_workers": workers, "multiprocessing_context": "spawn"} if workers else {}
    return _fixed(DataLoader(data, sampler=batches, batch_size=None, collate_fn=_as_it_is, **spawned))


class _Tensors:
    """Arrow table or batch to tensors and lists, with as few copies as they allow; a plain object, for workers."""

    def __init__(self, workload: Workload) -> None:
        self.shape = (28, 28) if workload.name == "images" else None

    def __call__(self, batch: Any) -> dict[str, Any]:
        return {name: self._column(batch.column(name)) for name in batch.schema.names}

    def _column(self, column: Any) -> Any:
        array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        if pa.types.is_binary(array.type) or pa.types.is_string(array.type):
            return array.to_pylist()
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        rows = len(array)
        while not pa.types.is_primitive(array.type):
            array = array.flatten()
        values = array.to_numpy(zero_copy_only=False)
        tensor = torch.from_numpy(values if values.flags.writeable else values.copy())
        if len(tensor) == rows:
            return tensor
        return tensor.view(rows, *(self.shape or (-1,)))


class _LanceRows(torch.utils.data.Dataset):
    """Opened where it is read; asked with a list of row numbers."""

    def __init__(self, path: Path, workload: Workload) -> None:
        self.path = str(path)
        self.rows = workload.rows
        self.convert = _Tensors(workload)
        self.opened: Any = None

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, rows: list[int]) -> dict[str, Any]:
        if self.opened is None:
            import lance

            self.opened = lance.dataset(self.path)
        return self.convert(self.opened.take(rows))


def _as_it_is(batch: Any) -> Any:
    return batch


def _batches(data: Any, workload: Workload, *, shuffle: bool) -> BatchSampler:
    sampler = RandomSampler(data) if shuffle else SequentialSampler(data)
    return BatchSampler(sampler, workload.batch, drop_last=False)


def _fixed(loader: Any) -> Epoch:
    return lambda: loader


def _hf_dataset(workload: Workload, folder: Path) -> Any:
    import datasets

    datasets.disable_progress_bars()
    files = sorted(str(path) for path in write_parquet(workload, folder, 8, flat=True).glob("*.parquet"))
    return datasets.Dataset.from_parquet(files, cache_dir=str(folder / "hf"))


def _lance_dataset(workload: Workload, folder: Path) -> Path:
    import lance

    path = folder / f"{workload.name}.lance"
    if not path.exists():
        made = path.with_suffix(".tmp")
        lance.write_dataset(table(workload, folder, flat=True), str(made), mode="overwrite")
        made.replace(path)
    return path

"""Owns the peers that read sample by sample: litData, MosaicML Streaming and WebDataset, as each recommends."""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from workloads import Workload, columns

__all__ = ["litdata", "mosaic", "web_dataset"]

Epoch = Callable[[], Any]
FILE_BYTES = 64 * 2**20


def litdata(workload: Workload, folder: Path, *, shuffle: bool, workers: int) -> Epoch:
    """`optimize`, then StreamingDataset and StreamingDataLoader; for the tokens with their TokensLoader."""
    import litdata

    path = str(_written(workload, folder, "litdata", _write_litdata))
    extra: dict[str, Any] = {}
    if workload.name == "tokens":
        extra["item_loader"] = litdata.TokensLoader(block_size=1025)
    data = litdata.StreamingDataset(path, shuffle=shuffle, drop_last=False, **extra)
    loader = litdata.StreamingDataLoader(
        data, batch_size=workload.batch, num_workers=workers, collate_fn=_collate_bytes if workload.is_bytes else None
    )
    return _named(loader, workload)


def mosaic(workload: Workload, folder: Path, *, shuffle: bool, workers: int) -> Epoch:
    """MDS shards without compression, StreamingDataset with the batch size it asks for, StreamingDataLoader."""
    _import_mosaic()
    from streaming.base import StreamingDataLoader, StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    path = str(_written(workload, folder, "mds", _write_mds))
    clean_stale_shared_memory()
    data = StreamingDataset(local=path, shuffle=shuffle, batch_size=workload.batch)
    extra = {"collate_fn": _collate_bytes} if workload.is_bytes else {}
    loader = StreamingDataLoader(data, batch_size=workload.batch, num_workers=workers, **extra)
    return lambda: loader


def web_dataset(workload: Workload, folder: Path, *, shuffle: bool, workers: int) -> Epoch:
    """Tar shards, shuffled by shard and in a buffer, batched in the pipeline, WebLoader without batching."""
    import webdataset

    path = _written(workload, folder, "wds", _write_tars)
    urls = sorted(str(tar) for tar in path.glob("*.tar"))
    data = webdataset.WebDataset(urls, shardshuffle=len(urls) if shuffle else False)
    if shuffle:
        data = data.shuffle(1000)
    if workload.is_bytes:
        data = data.to_tuple("txt", "jpg", "cls").map_tuple(bytes.decode, _as_it_is, int)
        data = data.batched(workload.batch, collation_fn=_columns_of_tuples)
    else:
        data = data.decode().to_tuple(*(f"{name}.npy" for name in _tensor_names(workload)), *_label(workload))
        data = data.batched(workload.batch)
    loader = webdataset.WebLoader(data, batch_size=None, num_workers=workers)
    names = list(columns_of(workload))

    def epoch() -> Iterator[dict[str, Any]]:
        for batch in loader:
            yield {name: _tensor(column) for name, column in zip(names, batch, strict=True)}

    return epoch


def columns_of(workload: Workload) -> tuple[str, ...]:
    """The fields of a sample, in their order."""
    if workload.is_bytes:
        return ("caption", "jpeg", "label")
    return (workload.main,) if workload.name == "tokens" else (workload.main, "label")


def _written(workload: Workload, folder: Path, kind: str, write: Callable[[Workload, Path, Path], None]) -> Path:
    """The peer's own form of the first `peer_rows` rows, written once."""
    path = folder / f"{workload.name}-{kind}"
    done = path.with_suffix(".done")
    if not done.exists():
        write(workload, folder, path)
        done.touch()
    return path


def _samples(workload: Workload, folder: Path) -> Iterator[dict[str, Any]]:
    values = columns(workload, folder)
    for row in range(workload.peer_rows):
        sample = {name: column[row] for name, column in values.items()}
        if "label" in sample:
            sample["label"] = int(sample["label"])
        if "caption" in sample:
            sample["caption"] = sample["caption"].decode()
        yield sample


class _Source:
    """What `optimize` calls for its one input: a generator of samples."""

    def __init__(self, workload: Workload, folder: Path) -> None:
        self.workload = workload
        self.folder = folder

    def __call__(self, _: int) -> Iterator[Any]:
        for sample in _samples(self.workload, self.folder):
            yield torch.from_numpy(sample["tokens"]) if self.workload.name == "tokens" else sample


def _write_litdata(workload: Workload, folder: Path, path: Path) -> None:
    import litdata

    extra: dict[str, Any] = {"chunk_bytes": FILE_BYTES}
    if workload.name == "tokens":
        extra = {"chunk_size": 1025 * (FILE_BYTES // 4100), "item_loader": litdata.TokensLoader(block_size=1025)}
    litdata.optimize(_Source(workload, folder), inputs=[0], output_dir=str(path), num_workers=1, **extra)


def _write_mds(workload: Workload, folder: Path, path: Path) -> None:
    _import_mosaic()
    from streaming.base import MDSWriter

    kinds = {"caption": "str", "jpeg": "bytes", "label": "int64"}
    values = columns(workload, folder)
    for name in _tensor_names(workload):
        kinds[name] = f"ndarray:{values[name].dtype}:{','.join(str(size) for size in values[name].shape[1:])}"
    fields = {name: kinds[name] for name in columns_of(workload)}
    with MDSWriter(out=str(path), columns=fields, compression=None, size_limit=FILE_BYTES) as writer:
        for sample in _samples(workload, folder):
            writer.write(sample if "label" not in sample else sample | {"label": np.int64(sample["label"])})


def _write_tars(workload: Workload, folder: Path, path: Path) -> None:
    import webdataset

    path.mkdir(parents=True, exist_ok=True)
    per_file = -(-workload.peer_rows // 8)
    with webdataset.ShardWriter(f"{path}/%04d.tar", maxcount=per_file, maxsize=2**40, verbose=0) as writer:
        for number, sample in enumerate(_samples(workload, folder)):
            named = {f"{name}.npy": sample[name] for name in _tensor_names(workload)}
            if workload.is_bytes:
                named = {"txt": sample["caption"], "jpg": sample["jpeg"]}
            if "label" in sample:
                named["cls"] = sample["label"]
            writer.write({"__key__": f"{number:09}", **named})


def _tensor_names(workload: Workload) -> tuple[str, ...]:
    return () if workload.is_bytes else (workload.main,)


def _label(workload: Workload) -> tuple[str, ...]:
    return () if workload.name == "tokens" else ("cls",)


def _named(loader: Any, workload: Workload) -> Epoch:
    if workload.name != "tokens":
        return lambda: loader

    def epoch() -> Iterator[dict[str, Any]]:
        for batch in loader:
            yield {"tokens": batch}

    return epoch


def _tensor(column: Any) -> Any:
    return torch.from_numpy(column) if isinstance(column, np.ndarray) else column


def _as_it_is(value: Any) -> Any:
    return value


def _columns_of_tuples(samples: list[tuple[Any, ...]]) -> list[Any]:
    captions, jpegs, labels = zip(*samples, strict=True)
    return [list(captions), list(jpegs), torch.tensor(labels)]


def _collate_bytes(samples: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "caption": [sample["caption"] for sample in samples],
        "jpeg": [sample["jpeg"] for sample in samples],
        "label": torch.tensor([int(sample["label"]) for sample in samples]),
    }


def _import_mosaic() -> None:
    """Make `streaming.base` importable by itself.

    `streaming/__init__` imports torchvision's data sets, whose compiled part loads only beside a torch of the same
    build. What is measured needs none of them.
    """
    if "streaming" in sys.modules:
        return
    found = importlib.util.find_spec("streaming")
    if found is None or found.submodule_search_locations is None:
        raise ModuleNotFoundError("mosaicml-streaming is not installed")
    package = types.ModuleType("streaming")
    package.__path__ = list(found.submodule_search_locations)
    sys.modules["streaming"] = package

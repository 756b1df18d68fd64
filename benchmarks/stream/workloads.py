"""Owns the four workloads: their sizes, their values and the Parquet files that everyone starts from; times nothing."""

from __future__ import annotations

import io
import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["WORKLOADS", "Workload", "columns", "table", "write_parquet"]

CLASSES = 10
SEED = 20


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What one sample is, and how many make a batch.

    Args:
        main: the field that is large; its form in a batch is checked.
        peer_rows: rows for what reads sample by sample, whose rate does not depend on how many there are.
    """

    name: str
    title: str
    sample: str
    main: str
    rows: int
    batch: int
    peer_rows: int

    @property
    def is_bytes(self) -> bool:
        """Whether the large field is a list of byte strings, not a tensor."""
        return self.main == "jpeg"

    def quick(self) -> Workload:
        """The same with few rows, for a run that only shows that everything runs."""
        rows = max(self.rows // 50, 4 * self.batch, 2000)
        return replace(self, rows=rows, peer_rows=min(rows, self.peer_rows))


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            name="images",
            title="Images",
            sample="28 x 28 uint8 and a label",
            main="image",
            rows=200_000,
            batch=256,
            peer_rows=100_000,
        ),
        Workload(
            name="rows",
            title="Rows",
            sample="16 float32 and a label",
            main="x",
            rows=2_000_000,
            batch=4096,
            peer_rows=200_000,
        ),
        Workload(
            name="tokens",
            title="Tokens",
            sample="1,025 int32",
            main="tokens",
            rows=30_000,
            batch=32,
            peer_rows=30_000,
        ),
        Workload(
            name="jpeg",
            title="Text and JPEG",
            sample="a caption, 4 to 8 KB of JPEG as bytes, and a label",
            main="jpeg",
            rows=20_000,
            batch=64,
            peer_rows=20_000,
        ),
    )
}


def columns(workload: Workload, folder: Path) -> dict[str, np.ndarray | list[bytes]]:
    """The values in memory, kept in `folder` so that every contestant reads the same.

    Returns:
        field -> array[rows, *shape], or list[bytes] (captions as UTF-8).
    """
    kept = folder / f"{workload.name}.arrow"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _keep(_drawn(workload), kept)
    with pa.OSFile(str(kept)) as file:  # read, not mapped: this is what lies in memory
        read = pa.ipc.open_file(file).read_all()
    return {name: _in_memory(read.column(name).combine_chunks()) for name in read.column_names}


def table(workload: Workload, folder: Path, *, rows: int | None = None, flat: bool = False) -> pa.Table:
    """The values as Arrow: tensors as fixed-size lists, nested unless `flat`, text as string, bytes as binary."""
    arrays = {}
    for name, values in columns(workload, folder).items():
        if isinstance(values, list):
            arrays[name] = pa.array(values[:rows], pa.binary())
            if name == "caption":
                arrays[name] = arrays[name].cast(pa.string())
        else:
            arrays[name] = _as_lists(values[:rows], flat=flat)
    return pa.table(arrays)


def write_parquet(workload: Workload, folder: Path, files: int, *, flat: bool = False) -> Path:
    """The values in so many Parquet files of equal rows; returns their folder."""
    target = folder / f"{workload.name}-{files}{'-flat' if flat and workload.name == 'images' else ''}"
    done = target / "done"
    if not done.exists():
        target.mkdir(parents=True, exist_ok=True)
        whole = table(workload, folder, flat=flat)
        bounds = np.linspace(0, len(whole), files + 1).astype(int)
        for number, (start, stop) in enumerate(itertools.pairwise(bounds)):
            part = whole.slice(start, stop - start)
            pq.write_table(part, target / f"{number:04}.parquet", compression="none", use_dictionary=False)
        done.touch()
    return target


def _drawn(workload: Workload) -> dict[str, np.ndarray | list[bytes]]:
    rng = np.random.default_rng(SEED)
    rows = workload.rows
    label = rng.integers(0, CLASSES, rows)
    if workload.name == "images":
        return {"image": rng.integers(0, 256, (rows, 28, 28), dtype=np.uint8), "label": label}
    if workload.name == "rows":
        return {"x": rng.random((rows, 16), dtype=np.float32), "label": label}
    if workload.name == "tokens":
        return {"tokens": rng.integers(0, 50_000, (rows, 1025), dtype=np.int32)}
    return {"caption": _captions(rng, rows), "jpeg": _jpegs(rng, rows), "label": label}


def _captions(rng: np.random.Generator, rows: int) -> list[bytes]:
    words = ["".join(chr(97 + letter) for letter in rng.integers(0, 26, 6)) for _ in range(500)]
    return [" ".join(words[word] for word in chosen).encode() for chosen in rng.integers(0, len(words), (rows, 12))]


def _jpegs(rng: np.random.Generator, rows: int) -> list[bytes]:
    from PIL import Image

    pictures = []
    for side in rng.integers(72, 104, rows):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (side, side), dtype=np.uint8)).save(file, "JPEG", quality=70)
        pictures.append(file.getvalue())
    return pictures


def _keep(values: dict[str, np.ndarray | list[bytes]], kept: Path) -> None:
    arrays = {
        name: pa.array(column, pa.binary()) if isinstance(column, list) else _as_lists(column, flat=False)
        for name, column in values.items()
    }
    written = pa.table(arrays)
    with pa.OSFile(str(kept), "wb") as file, pa.ipc.new_file(file, written.schema) as writer:
        writer.write_table(written)


def _as_lists(values: np.ndarray, *, flat: bool) -> pa.Array:
    array = pa.array(values.reshape(-1))
    sizes = [int(np.prod(values.shape[1:]))] if flat and values.ndim > 1 else reversed(values.shape[1:])
    for size in sizes:
        array = pa.FixedSizeListArray.from_arrays(array, size)
    return array


def _in_memory(array: pa.Array) -> np.ndarray | list[bytes]:
    if pa.types.is_binary(array.type):
        return array.to_pylist()
    shape = [len(array)]
    while pa.types.is_fixed_size_list(array.type):
        shape.append(array.type.list_size)
        array = array.flatten()
    return np.array(array.to_numpy()).reshape(shape)

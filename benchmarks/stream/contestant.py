"""Owns one measurement in a process of its own: reads what to do as JSON, prints what it found as one JSON line."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from clock import epoch_rates, slice_rates
from workloads import WORKLOADS, Workload

MARK = "RESULT "
EPOCHS = 3
SLICE_S = 0.8


def run(task: dict[str, Any]) -> dict[str, Any]:
    """Do one task.

    Args:
        task: {do: rates | build | first | fit | order, workload, folder, quick, contestant, workers, orders, shards}.
    Returns:
        {shuffled: [samples/s], stored: [samples/s]}, {seconds}, {rates} or {us}.
    """
    workload = WORKLOADS[task["workload"]]
    if task["quick"]:
        workload = workload.quick()
    folder = Path(task["folder"])
    if task["do"] == "rates":
        return {kind: rates(task, workload, folder, shuffle=kind == "shuffled") for kind in task["orders"]}
    import ours

    if task["do"] == "build":
        return {"seconds": ours.build(workload, folder, task["shards"])}
    if task["do"] == "first":
        return {"seconds": ours.first_batch_s(workload, folder, task["shards"])}
    if task["do"] == "fit":
        return {"rates": ours.fit_rates(workload, folder, epochs=2 if task["quick"] else EPOCHS)}
    return {"us": {str(rows): ours.order_us(rows, workload.batch, batches=200) for rows in (10**6, 10**9)}}


def rates(task: dict[str, Any], workload: Workload, folder: Path, *, shuffle: bool) -> list[float]:
    """Samples/s of one contestant, each of an epoch or a slice."""
    import torch

    torch.manual_seed(0)
    name, workers = task["contestant"], task["workers"]
    seconds = 0.2 if task["quick"] else SLICE_S
    epoch = _epoch(name, workload, folder, shuffle=shuffle, workers=workers)
    require_form(next(iter(epoch())), workload)

    def count(batch: Any) -> int:
        return len(batch[workload.main])

    if name in ("limit", "tensordataset") or name.startswith("coral"):
        rows = workload.peer_rows if name == "tensordataset" else workload.rows
        return epoch_rates(epoch, count, times=EPOCHS, rows=rows)
    return slice_rates(epoch, count, times=EPOCHS, seconds=seconds)


def _epoch(name: str, workload: Workload, folder: Path, *, shuffle: bool, workers: int) -> Any:
    if name.startswith("coral"):
        import ours

        return ours.loader(workload, folder, int(name.removeprefix("coral-")), shuffle=shuffle)
    if name in ("limit", "tensordataset"):
        import memory

        return {"limit": memory.limit, "tensordataset": memory.tensor_dataset}[name](workload, folder, shuffle=shuffle)
    import peers_arrow
    import peers_samples

    made = {
        "hf": peers_arrow.hugging_face,
        "hf-expert": peers_arrow.hugging_face_expert,
        "lance-scan": peers_arrow.lance_scan,
        "lance-take": peers_arrow.lance_take,
        "litdata": peers_samples.litdata,
        "mosaic": peers_samples.mosaic,
        "webdataset": peers_samples.web_dataset,
    }[name]
    return made(workload, folder, shuffle=shuffle, workers=workers)


def require_form(batch: Any, workload: Workload) -> None:
    """Refuse a contestant whose batches are not what everyone's are: tensors, or lists of str and bytes."""
    import torch

    main = batch[workload.main]
    if len(main) != workload.batch:
        raise SystemExit(f"a batch of {len(main)}, not {workload.batch}")
    if workload.is_bytes:
        good = isinstance(main[0], bytes) and isinstance(batch["caption"][0], str)
    else:
        sizes = {"images": 784, "rows": 16, "tokens": 1025}
        dtypes = {"images": torch.uint8, "rows": torch.float32, "tokens": torch.int32}
        good = main[0].numel() == sizes[workload.name] and main.dtype == dtypes[workload.name]
    if "label" in batch:
        good = good and isinstance(batch["label"], torch.Tensor) and len(batch["label"]) == workload.batch
    if not good:
        got = f"{type(main).__name__} {getattr(main, 'shape', '')} {getattr(main, 'dtype', '')}"
        raise SystemExit(f"a batch of another form: {got}")


def main() -> None:
    task = json.loads(sys.argv[1])
    try:
        found = run(task)
    except NotImplementedError as error:
        found = {"skipped": str(error)}
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a peer may raise anything; the table says what
        import traceback

        traceback.print_exc()
        text = str(error).strip().splitlines()
        found = {"failed": f"{type(error).__name__}: {text[0] if text else ''}"[:200]}
    print(MARK + json.dumps(found), flush=True)
    sys.stderr.flush()
    os._exit(0)  # peers' threads and queues do not hold the next contestant up


if __name__ == "__main__":
    main()

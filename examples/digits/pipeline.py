"""What happens to the digits between file and tensor."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from shapes import to_arrow, to_numpy

SHAPE = (8, 8)


def scale(batch: pa.RecordBatch, max: int) -> pa.RecordBatch:  # noqa: A002 - the descriptor's own word
    """Ink from 0..max to 0..1, in float32; labels to int64, as PyTorch's losses take them."""
    image = to_numpy(batch["image"], SHAPE).astype(np.float32) / np.float32(max)
    return pa.record_batch({"image": to_arrow(image), "label": batch["label"].cast(pa.int64())})

"""The digits with faint detail taken away: wavelet coefficients below a threshold are shrunk to nothing."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pywt
from shapes import to_arrow, to_numpy

SHAPE = (8, 8)


def denoise(batch: pa.RecordBatch, wavelet: str, threshold: float, max: int) -> pa.RecordBatch:  # noqa: A002
    """Ink from 0..max to 0..1, soft-thresholded in every wavelet band but the coarsest; labels to int64."""
    image = to_numpy(batch["image"], SHAPE).astype(np.float64)
    coarse, *details = pywt.wavedec2(image, wavelet, mode="periodization", level=2, axes=(1, 2))
    shrunk = [tuple(pywt.threshold(band, threshold, mode="soft") for band in bands) for bands in details]
    clean = pywt.waverec2([coarse, *shrunk], wavelet, mode="periodization", axes=(1, 2))
    scaled = (np.clip(clean, 0, max) / max).astype(np.float32)
    return pa.record_batch({"image": to_arrow(scaled), "label": batch["label"].cast(pa.int64())})

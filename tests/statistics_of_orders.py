"""Measures of how well an order is mixed."""

from __future__ import annotations

import numpy as np


def z_score(counts: np.ndarray, expected: float) -> float:
    """How many standard deviations chi-square lies above its mean."""
    degrees = counts.size - 1
    return float((((counts - expected) ** 2 / expected).sum() - degrees) / (2 * degrees) ** 0.5)


def spread_over(first: np.ndarray, second: np.ndarray, num_rows: int, buckets: int) -> float:
    """How far from independent two numbers below `num_rows` are: the z-score of the buckets that pairs fall into."""
    left, right = first * buckets // num_rows, second * buckets // num_rows
    counts = np.bincount(left * buckets + right, minlength=buckets**2).astype(float)
    sizes = np.bincount(np.arange(num_rows) * buckets // num_rows, minlength=buckets) / num_rows
    expected = np.outer(sizes, sizes).reshape(-1) * len(first)
    degrees = buckets**2 - 1
    return float((((counts - expected) ** 2 / expected).sum() - degrees) / (2 * degrees) ** 0.5)

"""Large images, a band of rows at a time: what a step takes beside its input and output stays small."""

from __future__ import annotations

from typing import Iterator

import numpy as np

BAND_PIXELS = 4_000_000  # 2000 x 2000: smaller images are one band


def bands(shape: tuple[int, ...]) -> Iterator[slice]:
    """Cover the rows of an image of shape (Y, X) with bands of about `BAND_PIXELS` pixels."""
    n_rows = max(1, BAND_PIXELS // max(1, shape[1]))
    for start in range(0, shape[0], n_rows):
        yield slice(start, min(start + n_rows, shape[0]))


def areas_of(labels: np.ndarray) -> np.ndarray:
    """Count the pixels of each label of a (Y, X) int array: (n + 1,) int, the background's first."""
    areas = np.zeros(int(labels.max(initial=0)) + 1, np.intp)
    for rows in bands(labels.shape):  # `bincount` copies its input to 64 bits
        areas += np.bincount(labels[rows].ravel(), minlength=areas.size)
    return areas


def is_at_least(values: np.ndarray, threshold: float) -> np.ndarray:
    """Compare a (Y, X) array of any float type with a threshold, in float32: (Y, X) bool."""
    result = np.empty(values.shape, bool)
    for rows in bands(values.shape):  # numpy compares float16 slowly, and not with a float that it cannot hold
        np.greater_equal(values[rows].astype(np.float32, copy=False), threshold, out=result[rows])
    return result
